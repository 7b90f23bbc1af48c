package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// Every routine that convolutions call is its twin, to the bit, also next to its destination.
// Levels that split blocks are left out: tests of convolutions cover their routines.
func TestRoutines(t *testing.T) {
	for _, l := range Levels()[1:] {
		if n, _ := l.vectors(); n > 1 {
			continue
		}
		r := rand.New(rand.NewPCG(9, 9))
		bitsOf := func(n int, density float64) []uint64 {
			m := make([]uint64, n)
			for i := range m {
				for b := range 64 {
					if r.Float64() < density {
						m[i] |= 1 << b
					}
				}
			}
			return m
		}
		// twins calls a routine and its twin for equal destinations.
		twins := func(what string, n int, routine, twin func(dst []float32)) {
			t.Helper()
			got := randoms(r, n)
			want := slices.Clone(got)
			routine(got)
			twin(want)
			equalBits(t, fmt.Sprintf("%s at %v", what, l), got, want)
		}

		for cols := 1; cols <= l.gatherBlocks(); cols++ {
			for start := range uint64(3) {
				const items, count = 3, 2
				m, w, bias := bitsOf(items*count, .2), randoms(r, count*64*cols*Lanes), randoms(r, cols*Lanes)
				m[1] = 0
				list := []offset{{0, 0}, {items * 8, int64(64 * cols * 64)}}
				a := gather{
					masks: ptr(m, 0), w: ptr(w, 0), bias: ptr(bias, 0), offsets: ptr(list, 0), count: count, start: start,
					items: items, cols: uint64(cols), maskItem: 8, dstItem: uint64(cols * 64), wCol: 64, dstCol: 64, wBit: uint64(cols * 64),
				}
				twins("gather", (items*cols+1)*Lanes,
					func(dst []float32) { a := a; a.dst = ptr(dst, 0); l.gather(&a) },
					func(dst []float32) { a := a; a.dst = ptr(dst, 0); gatherPortable(&a) })
			}
		}

		for height := 1; height <= 4; height++ {
			for width := 2; width <= 7; width++ {
				for _, begin := range []bool{false, true} {
					const frames = 2
					n := frames * height * width
					m, w, x, bias := bitsOf(n, .1), randoms(r, 64*9*Lanes), randoms(r, n*64), randoms(r, Lanes)
					a := scatter3{
						masks: ptr(m, 0), w: ptr(w, 0), x: ptr(x, 0), frames: frames, height: uint64(height), width: uint64(width),
						blocks: 1, xPixel: 256,
					}
					if begin {
						a.bias = ptr(bias, 0)
					}
					at := func(dst []float32) *scatter3 { a := a; a.dst = ptr(dst, Lanes); return &a }
					twins("scatterSpikes3", (n+2)*Lanes, func(dst []float32) { l.scatterSpikes3(at(dst)) },
						func(dst []float32) { scatterSpikes3Portable(at(dst)) })
					twins("scatterValues3", (n+2)*Lanes, func(dst []float32) { l.scatterValues3(at(dst)) },
						func(dst []float32) { scatterValues3Portable(at(dst)) })
				}
			}
		}

		for _, start := range []uint64{startZero, startDst} {
			const channels, words, pitch = 3, 2, 5
			m, x := bitsOf(channels*words, .2), randoms(r, channels*words*64)
			deltas := randoms(r, (words*64+2*pitch+2)*Lanes)
			m[2] = 0
			at := func(dst []float32) *outer3 {
				return &outer3{
					masks: ptr(m, 0), deltas: ptr(deltas, 0), dw: ptr(dst, Lanes), x: ptr(x, 0),
					channels: channels, words: words, rowStride: pitch * 64, start: start,
				}
			}
			twins("outerSpikes3", (channels*9+2)*Lanes, func(dst []float32) { l.outerSpikes3(at(dst)) },
				func(dst []float32) { outerSpikes3Portable(at(dst)) })
			twins("outerValues3", (channels*9+2)*Lanes, func(dst []float32) { l.outerValues3(at(dst)) },
				func(dst []float32) { outerValues3Portable(at(dst)) })
		}

		for blocks := uint64(1); blocks <= 4; blocks++ {
			for _, finite := range []bool{true, false} {
				const cols = 66
				m := bitsOf(Lanes, .15)
				deltas, w := randoms(r, 3*cols*Group), randoms(r, int(blocks)*Lanes*9*Lanes)
				for i := range deltas {
					if r.IntN(3) == 0 {
						deltas[i] = 0
					}
				}
				if !finite {
					w[r.IntN(9*Lanes)] = float32(math.Inf(1))
				}
				var places [64]place
				for i := range places {
					places[i] = place{int32(i * Group * 4), int32((63 - i) * 64)}
				}
				run := func(dst []float32, fn func(*sampled3)) {
					masks := slices.Clone(m)
					fn(&sampled3{
						masks: ptr(masks, 0), places: ptr(places[:], 0), deltas: ptr(deltas, 0), w: ptr(w, 0), dst: ptr(dst, 0),
						channels: Lanes, blocks: blocks, rowStride: cols * Group * 4, wBlock: Lanes * 9 * 64,
					})
					if slices.Max(masks) != 0 {
						t.Errorf("sampled3 at %v leaves outputs out", l)
					}
				}
				twins("sampled3", 65*Lanes, func(dst []float32) { run(dst, l.runSampled3) },
					func(dst []float32) { run(dst, sampled3Portable) })
			}
		}

		src := randoms(r, 20*Lanes)
		twins("transpose16", 17*21, func(dst []float32) { l.transpose16(&dst[0], &src[0], 21*4, 20*4) },
			func(dst []float32) { transpose16Portable(&dst[0], &src[0], 21*4, 20*4) })

		const words = 3
		spikes, got, want := make([]uint16, words*64), make([]uint64, Lanes*(words+1)), make([]uint64, Lanes*(words+1))
		for i := range spikes {
			spikes[i] = uint16(r.Uint32())
		}
		l.transposeBits(&got[0], &spikes[0], words, (words+1)*8)
		transposeBitsPortable(&want[0], &spikes[0], words, (words+1)*8)
		if !slices.Equal(got, want) {
			t.Errorf("transposeBits at %v differs", l)
		}

		for blocks := 1; blocks <= 4; blocks++ {
			const pixels = 5
			x, nan := randoms(r, blocks*pixels*Lanes), float32(math.NaN())
			for i := range x {
				x[i] = []float32{0, float32(math.Copysign(0, -1)), nan, x[i]}[r.IntN(4)]
			}
			var masks [2][]uint64
			run := func(i int, fn func(*groupValues)) func(dst []float32) {
				return func(dst []float32) {
					masks[i] = make([]uint64, pixels+1)
					fn(&groupValues{
						src: ptr(x, 0), dst: ptr(dst, 0), masks: unsafe.Pointer(&masks[i][0]), pixels: pixels, blocks: uint64(blocks),
						srcBlock: pixels * 64, srcPixel: 64, dstPixel: uint64(blocks * 64), turn: uint64(64 - 16*blocks),
					})
				}
			}
			twins("groupValues", (pixels*blocks+1)*Lanes, run(0, l.groupValues), run(1, groupValuesPortable))
			if !slices.Equal(masks[0], masks[1]) {
				t.Errorf("groupValues at %v: masks %x, want %x", l, masks[0], masks[1])
			}
		}
	}
}
