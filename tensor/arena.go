package tensor

import "slices"

// Arena lends buffers and takes them back, so that a step that repeats allocates
// nothing once warm. Its zero value is ready. It is not safe for concurrent use.
//
// Lent buffers hold whatever their last user left in them. They are cut from slabs, and
// neighbours that are taken back become one: the memory of a buffer serves smaller
// buffers of any size later.
type Arena struct {
	floats heap[float32]
	words  heap[uint16]
}

// Floats lends a buffer of n float32, aligned to 64 bytes.
func (a *Arena) Floats(n int) []float32 { return a.floats.take(n, 64/4, 8<<20/4) }

// Words lends a buffer of n uint16, aligned to 64 bytes.
func (a *Arena) Words(n int) []uint16 { return a.words.take(n, 64/2, 1<<20/2) }

// FreeFloats takes back a buffer that Floats lent. Freeing nil does nothing; freeing
// anything else panics.
func (a *Arena) FreeFloats(b []float32) { a.floats.give(b) }

// FreeWords takes back a buffer that Words lent, as FreeFloats does.
func (a *Arena) FreeWords(b []uint16) { a.words.give(b) }

// Peak returns the largest amount of memory, in bytes, that has been lent at a time.
func (a *Arena) Peak() int { return 4*a.floats.peak + 2*a.words.peak }

// heap is the arena of one type: best fit, with coalescing.
type heap[E any] struct {
	blocks []*block[E] // of all slabs, by slab and offset
	lent   map[*E]*block[E]
	spare  []*block[E] // to be used again
	size   int         // of all slabs

	out, peak int // lent now, and at most
}

// block is a part of a slab. Neighbours in heap.blocks of the same slab are neighbours
// in memory.
type block[E any] struct {
	slab   []E
	off, n int
	free   bool
}

// take lends n elements, in multiples of unit. Small buffers share slabs of the smallest
// size. A slab for a larger one has room for two: a network's next layers are often as
// large, or half as large. More would stay unused, since a pass lends the same sizes again
// and again.
func (h *heap[E]) take(n, unit, smallest int) []E {
	want := (max(n, 1) + unit - 1) / unit * unit
	i := -1
	for j, b := range h.blocks {
		if b.free && b.n >= want && (i < 0 || b.n < h.blocks[i].n) {
			i = j
		}
	}
	if i < 0 {
		size := max(2*want, smallest) // page-aligned, being large
		if h.size+size > 2*max(h.peak, h.out+want) {
			h.trim()
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
	h.peak = max(h.peak, h.out)
	if h.lent == nil {
		h.lent = map[*E]*block[E]{}
	}
	h.lent[&b.slab[b.off]] = b
	return b.slab[b.off:][:n:want]
}

// trim lets go of the slabs of which nothing is lent, which have turned out too small.
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

// merge makes block i and the next one a single block, if both are free and of one
// slab.
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
