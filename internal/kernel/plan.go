package kernel

import "sync"

// window is the geometry of a convolution without its channels and frames.
type window struct {
	Hin, Win, Hout, Wout int
	KH, KW, Stride, Pad  int
}

func (c *Conv) window() window {
	return window{c.Hin, c.Win, c.Hout, c.Wout, c.KH, c.KW, c.Stride, c.Pad}
}

// flat returns c with each pixel as a frame of its own if the window is one pixel with
// stride 1. Otherwise it returns c.
func (c Conv) flat() Conv {
	if c.KH == 1 && c.KW == 1 && c.Stride == 1 && c.Pad == 0 {
		c.Frames *= c.Hin * c.Win
		c.Hin, c.Win, c.Hout, c.Wout = 1, 1, 1, 1
	}
	return c
}

// cache keeps one P for every window for which get was called.
type cache[P any] struct {
	mu sync.RWMutex
	m  map[window]*P
}

func (c *cache[P]) get(w window, build func(window) *P) *P {
	c.mu.RLock()
	p := c.m[w]
	c.mu.RUnlock()
	if p != nil {
		return p
	}
	p = build(w)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) > 1000 { // a program with ever new geometries
		c.m = map[window]*P{}
	}
	c.m[w] = p
	return p
}

// sources lists, for every destination pixel of a product, its source pixels in the order of
// the sum.
type sources struct {
	values []offset // bytes into a frame of values, and into a channel's weights
	masks  []offset // the same for frames of uint64 masks
	start  []int32  // values[start[p]:start[p+1]] are pixel p's
	runs   []run
	empty  bool // a pixel has no sources

	// The distance in pixels from a destination pixel to the like one in a later row, and
	// the distance of their sources.
	dstBelow, srcBelow int
}

// run is n destination pixels from px on, dstStep pixels apart. Their lists are equal except
// for a shift of srcStep pixels from one to the next. The same holds in rows rows: this one
// and those below it.
type run struct{ px, n, dstStep, srcStep, rows int }

func (s *sources) add(src, tap int) {
	s.values = append(s.values, offset{int64(src) * 64, int64(tap) * 64})
	s.masks = append(s.masks, offset{int64(src) * 8, int64(tap) * 64})
}

// close ends the lists of a destination of the given width and covers its pixels with runs.
// A run goes along a row, with pixels dstX apart, and takes in further rows, dstY apart, that
// have the same run. A pixel without a like neighbour in its row starts a run down its column.
func (s *sources) close(width, dstX, srcX, dstY, srcY int) {
	s.dstBelow, s.srcBelow = dstY, srcY
	n := len(s.start) - 1
	done := make([]bool, n)
	// like reports whether p can be in a run with the pixel dst before it.
	like := func(p, dst, src int) bool { return p < n && !done[p] && s.follows(p, dst, src) }
	for p := range n {
		s.empty = s.empty || s.start[p] == s.start[p+1]
		if done[p] {
			continue
		}
		r := run{p, 1, dstX, srcX, 1}
		for q := p + dstX; q/width == p/width && like(q, dstX, srcX); q += dstX {
			r.n++
		}
		if r.n == 1 {
			r.dstStep, r.srcStep = dstY, srcY
			for q := p + dstY; like(q, dstY, srcY); q += dstY {
				r.n++
			}
		} else {
			row := func(first int) bool {
				for i := range r.n {
					if !like(first+i*dstX, dstY, srcY) {
						return false
					}
				}
				return true
			}
			for row(p + r.rows*dstY) {
				r.rows++
			}
		}
		for i := range r.n * r.rows {
			done[p+i%r.n*r.dstStep+i/r.n*dstY] = true
		}
		s.runs = append(s.runs, r)
	}
}

// follows reports whether pixel p has the list of pixel p−dst, shifted by src pixels.
func (s *sources) follows(p, dst, src int) bool {
	o := p - dst
	a, b := s.values[s.start[o]:s.start[o+1]], s.values[s.start[p]:s.start[p+1]]
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if b[i].w != a[i].w || b[i].src != a[i].src+int64(src)*64 {
			return false
		}
	}
	return true
}

var outputSources, inputSources cache[sources]

// newOutputSources lists every output pixel's input pixels.
func newOutputSources(c window) *sources {
	s := &sources{start: []int32{0}}
	for oy := range c.Hout {
		for ox := range c.Wout {
			for ky := range c.KH {
				for kx := range c.KW {
					y, x := oy*c.Stride+ky-c.Pad, ox*c.Stride+kx-c.Pad
					if y >= 0 && y < c.Hin && x >= 0 && x < c.Win {
						s.add(y*c.Win+x, ky*c.KW+kx)
					}
				}
			}
			s.start = append(s.start, int32(len(s.values)))
		}
	}
	s.close(c.Wout, 1, c.Stride, c.Wout, c.Stride*c.Win)
	return s
}

// newInputSources lists every input pixel's output pixels.
func newInputSources(c window) *sources {
	s := &sources{start: []int32{0}}
	for y := range c.Hin {
		for x := range c.Win {
			for ky := c.KH - 1; ky >= 0; ky-- {
				for kx := c.KW - 1; kx >= 0; kx-- {
					oy, ox := y+c.Pad-ky, x+c.Pad-kx
					if oy < 0 || ox < 0 || oy%c.Stride != 0 || ox%c.Stride != 0 {
						continue
					}
					if oy, ox = oy/c.Stride, ox/c.Stride; oy < c.Hout && ox < c.Wout {
						s.add(oy*c.Wout+ox, ky*c.KW+kx)
					}
				}
			}
			s.start = append(s.start, int32(len(s.values)))
		}
	}
	s.close(c.Win, c.Stride, 1, c.Stride*c.Win, c.Wout)
	return s
}

// pairs lists, for every position of the window, the rows of input pixels and the rows of
// output pixels that read them there.
type pairs struct {
	rows  []offset // bytes into a frame of inputs, and into a frame of outputs
	start []int32  // rows[start[t]:start[t+1]] are position t's
	width []int32  // pixels of each of position t's rows
}

var windowPairs cache[pairs]

func newPairs(c window) *pairs {
	p := &pairs{start: []int32{0}}
	for ky := range c.KH {
		for kx := range c.KW {
			// Columns of the output whose input column ox·stride + kx − pad exists.
			lo := max(0, (c.Pad-kx+c.Stride-1)/c.Stride)
			hi := min(c.Wout, (c.Win-1+c.Pad-kx+c.Stride)/c.Stride)
			width := max(0, hi-lo)
			for oy := range c.Hout {
				y := oy*c.Stride + ky - c.Pad
				if y >= 0 && y < c.Hin && width > 0 {
					x := lo*c.Stride + kx - c.Pad
					p.rows = append(p.rows, offset{int64(y*c.Win+x) * 64, int64(oy*c.Wout+lo) * 64})
				}
			}
			p.start = append(p.start, int32(len(p.rows)))
			p.width = append(p.width, int32(width))
		}
	}
	return p
}

// share returns the bounds of part i of n items split into parts.
func share(n, i, parts int) (lo, hi int) { return i * n / parts, (i + 1) * n / parts }

func ceilDiv(a, b int) int { return (a + b - 1) / b }
