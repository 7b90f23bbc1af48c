package tensor

import (
	"fmt"
	"math/bits"
)

// Spikes is a value of zeros and ones, one bit each, in blocks of 16 channels. The
// package documentation describes the layout.
type Spikes struct {
	Shape
	Bits []uint16 // [C/16][N·Steps][H][W]
}

// NewSpikes returns spike trains of shape s without a spike. It panics if N is negative or
// another extent is less than 1.
func NewSpikes(s Shape) *Spikes {
	s.check("NewSpikes")
	return &Spikes{s, make([]uint16, s.Words())}
}

// At reports whether channel c at row y and column x of image n fires at step t.
func (s *Spikes) At(n, t, c, y, x int) bool {
	i := s.Index(n, t, c, y, x)
	return s.Bits[i/Lanes]>>(i%Lanes)&1 == 1
}

// Set makes channel c at row y and column x of image n fire at step t, or not fire if
// fires is false.
func (s *Spikes) Set(n, t, c, y, x int, fires bool) {
	i := s.Index(n, t, c, y, x)
	if fires {
		s.Bits[i/Lanes] |= 1 << (i % Lanes)
	} else {
		s.Bits[i/Lanes] &^= 1 << (i % Lanes)
	}
}

// Count returns the number of spikes.
func (s *Spikes) Count() int {
	n := 0
	for _, w := range s.Bits {
		n += bits.OnesCount16(w)
	}
	return n
}

// Rate returns the mean firing rate in [0,1], in spikes per neuron and time step. It
// returns 0 if N is 0.
func (s *Spikes) Rate() float64 {
	n := s.Frames() * s.Neurons()
	if n == 0 {
		return 0
	}
	return float64(s.Count()) / float64(n)
}

// Dense returns a new Dense with 1 for every spike and 0 elsewhere.
func (s *Spikes) Dense() *Dense {
	d := NewDense(s.Shape)
	for i, w := range s.Bits {
		for ; w != 0; w &= w - 1 {
			d.Data[i*Lanes+bits.TrailingZeros16(w)] = 1
		}
	}
	return d
}

// PackSpikes replaces the spikes of s: an element fires where src is not zero. src has as
// many frames as s, N·Steps, in the same order. PackSpikes panics if the shapes do not fit.
func (s *Spikes) PackSpikes(src NCHW) {
	if !src.fits(s.Shape) {
		panic(fmt.Sprintf("tensor: PackSpikes: %v does not fit %v", src, s.Shape))
	}
	clear(s.Bits)
	px := s.Pixels()
	for f := range s.Frames() {
		for c := range s.C {
			dst := s.Bits[((c/Lanes)*s.Frames()+f)*px:][:px]
			for i, v := range src.Data[(f*s.C+c)*px:][:px] {
				if v != 0 {
					dst[i] |= 1 << (c % Lanes)
				}
			}
		}
	}
}
