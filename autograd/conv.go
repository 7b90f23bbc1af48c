package autograd

import (
	"fmt"
	"slices"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// conv2D keeps its input for the gradient of the weights. If the weights get no gradient,
// the convolution is deferred. Neurons that read its output then run it in parts that stay
// in cache.
type conv2D struct {
	x, y *Value
	w, b *Param
	geom kernel.Conv // over y's steps
}

// ConvShape returns the shape of the output of a convolution of x. The convolution has cout
// output channels, windows of kh × kw pixels, and the given stride and zero padding. H or W
// of the result is less than 1 if the window does not fit into the padded input. The
// arguments other than pad must be positive.
func ConvShape(x tensor.Shape, cout, kh, kw, stride, pad int) tensor.Shape {
	x.C = cout
	x.H = floorDiv(x.H+2*pad-kh, stride) + 1
	x.W = floorDiv(x.W+2*pad-kw, stride) + 1
	return x
}

func floorDiv(a, b int) int {
	if a < 0 {
		return -1
	}
	return a / b
}

// Conv2D returns the 2-D convolution of x with w, plus the bias b. As in PyTorch, this is
// a cross-correlation:
//
//	y[o, i, j] = b[o] + Σ w[o, c, ky, kx] · x[c, i·stride + ky − pad, j·stride + kx − pad]
//
// The sum is over c, ky and kx. w has Shape [Cout, Cin, KH, KW]; b has Shape [Cout] or is
// nil. Conv2D panics if the shapes do not fit, if stride is less than 1, or if pad is
// negative.
func Conv2D(t *Tape, x *Value, w, b *Param, stride, pad int) *Value {
	if len(w.Shape) != 4 || w.Shape[1] != x.shape.C || stride < 1 || pad < 0 {
		panic(fmt.Sprintf("autograd: Conv2D: weights %v, stride %d, padding %d do not fit %v", w.Shape, stride, pad, x.shape))
	}
	return conv(t, x, w, b, w.Shape[2], w.Shape[3], stride, pad)
}

// Linear returns y = w·x + b. x has one pixel (H = W = 1) and Cin channels; w has Shape
// [Cout, Cin]; b has Shape [Cout] or is nil. Linear panics if the shapes do not fit.
func Linear(t *Tape, x *Value, w, b *Param) *Value {
	if len(w.Shape) != 2 || w.Shape[1] != x.shape.C || x.shape.Pixels() != 1 {
		panic(fmt.Sprintf("autograd: Linear: weights %v do not fit %v", w.Shape, x.shape))
	}
	return conv(t, x, w, b, 1, 1, 1, 0)
}

func conv(t *Tape, x *Value, w, b *Param, kh, kw, stride, pad int) *Value {
	out := ConvShape(x.shape, w.Shape[0], kh, kw, stride, pad)
	if out.H < 1 || out.W < 1 {
		panic(fmt.Sprintf("autograd: Conv2D: a window of %d×%d exceeds %v", kh, kw, x.shape))
	}
	op := &conv2D{x: x, w: w, b: b, geom: kernel.Conv{
		Frames: x.shape.Frames(), Cin: x.shape.C, Hin: x.shape.H, Win: x.shape.W,
		Cout: out.C, Hout: out.H, Wout: out.W, KH: kh, KW: kw, Stride: stride, Pad: pad,
	}}
	t.input("Conv2D", x)
	op.y = t.value(out, x.needsGrad || t.Params)
	op.y.deferred = op
	t.keep(x)
	if t.Params {
		t.keep(x)
		t.read(op.y)
	}
	t.record(op)
	return op.y
}

// compute implements deferred.
func (o *conv2D) compute(t *Tape, y *Value) { o.run(t, y.dense, o.x.dense, o.x.spikes, o.geom) }

// release implements deferred.
func (o *conv2D) release(t *Tape) { t.drop(o.x) }

// run computes the convolution of dense x, or of spikes if x is nil.
func (o *conv2D) run(t *Tape, y, x []float32, spikes []uint16, geom kernel.Conv) {
	var bias []float32
	if o.b != nil {
		bias = o.b.data
	}
	if spikes != nil {
		kernel.ConvSpikes(y, spikes, o.w.data, bias, geom, t.Threads)
	} else {
		kernel.ConvDense(y, x, o.w.data, bias, geom, t.Threads)
	}
}

func (o *conv2D) Output() *Value { return o.y }

// Backward computes ∂x = wᵀ∗∂y, ∂w = Σ ∂y⊗x and ∂b = Σ ∂y. If ∂y has one step, ∂x has one
// step too, and ∂w = ∂y⊗Σₜx.
func (o *conv2D) Backward(t *Tape) {
	x, dy := o.x, o.y.grad
	geom := o.geom
	geom.Frames = x.shape.N * o.y.gradSteps
	if x.needsGrad {
		s := t.open(x, o.y.gradSteps)
		var need []uint16
		if x.maker != nil && geom.CanLeaveOut() {
			need = x.maker.need(t, o.y.gradSteps)
		}
		kernel.ConvInputGrad(s.buf, dy, o.w.data, need, geom, s.add, t.Threads)
		t.close(s)
	}
	if !t.Params {
		return
	}
	in := weightGradInput{dense: x.dense, spikes: x.spikes}
	if o.y.gradSteps < x.shape.Steps {
		in = weightGradInput{dense: t.sumSteps(x)}
	}
	if t.FusedUpdate != nil && !o.w.hasGrad && t.lastUse(o.w) && t.FusedUpdate.Handles(o.w) {
		in.update(t, o.w, dy, geom)
	} else {
		dw, add := o.w.openGrad()
		in.run(t, dw, dy, geom, add)
	}
	if o.y.gradSteps < x.shape.Steps {
		t.arena.FreeFloats(in.dense)
	}
	if o.b != nil {
		db, add := o.b.openGrad()
		kernel.ConvBiasGrad(db, dy, geom, float32(x.shape.Steps/o.y.gradSteps), add, t.Threads)
	}
	t.drop(x)
}

// weightGradInput is the input of a convolution, for the gradient of its weights.
type weightGradInput struct {
	dense  []float32
	spikes []uint16 // if not nil, instead of dense
}

func (in weightGradInput) run(t *Tape, dw, dy []float32, geom kernel.Conv, add bool) {
	if in.spikes != nil {
		kernel.ConvWeightGradSpikes(dw, in.spikes, dy, geom, add, t.Threads)
	} else {
		kernel.ConvWeightGradDense(dw, in.dense, dy, geom, add, t.Threads)
	}
}

// lastUse reports whether no operation that is still to go back through reads the weights w.
func (t *Tape) lastUse(w *Param) bool {
	return !slices.ContainsFunc(t.ops, func(op Op) bool {
		o, ok := op.(*conv2D)
		return ok && o.w == w
	})
}

// update passes the gradient to FusedUpdate in parts that stay in cache. A part holds whole
// blocks of output channels.
func (in weightGradInput) update(t *Tape, w *Param, dy []float32, geom kernel.Conv) {
	cout, blocks := geom.Cout, geom.BlocksOut()
	block := len(w.data) / blocks // weights of a block of output channels
	frames := geom.Frames * geom.Hout * geom.Wout * tensor.Lanes
	part := max(1, 2*cached/block)
	for lo := 0; lo < blocks; lo += part {
		n := min(part, blocks-lo)
		geom.Cout = min(cout-lo*tensor.Lanes, n*tensor.Lanes)
		dw := t.arena.Floats(n * block)
		in.run(t, dw, dy[lo*frames:][:n*frames], geom, false)
		t.FusedUpdate.Update(w, lo*block, dw)
		t.arena.FreeFloats(dw)
	}
}

// sumSteps returns the sum of x over time, [C/16][N][H][W][16], in memory of the arena.
func (t *Tape) sumSteps(x *Value) []float32 {
	sh := x.shape
	sum := t.arena.Floats(sh.WithSteps(1).Floats())
	if x.spikes != nil {
		kernel.SumStepsSpikes(sum, x.spikes, sh.Blocks()*sh.N, sh.Steps, sh.Pixels(), t.Threads)
	} else {
		kernel.SumSteps(sum, x.dense, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, 1, false, t.Threads)
	}
	return sum
}
