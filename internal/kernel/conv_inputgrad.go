package kernel

import (
	"math/bits"

	"github.com/org/snnrat/internal/parallel"
)

// maxImageChannels is the largest number of input channels for which vectors of pixels are
// faster than vectors of channels.
const maxImageChannels = 4

// maxTransposed is the largest number of rows of a linear layer for which the deltas are
// transposed instead of the weights. The deltas of so many rows stay in a cache.
const maxTransposed = 512

// convInputGrad computes the gradient of the input. There are two special cases. With few
// input channels, vectors of channels would be mostly padding. In a linear layer, to
// transpose the weights would take long. In both cases the weights are the scalars of a tile,
// and a vector holds the deltas of 16 pixels or of 16 rows (8 at AVX2). The order of sums is
// the same. Portable Go has no vectors and needs neither.
func (l Level) convInputGrad(dx, dy, w []float32, need []uint16, c Conv, add bool, threads int) {
	switch {
	case l.winograd(&c):
		l.convInputGradByFrame(dx, dy, w, need, &c, add, threads)
	case need != nil && c.CanLeaveOut():
		l.convInputGradWhere3(dx, dy, w, need, &c, c.allFrames(), add, threads)
	case l > Portable && c.Cin <= maxImageChannels && c.KH*c.KW > 1 && c.Stride == 1 && c.Pad < min(c.KH, c.KW) && c.Hout*c.Wout >= Lanes:
		l.convInputGradImage(dx, dy, w, &c, add, threads)
	case l > Portable && c.Hin*c.Win == 1 && c.Hout*c.Wout == 1 && c.KH*c.KW == 1 && c.Pad == 0 &&
		c.Frames <= maxTransposed && c.BlocksOut() >= 8: // sums long enough to be worth it
		l.convInputGradRows(dx, dy, w, &c, add, threads)
	case c.same3() && l.sparse(dy, c.Cout):
		l.convInputGradValues3(dx, dy, w, &c, c.allFrames(), add, threads)
	default:
		l.convInputGradTiles(dx, dy, w, &c, add, threads)
	}
}

// way is how the gradient of a frame is computed where Winograd's algorithm can be used.
type way int

const (
	ofAll    way = iota // Winograd's algorithm
	ofNeeded            // sums for the elements that are needed
	ofEvents            // sums over the deltas that are not zero
)

// winogradLeast is the least share of a frame's elements that are needed, or of its deltas that are
// not zero if all elements are, for Winograd's algorithm. With less, the sums are faster.
const winogradLeast = 0.25

// way returns how the gradient of frame f is computed. It depends on that frame alone. Of the deltas
// it takes a small sample, since each of its blocks is a cache miss.
func (c *Conv) way(dy []float32, need []uint16, f int) way {
	px := c.Hin * c.Win
	if need != nil {
		n := 0
		for b := range c.BlocksIn() {
			for _, v := range need[(b*c.Frames+f)*px:][:px] {
				n += bits.OnesCount16(v)
			}
		}
		if float64(n) < winogradLeast*float64(c.Cin*px) {
			return ofNeeded
		}
		return ofAll
	}
	n := c.BlocksOut() * px
	step := max(1, n/32) | 1
	seen, events := 0, 0
	for i := 0; i < n; i += step {
		seen++
		for _, v := range (*[Lanes]float32)(dy[((i/px*c.Frames+f)*px+i%px)*Lanes:]) {
			events += int(notZero(v))
		}
	}
	if float64(events)/float64(seen)*float64(n) < winogradLeast*float64(c.Cout*px) {
		return ofEvents
	}
	return ofAll
}

// convInputGradByFrame computes the gradient of each frame in its way.
func (l Level) convInputGradByFrame(dx, dy, w []float32, need []uint16, c *Conv, add bool, threads int) {
	ways := make([]way, c.Frames)
	parallel.For(threads, c.Frames, func(f int) { ways[f] = c.way(dy, need, f) })
	var frames [3][]int
	for f, way := range ways {
		frames[way] = append(frames[way], f)
	}
	if f := frames[ofAll]; len(f) > 0 {
		l.convInputGradWinograd(dx, dy, w, c, f, add, threads)
	}
	if f := frames[ofNeeded]; len(f) > 0 {
		l.convInputGradWhere3(dx, dy, w, need, c, f, add, threads)
	}
	if f := frames[ofEvents]; len(f) > 0 {
		l.convInputGradValues3(dx, dy, w, c, f, add, threads)
	}
}

// allFrames lists all frames, in ascending order as every such list.
func (c *Conv) allFrames() []int {
	frames := make([]int, c.Frames)
	for f := range frames {
		frames[f] = f
	}
	return frames
}

// consecutive returns how many of the first frames follow each other, at most so many.
func consecutive(frames []int, most int) int {
	n := 1
	for n < min(len(frames), most) && frames[n] == frames[0]+n {
		n++
	}
	return n
}

// convInputGradTiles multiplies with register tiles.
func (l Level) convInputGradTiles(dx, dy, w []float32, c *Conv, add bool, threads int) {
	l.product(product{
		dst: dx, src: dy, w: w,
		sources: inputSources.get(c.window(), newInputSources),
		frames:  c.Frames, srcChannels: c.Cout, srcPixels: c.Hout * c.Wout, srcWidth: c.Wout,
		dstPixels: c.Hin * c.Win, dstBlocks: c.BlocksIn(), window: c.KH * c.KW,
		add: add, transposed: true,
	}, threads)
}

// convInputGradImage is for images, which have few channels, and windows of stride 1. It
// copies the deltas of a frame to planes, one for each channel, with a border of zeros as
// wide as the window reaches. At each position of the window, a row of pixels then reads a
// row of the plane. The image can therefore be cut into vectors anywhere.
func (l Level) convInputGradImage(dx, dy, w []float32, c *Conv, add bool, threads int) {
	_, bytes := l.vectors()
	in, out, win := c.Hin*c.Win, c.Hout*c.Wout, c.KH*c.KW
	pitch := c.Win + c.KW - 1
	size := c.Hin * pitch            // of an image, the halo to its right included
	step := l.tileCols() * bytes / 4 // pixels of a tile
	image := ceilDiv(size, step) * step
	plane := image + (c.KH-1)*pitch + c.KW - 1

	// The weights by channel, [Cin][win][Cout], and where they and the deltas of the
	// positions are.
	packed := scratch(c.Cin * win * c.Cout)
	defer release(packed)
	list := make([]offset, win)
	for t := range win {
		for ci := range c.Cin {
			for co := range c.Cout {
				(*packed)[(ci*win+t)*c.Cout+co] = w[((co/Lanes*c.BlocksIn()*Lanes+ci)*win+t)*Lanes+co%Lanes]
			}
		}
		ky, kx := c.KH-1-t/c.KW, c.KW-1-t%c.KW
		list[win-1-t] = offset{int64(t * c.Cout * 4), int64((ky*pitch + kx) * 4)}
	}
	parallel.For(threads, c.Frames, func(f int) {
		planes := scratch(min(c.Cout, Group) * plane)
		sums, columns := scratch(c.Cin*image), scratch(Lanes*out)
		defer release(planes)
		defer release(sums)
		defer release(columns)
		clear(*planes)
		frame := dx[f*in*Lanes:][:in*Lanes]
		if add {
			clear(*sums)
			for ch := range c.Cin {
				for i := range in {
					(*sums)[ch*image+i/c.Win*pitch+i%c.Win] = frame[i*Lanes+ch]
				}
			}
		}
		for g := 0; g < c.Cout; g += Group {
			n := min(Group, c.Cout-g)
			for b := 0; b < n; b += Lanes {
				src := dy[((g+b)/Lanes*c.Frames+f)*out*Lanes:]
				for i := 0; i < out; i += Lanes {
					j := min(i, out-Lanes)
					l.transpose16(&(*columns)[j], &src[j*Lanes], uintptr(out*4), 64)
				}
				for ch := range min(Lanes, n-b) {
					d := (*planes)[(b+ch)*plane+(c.KH-1-c.Pad)*pitch+c.KW-1-c.Pad:]
					for y := range c.Hout {
						copy(d[y*pitch:], (*columns)[ch*out+y*c.Wout:][:c.Wout])
					}
				}
			}
			t := tile{
				rows: uint64(c.Cin), cols: uint64(l.tileCols()),
				srcRow: uint64(win * c.Cout * 4), dstRow: uint64(image * 4),
				wCol: uint64(bytes), dstCol: uint64(bytes),
				offsets: ptr(list, 0), count: uint64(win), outer: 1, blocks: 1,
				lanes: uint64(n), srcLane: 4, wLane: uint64(plane * 4),
				src: ptr(*packed, g),
			}
			if g > 0 || add {
				t.start = startDst
			}
			for i := 0; i < size; i += step {
				t.w, t.dst = ptr(*planes, i), ptr(*sums, i)
				l.runTileOfWeights(&t)
			}
		}
		if !add {
			clear(frame)
		}
		for ch := range c.Cin {
			for y := range c.Hin {
				row := frame[y*c.Win*Lanes+ch:]
				for x, v := range (*sums)[ch*image+y*pitch:][:c.Win] {
					row[x*Lanes] = v
				}
			}
		}
	})
}

// convInputGradRows is for linear layers. It transposes the deltas and the result instead of
// the weights.
func (l Level) convInputGradRows(dx, dy, w []float32, c *Conv, add bool, threads int) {
	const group = 16 // blocks of output channels, whose deltas of 16 frames stay in L1
	vectors, bytes := l.vectors()
	srcBlocks, dstBlocks := c.BlocksOut(), c.BlocksIn()
	outputs, frames := srcBlocks*Lanes, blocks(c.Frames)
	deltas := scratch(frames * outputs * Lanes) // [⌈Frames/16⌉][Cout][16]
	defer release(deltas)
	parallel.For(threads, srcBlocks, func(b int) {
		l.transposeFrames((*deltas)[b*Lanes*Lanes:], dy[b*c.Frames*Lanes:], 1, c.Frames, outputs)
	})
	units := min(dstBlocks, manyUnits(threads))
	parallel.For(threads, units, func(u int) {
		lo, hi := share(dstBlocks, u, units)
		channels := (hi - lo) * Lanes
		sums := scratch(frames * channels * Lanes) // [⌈Frames/16⌉][Cin][16]
		defer release(sums)
		if add {
			l.transposeFrames(*sums, dx[lo*c.Frames*Lanes:], hi-lo, c.Frames, channels)
		}
		one := [1]offset{}
		t := tile{
			wCol: uint64(outputs * 64), dstCol: uint64(channels * 64),
			srcRow: 64, dstRow: 64,
			offsets: ptr(one[:], 0), count: 1, outer: 1,
			lanes: Lanes, srcLane: 4, srcBlock: uint64((dstBlocks*Lanes - 1) * 64), wLane: 64,
		}
		if vectors > 1 {
			t.wCol, t.dstCol = uint64(bytes), uint64(bytes)
		}
		if add {
			t.start = startDst
		}
		tiles := ceilDiv(frames, l.tileBlocks())
		for g := 0; g < srcBlocks; g += group {
			t.blocks = uint64(min(group, srcBlocks-g))
			for f := range tiles {
				from, to := share(frames, f, tiles)
				t.cols = uint64(ceilDiv(min((to-from)*Lanes, c.Frames-from*Lanes)*4, bytes))
				t.w = ptr(*deltas, (from*outputs+g*Lanes)*Lanes)
				parts := ceilDiv(channels, l.maxRows(int(t.cols)))
				for i := range parts {
					a, b := share(channels, i, parts)
					t.src, t.dst = ptr(w, ((g*dstBlocks+lo)*Lanes+a)*Lanes), ptr(*sums, (from*channels+a)*Lanes)
					t.rows, t.ahead = uint64(b-a), uint64((b-a)*64)
					l.runTileOfWeights(&t)
				}
			}
			t.start = startDst
		}
		l.untransposeFrames(dx[lo*c.Frames*Lanes:], *sums, hi-lo, c.Frames, channels)
	})
}

// transposeFrames writes src [blocks][frames][16] to dst [⌈frames/16⌉][channels][16].
func (l Level) transposeFrames(dst, src []float32, blocks, frames, channels int) {
	var square [Lanes * Lanes]float32
	for b := range blocks {
		for f := 0; f < frames; f += Lanes {
			copy(square[:], src[(b*frames+f)*Lanes:][:min(Lanes, frames-f)*Lanes])
			l.transpose16(&dst[(f/Lanes*channels+b*Lanes)*Lanes], &square[0], 64, 64)
		}
	}
}

// untransposeFrames is the inverse of transposeFrames.
func (l Level) untransposeFrames(dst, src []float32, blocks, frames, channels int) {
	var square [Lanes * Lanes]float32
	for b := range blocks {
		for f := 0; f < frames; f += Lanes {
			l.transpose16(&square[0], &src[(f/Lanes*channels+b*Lanes)*Lanes], 64, 64)
			copy(dst[(b*frames+f)*Lanes:][:min(Lanes, frames-f)*Lanes], square[:])
		}
	}
}
