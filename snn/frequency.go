package snn

import (
	"math"
	"math/cmplx"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
)

// FrequencyEncoding encodes images, or frames, with fewer frequencies at every step (Xu et al.:
// FEEL-SNN: Robust spiking neural networks with frequency encoding and evolutionary leak factor,
// NeurIPS 2024). With the two-dimensional Fourier transform F of a channel, step t = 0, …, T − 1
// has
//
//	x(t) = |F⁻¹(maskₜ·F(x))|
//
// maskₜ keeps the frequencies k with −h ≤ k < h along each side, h = ⌈n·(T−t)/(2T)⌉ for a side of n
// pixels. Step 0 keeps all: it is the image itself. The gradient is that of this formula, and 0
// where x(t) is 0 behind a mask. [CBA] has no steps and takes the image as it is.
// [Model.NewStream] refuses the encoder.
type FrequencyEncoding struct{}

// Encode implements [Encoder].
func (FrequencyEncoding) Encode(p *Pass, x *autograd.Value) *autograd.Value {
	in := x.Shape()
	o := &frequencies{x: x, y: p.Tape.NewDense(in.WithSteps(p.Steps), x.NeedsGrad())}
	for step := range p.Steps {
		o.filters = append(o.filters, newFilter(in.H, in.W, step, p.Steps))
	}
	from, to := p.Tape.Floats(x), p.Tape.Floats(o.y)
	clear(to)
	o.each(p.Threads, func(f *filter, b *planes, x, y []int) {
		if f != nil {
			b.apply(f, from, x)
		}
		for i := range b.pixels() {
			for c := range b.channels {
				v := from[x[c]+i*tensor.Lanes]
				if f != nil {
					re, im := b.at(c, i)
					v = float32(math.Hypot(float64(*re), float64(*im)))
				}
				to[y[c]+i*tensor.Lanes] = v
			}
		}
	})
	if o.y.NeedsGrad() {
		p.Tape.Record(o, x)
	}
	return o.y
}

// frequencies is the operation of FrequencyEncoding.
type frequencies struct {
	x, y    *autograd.Value
	filters []*filter // of each step; nil for one that keeps all
}

// Output implements [autograd.Op].
func (o *frequencies) Output() *autograd.Value { return o.y }

// Backward implements [autograd.Op]. The filter P is Hermitian. With z = P·x, the gradient is
// Re(P·(∂y·z/|z|)).
func (o *frequencies) Backward(t *autograd.Tape) {
	from, dy := t.Floats(o.x), t.GradEveryStep(o.y)
	dx := t.OpenGrad(o.x, o.x.Shape().Steps)
	if !dx.Add {
		clear(dx.Data)
	}
	o.each(t.Threads, func(f *filter, b *planes, x, y []int) {
		if f != nil {
			b.apply(f, from, x)
			for i := range b.pixels() {
				for c := range b.channels {
					re, im := b.at(c, i)
					if r := math.Hypot(float64(*re), float64(*im)); r > 0 {
						g := float64(dy[y[c]+i*tensor.Lanes]) / r
						*re, *im = float32(float64(*re)*g), float32(float64(*im)*g)
					}
				}
			}
			b.applyToComplex(f)
		}
		for i := range b.pixels() {
			for c := range b.channels {
				if f != nil {
					dx.Data[x[c]+i*tensor.Lanes] += *b.real(c, i)
				} else {
					dx.Data[x[c]+i*tensor.Lanes] += dy[y[c]+i*tensor.Lanes]
				}
			}
		}
	})
	t.CloseGrad(dx)
}

// each calls fn for every step of every image, with where each channel begins in the data of x and
// in those of y. The steps of an image come one after the other.
func (o *frequencies) each(threads int, fn func(f *filter, b *planes, x, y []int)) {
	in, out := o.x.Shape(), o.y.Shape()
	workers := min(parallel.Threads(threads), in.N)
	parallel.For(workers, workers, func(worker int) {
		b := newPlanes(in.C, in.H, in.W)
		x, y := make([]int, in.C), make([]int, in.C)
		for n := worker; n < in.N; n += workers {
			for step, f := range o.filters {
				for c := range in.C {
					x[c], y[c] = in.Index(n, step%in.Steps, c, 0, 0), out.Index(n, step, c, 0, 0)
				}
				fn(f, b, x, y)
			}
		}
	})
}

// filter is a filter that keeps a square of frequencies. It is the product of one filter of the rows
// and one of the columns, P = R + i·J each. The matrices have the layout of [kernel.MatMul].
type filter struct {
	row     []float32 // [R; J] of a row, for real pixels
	column  []float32 // [R, −J; J, R] of a column
	realRow []float32 // [R, −J] of a row: the real part
}

// newFilter returns the filter of a step, or nil if it keeps all.
func newFilter(h, w, step, steps int) *filter {
	halfOf := func(n int) int { return (n*(steps-step) + 2*steps - 1) / (2 * steps) }
	halfH, halfW := halfOf(h), halfOf(w)
	if 2*halfH >= h && 2*halfW >= w {
		return nil
	}
	hb, wb := laneBlocks(h), laneBlocks(w)
	f := &filter{
		row:     make([]float32, 2*wb*wb*tensor.Lanes*tensor.Lanes),
		column:  make([]float32, 4*hb*hb*tensor.Lanes*tensor.Lanes),
		realRow: make([]float32, 2*wb*wb*tensor.Lanes*tensor.Lanes),
	}
	set := func(m []float32, inner, rowBlock, colBlock, row, col int, v float64) {
		m[((rowBlock+row/tensor.Lanes)*inner*tensor.Lanes+colBlock*tensor.Lanes+col)*tensor.Lanes+row%tensor.Lanes] = float32(v)
	}
	column, row := lowPass(h, halfH), lowPass(w, halfW)
	for y := range h {
		for k := range h {
			p := column[(y-k+h)%h]
			re, im := real(p), imag(p)
			set(f.column, 2*hb, 0, 0, y, k, re)
			set(f.column, 2*hb, 0, hb, y, k, -im)
			set(f.column, 2*hb, hb, 0, y, k, im)
			set(f.column, 2*hb, hb, hb, y, k, re)
		}
	}
	for x := range w {
		for k := range w {
			p := row[(x-k+w)%w]
			re, im := real(p), imag(p)
			set(f.row, wb, 0, 0, x, k, re)
			set(f.row, wb, wb, 0, x, k, im)
			set(f.realRow, 2*wb, 0, 0, x, k, re)
			set(f.realRow, 2*wb, 0, wb, x, k, -im)
		}
	}
	return f
}

// lowPass returns (1/n)·Σ e^(2πi·k·d/n) over the frequencies k of n pixels with −half ≤ k < half, for
// the distances d = 0, …, n − 1 of two pixels.
func lowPass(n, half int) []complex128 {
	p := make([]complex128, n)
	for d := range p {
		for k := max(-half, -(n / 2)); k < min(half, n-n/2); k++ {
			p[d] += cmplx.Exp(complex(0, 2*math.Pi*float64(k*d%n)/float64(n))) / complex(float64(n), 0)
		}
	}
	return p
}

// laneBlocks returns the number of blocks of lanes that hold n values.
func laneBlocks(n int) int { return (n + tensor.Lanes - 1) / tensor.Lanes }

// planes are the channels of a frame, as matrices with the layout of [kernel.MatMul]. Lanes beyond
// a side are 0.
type planes struct {
	channels, h, w int
	hb, wb         int       // blocks of a side
	flat           []float32 // [wb][channels·h][16], a lane for each x
	rows           []float32 // [2·wb][channels·h][16], of real and imaginary parts
	columns, z     []float32 // [2·hb][channels·w][16], a lane for each y
}

func newPlanes(channels, h, w int) *planes {
	hb, wb := laneBlocks(h), laneBlocks(w)
	n := channels * tensor.Lanes
	return &planes{
		channels, h, w, hb, wb,
		make([]float32, wb*h*n), make([]float32, 2*wb*h*n), make([]float32, 2*hb*w*n), make([]float32, 2*hb*w*n),
	}
}

func (b *planes) pixels() int { return b.h * b.w }

// inRow and inColumn return where pixel i of a channel is in flat or in a half of rows, and in a half
// of columns and z.
func (b *planes) inRow(c, i int) int {
	y, x := i/b.w, i%b.w
	return (x/tensor.Lanes*b.channels*b.h+c*b.h+y)*tensor.Lanes + x%tensor.Lanes
}

func (b *planes) inColumn(c, i int) int {
	y, x := i/b.w, i%b.w
	return (y/tensor.Lanes*b.channels*b.w+c*b.w+x)*tensor.Lanes + y%tensor.Lanes
}

// at returns the value that apply computed for a pixel.
func (b *planes) at(c, i int) (re, im *float32) {
	k := b.inColumn(c, i)
	return &b.z[k], &b.z[len(b.z)/2+k]
}

// real returns what applyToComplex computed for a pixel.
func (b *planes) real(c, i int) *float32 { return &b.flat[b.inRow(c, i)] }

// apply filters a frame, whose channels begin at x in data.
func (b *planes) apply(f *filter, data []float32, x []int) {
	for i := range b.pixels() {
		for c := range b.channels {
			b.flat[b.inRow(c, i)] = data[x[c]+i*tensor.Lanes]
		}
	}
	kernel.MatMul(b.rows, f.row, b.flat, 2*b.wb, b.wb, b.channels*b.h, 1)
	b.turn(b.columns, b.rows, b.inColumn, b.inRow)
	kernel.MatMul(b.z, f.column, b.columns, 2*b.hb, 2*b.hb, b.channels*b.w, 1)
}

// applyToComplex filters z and keeps the real parts.
func (b *planes) applyToComplex(f *filter) {
	kernel.MatMul(b.columns, f.column, b.z, 2*b.hb, 2*b.hb, b.channels*b.w, 1)
	b.turn(b.rows, b.columns, b.inRow, b.inColumn)
	kernel.MatMul(b.flat, f.realRow, b.rows, b.wb, 2*b.wb, b.channels*b.h, 1)
}

// turn copies real and imaginary parts to the other layout.
func (b *planes) turn(dst, src []float32, to, from func(c, i int) int) {
	for c := range b.channels {
		for i := range b.pixels() {
			t, s := to(c, i), from(c, i)
			dst[t], dst[len(dst)/2+t] = src[s], src[len(src)/2+s]
		}
	}
}
