package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// PoolShape returns the shape of a pooling layer's output for windows of kh × kw pixels
// without padding. H or W of the result is less than 1 if the window does not fit into the
// input. kh, kw and stride must be positive.
func PoolShape(x tensor.Shape, kh, kw, stride int) tensor.Shape {
	return ConvShape(x, x.C, kh, kw, stride, 0)
}

// pool returns the shape and the geometry of a pooling layer.
func pool(op string, x tensor.Shape, kh, kw, stride int) (y tensor.Shape, geom kernel.Pool) {
	if kh < 1 || kw < 1 || stride < 1 || kh > x.H || kw > x.W {
		panic(fmt.Sprintf("autograd: %s: a window of %d×%d with stride %d does not fit %v", op, kh, kw, stride, x))
	}
	y = PoolShape(x, kh, kw, stride)
	return y, kernel.Pool{
		Planes: x.Blocks() * x.Frames(), Hin: x.H, Win: x.W, Hout: y.H, Wout: y.W, KH: kh, KW: kw, Stride: stride,
	}
}

type avgPool struct {
	x, y *Value
	geom kernel.Pool // over y's steps
}

// AvgPool returns the mean of every window of kh × kw pixels, without padding. It panics if
// the window does not fit into x or if an argument is less than 1.
func AvgPool(t *Tape, x *Value, kh, kw, stride int) *Value {
	out, geom := pool("AvgPool", x.shape, kh, kw, stride)
	x.mustBeOwned("AvgPool")
	y := t.NewDense(out, x.needsGrad)
	if x.spikes != nil {
		kernel.AvgPoolSpikes(t.Floats(y), t.Words(x), geom, t.Threads)
	} else {
		kernel.AvgPool(t.Floats(y), t.Floats(x), geom, t.Threads)
	}
	y.winograd = x.winograd
	if y.needsGrad {
		op := &avgPool{x, y, geom}
		t.Record(op)
		if x.spikes != nil {
			y.cheap = op
		}
	}
	return y
}

// compute implements deferred, for spikes.
func (o *avgPool) compute(t *Tape, dst []float32) {
	kernel.AvgPoolSpikes(dst, o.x.spikes, o.geom, t.Threads)
}

// input implements deferred.
func (o *avgPool) input() *Value { return o.x }

// GlobalAvgPool returns the mean over all pixels of each channel. It is AvgPool with a
// window of H × W.
func GlobalAvgPool(t *Tape, x *Value) *Value {
	return AvgPool(t, x, x.shape.H, x.shape.W, 1)
}

func (o *avgPool) Output() *Value { return o.y }

// Backward gives ∂y/(kh·kw) to every pixel of a window.
func (o *avgPool) Backward(t *Tape) {
	sh := o.x.shape
	dy, steps := t.Grad(o.y)
	s := t.OpenGrad(o.x, steps)
	geom := o.geom
	geom.Planes = sh.Blocks() * sh.N * steps
	kernel.AvgPoolGrad(s.Data, dy, geom, s.Add, t.Threads)
	t.CloseGrad(s)
}

// maxPool keeps its input. The backward pass finds the largest values again.
type maxPool struct {
	x, y *Value
	geom kernel.Pool
}

// MaxPool returns the largest value of every window of kh × kw pixels, without padding. It
// panics if the window does not fit into x or if an argument is less than 1.
//
// The largest value of a window gets its gradient. If several are equal, the first one in
// row-major order gets it. This may be a different pixel at every step. A gradient of one
// step therefore becomes one of all steps, and the backward passes of the layers before
// MaxPool run for every step.
func MaxPool(t *Tape, x *Value, kh, kw, stride int) *Value {
	out, geom := pool("MaxPool", x.shape, kh, kw, stride)
	x.mustBeOwned("MaxPool")
	var y *Value
	if x.spikes != nil {
		y = t.NewSpikes(out, x.needsGrad)
		kernel.MaxPoolSpikes(t.Words(y), t.Words(x), geom, t.Threads)
	} else {
		y = t.NewDense(out, x.needsGrad)
		t.checkFinite(t.Floats(x))
		kernel.MaxPool(t.Floats(y), t.Floats(x), geom, t.Threads)
	}
	y.winograd = x.winograd
	if y.needsGrad {
		t.Record(&maxPool{x, y, geom}, x)
	}
	return y
}

func (o *maxPool) Output() *Value { return o.y }

func (o *maxPool) Backward(t *Tape) {
	x, dy := o.x, t.GradEveryStep(o.y)
	s := t.OpenGrad(x, x.shape.Steps)
	if x.spikes != nil {
		kernel.MaxPoolGradSpikes(s.Data, t.Words(x), dy, o.geom, s.Add, t.Threads)
	} else {
		kernel.MaxPoolGrad(s.Data, t.Floats(x), dy, o.geom, s.Add, t.Threads)
	}
	t.CloseGrad(s)
}
