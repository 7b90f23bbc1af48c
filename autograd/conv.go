package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// conv2D keeps its input for the gradient of the weights. If the weights get no gradient,
// the convolution is deferred. Neurons that read its output then run it in parts that stay
// in cache.
type conv2D struct {
	x, y *Value
	w, b *Param
	of   *Param      // if not nil, w holds its absolute values, and it gets the gradient
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
	return conv(t, x, w, b, nil, w.Shape[2], w.Shape[3], stride, pad)
}

// Linear returns y = w·x + b. x has one pixel (H = W = 1) and Cin channels; w has Shape
// [Cout, Cin]; b has Shape [Cout] or is nil. Linear panics if the shapes do not fit.
func Linear(t *Tape, x *Value, w, b *Param) *Value {
	if len(w.Shape) != 2 || w.Shape[1] != x.shape.C || x.shape.Pixels() != 1 {
		panic(fmt.Sprintf("autograd: Linear: weights %v do not fit %v", w.Shape, x.shape))
	}
	return conv(t, x, w, b, nil, 1, 1, 1, 0)
}

func conv(t *Tape, x *Value, w, b, of *Param, kh, kw, stride, pad int) *Value {
	out := ConvShape(x.shape, w.Shape[0], kh, kw, stride, pad)
	if out.H < 1 || out.W < 1 {
		panic(fmt.Sprintf("autograd: Conv2D: a window of %d×%d exceeds %v", kh, kw, x.shape))
	}
	if b != nil && (len(b.Shape) != 1 || b.Shape[0] != out.C) {
		panic(fmt.Sprintf("autograd: Conv2D: a bias of shape %v for the weights %v: expected [%d]", b.Shape, w.Shape, out.C))
	}
	x.mustBeOwned("Conv2D")
	t.compute(x)
	y := t.later(out, x.needsGrad || t.Params, func(y *Value) deferred {
		y.conv = conv2D{x: x, y: y, w: w, b: b, of: of, geom: kernel.Conv{
			Frames: x.shape.Frames(), Cin: x.shape.C, Hin: x.shape.H, Win: x.shape.W,
			Cout: out.C, Hout: out.H, Wout: out.W, KH: kh, KW: kw, Stride: stride, Pad: pad,
		}}
		return &y.conv
	})
	if t.Params {
		t.compute(y)
		t.Record(&y.conv, x)
		t.recompute(x)
		if kh*kw == 1 && x.spikes != nil && x.shape.Pixels() > 1 { // a window of more costs too much
			y.cheap = &y.conv
		}
	} else {
		t.Record(&y.conv)
	}
	return y
}

// input implements deferred.
func (o *conv2D) input() *Value { return o.x }

// compute implements deferred.
func (o *conv2D) compute(t *Tape, dst []float32) {
	o.run(t, dst, t.floats(o.x), o.x.spikes, o.geom)
}

// run computes the convolution of dense x, or of spikes if x is nil.
func (o *conv2D) run(t *Tape, y, x []float32, spikes []uint16, geom kernel.Conv) {
	var bias []float32
	if o.b != nil {
		bias = o.b.data
	}
	switch {
	case spikes != nil:
		kernel.ConvSpikes(y, spikes, o.w.data, bias, geom, t.Threads)
	case o.x.winograd:
		kernel.ConvDenseWinograd(y, x, o.w.data, bias, geom, t.Threads)
	default:
		kernel.ConvDense(y, x, o.w.data, bias, geom, t.Threads)
	}
}

func (o *conv2D) Output() *Value { return o.y }

// UsesParam reports whether p is the weight or the bias. See [Op].
func (o *conv2D) UsesParam(p *Param) bool { return p == o.w || p == o.b || p == o.of }

// Backward computes ∂x = wᵀ∗∂y, ∂w = Σ ∂y⊗x and ∂b = Σ ∂y. If ∂y has one step, ∂x has one
// step too, and ∂w = ∂y⊗Σₜx.
func (o *conv2D) Backward(t *Tape) {
	dy, steps := t.Grad(o.y)
	o.backInput(t, dy, steps, nil)
	o.backWeights(t, dy, steps)
}

// backInput adds to the gradient of the input, which has the given steps. If need is not
// nil, it has a bit for each element that is used.
func (o *conv2D) backInput(t *Tape, dy []float32, steps int, need []uint16) {
	if !o.x.needsGrad {
		return
	}
	geom := o.geom
	geom.Frames = o.x.shape.N * steps
	s := t.OpenGrad(o.x, steps)
	kernel.ConvInputGrad(s.Data, dy, o.w.data, need, geom, s.Add, t.Threads)
	t.CloseGrad(s)
}

// backWeights adds to the gradients of the weights and the bias, or updates the weights.
func (o *conv2D) backWeights(t *Tape, dy []float32, steps int) {
	if !t.Params {
		return
	}
	x, geom := o.x, o.geom
	geom.Frames = x.shape.N * steps
	in := weightGradInput{dense: t.Floats(x), spikes: t.Words(x)}
	if steps < x.shape.Steps {
		in = weightGradInput{dense: t.sumSteps(x)}
	}
	if o.of != nil {
		o.backAbsolute(t, in, dy, geom)
	} else if t.FusedUpdate != nil && !o.w.hasGrad && !t.usesLater(o.w) && t.FusedUpdate.Handles(o.w) {
		in.update(t, o.w, dy, geom)
	} else {
		dw, add := o.w.OpenGrad()
		in.run(t, dw, dy, geom, add)
	}
	if steps < x.shape.Steps {
		t.FreeScratch(in.dense)
	}
	if o.b != nil {
		db, add := o.b.OpenGrad()
		kernel.ConvBiasGrad(db, dy, geom, float32(x.shape.Steps/steps), add, t.Threads)
	}
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

// update passes the gradient to FusedUpdate in parts that stay in cache. A part holds whole
// blocks of output channels.
func (in weightGradInput) update(t *Tape, w *Param, dy []float32, geom kernel.Conv) {
	cout, blocks := geom.Cout, geom.BlocksOut()
	block := len(w.data) / blocks // weights of a block of output channels
	frames := geom.Frames * geom.Hout * geom.Wout * tensor.Lanes
	part := max(1, cached/2/block)
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
