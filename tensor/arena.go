package tensor

import (
	"slices"

	"github.com/org/snnrat/internal/idle"
)

// Arena lends buffers and takes them back. A training step that repeats allocates no
// memory after its first runs. The zero Arena is ready to use. An Arena is not safe for
// concurrent use.
//
// A lent buffer is not cleared: it holds what its last user left in it. Buffers are cut
// from large slabs. Adjacent free buffers are merged, so their memory can serve a buffer
// of any size later. Between passes, other work may use the memory, see EndPass.
type Arena struct {
	floats heap[float32]
	words  heap[uint16]
	idle   []*idle.Memory // by which slabs of floats are offered to others, in their order
	over   bool           // the pass is over, and all slabs of floats are offered
}

// Floats lends a buffer of n float32 values, aligned to 64 bytes.
func (a *Arena) Floats(n int) []float32 {
	if a.over {
		a.takeBack()
	}
	return a.floats.take(n, 64/4, smallestFloats)
}

// Words lends a buffer of n uint16 values, aligned to 64 bytes.
func (a *Arena) Words(n int) []uint16 { return a.words.take(n, 64/2, smallestWords) }

// FreeFloats takes back a buffer that Floats lent. It does nothing if b is nil. It panics
// if b is not a buffer that Floats lent.
func (a *Arena) FreeFloats(b []float32) { a.floats.give(b) }

// FreeWords takes back a buffer that Words lent. It does nothing if b is nil. It panics
// if b is not a buffer that Words lent.
func (a *Arena) FreeWords(b []uint16) { a.words.give(b) }

// Peak returns the largest amount of memory, in bytes, that was on loan at one time.
func (a *Arena) Peak() int { return 4*a.floats.peak + 2*a.words.peak }

// Size returns the memory of the arena in bytes, on loan or not.
func (a *Arena) Size() int { return 4*a.floats.size + 2*a.words.size }

// EndPass tells the arena that a pass is over. If each of the last 64 passes has needed less
// than a quarter of what one before them did, the arena drops what is not on loan. Later passes
// allocate what they need. A pass that took nothing does not count.
//
// If no values are on loan, regularize.Orthogonal may use their memory until the next call of
// Floats.
func (a *Arena) EndPass() {
	if a.floats.high+a.words.high == 0 {
		return
	}
	if a.over {
		a.takeBack()
	}
	a.floats.endPass(smallestFloats)
	a.words.endPass(smallestWords)
	if a.floats.out == 0 {
		a.offer()
	}
}

// offer offers the slabs of floats, each of which is one free block.
func (a *Arena) offer() {
	for len(a.idle) < len(a.floats.blocks) {
		a.idle = append(a.idle, idle.New())
	}
	for i, b := range a.floats.blocks {
		a.idle[i].Offer(b.slab)
	}
	a.over = true
}

// takeBack ends the offer. It drops the slabs that others use at the time.
func (a *Arena) takeBack() {
	a.over = false
	i := 0
	a.floats.blocks = slices.DeleteFunc(a.floats.blocks, func(b *block[float32]) bool {
		taken := a.idle[i].Take()
		if taken {
			i++
			return false
		}
		a.idle = slices.Delete(a.idle, i, i+1)
		a.floats.size -= b.n
		return true
	})
}

// The smallest slabs, in elements: 8 MB of values, 1 MB of spikes.
const (
	smallestFloats = 8 << 20 / 4
	smallestWords  = 1 << 20 / 2
)

// heap is the arena of one element type. It allocates by best fit and merges free
// neighbours.
type heap[E any] struct {
	blocks []*block[E]      // all blocks, ordered by slab and offset
	lent   map[*E]*block[E] // blocks on loan, by their first element
	spare  []*block[E]      // block structs to use again
	size   int              // elements in all slabs

	out, peak int // elements on loan now, and the largest number so far
	high      int // the largest number of out in this pass
	top       int // the largest high since slabs were dropped for passes that needed little
	small     int // passes in a row that needed little
}

// block is a part of a slab. Two blocks of one slab that are neighbours in heap.blocks
// are neighbours in memory.
type block[E any] struct {
	slab   []E
	off, n int
	free   bool
}

// take lends n elements. It rounds the block's length up to a multiple of unit. A new slab
// has smallest elements, room for four such blocks or the size of the slabs so far, whichever is
// most. Large slabs are better, since free blocks can be joined within a slab alone. What no block
// has reached takes no physical memory.
func (h *heap[E]) take(n, unit, smallest int) []E {
	want := (max(n, 1) + unit - 1) / unit * unit
	i := -1
	for j, b := range h.blocks {
		if b.free && b.n >= want && (i < 0 || b.n < h.blocks[i].n) {
			i = j
		}
	}
	if i < 0 {
		size := max(4*want, h.size, smallest) // the runtime aligns such large slices to pages
		if h.size+size > 2*max(h.peak, h.out+want) {
			h.trim() // slabs that have turned out to be too small
		}
		h.size += size
		i = len(h.blocks)
		h.blocks = append(h.blocks, h.block(block[E]{slab: make([]E, size), n: size}))
	}
	b := h.blocks[i]
	if b.n > want {
		rest := h.block(block[E]{slab: b.slab, off: b.off + want, n: b.n - want, free: true})
		h.blocks = slices.Insert(h.blocks, i+1, rest)
		b.n = want
	}
	b.free = false
	h.out += b.n
	h.high, h.peak = max(h.high, h.out), max(h.peak, h.out)
	if h.lent == nil {
		h.lent = map[*E]*block[E]{}
	}
	h.lent[&b.slab[b.off]] = b
	return b.slab[b.off:][:n:want]
}

// endPass is Arena.EndPass for slabs of at least the given size. Four of these are never dropped.
func (h *heap[E]) endPass(smallest int) {
	h.top = max(h.top, h.high)
	if h.small++; h.size <= 4*smallest || h.top <= 4*h.high {
		h.small = 0
	}
	if h.small == 64 {
		h.trim()
		h.small, h.top = 0, h.high
	}
	h.high = h.out
}

// trim drops the slabs that have no block on loan.
func (h *heap[E]) trim() {
	h.blocks = slices.DeleteFunc(h.blocks, func(b *block[E]) bool {
		whole := b.free && b.n == len(b.slab)
		if whole {
			h.size -= b.n
		}
		return whole
	})
}

// block returns a new block.
func (h *heap[E]) block(v block[E]) *block[E] {
	if len(h.spare) == 0 {
		h.spare = append(h.spare, new(block[E]))
	}
	b := h.spare[len(h.spare)-1]
	h.spare = h.spare[:len(h.spare)-1]
	*b = v
	return b
}

func (h *heap[E]) give(buf []E) {
	if buf == nil {
		return
	}
	first := &buf[:1][0]
	b := h.lent[first]
	if b == nil {
		panic("tensor: Arena: a buffer is given back that was not lent")
	}
	delete(h.lent, first)
	h.out -= b.n
	b.free = true
	i := slices.Index(h.blocks, b)
	h.merge(i)
	h.merge(i - 1)
}

// merge joins block i and the next one if both are free and belong to one slab.
func (h *heap[E]) merge(i int) {
	if i < 0 || i+1 >= len(h.blocks) {
		return
	}
	a, b := h.blocks[i], h.blocks[i+1]
	if a.free && b.free && &a.slab[0] == &b.slab[0] {
		a.n += b.n
		h.blocks = slices.Delete(h.blocks, i+1, i+2)
		*b = block[E]{}
		h.spare = append(h.spare, b)
	}
}
