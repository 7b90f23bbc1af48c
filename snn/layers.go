package snn

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Conv2D is a 2-D convolution with square windows. [autograd.Conv2D] has the equation.
type Conv2D struct {
	Weight      *autograd.Param // [Cout, Cin, K, K]
	Bias        *autograd.Param // [Cout], or nil
	Stride, Pad int
}

// NewConv2D returns a convolution from cin to cout channels with windows of k × k pixels.
// Its weights are zero until Init.
func NewConv2D(cin, cout, k, stride, pad int, bias bool) *Conv2D {
	l := &Conv2D{Weight: autograd.NewParam(cout, cin, k, k), Stride: stride, Pad: pad}
	if bias {
		l.Bias = autograd.NewParam(cout)
	}
	return l
}

// Init draws the weights from N(0, 2/(Cout·K·K)), which is He initialization by fan-out. It
// sets the bias to zero.
func (l *Conv2D) Init(key rng.Key) {
	s := l.Weight.Shape
	normal(l.Weight, math.Sqrt(2/float64(s[0]*s[2]*s[3])), key)
	if l.Bias != nil {
		clear(l.Bias.MutableData())
	}
}

// validateVector returns an error if p is not a vector of c values.
func validateVector(what string, p *autograd.Param, c int) error {
	switch {
	case p == nil:
		return fmt.Errorf("no %s: expected one of shape [%d]", what, c)
	case len(p.Shape) != 1 || p.Shape[0] != c:
		return fmt.Errorf("a %s of shape %v: expected [%d]", what, p.Shape, c)
	}
	return nil
}

// normal draws the values of p from N(0, std²).
func normal(p *autograd.Param, std float64, key rng.Key) {
	r := key.Rand()
	p.Fill(func(int) (float32, error) { return float32(r.NormFloat64() * std), nil })
}

// Forward implements [Layer].
func (l *Conv2D) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.Conv2D(p.Tape, x, l.Weight, l.Bias, l.Stride, l.Pad)
}

// Describe implements [Layer].
func (l *Conv2D) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	if l.Weight == nil || len(l.Weight.Shape) != 4 {
		return in, errors.New("no weight of four dimensions: expected that of NewConv2D")
	}
	w := l.Weight.Shape
	if w[1] != in.C {
		return in, fmt.Errorf("%d input channels: expected %d", in.C, w[1])
	}
	if err := validateVector("bias", l.Bias, w[0]); l.Bias != nil && err != nil {
		return in, err
	}
	if l.Stride < 1 || l.Pad < 0 {
		return in, fmt.Errorf("stride %d and padding %d: expected at least 1 and 0", l.Stride, l.Pad)
	}
	out := autograd.ConvShape(in, w[0], w[2], w[3], l.Stride, l.Pad)
	if out.H < 1 || out.W < 1 {
		return in, fmt.Errorf("a %d×%d window exceeds the %d×%d input", w[2], w[3], in.H, in.W)
	}
	s.add(Row{
		Name: name, Kind: fmt.Sprintf("conv %d×%d /%d", w[2], w[3], l.Stride), In: in, Out: out,
		Params: params(name, map[string]*autograd.Param{"weight": l.Weight, "bias": l.Bias}),
		MACs:   l.Weight.Len() * out.Pixels(), Layer: l,
	})
	return out, nil
}

// Linear is a fully connected layer, y = Weight·x + Bias. Its input has one pixel.
type Linear struct {
	Weight *autograd.Param // [Cout, Cin]
	Bias   *autograd.Param // [Cout], or nil
}

// NewLinear returns a fully connected layer from cin to cout features. Its weights are zero
// until Init.
func NewLinear(cin, cout int, bias bool) *Linear {
	l := &Linear{Weight: autograd.NewParam(cout, cin)}
	if bias {
		l.Bias = autograd.NewParam(cout)
	}
	return l
}

// Init draws the weights from U(−1/√Cin, 1/√Cin), as PyTorch does by default. It sets the
// bias to zero.
func (l *Linear) Init(key rng.Key) {
	r := key.Rand()
	bound := 1 / math.Sqrt(float64(l.Weight.Shape[1]))
	l.Weight.Fill(func(int) (float32, error) { return float32((2*r.Float64() - 1) * bound), nil })
	if l.Bias != nil {
		clear(l.Bias.MutableData())
	}
}

// Forward implements [Layer].
func (l *Linear) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.Linear(p.Tape, x, l.Weight, l.Bias)
}

// Describe implements [Layer].
func (l *Linear) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	if l.Weight == nil || len(l.Weight.Shape) != 2 {
		return in, errors.New("no weight of two dimensions: expected that of NewLinear")
	}
	if in.C != l.Weight.Shape[1] || in.Pixels() != 1 {
		return in, fmt.Errorf("%d×%d×%d features: expected %d×1×1", in.C, in.H, in.W, l.Weight.Shape[1])
	}
	if err := validateVector("bias", l.Bias, l.Weight.Shape[0]); l.Bias != nil && err != nil {
		return in, err
	}
	out := in
	out.C = l.Weight.Shape[0]
	s.add(Row{
		Name: name, Kind: "linear", In: in, Out: out, MACs: l.Weight.Len(),
		Params: params(name, map[string]*autograd.Param{"weight": l.Weight, "bias": l.Bias}),
	})
	return out, nil
}

// BatchNorm normalizes every channel over images, steps and pixels. In training it uses the
// statistics of the batch and updates the running ones. In evaluation it uses the running
// ones. [autograd.BatchNormTrain] and [autograd.BatchNormEval] have the equations.
type BatchNorm struct {
	autograd.BatchNormState

	name string
}

// NewBatchNorm returns batch norm for c channels with PyTorch's defaults: eps 1e-5,
// momentum 0.1, weight 1, bias 0, running mean 0 and variance 1.
func NewBatchNorm(c int) *BatchNorm {
	l := &BatchNorm{BatchNormState: autograd.BatchNormState{
		Weight: autograd.NewParam(c), Bias: autograd.NewParam(c),
		RunningMean: autograd.NewBuffer(c), RunningVar: autograd.NewBuffer(c),
		Eps: 1e-5, Momentum: 0.1,
	}}
	l.Init(rng.Key{})
	return l
}

// Init sets the weight and the running variance to 1, the bias and the running mean to 0.
// It draws no random numbers.
func (l *BatchNorm) Init(rng.Key) {
	one := make([]float32, l.Weight.Len())
	for i := range one {
		one[i] = 1
	}
	l.Weight.Import(one)
	l.RunningVar.Import(one)
	clear(l.Bias.MutableData())
	clear(l.RunningMean.MutableData())
}

// Forward implements [Layer]. In training, it fails if the batch has one value a channel.
// The variance of one value is zero, so the output would not depend on the input. A pass over
// a part of a batch leaves the check to its caller.
func (l *BatchNorm) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	if sh := x.Shape(); p.Train && p.Parts == nil && sh.Frames()*sh.Pixels() == 1 {
		p.Fail(fmt.Errorf("layer %s: batch norm in training has one value a channel (one image of one pixel, the same at every step): expected more images in the batch", l.name))
		return autograd.BatchNormEval(p.Tape, x, &l.BatchNormState)
	}
	if p.Train {
		return autograd.BatchNormTrain(p.Tape, x, &l.BatchNormState, p.Steps)
	}
	return autograd.BatchNormEval(p.Tape, x, &l.BatchNormState)
}

// Describe implements [Layer].
func (l *BatchNorm) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	l.name = name
	if l.Weight == nil || len(l.Weight.Shape) != 1 {
		return in, errors.New("no weight of one dimension: expected that of NewBatchNorm")
	}
	if in.C != l.Weight.Shape[0] {
		return in, fmt.Errorf("%d channels: expected %d", in.C, l.Weight.Shape[0])
	}
	if err := cmp.Or(validateVector("bias", l.Bias, in.C), validateVector("running mean", l.RunningMean, in.C), validateVector("running variance", l.RunningVar, in.C)); err != nil {
		return in, err
	}
	s.add(Row{Name: name, Kind: "batch norm", In: in, Out: in, Layer: l, Params: params(name, map[string]*autograd.Param{
		"weight": l.Weight, "bias": l.Bias, "running_mean": l.RunningMean, "running_var": l.RunningVar,
	})})
	return in, validateBatchNorm(&l.BatchNormState)
}

// AvgPool is average pooling over windows of K × K pixels with stride K. K = 0 averages the
// whole image (global average pooling).
type AvgPool struct{ K int }

// Forward implements [Layer].
func (l AvgPool) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	if l.K == 0 {
		return autograd.GlobalAvgPool(p.Tape, x)
	}
	return autograd.AvgPool(p.Tape, x, l.K, l.K, l.K)
}

// Describe implements [Layer].
func (l AvgPool) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	if l.K == 0 {
		out := in
		out.H, out.W = 1, 1
		s.add(Row{Name: name, Kind: "global average pool", In: in, Out: out})
		return out, nil
	}
	return describePool(s, name, "average pool", l.K, in)
}

// MaxPool is max pooling over windows of K × K pixels with stride K.
type MaxPool struct{ K int }

// Forward implements [Layer].
func (l MaxPool) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.MaxPool(p.Tape, x, l.K, l.K, l.K)
}

// Describe implements [Layer].
func (l MaxPool) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	return describePool(s, name, "max pool", l.K, in)
}

// describePool adds the row of a pooling layer and returns the shape of its output.
func describePool(s *Summary, name, kind string, k int, in tensor.Shape) (tensor.Shape, error) {
	if k < 1 || k > in.H || k > in.W {
		return in, fmt.Errorf("a %d×%d window does not fit the %d×%d input", k, k, in.H, in.W)
	}
	out := autograd.PoolShape(in, k, k, k)
	s.add(Row{Name: name, Kind: fmt.Sprintf("%s %d×%d", kind, k, k), In: in, Out: out})
	return out, nil
}

// Dropout sets activations to zero at random in training, and does nothing in evaluation.
// [autograd.Dropout] has the equation. The masks of an image come from its key in Pass.Keys.
type Dropout struct {
	P         float32 // probability of a zero, in [0,1)
	EveryStep bool    // a new mask at every step, instead of one for all steps of an image

	name string
}

// Forward implements [Layer].
func (l *Dropout) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	if !p.Train || l.P == 0 {
		return x
	}
	return autograd.Dropout(p.Tape, x, l.P, l.EveryStep, p.Steps, p.keys(l.name))
}

// Describe implements [Layer].
func (l *Dropout) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	l.name = name
	s.add(Row{Name: name, Kind: fmt.Sprintf("dropout %v", l.P), In: in, Out: in, Layer: l})
	return in, l.Validate()
}

// Validate returns an error if P is out of range.
func (l *Dropout) Validate() error {
	if !(l.P >= 0 && l.P < 1) {
		return fmt.Errorf("dropout probability %v: expected a number in [0, 1)", l.P)
	}
	return nil
}

// Flatten turns an output of C × H × W into C·H·W features, in that order.
type Flatten struct{}

// Forward implements [Layer].
func (Flatten) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.Flatten(p.Tape, x)
}

// Describe implements [Layer].
func (Flatten) Describe(_ *Summary, _ string, in tensor.Shape) (tensor.Shape, error) {
	in.C, in.H, in.W = in.Neurons(), 1, 1
	return in, nil
}
