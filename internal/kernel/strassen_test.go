package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// withStrassen makes quarters of the given extent large enough for Strassen's algorithm.
func withStrassen(t *testing.T, least, strip int) {
	oldLeast, oldStrip := strassenLeast, wideStrip
	t.Cleanup(func() { strassenLeast, wideStrip = oldLeast, oldStrip })
	strassenLeast, wideStrip = least, strip
}

// forLevels runs a test at each level.
func forLevels(t *testing.T, fn func(t *testing.T)) {
	for _, l := range Levels() {
		t.Run(l.String(), func(t *testing.T) { at(t, l, func() { fn(t) }) })
	}
}

// rowMajor returns a part of a blocked matrix in float64.
func rowMajor(m matrix, rows, cols int) *mat.Dense {
	out := mat.NewDense(rows, cols, nil)
	for r := range rows {
		for c := range cols {
			out.Set(r, c, float64(m.data[(r/Lanes*m.cols+c)*Lanes+r%Lanes]))
		}
	}
	return out
}

// nearStrassen compares to 1e-5 of √inner, the size of a sum of products of normal values, and
// to 4e-6 of the element.
func nearStrassen(t *testing.T, what string, got, want *mat.Dense, inner int) {
	t.Helper()
	rows, cols := got.Dims()
	for r := range rows {
		for c := range cols {
			if d := math.Abs(got.At(r, c) - want.At(r, c)); !(d <= 1e-5*math.Sqrt(float64(inner))+4e-6*math.Abs(want.At(r, c))) {
				t.Fatalf("%s: element %d, %d is %v, want %v", what, r, c, got.At(r, c), want.At(r, c))
			}
		}
	}
}

// The product is that of float64 for even and odd sizes around those that are split once and
// twice, of parts of larger matrices. It writes nothing beside its destination, and does not
// depend on the number of threads.
func TestStrassen(t *testing.T) {
	const least = 32
	withStrassen(t, least, wideStrip)
	forLevels(t, func(t *testing.T) {
		for _, s := range []struct{ rows, inner, cols, levels int }{ // rows and inner in blocks
			{4, 4, 63, 0}, {4, 4, 64, 1}, {3, 4, 64, 0}, {4, 3, 64, 0}, {5, 5, 95, 1},
			{8, 8, 128, 2}, {9, 11, 159, 2}, {11, 9, 131, 2}, {10, 10, 160, 2},
		} {
			for _, transposed := range []bool{false, true} {
				p := matProduct{s.rows, s.inner * Lanes, s.cols, transposed}
				if transposed {
					p.inner, p.cols = p.inner+5, p.cols/Lanes*Lanes
					if s.cols%Lanes != 0 && s.levels == 0 {
						continue
					}
				}
				name := fmt.Sprintf("%+v", p)
				levels := 0
				for h := p; h.splits(); h = h.half() {
					levels++
				}
				if levels != s.levels {
					t.Fatalf("%s is split %d times, want %d", name, levels, s.levels)
				}
				a, b := randomMatrix((p.rows+1)*Lanes, p.inner+3), randomMatrix(p.inner, p.cols+7)
				right := b.Slice(0, p.inner, 7, 7+p.cols)
				var want mat.Dense
				want.Mul(a.Slice(Lanes, (p.rows+1)*Lanes, 3, 3+p.inner), right)
				am := matrix{blockMatrix(a), p.inner + 3}.part(1, 3)
				bm := matrix{blockMatrix(b), p.cols + 7}.part(0, 7)
				if transposed {
					bm = matrix{blockMatrix(right.T()), p.inner}
				}
				var first []float32
				for _, threads := range []int{1, 3} {
					dst, check := guarded(t, p.rows*(p.cols+2)*Lanes)
					for r := range p.rows { // the columns beside the product
						for i := range Lanes {
							dst[(r*(p.cols+2))*Lanes+i], dst[((r+1)*(p.cols+2)-1)*Lanes+i] = 1, 2
						}
					}
					scratch, checkScratch := guarded(t, p.scratch())
					p.strassen(matrix{dst, p.cols + 2}.part(0, 1), am, bm, scratch, threads)
					check()
					checkScratch()
					for r := range p.rows {
						if dst[r*(p.cols+2)*Lanes] != 1 || dst[((r+1)*(p.cols+2)-1)*Lanes] != 2 {
							t.Fatalf("%s: wrote beside row block %d", name, r)
						}
					}
					nearStrassen(t, name, rowMajor(matrix{dst, p.cols + 2}.part(0, 1), p.rows*Lanes, p.cols), &want, p.inner)
					if first == nil {
						first = dst
					} else {
						equalBits(t, name+" with 3 threads", dst, first)
					}
				}
			}
		}
	})
}

// W·Wᵀ of a large matrix is that of float64, symmetric to the bit, and the same with any number
// of threads. A weight that is not finite shows on the diagonal.
func TestLargeGram(t *testing.T) {
	withStrassen(t, 16, wideStrip)
	forLevels(t, func(t *testing.T) {
		for _, s := range [][2]int{{4, 32}, {5, 77}, {7, 130}, {8, 64}, {2, 4100}, {4, 4099}, {4, 8300}} {
			n, cols := s[0], s[1]
			name := fmt.Sprintf("%d×%d", n*Lanes, cols)
			if h := n / 2; n >= 4 && !(matProduct{n - h, cols, h * Lanes, true}).splits() {
				t.Fatalf("%s is not split", name)
			}
			m := randomMatrix(n*Lanes, cols)
			w := blockMatrix(m)
			var want mat.Dense
			want.Mul(m, m.T())
			g, check := guarded(t, n*n*Lanes*Lanes)
			Gram(g, w, make([]float32, GramScratch(n, cols)), n, cols, 1)
			check()
			got := rowMajor(matrix{g, n * Lanes}, n*Lanes, n*Lanes)
			nearStrassen(t, name, got, &want, cols)
			if !mat.Equal(got, got.T()) {
				t.Errorf("%s is not symmetric", name)
			}
			again := make([]float32, len(g))
			Gram(again, w, make([]float32, GramScratch(n, cols)), n, cols, 3)
			equalBits(t, name+" with 3 threads", again, g)

			w[(cols+1)*Lanes+3] = float32(math.Inf(1)) // row 19
			Gram(g, w, make([]float32, GramScratch(n, cols)), n, cols, 2)
			if v := g[(n*Lanes+19)*Lanes+3]; !math.IsInf(float64(v), 1) {
				t.Errorf("%s: element 19, 19 is %v with an infinite weight in row 19", name, v)
			}
		}
	})
}

// The projection of a large matrix is that of float64 and the same with any number of threads.
func TestLargeProject(t *testing.T) {
	withStrassen(t, 16, 64)
	forLevels(t, func(t *testing.T) {
		for _, s := range [][2]int{{4, 32}, {4, 64}, {5, 65}, {9, 130}, {8, 200}} {
			n, cols := s[0], s[1]
			name := fmt.Sprintf("%d×%d", n*Lanes, cols)
			m, sq := randomMatrix(n*Lanes, cols), randomMatrix(n*Lanes, n*Lanes)
			var want mat.Dense
			want.Mul(sq, m)
			want.Sub(m, &want)
			want.Scale(.25, &want)
			want.Add(m, &want)
			var first []float32
			for _, threads := range []int{1, 3} {
				w, check := guarded(t, n*cols*Lanes)
				copy(w, blockMatrix(m))
				strip, sums := ProjectScratch(n, cols)
				Project(w, blockMatrix(sq), .25, make([]float32, strip), make([]float32, sums), n, cols, threads)
				check()
				nearStrassen(t, name, rowMajor(matrix{w, cols}, n*Lanes, cols), &want, n*Lanes)
				if first == nil {
					first = slices.Clone(w)
				}
				equalBits(t, name+" with 3 threads", w, first)
			}
		}
	})
}

// Layers of up to 1023 rows keep the bits of sums in ascending order. The linear layers of
// VGG-11 are split twice.
func TestStrassenSizes(t *testing.T) {
	for _, c := range []struct {
		p    matProduct
		want bool
	}{
		{matProduct{63, 1008, 1 << 20, false}, false},
		{matProduct{31, 1 << 20, 512, true}, false},
		{matProduct{64, 1024, 1024, false}, true},
		{matProduct{256, 4096, 2048, false}.half(), true},
		{matProduct{256, 4096, 2048, false}.half().half(), false},
	} {
		if got := c.p.splits(); got != c.want {
			t.Errorf("%+v splits: %v, want %v", c.p, got, c.want)
		}
	}
}

// The error beside that of sums in ascending order, for a layer of VGG-11: run it with -v.
func TestStrassenError(t *testing.T) {
	rows, cols := 4096, 2048
	if testing.Short() || MaxLevel() == Portable {
		rows, cols = 1024, 1024
	}
	n := rows / Lanes
	r := rand.New(rand.NewPCG(1, 2))
	a, b := make([]float32, rows*rows), make([]float32, rows*cols)
	for _, v := range [][]float32{a, b} {
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
	}
	p := matProduct{n, rows, cols, false}
	fast, plain := make([]float32, rows*cols), make([]float32, rows*cols)
	p.strassen(matrix{fast, cols}, matrix{a, rows}, matrix{b, cols}, make([]float32, p.scratch()), 0)
	p.direct(matrix{plain, cols}, matrix{a, rows}, matrix{b, cols}, false, 0)
	var of [2]float64
	const samples = 2000
	for range samples {
		i, j, sum := r.IntN(rows), r.IntN(cols), 0.
		for k := range rows {
			sum += float64(a[(i/Lanes*rows+k)*Lanes+i%Lanes]) * float64(b[(k/Lanes*cols+j)*Lanes+k%Lanes])
		}
		for v, m := range [][]float32{fast, plain} {
			d := float64(m[(i/Lanes*cols+j)*Lanes+i%Lanes]) - sum
			of[v] += d * d / float64(rows) / samples
		}
	}
	t.Logf("%d×%d times %d×%d: relative RMS error %.2g, of sums in ascending order %.2g", rows, rows, rows, cols, math.Sqrt(of[0]), math.Sqrt(of[1]))
	if of[0] > 25*of[1] {
		t.Error("more than 5 times the error of sums in ascending order")
	}
}
