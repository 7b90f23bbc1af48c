package kernel

import "github.com/org/snnrat/internal/parallel"

// This file splits work. Each function has two forms. The first takes a closure. The second
// takes what the closure would capture as an argument, and a function literal that captures
// nothing. It allocates no memory with one thread, see [parallel.With]; the kernels of the
// forward pass use it.

// pieceVectors is the number of vectors of a piece of element-wise work.
const pieceVectors = 1024

// pieces calls fn for runs of at most size elements of every block. Small blocks are
// grouped, since each piece of work costs time to hand out.
func pieces(threads, blocks, n, size int, fn func(blk, lo, hi int)) {
	piecesWith(threads, blocks, n, size, fn, func(fn func(blk, lo, hi int), blk, lo, hi int) { fn(blk, lo, hi) })
}

// split is work on blocks of n elements. Unit u of the work is group whole blocks, or size
// elements of a block if group is 0.
type split[A any] struct {
	args            A
	fn              func(args A, blk, lo, hi int)
	blocks, n, size int
	group           int
}

// Do does unit u.
func (s split[A]) Do(u int) {
	if s.group > 0 {
		for blk := u * s.group; blk < min((u+1)*s.group, s.blocks); blk++ {
			s.fn(s.args, blk, 0, s.n)
		}
		return
	}
	per := ceilDiv(s.n, s.size)
	lo := u % per * s.size
	s.fn(s.args, u/per, lo, min(lo+s.size, s.n))
}

// piecesWith is pieces for a function of args.
func piecesWith[A any](threads, blocks, n, size int, args A, fn func(args A, blk, lo, hi int)) {
	s, units := split[A]{args, fn, blocks, n, size, 0}, blocks*ceilDiv(n, size)
	if group := size / 4 / max(1, n); group > 1 {
		s.group, units = group, ceilDiv(blocks, group)
	}
	parallel.Run(threads, units, s)
}

// each calls fn for n items of the given number of vectors. Small items are grouped, as in
// pieces.
func each(threads, n, vectors int, fn func(i int)) {
	eachWith(threads, n, vectors, fn, func(fn func(i int), from, to int) {
		for i := from; i < to; i++ {
			fn(i)
		}
	})
}

// items are n items of work. A unit of the work is group of them.
type items[A any] struct {
	args     A
	fn       func(args A, from, to int)
	n, group int
}

// Do does unit u.
func (s items[A]) Do(u int) {
	s.fn(s.args, u*s.group, min((u+1)*s.group, s.n))
}

// eachWith is each for a function of args, which does the items from to to−1.
func eachWith[A any](threads, n, vectors int, args A, fn func(args A, from, to int)) {
	group := max(1, pieceVectors/4/max(1, vectors))
	parallel.Run(threads, ceilDiv(n, group), items[A]{args, fn, n, group})
}

// chunk is the number of elements of one piece of element-wise work.
const chunk = 1 << 14

// chunks calls fn for runs of at most chunk elements.
func chunks(threads, n int, fn func(lo, hi int)) {
	chunksWith(threads, n, fn, func(fn func(lo, hi int), lo, hi int) { fn(lo, hi) })
}

// chunksWith is chunks for a function of args.
func chunksWith[A any](threads, n int, args A, fn func(args A, lo, hi int)) {
	parallel.Run(threads, ceilDiv(n, chunk), chunked[A]{args, fn, n})
}

// chunked are n elements of work. A unit of the work is a chunk.
type chunked[A any] struct {
	args A
	fn   func(args A, lo, hi int)
	n    int
}

// Do does unit u.
func (s chunked[A]) Do(u int) { s.fn(s.args, u*chunk, min((u+1)*chunk, s.n)) }
