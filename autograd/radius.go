package autograd

import (
	"fmt"
	"math"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
)

// This file has the layers of interval arithmetic in the form center ± radius. A layer that is
// affine, y = w·x + b, maps the center as any other input and the radius by y = |w|·x.

// Conv2DRadius returns the radius of the output of [Conv2D] for an input of radius r:
//
//	y[o, i, j] = Σ |w[o, c, ky, kx]| · r[c, i·stride + ky − pad, j·stride + kx − pad]
//
// Its derivative with respect to a weight that is zero is zero. Conv2DRadius panics as Conv2D
// does.
func Conv2DRadius(t *Tape, r *Value, w *Param, stride, pad int) *Value {
	if len(w.Shape) != 4 || w.Shape[1] != r.shape.C || stride < 1 || pad < 0 {
		panic(fmt.Sprintf("autograd: Conv2DRadius: weights %v, stride %d, padding %d do not fit %v", w.Shape, stride, pad, r.shape))
	}
	return conv(t, r, t.absolute(w), nil, w, w.Shape[2], w.Shape[3], stride, pad)
}

// LinearRadius returns the radius |w|·r of the output of [Linear] for an input of radius r. It
// panics as Linear does.
func LinearRadius(t *Tape, r *Value, w *Param) *Value {
	if len(w.Shape) != 2 || w.Shape[1] != r.shape.C || r.shape.Pixels() != 1 {
		panic(fmt.Sprintf("autograd: LinearRadius: weights %v do not fit %v", w.Shape, r.shape))
	}
	return conv(t, r, t.absolute(w), nil, w, 1, 1, 1, 0)
}

// absolute returns |w|, which is valid until Reset.
func (t *Tape) absolute(w *Param) *Param {
	p := &Param{Name: w.Name, Shape: w.Shape, data: t.constants(len(w.data))}
	for i, v := range w.data {
		p.data[i] = float32(math.Abs(float64(v)))
	}
	return p
}

// backAbsolute adds to the gradient of o.of, of which o.w holds the absolute values.
func (o *conv2D) backAbsolute(t *Tape, in weightGradInput, dy []float32, geom kernel.Conv) {
	d := t.Scratch(len(o.w.data))
	defer t.FreeScratch(d)
	in.run(t, d, dy, geom, false)
	g, add := o.of.OpenGrad()
	for i, w := range o.of.data {
		v := d[i]
		switch {
		case w < 0:
			v = -v
		case w == 0:
			v = 0
		}
		if add {
			v += g[i]
		}
		g[i] = v
	}
}

// batchNormRadius keeps its input.
type batchNormRadius struct {
	x, y  *Value
	state *BatchNormState
	a     []float32 // [⌈C/16⌉·16], |Weight|/√(RunningVar + Eps)
}

// BatchNormRadius returns the radius of the output of [BatchNormEval] for an input of radius r:
//
//	y = |Weight|/√(RunningVar + Eps) · r
//
// Weight gets a gradient if [Tape.Params] is set. It panics as BatchNormEval does.
func BatchNormRadius(t *Tape, r *Value, s *BatchNormState) *Value {
	s.check(r)
	in := r
	r = Densify(t, r)
	sh := r.shape
	a := t.constants(sh.Blocks() * tensor.Lanes)
	for c := range sh.C {
		a[c] = float32(math.Abs(float64(s.Weight.data[c])) / math.Sqrt(float64(s.RunningVar.data[c])+float64(s.Eps)))
	}
	y := t.NewDense(sh, r.needsGrad || t.Params)
	kernel.Scale(t.Floats(y), t.Floats(r), a, sh.Blocks(), sh.Frames()*sh.Pixels(), false, t.Threads)
	t.Record(&batchNormRadius{r, y, s, a}, r)
	t.letGo(r, in)
	return y
}

func (o *batchNormRadius) Output() *Value { return o.y }

// UsesParam reports whether p is the weight. See [Op].
func (o *batchNormRadius) UsesParam(p *Param) bool { return p == o.state.Weight }

// Backward computes ∂r = a·∂y and ∂Weight = sign(Weight)/√(RunningVar + Eps)·Σ r·∂y.
func (o *batchNormRadius) Backward(t *Tape) {
	x, sh, s := o.x, o.x.shape, o.state
	if t.Params {
		mean, inv := make([]float64, len(o.a)), make([]float64, len(o.a))
		for c := range sh.C {
			inv[c] = 1 / math.Sqrt(float64(s.RunningVar.data[c])+float64(s.Eps))
			switch w := s.Weight.data[c]; {
			case w < 0:
				inv[c] = -inv[c]
			case w == 0:
				inv[c] = 0
			}
		}
		s.Weight.AddGrad(s.reduce(t, t.GradEveryStep(o.y), x, mean, inv).dot)
	}
	if x.needsGrad {
		dy, steps := t.Grad(o.y)
		slot := t.OpenGrad(x, steps)
		kernel.Scale(slot.Data, dy, o.a, sh.Blocks(), sh.N*steps*sh.Pixels(), slot.Add, t.Threads)
		t.CloseGrad(slot)
	}
}

// worstLogits keeps the radius.
type worstLogits struct {
	z, r, y *Value
	w       *Param
	labels  []int
}

// WorstLogits returns logits whose margins bound those of a last layer w·x + b. Its input x is
// within r of the point for which the layer computes z:
//
//	y[n, k] = z[n, k] + Σ_j |w[k, j] − w[labels[n], j]| · r[n, j]
//
// y[n, k] − y[n, labels[n]] is the largest value of the difference of these two outputs over all
// such x. So if y[n, labels[n]] is the largest of an image, no such x has another class. z has the
// shape [N, K] and r the shape [N, J], both of one step, and w has Shape [K, J]. WorstLogits
// panics if the shapes do not fit or a label is not in [0, K).
func WorstLogits(t *Tape, z, r *Value, w *Param, labels []int) *Value {
	zs, rs := z.shape, r.shape
	if len(w.Shape) != 2 || w.Shape[0] != zs.C || w.Shape[1] != rs.C || zs.Steps*zs.Pixels() != 1 || rs.Steps*rs.Pixels() != 1 || zs.N != len(labels) || rs.N != len(labels) {
		panic(fmt.Sprintf("autograd: WorstLogits: weights %v, %v ± %v and %d labels do not fit", w.Shape, zs, rs, len(labels)))
	}
	for _, l := range labels {
		if l < 0 || l >= zs.C {
			panic(fmt.Sprintf("autograd: WorstLogits: label %d of %d classes", l, zs.C))
		}
	}
	z.mustBeOwned("WorstLogits")
	r.mustBeOwned("WorstLogits")
	o := &worstLogits{z: Densify(t, z), r: Densify(t, r), w: w, labels: labels}
	o.y = t.NewDense(zs, o.z.needsGrad || o.r.needsGrad || t.Params)
	in, radius, out := t.Floats(o.z), t.Floats(o.r), t.Floats(o.y)
	parallel.For(t.Threads, zs.N, func(n int) {
		for b := range zs.Blocks() {
			at := (b*zs.N + n) * tensor.Lanes
			sum := [tensor.Lanes]float32(in[at:])
			for j := range rs.C {
				wk, wy := o.weights(b, j), o.weight(j, labels[n])
				r := radius[o.feature(n, j)]
				for l, w := range wk {
					sum[l] += float32(float32(math.Abs(float64(w-wy))) * r)
				}
			}
			clear(sum[min(tensor.Lanes, zs.C-b*tensor.Lanes):])
			copy(out[at:], sum[:])
		}
	})
	t.Record(o, o.r)
	t.letGo(o.z, z)
	t.letGo(o.r, r)
	return o.y
}

// weights returns w[k, j] for the outputs k of a block.
func (o *worstLogits) weights(block, j int) []float32 {
	return o.w.data[o.index(block, j):][:tensor.Lanes]
}

// weight returns w[k, j].
func (o *worstLogits) weight(j, k int) float32 {
	return o.w.data[o.index(k/tensor.Lanes, j)+k%tensor.Lanes]
}

// index returns the place of the weights of a block of outputs and input j.
func (o *worstLogits) index(block, j int) int {
	return (block*roundUp(o.w.Shape[1]) + j) * tensor.Lanes
}

// feature returns the place of input j of image n in values of the shape of r.
func (o *worstLogits) feature(n, j int) int {
	return (j/tensor.Lanes*o.r.shape.N+n)*tensor.Lanes + j%tensor.Lanes
}

func (o *worstLogits) Output() *Value { return o.y }

// UsesParam reports whether p is the weights. See [Op].
func (o *worstLogits) UsesParam(p *Param) bool { return p == o.w }

// Backward computes ∂z = ∂y, ∂r[j] = Σ_k |w[k, j] − w[y, j]|·∂y[k], and of the weights the
// derivatives of these absolute values.
func (o *worstLogits) Backward(t *Tape) {
	dy, _ := t.Grad(o.y)
	t.AddGrad(o.z, dy, 1)
	N, J, blocks := o.r.shape.N, o.r.shape.C, o.y.shape.Blocks()
	radius := t.Floats(o.r)
	var dr, dw []float32
	var addR, addW bool
	var slot GradSlot
	if o.r.needsGrad {
		slot = t.OpenGrad(o.r, 1)
		dr, addR = slot.Data, slot.Add
		if !addR {
			clear(dr) // padding
		}
	}
	if t.Params {
		dw, addW = o.w.OpenGrad()
		if !addW {
			clear(dw)
		}
	}
	parallel.For(t.Threads, J, func(j int) {
		for n, label := range o.labels {
			wy := o.weight(j, label)
			at := o.feature(n, j)
			var sum, pulled float32 // ∂r and −∂w[y, j]
			for b := range blocks {
				wk, g := o.weights(b, j), dy[(b*N+n)*tensor.Lanes:][:tensor.Lanes]
				for l, w := range wk {
					d := w - wy
					sum += float32(float32(math.Abs(float64(d))) * g[l])
					if dw == nil || d == 0 {
						continue
					}
					v := float32(radius[at] * g[l])
					if d < 0 {
						v = -v
					}
					pulled += v
					dw[o.index(b, j)+l] += v
				}
			}
			if dw != nil {
				dw[o.index(label/tensor.Lanes, j)+label%tensor.Lanes] -= pulled
			}
			if dr != nil {
				dr[at] += sum
			}
		}
	})
	if o.r.needsGrad {
		t.CloseGrad(slot)
	}
}
