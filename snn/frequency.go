package snn

import (
	"math/cmplx"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
	"gonum.org/v1/gonum/dsp/fourier"
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
	y := p.Tape.NewDense(x.Shape().WithSteps(p.Steps), x.NeedsGrad())
	o := &frequencies{x, y}
	from, to := p.Tape.Floats(x), p.Tape.Floats(y)
	clear(to)
	o.each(p.Threads, func(f *filter, step, x, y int) {
		f.load(from[x:])
		f.apply(step, p.Steps)
		for i, z := range f.plane {
			to[y+i*tensor.Lanes] = float32(cmplx.Abs(z))
		}
	})
	if y.NeedsGrad() {
		p.Tape.Record(o, x)
	}
	return y
}

// frequencies is the operation of FrequencyEncoding.
type frequencies struct{ x, y *autograd.Value }

// Output implements [autograd.Op].
func (o *frequencies) Output() *autograd.Value { return o.y }

// Backward implements [autograd.Op]. The filter P is Hermitian. With z = P·x, the gradient is
// Re(P·(∂y·z/|z|)).
func (o *frequencies) Backward(t *autograd.Tape) {
	steps := o.y.Shape().Steps
	from, dy := t.Floats(o.x), t.GradEveryStep(o.y)
	dx := t.OpenGrad(o.x, o.x.Shape().Steps)
	if !dx.Add {
		clear(dx.Data)
	}
	o.each(t.Threads, func(f *filter, step, x, y int) {
		f.load(from[x:])
		if f.apply(step, steps) {
			for i, z := range f.plane {
				if r := cmplx.Abs(z); r > 0 {
					f.plane[i] = z * complex(float64(dy[y+i*tensor.Lanes])/r, 0)
				}
			}
			f.apply(step, steps)
		} else {
			f.load(dy[y:])
		}
		for i, z := range f.plane {
			dx.Data[x+i*tensor.Lanes] += float32(real(z))
		}
	})
	t.CloseGrad(dx)
}

// each calls fn for every channel of every step of y, with where the channel begins in the data of
// x and in those of y. The steps of an image come one after the other, from one goroutine.
func (o *frequencies) each(threads int, fn func(f *filter, step, x, y int)) {
	in, out := o.x.Shape(), o.y.Shape()
	frame := in.Pixels() * tensor.Lanes
	parallel.For(threads, in.N, func(n int) {
		f := newFilter(in.H, in.W)
		for c := range in.C {
			block, lane := c/tensor.Lanes, c%tensor.Lanes
			for step := range out.Steps {
				x := (block*in.N+n)*in.Steps + step%in.Steps
				y := (block*in.N+n)*out.Steps + step
				fn(f, step, x*frame+lane, y*frame+lane)
			}
		}
	})
}

// filter is a filter of frequencies of a plane of pixels.
type filter struct {
	h, w          int
	plane, column []complex128 // [h·w], [h]
	rows, columns *fourier.CmplxFFT
}

func newFilter(h, w int) *filter {
	return &filter{h, w, make([]complex128, h*w), make([]complex128, h), fourier.NewCmplxFFT(w), fourier.NewCmplxFFT(h)}
}

// load sets the plane to a channel of a frame, whose data begin with its first value.
func (f *filter) load(data []float32) {
	for i := range f.plane {
		f.plane[i] = complex(float64(data[i*tensor.Lanes]), 0)
	}
}

// apply removes the frequencies that a step does not have. It reports whether there are any.
func (f *filter) apply(step, steps int) bool {
	halfOf := func(n int) int { return (n*(steps-step) + 2*steps - 1) / (2 * steps) }
	halfH, halfW := halfOf(f.h), halfOf(f.w)
	if 2*halfH >= f.h && 2*halfW >= f.w {
		return false
	}
	f.transform(f.rows.Coefficients, f.columns.Coefficients)
	kept := func(i, n, half int) bool {
		if i >= (n+1)/2 {
			i -= n
		}
		return -half <= i && i < half
	}
	scale := complex(1/float64(f.h*f.w), 0)
	for i := range f.plane {
		if kept(i/f.w, f.h, halfH) && kept(i%f.w, f.w, halfW) {
			f.plane[i] *= scale
		} else {
			f.plane[i] = 0
		}
	}
	f.transform(f.rows.Sequence, f.columns.Sequence)
	return true
}

// transform transforms all rows of the plane, and then all columns.
func (f *filter) transform(row, column func(dst, src []complex128) []complex128) {
	for y := range f.h {
		r := f.plane[y*f.w:][:f.w]
		row(r, r)
	}
	for x := range f.w {
		for y := range f.column {
			f.column[y] = f.plane[y*f.w+x]
		}
		column(f.column, f.column)
		for y, v := range f.column {
			f.plane[y*f.w+x] = v
		}
	}
}
