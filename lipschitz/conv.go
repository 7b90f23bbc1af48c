package lipschitz

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// Conv is a convolution as a linear map of an image with zero padding, see
// [autograd.Conv2D]. Its methods fold batch norm and average pooling into the convolution.
type Conv struct {
	Weight        []float32 // [Cout][Cin][KH][KW]
	Cout, Cin     int
	KH, KW        int
	Stride, Pad   int
	Height, Width int // of the image
}

// NewConv returns the convolution with the weight p for images of height × width pixels. p
// has the Shape [Cout, Cin, KH, KW]. NewConv panics if p has another shape, if stride < 1, if
// pad < 0, or if a window exceeds the padded image.
func NewConv(p *autograd.Param, stride, pad, height, width int) Conv {
	if len(p.Shape) != 4 {
		panic(fmt.Sprintf("lipschitz: NewConv: %s%v is no convolution's weight", p.Name, p.Shape))
	}
	c := Conv{
		Weight: p.Export(), Cout: p.Shape[0], Cin: p.Shape[1], KH: p.Shape[2], KW: p.Shape[3],
		Stride: stride, Pad: pad, Height: height, Width: width,
	}
	c.check("NewConv")
	return c
}

func (c Conv) check(op string) {
	if c.Cout < 1 || c.Cin < 1 || c.KH < 1 || c.KW < 1 || len(c.Weight) != c.Cout*c.Cin*c.KH*c.KW {
		panic(fmt.Sprintf("lipschitz: %s: %d values for a weight %d×%d×%d×%d", op, len(c.Weight), c.Cout, c.Cin, c.KH, c.KW))
	}
	if c.Stride < 1 || c.Pad < 0 || c.KH > c.Height+2*c.Pad || c.KW > c.Width+2*c.Pad {
		panic(fmt.Sprintf("lipschitz: %s: a window of %d×%d, stride %d, padding %d do not fit an image of %d×%d",
			op, c.KH, c.KW, c.Stride, c.Pad, c.Height, c.Width))
	}
}

// BatchNormScale returns the factor γ/√(var + eps) of each channel of a batch norm in
// evaluation mode. [Conv.Scale] or [Scale] folds it into the layer before the batch norm.
func BatchNormScale(s *autograd.BatchNormState) []float32 {
	gamma, variance := s.Weight.Export(), s.RunningVar.Export()
	for i, v := range variance {
		gamma[i] = float32(float64(gamma[i]) / math.Sqrt(float64(v)+float64(s.Eps)))
	}
	return gamma
}

// Scale multiplies row i of the row-major matrix w by scale[i] and returns the result,
// rounded to float32. It panics if len(w) is not a multiple of len(scale).
func Scale(w, scale []float32) []float32 {
	if len(scale) == 0 || len(w)%len(scale) != 0 {
		panic(fmt.Sprintf("lipschitz: Scale: %d values for %d rows", len(w), len(scale)))
	}
	cols := len(w) / len(scale)
	scaled := make([]float32, len(w))
	for i, v := range w {
		scaled[i] = v * scale[i/cols]
	}
	return scaled
}

// Scale multiplies output channel i of c by scale[i] and returns the result. It panics if the
// number of factors is not Cout.
func (c Conv) Scale(scale []float32) Conv {
	if len(scale) != c.Cout {
		panic(fmt.Sprintf("lipschitz: Conv.Scale: %d factors for %d channels", len(scale), c.Cout))
	}
	c.Weight = Scale(c.Weight, scale)
	return c
}

// scaleInput multiplies input channel i of c by scale[i] and returns the result.
func (c Conv) scaleInput(scale []float32) Conv {
	weight := make([]float32, len(c.Weight))
	for i, v := range c.Weight {
		weight[i] = v * scale[i/(c.KH*c.KW)%c.Cin]
	}
	c.Weight = weight
	return c
}

// AfterAvgPool returns average pooling followed by c as one convolution. The pooling has
// windows of k × k with stride k, and height × width is the size of the image before it.
// AfterAvgPool panics if ⌊height/k⌋ × ⌊width/k⌋ is not the size of c's image.
func (c Conv) AfterAvgPool(k, height, width int) Conv {
	if k < 1 || height/k != c.Height || width/k != c.Width {
		panic(fmt.Sprintf("lipschitz: AfterAvgPool: averages over %d×%d of %d×%d for an image of %d×%d", k, k, height, width, c.Height, c.Width))
	}
	return c.spread(k*c.KH, k*c.KW, k, k, 1, Conv{
		Stride: c.Stride * k, Pad: c.Pad * k, Height: c.Height * k, Width: c.Width * k, // a remainder of the image is in no window
	})
}

// BeforeAvgPool returns c followed by average pooling as one convolution. The pooling has
// windows of k × k with stride k. BeforeAvgPool panics if the output of c is smaller than a
// window.
func (c Conv) BeforeAvgPool(k int) Conv {
	out := c.spread(c.KH+(k-1)*c.Stride, c.KW+(k-1)*c.Stride, k, 1, c.Stride, Conv{
		Stride: c.Stride * k, Pad: c.Pad, Height: c.Height, Width: c.Width,
	})
	out.check("BeforeAvgPool")
	return out
}

// spread returns a convolution with a weight of kh × kw. It adds w[ky][kx]/k² at the position
// (ky·scale + a·step, kx·scale + b·step) for all a, b < k. to supplies the other fields.
func (c Conv) spread(kh, kw, k, scale, step int, to Conv) Conv {
	wide := make([]float64, c.Cout*c.Cin*kh*kw)
	for i, v := range c.Weight {
		oc, ky, kx := i/(c.KH*c.KW), i/c.KW%c.KH, i%c.KW
		for a := range k {
			for b := range k {
				wide[(oc*kh+ky*scale+a*step)*kw+kx*scale+b*step] += float64(v) / float64(k*k)
			}
		}
	}
	to.Cout, to.Cin, to.KH, to.KW = c.Cout, c.Cin, kh, kw
	to.Weight = make([]float32, len(wide))
	for i, v := range wide {
		to.Weight[i] = float32(v)
	}
	return to
}

// Out returns the height and width of the output.
func (c Conv) Out() (height, width int) {
	return (c.Height+2*c.Pad-c.KH)/c.Stride + 1, (c.Width+2*c.Pad-c.KW)/c.Stride + 1
}

// Overlaps returns the largest number of windows that contain the same pixel.
func (c Conv) Overlaps() int {
	h, w := c.Out()
	most := func(size, k, out int) (most int) {
		for y := range size {
			n := 0
			for i := range out {
				if d := y - (i*c.Stride - c.Pad); d >= 0 && d < k {
					n++
				}
			}
			most = max(most, n)
		}
		return most
	}
	return most(c.Height, c.KH, h) * most(c.Width, c.KW, w)
}

// Dense returns the row-major matrix of the map. It has a row for every output channel and
// pixel, and a column for every input channel and pixel.
func (c Conv) Dense() (w []float32, rows, cols int) {
	h, wd := c.Out()
	rows, cols = c.Cout*h*wd, c.Cin*c.Height*c.Width
	w = make([]float32, rows*cols)
	for i, v := range c.Weight {
		o, in, ky, kx := i/(c.Cin*c.KH*c.KW), i/(c.KH*c.KW)%c.Cin, i/c.KW%c.KH, i%c.KW
		for y := range h {
			for x := range wd {
				sy, sx := y*c.Stride+ky-c.Pad, x*c.Stride+kx-c.Pad
				if sy >= 0 && sy < c.Height && sx >= 0 && sx < c.Width {
					w[((o*h+y)*wd+x)*cols+(in*c.Height+sy)*c.Width+sx] = v
				}
			}
		}
	}
	return w, rows, cols
}

// ConvSearch sets the effort of [Conv.Norm].
type ConvSearch struct {
	// Lanczos sets when the iteration for Lower stops. Its products are in float32, which
	// limits residuals to about 1e-6.
	Lanczos Lanczos
	// Grid is the number of frequencies in either direction for the bound by frequencies.
	// It is at least [Conv.MinGrid], or 0 to turn this bound off. The bound takes Grid²/2
	// Cholesky factorizations. Their matrices have twice as many rows as the convolution
	// has input or output channels, whichever are fewer.
	Grid int
	// MaxDense is the largest number of inputs or outputs, whichever are fewer, for the
	// bound by the dense matrix. That matrix needs the corresponding memory.
	MaxDense int
}

// DefaultConvSearch returns a tolerance of 1e-5, 5,000 iterations, 32 frequencies, and
// dense matrices of up to 1024 inputs or outputs.
func DefaultConvSearch() ConvSearch {
	return ConvSearch{Lanczos: Lanczos{Tol: 1e-5, MaxIterations: 5000}, Grid: 32, MaxDense: 1024}
}

// MinGrid returns the smallest Grid for c, 2·⌈K/Stride⌉ − 1.
func (c Conv) MinGrid() int { return 2*((max(c.KH, c.KW)+c.Stride-1)/c.Stride) - 1 }

// ConvNorm is the result of [Conv.Norm]: Lower ≤ ‖conv‖₂ ≤ Upper. All bounds are proven. The
// proofs cover the rounding of the computation.
type ConvNorm struct {
	Lower, Upper float64
	// Reshaped is an upper bound of the norm of the matrix C_out × C_in·KH·KW. ByOverlaps is
	// the bound of the map that follows from it.
	Reshaped, ByOverlaps float64
	// ByFrequencies and ByDense are further upper bounds of the map. They are +Inf if they
	// are turned off.
	ByFrequencies, ByDense float64
	// Iterations is the number of products of up to two images with the convolution and its
	// transpose. A final product is not counted.
	Iterations int
}

// Norm bounds the largest singular value of the convolution as a map of images. This value
// is the largest amplification of a perturbation.
//
// Lower is ‖conv(v)‖₂/‖v‖₂ in float64, rounded down. The image v comes from an iteration with
// the convolution and its transpose. Upper is the smallest of three bounds.
//
// # Bound by overlaps
//
// Let W be the matrix C_out × C_in·KH·KW and P_i(x) the windows of the image x. If no pixel is
// in more than n windows,
//
//	‖conv(x)‖² = Σ_i ‖W·P_i(x)‖² ≤ ‖W‖₂²·Σ_i ‖P_i(x)‖² ≤ n·‖W‖₂²·‖x‖²
//
// Hence ‖conv‖₂ ≤ √n·‖W‖₂, with n = 9 for a 3×3 convolution with stride 1. Conversely,
// ‖W‖₂ ≤ ‖conv‖₂ if a window lies inside the image: x can be the singular vector of W in
// this window and 0 elsewhere.
//
// # Bound by frequencies
//
// With zeros around it, an image is an image of infinite size. There, the convolution with
// stride 1 multiplies the Fourier transform by Ŵ(ω) = Σ_k W_k·exp(i·k·ω), C_out × C_in.
// Hence ‖conv‖₂ ≤ max_ω ‖Ŵ(ω)‖₂. A convolution with a larger stride S is a convolution with
// stride 1 of the S² images that take every S-th pixel. For every unit vector u,
// q(ω) = u*·Ŵ·Ŵ*·u ≥ 0 is a trigonometric polynomial of degree m = ⌈K/S⌉ − 1 in each
// frequency. Let ω₀ be its maximum. In one frequency, q(ω) ≥ q(ω₀)·cos(m·(ω − ω₀)) for
// |ω − ω₀| ≤ π/m (M. Riesz). A grid of N frequencies has a point within π/N of ω₀. So
//
//	max_ω ‖Ŵ(ω)‖₂² ≤ max over the grid/cos(π·m/N)²
//
// Cholesky factorizations prove the bound on the grid, as in [SpectralUpper]. The bound is
// close if the image is large compared to K.
//
// # Bound by the dense matrix
//
// For small images, [SpectralUpper] bounds the norm of the matrix of [Conv.Dense].
//
// # Errors
//
// Norm returns an error if the weight holds a value that is not finite, if a field of o is
// out of its range, or if the iteration does not converge. It returns ctx.Err() if ctx ends.
func (c Conv) Norm(ctx context.Context, o ConvSearch) (ConvNorm, error) {
	c.check("Conv.Norm")
	if err := o.Lanczos.validate("Conv.Norm"); err != nil {
		return ConvNorm{}, err
	}
	switch {
	case o.Grid != 0 && o.Grid < c.MinGrid():
		return ConvNorm{}, fmt.Errorf("lipschitz: Conv.Norm: Grid is %d; expected 0 or at least %d", o.Grid, c.MinGrid())
	case o.MaxDense < 0:
		return ConvNorm{}, fmt.Errorf("lipschitz: Conv.Norm: MaxDense is %d; expected at least 0", o.MaxDense)
	}
	cols := c.Cin * c.KH * c.KW
	if err := check("Conv.Norm", c.Weight, c.Cout, cols); err != nil {
		return ConvNorm{}, err
	}
	n := ConvNorm{ByFrequencies: math.Inf(1), ByDense: math.Inf(1)}
	var most float64
	for _, v := range c.Weight {
		most = max(most, math.Abs(float64(v)))
	}
	if most == 0 {
		n.ByFrequencies, n.ByDense = 0, 0
		return n, nil
	}
	v, iterations, err := c.iterate(ctx, o.Lanczos, most)
	if err != nil {
		return ConvNorm{}, err
	}
	n.Iterations, n.Lower = iterations, c.lower(v)

	w := newGram(c.Weight, c.Cout, cols, c.Cout <= cols)
	near, _ := w.top()
	n.Reshaped = up(math.Sqrt(w.above(near)))
	n.ByOverlaps = up(n.Reshaped * math.Sqrt(float64(c.Overlaps())))
	if o.Grid > 0 {
		bound, err := c.spectrum(ctx, o.Grid, n.Lower*n.Lower)
		if err != nil {
			return ConvNorm{}, err
		}
		n.ByFrequencies = up(math.Sqrt(bound))
	}
	h, wd := c.Out()
	if min(c.Cout*h*wd, c.Cin*c.Height*c.Width) <= o.MaxDense {
		m, rows, cols := c.Dense()
		g := newGram(m, rows, cols, rows <= cols)
		near, _ := g.top()
		n.ByDense = up(math.Sqrt(g.above(near)))
	}
	n.Upper = min(n.ByOverlaps, n.ByFrequencies, n.ByDense)
	return n, nil
}

// iterate returns an image, [Cin][Height][Width], that is close to the right singular vector.
// It also returns the number of iterations.
func (c Conv) iterate(ctx context.Context, o Lanczos, most float64) (v []float64, iterations int, err error) {
	// A power of two scales the weights to about 1, so that squares fit into float32.
	_, exp := math.Frexp(most)
	w := autograd.NewParam(c.Cout, c.Cin, c.KH, c.KW)
	scaled := make([]float32, len(c.Weight))
	for i, v := range c.Weight {
		scaled[i] = float32(math.Ldexp(float64(v), -exp))
	}
	w.Import(scaled)

	var tape autograd.Tape
	e, err := largest(c.Cin*c.Height*c.Width, o, func(z, v [][]float64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		images := tensor.NewNCHW(len(v), c.Cin, c.Height, c.Width)
		for i := range v {
			for k, a := range v[i] {
				images.Image(i)[k] = float32(a)
			}
		}
		x := tensor.NewDense(tensor.Shape{N: len(v), Steps: 1, C: c.Cin, H: c.Height, W: c.Width})
		x.Pack(images)
		tape.Reset()
		in := tape.Input(x, true)
		y := autograd.Conv2D(&tape, in, w, nil, c.Stride, c.Pad)
		out := y.Dense()
		tape.BackwardFrom(y, &tensor.Dense{Shape: out.Shape, Data: slices.Clone(out.Data)})
		grad := in.Grad().Unpack()
		for i := range z {
			for k, a := range grad.Image(i) {
				z[i][k] = float64(a)
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if !e.converged {
		return nil, 0, fmt.Errorf("lipschitz: Conv.Norm: relative residual %.3g after %d iterations on %d×%d×%d×%d for %d×%d pixels; expected at most %g",
			e.residual, e.iterations, c.Cout, c.Cin, c.KH, c.KW, c.Height, c.Width, o.Tol)
	}
	return e.vector, e.iterations, nil
}

// lower returns ‖conv(v)‖₂/‖v‖₂, rounded down.
func (c Conv) lower(v []float64) float64 {
	h, wd := c.Out()
	y, abs := make([]float64, h*wd), make([]float64, h*wd) // of one channel
	terms := c.Cin * c.KH * c.KW
	var sum float64
	for o := range c.Cout {
		clear(y)
		clear(abs)
		for i, a := range c.Weight[o*terms:][:terms] {
			in, ky, kx := i/(c.KH*c.KW), i/c.KW%c.KH, i%c.KW
			for oy := range h {
				sy := oy*c.Stride + ky - c.Pad
				if sy < 0 || sy >= c.Height {
					continue
				}
				row := v[(in*c.Height+sy)*c.Width:][:c.Width]
				for ox := range wd {
					if sx := ox*c.Stride + kx - c.Pad; sx >= 0 && sx < c.Width {
						p := float64(a) * row[sx]
						y[oy*wd+ox] += p
						abs[oy*wd+ox] += math.Abs(p)
					}
				}
			}
		}
		for i := range y {
			sum += math.Pow(max(0, math.Abs(y[i])-gammaOf(terms+1)*up(abs[i])), 2)
		}
	}
	norm2 := squares(v) * (1 + gammaOf(len(v)+1))
	return down(math.Sqrt(sum * (1 - gammaOf(c.Cout*h*wd+2)) / norm2))
}
