package kernel

// Affine computes dst = a·x + b, with one a and one b for each channel. n is the number of
// vectors of a block. dst may be x.
//
//	dst, x [blocks][n][16]
//	a, b   [blocks][16]
func Affine(dst, x, a, b []float32, blocks, n int, threads int) {
	type args struct {
		l            Level
		dst, x, a, b []float32
		n            int
	}
	piecesWith(threads, blocks, n, pieceVectors, args{CurrentLevel(), dst, x, a, b, n}, func(k args, blk, lo, hi int) {
		c, at := blk*Lanes, (blk*k.n+lo)*Lanes
		k.l.affine(&k.dst[at], &k.x[at], &k.a[c], &k.b[c], hi-lo)
	})
}

// Scale computes dst = a·x, with one a for each channel, or adds it to dst if add is set.
//
//	dst, x [blocks][n][16]
//	a      [blocks][16]
func Scale(dst, x, a []float32, blocks, n int, add bool, threads int) {
	l := CurrentLevel()
	pieces(threads, blocks, n, pieceVectors, func(blk, lo, hi int) {
		at := (blk*n + lo) * Lanes
		l.scale(&dst[at], &x[at], &a[blk*Lanes], hi-lo, add)
	})
}

// momentVectors is the number of vectors of the pieces that Moments reads twice: 16 KB.
const momentVectors = 256

// Moments writes, for each channel, the mean of x and Σ (x − mean)². It reads memory once:
// it computes both for one piece after the other and merges them in float64 (Chan, Golub
// and LeVeque 1979).
//
//	x            [blocks][n][16]
//	mean, square [blocks][16]
func Moments(mean, square []float64, x []float32, blocks, n, threads int) {
	l := CurrentLevel()
	per := (n + momentVectors - 1) / momentVectors
	buf := zeroPartials(blocks * per * 2 * Lanes)
	defer partials.put(buf)
	part := *buf // [blocks][pieces][mean, square][16]
	pieces(threads, blocks, n, momentVectors, func(blk, lo, hi int) {
		p := part[(blk*per+lo/momentVectors)*2*Lanes:][:2*Lanes]
		at := &x[(blk*n+lo)*Lanes]
		count := float64(hi - lo)
		l.sum(&p[0], at, hi-lo)
		for c := range Lanes {
			p[c] /= count
		}
		l.squares(&p[Lanes], at, &p[0], hi-lo)
	})
	for blk := range blocks {
		var m, q [Lanes]float64
		for i := range per {
			p := part[(blk*per+i)*2*Lanes:]
			before := float64(i * momentVectors)
			count := float64(min(momentVectors, n-i*momentVectors))
			for c := range m {
				d := p[c] - m[c]
				m[c] += d * count / (before + count)
				q[c] += p[Lanes+c] + d*d*before*count/(before+count)
			}
		}
		copy(mean[blk*Lanes:], m[:])
		copy(square[blk*Lanes:], q[:])
	}
}

// NormReduce writes, for each channel, the two sums of batch norm's backward pass: of dy,
// and of dy·(x − mean)·inv. They are float64.
//
//	dy, x                  [blocks][n][16]
//	sum, dot, mean, inv    [blocks][16]
func NormReduce(sum, dot []float64, dy, x []float32, mean, inv []float64, blocks, n, threads int) {
	l := CurrentLevel()
	per := (n + pieceVectors - 1) / pieceVectors
	buf := zeroPartials(blocks * per * 2 * Lanes)
	defer partials.put(buf)
	part := *buf // [blocks][pieces][2][16]
	pieces(threads, blocks, n, pieceVectors, func(blk, lo, hi int) {
		at := (blk*n + lo) * Lanes
		l.products(&part[(blk*per+lo/pieceVectors)*2*Lanes], &dy[at], &x[at], &mean[blk*Lanes], hi-lo)
	})
	mergeSums(sum, dot, part, inv, per)
}

// mergeSums adds up the parts [blocks][per][2][16] and multiplies the second sum by inv.
func mergeSums(sum, dot, part, inv []float64, per int) {
	for i, v := range inv {
		var s, q float64
		for r := range per {
			p := part[((i/Lanes)*per+r)*2*Lanes+i%Lanes:]
			s += p[0]
			q += p[Lanes]
		}
		sum[i], dot[i] = s, q*v
	}
}

// NormBackward computes dx = a·(dy − b) + c·(x − mean), with constants for each channel, or
// adds it to dx if add is set. dx may be dy if add is not set.
//
//	dx, dy, x     [blocks][n][16]
//	a, b, c, mean [blocks][16]
func NormBackward(dx, dy, x, a, b, c, mean []float32, blocks, n int, add bool, threads int) {
	l := CurrentLevel()
	pieces(threads, blocks, n, pieceVectors, func(blk, lo, hi int) {
		var k [4 * Lanes]float32
		for i, v := range [][]float32{a, b, c, mean} {
			copy(k[i*Lanes:(i+1)*Lanes], v[blk*Lanes:])
		}
		at := (blk*n + lo) * Lanes
		l.normBackward(&dx[at], &dy[at], &x[at], &k[0], hi-lo, add)
	})
}

var partials lender[float64]

// zeroPartials lends n zeros.
func zeroPartials(n int) *[]float64 {
	b := partials.get(n)
	clear(*b)
	return b
}
