package snn_test

import (
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// grid is a value of the twin, with all its steps, and its gradient.
type grid struct {
	n, t, c, h, w int
	v, d          []float64 // [N][T][C][H][W]
}

func newGrid(n, t, c, h, w int) *grid {
	return &grid{n, t, c, h, w, make([]float64, n*t*c*h*w), make([]float64, n*t*c*h*w)}
}

func (g *grid) at(n, t, c, y, x int) int { return (((n*g.t+t)*g.c+c)*g.h+y)*g.w + x }

func (g *grid) each(fn func(n, t, c, y, x, i int)) {
	i := 0
	for n := range g.n {
		for t := range g.t {
			for c := range g.c {
				for y := range g.h {
					for x := range g.w {
						fn(n, t, c, y, x, i)
						i++
					}
				}
			}
		}
	}
}

// vector is a parameter of the twin and its gradient, in PyTorch's order.
type vector struct{ v, d []float64 }

// twin computes a network step by step in float64, operation by operation, with nothing
// fused, shared between steps or left out. It is what passes of a model are held against.
type twin struct {
	pass   snn.Pass // its steps, keys, gradient and mode
	params map[*autograd.Param]*vector
	spikes map[string][]bool
	back   []func()
	// unsure is the least distance of a value to where the network jumps: a membrane
	// potential to its threshold, or two values of which the larger one counts. Rounding
	// decides there, and where batch norm divides by next to nothing.
	unsure float64
}

func (tw *twin) param(p *autograd.Param) *vector {
	if tw.params[p] == nil {
		q := &vector{d: make([]float64, p.Len())}
		for _, x := range p.Export() {
			q.v = append(q.v, float64(x))
		}
		tw.params[p] = q
	}
	return tw.params[p]
}

// near notes how far apart two values are, of which the order counts. Equal ones are equal
// in any precision.
func (tw *twin) near(a, b float64) {
	if a != b {
		tw.unsure = min(tw.unsure, math.Abs(a-b))
	}
}

// conv is a convolution; a linear layer is one of a window of one pixel.
func (tw *twin) conv(x *grid, weight, bias *autograd.Param, stride, pad int) *grid {
	w, k := tw.param(weight), 1
	if len(weight.Shape) == 4 {
		k = weight.Shape[2]
	}
	y := newGrid(x.n, x.t, weight.Shape[0], (x.h+2*pad-k)/stride+1, (x.w+2*pad-k)/stride+1)
	terms := func(n, t, o, i, j int, fn func(at, weight int)) {
		for c := range x.c {
			for ky := range k {
				for kx := range k {
					if a, b := i*stride+ky-pad, j*stride+kx-pad; a >= 0 && a < x.h && b >= 0 && b < x.w {
						fn(x.at(n, t, c, a, b), ((o*x.c+c)*k+ky)*k+kx)
					}
				}
			}
		}
	}
	y.each(func(n, t, o, i, j, at int) {
		if bias != nil {
			y.v[at] = tw.param(bias).v[o]
		}
		terms(n, t, o, i, j, func(in, k int) { y.v[at] += x.v[in] * w.v[k] })
	})
	tw.back = append(tw.back, func() {
		y.each(func(n, t, o, i, j, at int) {
			if bias != nil {
				tw.param(bias).d[o] += y.d[at]
			}
			terms(n, t, o, i, j, func(in, k int) {
				x.d[in] += y.d[at] * w.v[k]
				w.d[k] += y.d[at] * x.v[in]
			})
		})
	})
	return y
}

func (tw *twin) batchNorm(x *grid, l *snn.BatchNorm) *grid {
	y := newGrid(x.n, x.t, x.c, x.h, x.w)
	weight, bias, mean, variance := tw.param(l.Weight), tw.param(l.Bias), tw.param(l.RunningMean), tw.param(l.RunningVar)
	m, v := append([]float64(nil), mean.v...), append([]float64(nil), variance.v...)
	count := float64(len(x.v) / x.c)
	if tw.pass.Train {
		for c := range x.c {
			m[c], v[c] = 0, 0
		}
		x.each(func(_, _, c, _, _, i int) { m[c] += x.v[i] / count })
		x.each(func(_, _, c, _, _, i int) { v[c] += (x.v[i] - m[c]) * (x.v[i] - m[c]) / count })
		for c := range x.c {
			if v[c] < 0.02 { // rounding is magnified
				tw.unsure = 0
			}
			mean.v[c] += float64(l.Momentum) * (m[c] - mean.v[c])
			variance.v[c] += float64(l.Momentum) * (v[c]*count/max(1, count-1) - variance.v[c])
		}
	}
	inv := make([]float64, x.c)
	for c := range inv {
		inv[c] = 1 / math.Sqrt(v[c]+float64(l.Eps))
	}
	hat := func(c, i int) float64 { return (x.v[i] - m[c]) * inv[c] }
	x.each(func(_, _, c, _, _, i int) { y.v[i] = hat(c, i)*weight.v[c] + bias.v[c] })
	tw.back = append(tw.back, func() {
		sum, dot := make([]float64, x.c), make([]float64, x.c)
		x.each(func(_, _, c, _, _, i int) {
			sum[c] += y.d[i]
			dot[c] += y.d[i] * hat(c, i)
		})
		for c := range x.c {
			bias.d[c] += sum[c]
			weight.d[c] += dot[c]
		}
		x.each(func(_, _, c, _, _, i int) {
			d := y.d[i]
			if tw.pass.Train {
				d -= sum[c]/count + hat(c, i)*dot[c]/count
			}
			x.d[i] += d * weight.v[c] * inv[c]
		})
	})
	return y
}

// pool averages windows of k × k, or takes their largest values.
func (tw *twin) pool(x *grid, k int, largest bool) *grid {
	y := newGrid(x.n, x.t, x.c, x.h/k, x.w/k)
	from := make([]int, len(y.v)) // of the largest values
	y.each(func(n, t, c, i, j, at int) {
		from[at] = x.at(n, t, c, i*k, j*k)
		for a := range k {
			for b := range k {
				in := x.at(n, t, c, i*k+a, j*k+b)
				y.v[at] += x.v[in] / float64(k*k)
				if largest {
					tw.near(x.v[in], x.v[from[at]])
				}
				if x.v[in] > x.v[from[at]] {
					from[at] = in
				}
			}
		}
		if largest {
			y.v[at] = x.v[from[at]]
		}
	})
	tw.back = append(tw.back, func() {
		y.each(func(n, t, c, i, j, at int) {
			if largest {
				x.d[from[at]] += y.d[at]
				return
			}
			for a := range k {
				for b := range k {
					x.d[x.at(n, t, c, i*k+a, j*k+b)] += y.d[at] / float64(k*k)
				}
			}
		})
	})
	return y
}

// add is a weighted sum of values.
func (tw *twin) add(a, b *grid, comb *autograd.Param) *grid {
	y := newGrid(a.n, a.t, a.c, a.h, a.w)
	w := &vector{[]float64{1, 1}, make([]float64, 2)}
	if comb != nil {
		w = tw.param(comb)
	}
	for i := range y.v {
		y.v[i] = w.v[0]*a.v[i] + w.v[1]*b.v[i]
	}
	tw.back = append(tw.back, func() {
		for i, d := range y.d {
			w.d[0] += d * a.v[i]
			w.d[1] += d * b.v[i]
			a.d[i] += w.v[0] * d
			b.d[i] += w.v[1] * d
		}
	})
	return y
}

// scale multiplies every value by its own factor.
func (tw *twin) scale(x *grid, by []float64) *grid {
	y := newGrid(x.n, x.t, x.c, x.h, x.w)
	for i, f := range by {
		y.v[i] = f * x.v[i]
	}
	tw.back = append(tw.back, func() {
		for i, f := range by {
			x.d[i] += f * y.d[i]
		}
	})
	return y
}

func (tw *twin) keys(purpose string) (ks []rng.Key) {
	for _, k := range tw.pass.Keys {
		ks = append(ks, k.Derive(purpose, 0))
	}
	return ks
}

// dropout draws its masks as the network does; how masks are drawn is tested elsewhere.
func (tw *twin) dropout(x *grid, name string, l *snn.Dropout) *grid {
	if !tw.pass.Train {
		return x
	}
	ones := tensor.NewDense(tensor.Shape{N: x.n, Steps: x.t, C: x.c, H: x.h, W: x.w})
	for i := range ones.Data {
		ones.Data[i] = 1
	}
	tape := &autograd.Tape{}
	mask := autograd.Dropout(tape, tape.Input(ones, false), l.P, l.EveryStep, x.t, tw.keys(name)).Dense()
	by := make([]float64, len(x.v))
	x.each(func(n, t, c, y, z, i int) { by[i] = float64(mask.At(n, t, c, y, z)) })
	return tw.scale(x, by)
}

// encode shows the image at every step, or the frame of the step, or spikes drawn as the
// network draws them. Under CBA it shows the mean of the frames.
func (tw *twin) encode(image tensor.NCHW, e snn.Encoder) (x, encoded *grid) {
	x = newGrid(image.N, image.Shape().Steps, image.C, image.H, image.W)
	// share is the part of a frame that is shown at a step.
	share := func(step, frame int) float64 {
		switch {
		case x.t == 1:
			return 1
		case tw.pass.Gradient == (snn.CBA{}):
			return 1 / float64(x.t)
		case step == frame:
			return 1
		}
		return 0
	}
	for i, v := range image.Data {
		x.v[i] = float64(v)
	}
	y := newGrid(x.n, tw.pass.Steps, x.c, x.h, x.w)
	var spikes *tensor.Spikes
	if _, ok := e.(snn.Poisson); ok && tw.pass.Gradient != (snn.CBA{}) {
		tape := &autograd.Tape{}
		spikes = autograd.Poisson(tape, tape.Leaf(image, false), y.t, tw.keys("poisson")).Spikes()
	}
	y.each(func(n, t, c, i, j, at int) {
		for f := range x.t {
			y.v[at] += share(t, f) * x.v[x.at(n, f, c, i, j)]
		}
		if spikes != nil {
			y.v[at] = 0
			if spikes.At(n, t, c, i, j) {
				y.v[at] = 1
			}
		}
	})
	tw.back = append(tw.back, func() {
		y.each(func(n, t, c, i, j, at int) {
			for f := range x.t {
				x.d[x.at(n, f, c, i, j)] += share(t, f) * y.d[at]
			}
		})
	})
	return x, y
}

// normalize normalizes channels.
func (tw *twin) normalize(x *grid, mean, std []float32) *grid {
	by := make([]float64, len(x.v))
	x.each(func(_, _, c, _, _, i int) { by[i] = 1 / float64(std[c]) })
	y := tw.scale(x, by)
	x.each(func(_, _, c, _, _, i int) { y.v[i] -= float64(mean[c]) / float64(std[c]) })
	return y
}

// flatten makes a channel of every value of a frame.
func (tw *twin) flatten(x *grid) *grid {
	return &grid{x.n, x.t, x.c * x.h * x.w, 1, 1, x.v, x.d}
}

// logits are the means over time.
func (tw *twin) logits(x *grid) *grid {
	y := newGrid(x.n, 1, x.c, 1, 1)
	x.each(func(n, _, c, _, _, i int) { y.v[y.at(n, 0, c, 0, 0)] += x.v[i] / float64(x.t) })
	tw.back = append(tw.back, func() {
		x.each(func(n, _, c, _, _, i int) { x.d[i] += y.d[y.at(n, 0, c, 0, 0)] / float64(x.t) })
	})
	return y
}

// backward carries the gradients back.
func (tw *twin) backward() {
	for i := len(tw.back) - 1; i >= 0; i-- {
		tw.back[i]()
	}
}
