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
	t.input("AvgPool", x)
	op := &avgPool{x: x, geom: geom}
	op.y = t.dense(out, x.needsGrad)
	if x.spikes != nil {
		kernel.AvgPoolSpikes(op.y.dense, x.spikes, op.geom, t.Threads)
	} else {
		kernel.AvgPool(op.y.dense, x.dense, op.geom, t.Threads)
	}
	t.record(op)
	return op.y
}

// GlobalAvgPool returns the mean over all pixels of each channel. It is AvgPool with a
// window of H × W.
func GlobalAvgPool(t *Tape, x *Value) *Value {
	return AvgPool(t, x, x.shape.H, x.shape.W, 1)
}

func (o *avgPool) Output() *Value { return o.y }

// Backward gives ∂y/(kh·kw) to every pixel of a window. If x comes from neurons, it hands
// them ∂y, and they spread it over the windows themselves.
func (o *avgPool) Backward(t *Tape) {
	sh := o.x.shape
	if _, ok := o.x.maker.(*throughTime); ok && o.x.grad == nil && o.geom.Tiles() {
		o.x.grad, o.x.gradSteps, o.x.gradPool = o.y.grad, o.y.gradSteps, &o.geom
		o.y.grad = nil
		return
	}
	s := t.open(o.x, o.y.gradSteps)
	geom := o.geom
	geom.Planes = sh.Blocks() * sh.N * s.steps
	kernel.AvgPoolGrad(s.buf, o.y.grad, geom, s.add, t.Threads)
	t.close(s)
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
	t.input("MaxPool", x)
	op := &maxPool{x: x, geom: geom}
	if x.spikes != nil {
		op.y = t.spikes(out, x.needsGrad)
		kernel.MaxPoolSpikes(op.y.spikes, x.spikes, op.geom, t.Threads)
	} else {
		op.y = t.dense(out, x.needsGrad)
		t.nonFinite = t.nonFinite || !kernel.Finite(x.dense, t.Threads)
		kernel.MaxPool(op.y.dense, x.dense, op.geom, t.Threads)
	}
	if x.needsGrad {
		t.keep(x)
	}
	t.record(op)
	return op.y
}

func (o *maxPool) Output() *Value { return o.y }

func (o *maxPool) Backward(t *Tape) {
	x := o.x
	t.everyStep(o.y)
	s := t.open(x, x.shape.Steps)
	if x.spikes != nil {
		kernel.MaxPoolGradSpikes(s.buf, x.spikes, o.y.grad, o.geom, s.add, t.Threads)
	} else {
		kernel.MaxPoolGrad(s.buf, x.dense, o.y.grad, o.geom, s.add, t.Threads)
	}
	t.close(s)
	t.drop(x)
}
