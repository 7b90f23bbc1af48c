package autograd_test

import (
	"math"

	"github.com/org/snnrat/tensor"
)

// array is a value in float64, row-major [N, Steps, C, H, W]. The naive operations
// on it are the oracle of this package: one element at a time, as in the equations.
type array struct {
	tensor.Shape
	v []float64
}

func (a array) index(n, t, c, y, x int) int {
	return (((n*a.Steps+t)*a.C+c)*a.H+y)*a.W + x
}

// at returns an element; of an array that is the same at every step, for any t.
func (a array) at(n, t, c, y, x int) float64 {
	if a.Steps == 1 {
		t = 0
	}
	return a.v[a.index(n, t, c, y, x)]
}

// each calls fn with all indices of s.
func each(s tensor.Shape, fn func(n, t, c, y, x int)) {
	for n := range s.N {
		for t := range s.Steps {
			for c := range s.C {
				for y := range s.H {
					for x := range s.W {
						fn(n, t, c, y, x)
					}
				}
			}
		}
	}
}

// elementwise returns the array of shape s with the elements fn.
func elementwise(s tensor.Shape, fn func(n, t, c, y, x int) float64) array {
	a := array{s, make([]float64, 0, s.Frames()*s.Neurons())}
	each(s, func(n, t, c, y, x int) { a.v = append(a.v, fn(n, t, c, y, x)) })
	return a
}

// ofDense converts the library's layout.
func ofDense(d *tensor.Dense) array {
	return elementwise(d.Shape, func(n, t, c, y, x int) float64 { return float64(d.At(n, t, c, y, x)) })
}

func (a array) dense() *tensor.Dense {
	d := tensor.NewDense(a.Shape)
	each(a.Shape, func(n, t, c, y, x int) { d.Set(n, t, c, y, x, float32(a.at(n, t, c, y, x))) })
	return d
}

func naiveConv(x array, w, b []float64, cout, kh, kw, stride, pad int) array {
	out := x.Shape
	out.C, out.H, out.W = cout, (x.H+2*pad-kh)/stride+1, (x.W+2*pad-kw)/stride+1
	return elementwise(out, func(n, t, o, i, j int) float64 {
		sum := 0.0
		if b != nil {
			sum = b[o]
		}
		for c := range x.C {
			for ky := range kh {
				for kx := range kw {
					y, z := i*stride+ky-pad, j*stride+kx-pad
					if y >= 0 && y < x.H && z >= 0 && z < x.W {
						sum += w[((o*x.C+c)*kh+ky)*kw+kx] * x.at(n, t, c, y, z)
					}
				}
			}
		}
		return sum
	})
}

// naiveMoments returns the mean and the biased variance of every channel.
func naiveMoments(x array) (mean, variance []float64) {
	mean, variance = make([]float64, x.C), make([]float64, x.C)
	count := float64(x.Frames() * x.Pixels())
	each(x.Shape, func(n, t, c, y, z int) { mean[c] += x.at(n, t, c, y, z) / count })
	each(x.Shape, func(n, t, c, y, z int) { variance[c] += math.Pow(x.at(n, t, c, y, z)-mean[c], 2) / count })
	return mean, variance
}

func naiveBatchNorm(x array, w, b, mean, variance []float64, eps float64) array {
	return elementwise(x.Shape, func(n, t, c, y, z int) float64 {
		return (x.at(n, t, c, y, z)-mean[c])/math.Sqrt(variance[c]+eps)*w[c] + b[c]
	})
}

// naivePool combines the values of every window by fn.
func naivePool(x array, kh, kw, stride int, fn func(window []float64) float64) array {
	out := x.Shape
	out.H, out.W = (x.H-kh)/stride+1, (x.W-kw)/stride+1
	return elementwise(out, func(n, t, c, i, j int) float64 {
		var window []float64
		for ky := range kh {
			for kx := range kw {
				window = append(window, x.at(n, t, c, i*stride+ky, j*stride+kx))
			}
		}
		return fn(window)
	})
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func naiveConvex(a, b array, wa, wb float64) array {
	s := a.Shape
	s.Steps = max(a.Steps, b.Steps)
	return elementwise(s, func(n, t, c, y, x int) float64 {
		return wa*a.at(n, t, c, y, x) + wb*b.at(n, t, c, y, x)
	})
}
