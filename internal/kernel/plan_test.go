package kernel

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// naive calls fn for every pair of an input and an output pixel, with their position in the
// window, in the order of the outputs, then of the inputs.
func (c window) naive(fn func(in, out, tap int)) {
	for oy := range c.Hout {
		for ox := range c.Wout {
			for ky := range c.KH {
				for kx := range c.KW {
					y, x := oy*c.Stride+ky-c.Pad, ox*c.Stride+kx-c.Pad
					if y >= 0 && y < c.Hin && x >= 0 && x < c.Win {
						fn(y*c.Win+x, oy*c.Wout+ox, ky*c.KW+kx)
					}
				}
			}
		}
	}
}

func newWindow(h, w, kh, kw, stride, pad int) window {
	return window{h, w, (h+2*pad-kh)/stride + 1, (w+2*pad-kw)/stride + 1, kh, kw, stride, pad}
}

// windows are geometries with borders, strides that skip pixels, and windows beyond the image.
func windows() (ws []window) {
	for _, size := range [][2]int{{1, 1}, {1, 9}, {9, 1}, {5, 7}, {8, 8}, {11, 6}} {
		for _, k := range [][2]int{{1, 1}, {1, 3}, {3, 1}, {3, 3}, {2, 4}, {5, 5}, {7, 7}} {
			for stride := 1; stride <= 4; stride++ {
				for pad := range 5 {
					if size[0]+2*pad >= k[0] && size[1]+2*pad >= k[1] {
						ws = append(ws, newWindow(size[0], size[1], k[0], k[1], stride, pad))
					}
				}
			}
		}
	}
	return ws
}

// pair is a source pixel and its position in the window.
type pair struct{ src, tap int }

// The sources of a pixel are those of the definition, in the order of the sum, in all units. Runs
// cover every pixel once, and the pixels of a run have the same sources, shifted.
func TestSources(t *testing.T) {
	for _, c := range windows() {
		of := func(s *sources, px int) (ps []pair) {
			p := s.of(px)
			l := &s.lists[p.cols]
			for i, o := range l.values[:p.n] {
				require.Equal(t, offset{o.src / 8, o.w}, l.masks[i])
				ps = append(ps, pair{p.first + int(o.src/64), p.tap + int(o.w/64)})
			}
			return ps
		}
		outs, ins := make([][]pair, c.Hout*c.Wout), make([][]pair, c.Hin*c.Win)
		c.naive(func(in, out, tap int) {
			outs[out] = append(outs[out], pair{in, tap})
			ins[in] = append(ins[in], pair{out, tap})
		})
		check := func(s *sources, want [][]pair) {
			empty := false
			for px, w := range want {
				require.Equal(t, w, of(s, px), "%+v, pixel %d", c, px)
				empty = empty || len(w) == 0
			}
			require.Equal(t, empty, s.empty, "%+v", c)
			seen := make([]int, len(want))
			for _, r := range s.runs {
				for i := range r.n * r.rows {
					px := r.px + i%r.n*r.dstStep + i/r.n*s.dstBelow
					seen[px]++
					shift := i%r.n*r.srcStep + i/r.n*s.srcBelow
					require.Len(t, want[px], len(want[r.px]))
					for k, w := range want[r.px] {
						require.Equal(t, pair{w.src + shift, w.tap}, want[px][k], "%+v, pixel %d", c, px)
					}
				}
			}
			for px, n := range seen {
				require.Equal(t, 1, n, "%+v, pixel %d", c, px)
			}
		}
		check(newOutputSources(c), outs)
		check(newInputSources(c), ins)
	}
}

// The rows of a position of the window hold the pairs of pixels of the definition.
func TestPairs(t *testing.T) {
	for _, c := range windows() {
		want := make([][][2]int, c.KH*c.KW)
		c.naive(func(in, out, tap int) { want[tap] = append(want[tap], [2]int{in, out}) })
		p := newPairs(c)
		for tap, w := range want {
			var got [][2]int
			r := p.taps[tap]
			for _, o := range p.rows[:r.rows] {
				for x := range r.width {
					got = append(got, [2]int{r.in + int(o.src/64) + x*c.Stride, r.out + int(o.w/64) + x})
				}
			}
			require.Equal(t, w, got, "%+v, position %d", c, tap)
		}
	}
}

func bytesOf[E any](s []E) int { var e E; return cap(s) * int(unsafe.Sizeof(e)) }

func (s *sources) bytes() int {
	n := bytesOf(s.rows) + bytesOf(s.cols) + bytesOf(s.lists) + bytesOf(s.runs)
	for _, l := range s.lists {
		n += bytesOf(l.values) + bytesOf(l.masks)
	}
	return n
}

// All tables of a convolution together take less memory than a frame of 16 channels and its
// output, and less than a hundredth of that for large images. Where the window is as large as
// the image, they take less than the weights.
func TestTablesAreSmallerThanTheData(t *testing.T) {
	for _, c := range []struct {
		window
		share float64
	}{
		{newWindow(512, 512, 5, 5, 1, 2), 0.01},
		{newWindow(224, 224, 7, 7, 1, 3), 0.01},
		{newWindow(224, 224, 7, 7, 2, 3), 0.01},
		{newWindow(224, 224, 3, 3, 1, 1), 0.01},
		{newWindow(56, 56, 1, 1, 2, 0), 0.02},
		{newWindow(32, 32, 3, 3, 1, 1), 0.05},
		{newWindow(512, 512, 1, 1, 1, 0), 0.01},
		{newWindow(4096, 1, 5, 1, 1, 2), 0.4}, // one-dimensional
		{newWindow(1, 4096, 1, 5, 1, 2), 0.4},
		{newWindow(8, 8, 3, 3, 1, 1), 1},
	} {
		p := newPairs(c.window)
		tables := newOutputSources(c.window).bytes() + newInputSources(c.window).bytes() + bytesOf(p.rows) + bytesOf(p.taps)
		data := (c.Hin*c.Win + c.Hout*c.Wout) * Lanes * 4
		t.Logf("%+v: %d bytes for %d", c.window, tables, data)
		assert.Less(t, float64(tables), c.share*float64(data), "%+v", c.window)
	}
	for _, c := range []window{newWindow(8, 8, 8, 8, 1, 4), newWindow(7, 7, 7, 7, 1, 3), newWindow(16, 16, 15, 15, 1, 7)} {
		p := newPairs(c)
		tables := newOutputSources(c).bytes() + newInputSources(c).bytes() + bytesOf(p.rows) + bytesOf(p.taps)
		weights := Lanes * Lanes * c.KH * c.KW * 4
		t.Logf("%+v: %d bytes for %d", c, tables, weights)
		assert.Less(t, tables, weights, "%+v", c)
	}
}
