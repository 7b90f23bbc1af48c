package lipschitz

import (
	"context"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// spectrum returns a proven upper bound of max_ω ‖Ŵ(ω)‖₂² from n frequencies in either
// direction, see [Conv.Norm]. near is an estimate of the bound. spectrum returns ctx.Err() if
// ctx ends.
func (c Conv) spectrum(ctx context.Context, n int, near float64) (float64, error) {
	f := c.transform()
	ny, nx := n, n
	if f.kh == 1 { // Ŵ does not depend on this frequency
		ny = 1
	}
	if f.kw == 1 {
		nx = 1
	}
	t, bound := near, 0.0
	for y := range ny/2 + 1 { // Ŵ(−ω) is conjugate to Ŵ(ω)
		for x := range nx {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			h := f.at(2*math.Pi*float64(y)/float64(ny), 2*math.Pi*float64(x)/float64(nx))
			b, ok := h.below(t * (1 + 1e-9))
			if !ok {
				t, _ = h.top()
				b = h.above(t)
				t = max(t, b)
			}
			bound = max(bound, b)
		}
	}
	fine := math.Cos(math.Pi*float64(f.kh-1)/float64(ny)) * math.Cos(math.Pi*float64(f.kw-1)/float64(nx))
	return up(bound / fine), nil
}

// transform is Ŵ·Ŵ* or Ŵ*·Ŵ, whichever is smaller, as a sum over lags. With
// R_r = Σ_k W_(k+r)·W_kᵀ, it is R_0 + Σ_r (R_r + R_rᵀ)·cos(r·ω) + i·(R_r − R_rᵀ)·sin(r·ω) over
// half of the lags r.
type transform struct {
	n      int // rows
	kh, kw int // size of the window of the convolution with stride 1
	lags   []lag
	trace  float64 // at least the trace of Ŵ·Ŵ*
	err    float64 // at least the rounding error, as a matrix norm
}

type lag struct {
	y, x      int
	even, odd []float64 // [n][n]: R + Rᵀ, or R_0; and R − Rᵀ
}

func (c Conv) transform() transform {
	s := c.Stride
	f := transform{kh: (c.KH + s - 1) / s, kw: (c.KW + s - 1) / s}
	in := c.Cin * s * s
	w := make([][]float64, f.kh*f.kw) // [Cout][in] for every position
	for i := range w {
		w[i] = make([]float64, c.Cout*in)
	}
	var norm2 float64
	for i, v := range c.Weight {
		oc, ky, kx := i/(c.KH*c.KW), i/c.KW%c.KH, i%c.KW
		o, ch := oc/c.Cin, oc%c.Cin
		w[ky/s*f.kw+kx/s][o*in+(ch*s+ky%s)*s+kx%s] = float64(v)
		norm2 += float64(v) * float64(v)
	}
	f.n = min(c.Cout, in)
	for dy := range f.kh {
		for dx := 1 - f.kw; dx < f.kw; dx++ {
			if dy == 0 && dx < 0 {
				continue
			}
			r := blas64.General{Rows: f.n, Cols: f.n, Stride: f.n, Data: make([]float64, f.n*f.n)}
			for y := range f.kh - dy {
				for x := max(0, -dx); x < min(f.kw, f.kw-dx); x++ {
					a := blas64.General{Rows: c.Cout, Cols: in, Stride: in, Data: w[(y+dy)*f.kw+x+dx]}
					b := a
					b.Data = w[y*f.kw+x]
					if c.Cout <= in {
						blas64.Gemm(blas.NoTrans, blas.Trans, 1, a, b, 1, r)
					} else { // the conjugate has the same eigenvalues
						blas64.Gemm(blas.Trans, blas.NoTrans, 1, a, b, 1, r)
					}
				}
			}
			l := lag{y: dy, x: dx, even: r.Data, odd: make([]float64, f.n*f.n)}
			if dy != 0 || dx != 0 {
				l.even = make([]float64, f.n*f.n)
				for i := range f.n {
					for j := range f.n {
						p, q := r.Data[i*f.n+j], r.Data[j*f.n+i]
						l.even[i*f.n+j], l.odd[i*f.n+j] = p+q, p-q
					}
				}
			}
			f.lags = append(f.lags, l)
		}
	}
	// The terms of an entry are products of entries of W_k and W_l for all k and l, and
	// Σ_kl ‖|W_k|·|W_l|ᵀ‖ ≤ (Σ_k ‖W_k‖_F)² ≤ kh·kw·‖W‖_F². The angles and their sines and
	// cosines take fewer than 64 roundings.
	most := float64(f.kh*f.kw) * norm2 * (1 + gammaOf(len(c.Weight)))
	f.trace = most
	f.err = up(2 * gammaOf(max(in, c.Cout)+f.kh*f.kw+len(f.lags)+64) * most)
	return f
}

// at returns the Hermitian matrix A + i·B at a frequency as the symmetric matrix
//
//	A  −B
//	B   A
//
// The symmetric matrix has the same eigenvalues, each twice.
func (f *transform) at(y, x float64) *gram {
	n := f.n
	g := &gram{n: 2 * n, g: make([]float64, 4*n*n), trace: 2 * f.trace, err: f.err}
	for _, l := range f.lags {
		sin, cos := math.Sincos(float64(l.y)*y + float64(l.x)*x)
		for i := range n {
			even, odd := l.even[i*n:][:n], l.odd[i*n:][:n]
			top, right, bottom := g.g[i*2*n:][:n], g.g[i*2*n+n:][:n], g.g[(n+i)*2*n+n:][:n]
			for j, v := range even {
				top[j] += cos * v
				bottom[j] += cos * v
				right[j] -= sin * odd[j]
			}
		}
	}
	return g
}
