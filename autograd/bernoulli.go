package autograd

import (
	"math/bits"
	"math/rand/v2"
	"sync"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// newSource returns the generator at the beginning of a key's stream, by value: a pass makes
// one for each image and step.
func newSource(k rng.Key) (c rand.ChaCha8) {
	c.Seed(k)
	return c
}

// limits are the probabilities of the pixels of an image, prepared for draws of four pixels
// at a time from one random number of 64 bits: the four numbers of 16 bits in it are
// compared with four probabilities.
//
// The even and the odd numbers are in 32-bit fields of their own. A field of a limit is
// p·2¹⁶ + (2¹⁶ − 1). Minus a random number of 16 bits, its bit 16 is set with probability p.
type limits struct {
	of  [][]uint64 // [C/16][pixels/4][channels of the block][2]: even and odd pixels
	src rand.ChaCha8
}

var limitsPool = sync.Pool{New: func() any { return new(limits) }}

// set prepares the probabilities p [pixels][16] of block b.
func (l *limits) set(b int, p []float32, channels int) {
	for len(l.of) <= b {
		l.of = append(l.of, nil)
	}
	px := len(p) / tensor.Lanes
	v := l.of[b][:0]
	for i := 0; i < px; i += 4 {
		for c := range channels {
			var field [4]uint64
			for k := range field {
				field[k] = 1<<16 - 1
				if i+k < px {
					field[k] += uint64(min(max(p[(i+k)*tensor.Lanes+c], 0), 1)*(1<<16) + 0.5)
				}
			}
			v = append(v, field[0]|field[2]<<32, field[1]|field[3]<<32)
		}
	}
	l.of[b] = v
}

// draw writes the spikes of the pixels of block b at one step, by random numbers of src.
func (l *limits) draw(s []uint16, b, channels int) {
	const even, one = 0x0000ffff_0000ffff, 0x00000001_00000001
	v := l.of[b]
	for i := 0; i < len(s); i += 4 {
		var four uint64 // 16 bits, one for each channel, of each pixel
		for c := range channels {
			r := l.src.Uint64()
			four |= ((v[0]-r&even)>>16&one | (v[1]-r>>16&even)&(one<<16)) << c
			v = v[2:]
		}
		for k := range min(4, len(s)-i) {
			s[i+k] = uint16(four >> (16 * k))
		}
	}
}

// bernoulli fills dst with independent bits, each 1 with probability p, rounded to a
// multiple of 2⁻²⁴. It draws 64 bits at a time. A bit is 1 if a random binary fraction is
// below p; the fractions' digits are drawn from the last to the first that matter.
func bernoulli(dst []uint16, p float32, src *rand.ChaCha8) {
	digits := uint32(p*(1<<24) + 0.5)
	last := bits.TrailingZeros32(digits | 1<<24)
	for i := 0; i < len(dst); i += 4 {
		var below uint64
		if last == 24 && digits > 0 {
			below = ^uint64(0)
		}
		for k := last; k < 24; k++ {
			if digits>>k&1 == 0 {
				below &^= src.Uint64()
			} else {
				below |= ^src.Uint64()
			}
		}
		for k := range min(4, len(dst)-i) {
			dst[i+k] = uint16(below >> (16 * k))
		}
	}
}
