package tensor

import "math/bits"

// Arena lends buffers and takes them back, so that a step that repeats allocates
// nothing once warm. Its zero value is ready. It is not safe for concurrent use.
//
// Lent buffers hold whatever their last user left in them.
type Arena struct {
	floats map[int][][]float32
	words  map[int][][]uint16
}

// class rounds n up to an eighth of its power of two, so that batches of almost
// the same size share buffers at 12.5 % waste at most.
func class(n int) int {
	if n <= 64 {
		return 64
	}
	step := 1 << (bits.Len(uint(n-1)) - 4)
	return (n + step - 1) / step * step
}

// Floats lends a buffer of n float32.
func (a *Arena) Floats(n int) []float32 { return take(&a.floats, n) }

// Words lends a buffer of n uint16.
func (a *Arena) Words(n int) []uint16 { return take(&a.words, n) }

// FreeFloats takes back a buffer that Floats lent. Freeing nil does nothing.
func (a *Arena) FreeFloats(b []float32) { give(a.floats, b) }

// FreeWords takes back a buffer that Words lent. Freeing nil does nothing.
func (a *Arena) FreeWords(b []uint16) { give(a.words, b) }

func take[E any](free *map[int][][]E, n int) []E {
	c := class(n)
	if l := (*free)[c]; len(l) > 0 {
		b := l[len(l)-1]
		(*free)[c] = l[:len(l)-1]
		return b[:n]
	}
	if *free == nil {
		*free = map[int][][]E{}
	}
	return make([]E, n, c)
}

func give[E any](free map[int][][]E, b []E) {
	if b == nil {
		return
	}
	free[cap(b)] = append(free[cap(b)], b)
}
