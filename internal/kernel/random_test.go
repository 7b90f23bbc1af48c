package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// At every level, the numbers are those of math/rand/v2, however many a call asks for, and
// Seed begins a stream again.
func TestRandomIsChaCha8(t *testing.T) {
	for _, l := range Levels() {
		at(t, l, func() {
			var r Random
			for seed := range 3 {
				key := [32]byte{byte(seed), 31: 200}
				want := rand.NewChaCha8(key)
				r.Seed(key)
				for n := 0; n <= MaxRandom; n += 1 + n/3 {
					for i, v := range r.Next(n) {
						if w := want.Uint64(); v != w {
							t.Fatalf("%v, seed %d: number %d of %d is %x, want %x", l, seed, i, n, v, w)
						}
					}
				}
			}
		})
	}
}

// A spike is a random number of 16 bits below 2¹⁶ times the probability. The test has every level,
// every number of channels, and every number of pixels up to 130. It also draws in several parts.
func TestDraw(t *testing.T) {
	sizes := []int{1360, 1361, 5000}
	for n := 1; n <= 130; n++ {
		sizes = append(sizes, n)
	}
	for _, pixels := range sizes {
		channels := 1 + pixels%Lanes
		r := rand.New(rand.NewPCG(4, uint64(pixels)))
		p := make([]float32, pixels*Lanes)
		special := []float32{0, 1, 0x1p-16, 1 - 0x1p-16, 0x0.7p-16, 0x0.9p-16, 1 - 0x0.7p-16, -1, 2, 1e30, float32(math.Inf(-1)), float32(math.NaN())}
		for i := range p {
			if p[i] = r.Float32(); r.IntN(3) == 0 {
				p[i] = special[r.IntN(len(special))]
			}
		}
		key := [32]byte{7, byte(pixels), byte(pixels >> 8)}
		numbers := rand.NewChaCha8(key)
		want, rows := make([]uint16, pixels), make([]uint64, 4)
		for group := 0; group < pixels; group += Lanes {
			n := min(Lanes, pixels-group)
			for c := range channels {
				for k := range n {
					if k%4 == 0 {
						rows[k/4] = numbers.Uint64()
					}
					limit := min(math.Round(float64(p[(group+k)*Lanes+c])*(1<<16)), 1<<16) // NaN stays
					if float64(rows[k/4]>>(k%4*16)&0xffff) < limit {
						want[group+k] |= 1 << c
					}
				}
			}
		}
		for _, l := range Levels() {
			at(t, l, func() {
				var r Random
				c := Chances{limits: slices.Repeat([]uint64{math.MaxUint64}, 3), always: []uint16{9, 9}} // of another block
				c.Set(p, channels)
				r.Seed(key)
				s, check := banded(t, slices.Repeat([]uint16{0xaaaa}, pixels))
				r.Draw(s, &c)
				check("Draw")
				if !slices.Equal(s, want) {
					t.Fatalf("%v, %d pixels of %d channels: other spikes", l, pixels, channels)
				}
			})
		}
	}
}
