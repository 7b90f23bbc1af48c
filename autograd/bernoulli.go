package autograd

import (
	"math/bits"
	"sync"

	"github.com/org/snnrat/internal/kernel"
)

// drawer draws for one image or frame at a time.
type drawer struct {
	kernel.Random
	chances []kernel.Chances // of blocks
}

var drawers = sync.Pool{New: func() any { return new(drawer) }}

// bernoulli fills dst with independent bits, each 1 with probability p, rounded to a
// multiple of 2⁻²⁴. It draws 64 bits at a time. A bit is 1 if a random binary fraction is
// below p; the fractions' digits are drawn from the last to the first that matter.
func bernoulli(dst []uint16, p float32, src *kernel.Random) {
	digits := uint32(p*(1<<24) + 0.5)
	last := bits.TrailingZeros32(digits | 1<<24)
	for i := 0; i < len(dst); i += 4 {
		var below uint64
		if last == 24 && digits > 0 {
			below = ^uint64(0)
		}
		for k, r := range src.Next(24 - last) {
			if digits>>(last+k)&1 == 0 {
				below &^= r
			} else {
				below |= ^r
			}
		}
		for k := range min(4, len(dst)-i) {
			dst[i+k] = uint16(below >> (16 * k))
		}
	}
}
