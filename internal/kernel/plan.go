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

// sources tells where the source pixels of every destination pixel of a product are, in the
// order of the sum. Pixels with equally many source pixels in a row share a list, so that the
// memory grows with the height and width of an image, and not with its pixels.
type sources struct {
	rows, cols []span // of the destination
	srcWidth   int
	windowCols int
	step       int // from one source's position in the window to the next one's, along both axes

	// For n source pixels in a row, lists[n] are the sources of a destination pixel of most
	// rows, relative to the first source and its position in the window. It is nil if there
	// is no such pixel.
	lists []sourceList

	runs  []run
	empty bool // a pixel has no sources

	// The distance in pixels from a destination pixel to the like one in a later row, and
	// the distance of their sources.
	dstBelow, srcBelow int
}

// sourceList is a list of source pixels in two units.
type sourceList struct {
	values []offset // bytes into a frame of values, and into a channel's weights
	masks  []offset // the same for frames of uint64 masks
}

// span are the n sources of a position of the destination along one axis, from the source first
// on. That is seen at the position tap of the window.
type span struct{ first, tap, n int32 }

// run is n destination pixels from px on, dstStep pixels apart. Their lists are equal except
// for a shift of srcStep pixels from one to the next. The same holds in rows rows: this one
// and those below it.
type run struct{ px, n, dstStep, srcStep, rows int }

// pixelSources tells where the sources of a destination pixel are: the first one's pixel and position
// in the window, and how many there are in a row and in all.
type pixelSources struct{ first, tap, cols, n int }

// of returns the sources of destination pixel px.
func (s *sources) of(px int) pixelSources {
	r, c := s.rows[px/len(s.cols)], s.cols[px%len(s.cols)]
	return pixelSources{
		first: int(r.first)*s.srcWidth + int(c.first), tap: int(r.tap)*s.windowCols + int(c.tap),
		cols: int(c.n), n: int(r.n) * int(c.n),
	}
}

// list makes the lists.
func (s *sources) list() {
	most := func(spans []span) (n int) {
		for _, a := range spans {
			n = max(n, int(a.n))
		}
		return n
	}
	s.lists = make([]sourceList, most(s.cols)+1)
	height := most(s.rows)
	for _, c := range s.cols {
		l := &s.lists[c.n]
		if l.values != nil {
			continue
		}
		for i := range height * int(c.n) {
			y, x := i/int(c.n), i%int(c.n)
			src, at := int64(y*s.srcWidth+x), int64((y*s.windowCols+x)*s.step)
			l.values = append(l.values, offset{src * 64, at * 64})
			l.masks = append(l.masks, offset{src * 8, at * 64})
		}
	}
}

// cover covers the destination's pixels with runs. A run goes along a row, with pixels dstX
// apart, and takes in further rows, dstY apart, that have the same run. A pixel without a like
// neighbour in its row starts a run down its column.
func (s *sources) cover(dstX, srcX, dstY, srcY int) {
	s.dstBelow, s.srcBelow = dstY, srcY
	width := len(s.cols)
	n := len(s.rows) * width
	done := make([]bool, n)
	// like reports whether p can be in a run with the pixel dst before it.
	like := func(p, dst, src int) bool { return p < n && !done[p] && s.follows(p, dst, src) }
	for p := range n {
		s.empty = s.empty || s.of(p).n == 0
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
	a, b := s.of(p-dst), s.of(p)
	if a.n == 0 || b.n == 0 {
		return a.n == b.n
	}
	a.first += src
	return a == b
}

var outputSources, inputSources cache[sources]

// newOutputSources lists every output pixel's input pixels.
func newOutputSources(c window) *sources {
	spans := func(out, in, window int) []span {
		s := make([]span, out)
		for o := range s {
			from := o*c.Stride - c.Pad // the window's first position, which may be outside
			lo, hi := max(0, -from), min(window, in-from)
			if lo < hi {
				s[o] = span{int32(from + lo), int32(lo), int32(hi - lo)}
			}
		}
		return s
	}
	s := &sources{
		rows: spans(c.Hout, c.Hin, c.KH), cols: spans(c.Wout, c.Win, c.KW),
		srcWidth: c.Win, windowCols: c.KW, step: 1,
	}
	s.list()
	s.cover(1, c.Stride, c.Wout, c.Stride*c.Win)
	return s
}

// newInputSources lists every input pixel's output pixels.
func newInputSources(c window) *sources {
	spans := func(in, out, window int) []span {
		s := make([]span, in)
		for i := range s {
			// The output pixel o sees i at position i + Pad − o·Stride of its window.
			lo, hi := max(0, ceilDiv(i+c.Pad-window+1, c.Stride)), min(out-1, (i+c.Pad)/c.Stride)
			if lo <= hi {
				s[i] = span{int32(lo), int32(i + c.Pad - lo*c.Stride), int32(hi - lo + 1)}
			}
		}
		return s
	}
	s := &sources{
		rows: spans(c.Hin, c.Hout, c.KH), cols: spans(c.Win, c.Wout, c.KW),
		srcWidth: c.Wout, windowCols: c.KW, step: -c.Stride,
	}
	s.list()
	s.cover(c.Stride, 1, c.Stride*c.Win, c.Wout)
	return s
}

// pairs tells, for every position of the window, the rows of input pixels and the rows of
// output pixels that read them there.
type pairs struct {
	// rows are the rows of a position, relative to its first: bytes into a frame of inputs,
	// and into a frame of outputs.
	rows []offset
	taps []rowPairs // [KH·KW]
}

// rowPairs are so many rows of so many pixels, from the input pixel in and the output pixel out
// on.
type rowPairs struct{ in, out, rows, width int }

var windowPairs cache[pairs]

func newPairs(c window) *pairs {
	p := &pairs{}
	for y := range c.Hout {
		p.rows = append(p.rows, offset{int64(y*c.Stride*c.Win) * 64, int64(y*c.Wout) * 64})
	}
	// seen returns the outputs o from lo to hi−1 whose input o·stride + k − pad exists.
	seen := func(k, in, out int) (lo, hi int) {
		lo = max(0, (c.Pad-k+c.Stride-1)/c.Stride)
		return lo, max(lo, min(out, (in-1+c.Pad-k+c.Stride)/c.Stride))
	}
	for ky := range c.KH {
		for kx := range c.KW {
			top, bottom := seen(ky, c.Hin, c.Hout)
			left, right := seen(kx, c.Win, c.Wout)
			var r rowPairs
			if top < bottom && left < right {
				r = rowPairs{
					in:   (top*c.Stride+ky-c.Pad)*c.Win + left*c.Stride + kx - c.Pad,
					out:  top*c.Wout + left,
					rows: bottom - top, width: right - left,
				}
			}
			p.taps = append(p.taps, r)
		}
	}
	return p
}

// share returns the bounds of part i of n items split into parts.
func share(n, i, parts int) (lo, hi int) { return i * n / parts, (i + 1) * n / parts }

func ceilDiv(a, b int) int { return (a + b - 1) / b }
