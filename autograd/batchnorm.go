package autograd

import (
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// BatchNormState holds the parameters and the running statistics of batch norm. Each
// Param has Shape [C]. Eps is added to a variance before the square root is taken. Momentum
// is the weight of a new batch in the running statistics.
type BatchNormState struct {
	Weight, Bias            *Param
	RunningMean, RunningVar *Param
	Eps, Momentum           float32
}

func (s *BatchNormState) check(x *Value) {
	for _, p := range []*Param{s.Weight, s.Bias, s.RunningMean, s.RunningVar} {
		if len(p.Shape) != 1 || p.Shape[0] != x.shape.C {
			panic(fmt.Sprintf("autograd: BatchNorm: %d channels do not fit %v", p.Len(), x.shape))
		}
	}
}

// trains reports whether p is a parameter that gets a gradient.
func (s *BatchNormState) trains(p *Param) bool { return p == s.Weight || p == s.Bias }

// normalized is the deferred value y = a·x + b, with one a and one b for each channel.
type normalized struct {
	x, y  *Value
	a, b  []float32       // [⌈C/16⌉·16]
	train *batchNormTrain // nil if a and b are constants
}

// compute implements deferred.
func (d *normalized) compute(t *Tape, dst []float32) {
	sh := d.x.shape
	kernel.Affine(dst, t.floats(d.x), d.a, d.b, sh.Blocks(), sh.Frames()*sh.Pixels(), t.Threads)
}

// input implements deferred.
func (d *normalized) input() *Value { return d.x }

// normalize returns the deferred value a·x + b.
func (t *Tape) normalize(x *Value, a, b []float32, train *batchNormTrain) *Value {
	return t.later(x.shape, x.needsGrad || t.Params, func(y *Value) deferred {
		y.norm = normalized{x, y, a, b, train}
		return &y.norm
	})
}

// batchNormEval is y = a·x + b, with one constant a and one b for each channel.
type batchNormEval struct {
	x, y  *Value
	state *BatchNormState
	a     []float32 // [⌈C/16⌉·16]
}

// BatchNormEval normalizes each channel of x by the running statistics:
//
//	y = (x − RunningMean)/√(RunningVar + Eps) · Weight + Bias
//
// It panics if x does not have the channels of s. Weight and Bias get gradients
// if [Tape.Params] is set.
func BatchNormEval(t *Tape, x *Value, s *BatchNormState) *Value {
	s.check(x)
	x.mustBeOwned("BatchNormEval")
	in := x
	x = Densify(t, x)
	sh := x.shape
	n := sh.Blocks() * tensor.Lanes
	a, b := t.constants(n), t.constants(n)
	for c := range sh.C {
		w := float64(s.Weight.data[c]) / math.Sqrt(float64(s.RunningVar.data[c])+float64(s.Eps))
		a[c] = float32(w)
		b[c] = float32(float64(s.Bias.data[c]) - float64(w*float64(s.RunningMean.data[c])))
	}
	y := t.normalize(x, a, b, nil)
	switch {
	case t.Params:
		t.Record(&batchNormEval{x, y, s, a}, x)
	case y.needsGrad:
		t.Record(&batchNormEval{x, y, s, a})
	}
	t.letGo(x, in)
	return y
}

func (o *batchNormEval) Output() *Value { return o.y }

// UsesParam reports whether p is the weight or the bias. See [Op].
func (o *batchNormEval) UsesParam(p *Param) bool { return o.state.trains(p) }

// Backward computes ∂x = a·∂y, ∂Weight = Σ ∂y·x̂ and ∂Bias = Σ ∂y, with x̂ the normalized
// input.
func (o *batchNormEval) Backward(t *Tape) {
	x, sh := o.x, o.x.shape
	if t.Params {
		dy := t.GradEveryStep(o.y)
		mean, inv := make([]float64, len(o.a)), make([]float64, len(o.a))
		for c := range sh.C {
			mean[c] = float64(o.state.RunningMean.data[c])
			inv[c] = 1 / math.Sqrt(float64(o.state.RunningVar.data[c])+float64(o.state.Eps))
		}
		o.state.accumulate(t, o.state.reduce(t, dy, x, mean, inv))
	}
	if x.needsGrad {
		dy, steps := t.Grad(o.y)
		s := t.OpenGradOver(x, o.y, steps)
		kernel.Scale(s.Data, dy, o.a, sh.Blocks(), sh.N*steps*sh.Pixels(), s.Add, t.Threads)
		t.CloseGrad(s)
	}
}

// batchNormTrain keeps its input and the batch's statistics.
type batchNormTrain struct {
	x, y      *Value
	state     *BatchNormState
	mean, inv []float64 // [⌈C/16⌉·16], inv = 1/√(variance + eps)
	count     float64   // values of a channel, in all parts of the batch
}

// BatchNormTrain normalizes each channel of x by its mean and variance over the images,
// steps and pixels of the batch. It then updates the running statistics by
//
//	running ← (1 − Momentum)·running + Momentum·batch
//
// where the variance of the batch is the unbiased one, as in PyTorch. The argument steps is
// the number of time steps that x stands for: T if x is the same at every one of T steps,
// else the number of steps of x. With [Tape.Parts], the batch is that of all parts.
//
// BatchNormTrain panics if x does not have the channels of s. It calls Tape.Fail if
// the parts cannot be merged.
//
// Source: Ioffe and Szegedy, Batch Normalization, 2015.
func BatchNormTrain(t *Tape, x *Value, s *BatchNormState, steps int) *Value {
	s.check(x)
	in := x
	x = Densify(t, x)
	sh := x.shape
	n := sh.Blocks() * tensor.Lanes
	op := &batchNormTrain{x: x, state: s, mean: make([]float64, n), inv: make([]float64, n)}
	count := sh.Frames() * sh.Pixels()
	square := make([]float64, n)
	kernel.Moments(op.mean, square, t.Floats(x), sh.Blocks(), count, t.Threads)
	op.count = float64(count)
	update := true // the running statistics
	if t.Parts != nil {
		op.count = mergeMoments(t, op.count, op.mean, square)
		update = t.Parts.First()
	}
	total := op.count * float64(steps/sh.Steps)
	unbias := total / max(1, total-1)
	a, b := make([]float32, n), make([]float32, n)
	for c := range sh.C {
		v := square[c] / op.count
		op.inv[c] = 1 / math.Sqrt(v+float64(s.Eps))
		if update {
			mean, variance := s.RunningMean.MutableData(), s.RunningVar.MutableData()
			mean[c] += float32(s.Momentum * (float32(op.mean[c]) - mean[c]))
			variance[c] += float32(s.Momentum * (float32(v*unbias) - variance[c]))
		}
		a[c] = float32(float64(s.Weight.data[c]) * op.inv[c])
		b[c] = float32(float64(s.Bias.data[c]) - float64(float64(s.Weight.data[c])*op.inv[c]*op.mean[c]))
	}
	op.y = t.normalize(x, a, b, op)
	t.Record(op, x)
	t.letGo(x, in)
	return op.y
}

func (o *batchNormTrain) Output() *Value { return o.y }

// UsesParam reports whether p is the weight or the bias. See [Op].
func (o *batchNormTrain) UsesParam(p *Param) bool { return o.state.trains(p) }

// mergeMoments replaces the mean and the sum of squares of each channel, as kernel.Moments
// computes them from count values, by those of all parts of the batch. It returns the number
// of values of all parts.
func mergeMoments(t *Tape, count float64, mean, square []float64) float64 {
	n := len(mean)
	v := slices.Concat([]float64{count}, mean, square)
	if err := t.Parts.Merge(t, v, addMoments); err != nil {
		t.Fail(err)
		return count
	}
	copy(mean, v[1:])
	copy(square, v[1+n:])
	return v[0]
}

// addMoments merges the moments b into a (Chan, Golub and LeVeque 1979). Both are a count of
// values, and the mean and the sum of squares of each channel.
func addMoments(a, b []float64) {
	n := len(a) / 2 // channels
	count := a[0] + b[0]
	for c := 1; c <= n; c++ {
		d := b[c] - a[c]
		a[c] += float64(d * (b[0] / count))
		a[n+c] += b[n+c] + float64(float64(d*d)*(a[0]*b[0]/count))
	}
	a[0] = count
}

// Backward computes, with x̂ the normalized input and mean the mean over the batch,
//
//	∂x = Weight·inv·(∂y − mean(∂y) − x̂·mean(∂y·x̂))
func (o *batchNormTrain) Backward(t *Tape) {
	dy := t.GradEveryStep(o.y)
	o.back(t, dy, o.state.reduce(t, dy, o.x, o.mean, o.inv))
}

// back is Backward with the sums of the gradient dy, which has all steps.
func (o *batchNormTrain) back(t *Tape, dy []float32, sums *normSums) {
	x, sh := o.x, o.x.shape
	o.state.accumulate(t, sums)
	if !x.needsGrad {
		return
	}
	if t.Parts != nil {
		sums.merge(t)
	}
	n := len(o.mean)
	a, b, c, mean := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range sh.C {
		w := float64(o.state.Weight.data[i]) * o.inv[i]
		a[i] = float32(w)
		b[i] = float32(sums.sum[i] / o.count)
		c[i] = float32(-w * o.inv[i] * sums.dot[i] / o.count)
		mean[i] = float32(o.mean[i])
	}
	s := t.OpenGradOver(x, o.y, sh.Steps)
	kernel.NormBackward(s.Data, dy, t.Floats(x), a, b, c, mean, sh.Blocks(), sh.Frames()*sh.Pixels(), s.Add, t.Threads)
	t.CloseGrad(s)
}

// normSums are Σ ∂y and Σ ∂y·x̂ of each channel, [⌈C/16⌉·16].
type normSums struct{ sum, dot []float64 }

func newNormSums(n int) *normSums { return &normSums{make([]float64, n), make([]float64, n)} }

// merge replaces the sums by those of all parts of the batch.
func (s *normSums) merge(t *Tape) {
	v := slices.Concat(s.sum, s.dot)
	err := t.Parts.Merge(t, v, func(a, b []float64) {
		for i, x := range b {
			a[i] += x
		}
	})
	if err != nil {
		t.Fail(err)
		return
	}
	copy(s.sum, v)
	copy(s.dot, v[len(s.sum):])
}

// reduce computes the sums of dy, a gradient of all steps.
func (s *BatchNormState) reduce(t *Tape, dy []float32, x *Value, mean, inv []float64) *normSums {
	sh := x.shape
	sums := newNormSums(len(mean))
	kernel.NormReduce(sums.sum, sums.dot, dy, t.Floats(x), mean, inv, sh.Blocks(), sh.Frames()*sh.Pixels(), t.Threads)
	return sums
}

// accumulate adds the sums to the gradients of Bias and Weight if the tape's Params is
// set.
func (s *BatchNormState) accumulate(t *Tape, sums *normSums) {
	if t.Params {
		s.Bias.AddGrad(sums.sum)
		s.Weight.AddGrad(sums.dot)
	}
}
