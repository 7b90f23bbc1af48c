package autograd_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// careless reads its input in Backward and does not list it in Record.
type careless struct{ x, y *autograd.Value }

func (o *careless) Output() *autograd.Value   { return o.y }
func (o *careless) Backward(t *autograd.Tape) { t.AddGrad(o.x, t.Floats(o.x), 1) }

// failing reports an error of its own.
type failing struct{ x, y *autograd.Value }

func (o *failing) Output() *autograd.Value { return o.y }
func (o *failing) Backward(t *autograd.Tape) {
	t.Fail(errors.New("derivative NaN"))
	t.Fail(errors.New("not the first"))
}

// Reading a value that was let go names its reader, the layers of both, and the value.
func TestOpLifetimes(t *testing.T) {
	tape := &autograd.Tape{}
	leaf := tape.Leaf(tensor.NewNCHW(1, 1, 2, 2), true)
	tape.Layer = "a"
	x := autograd.ReLU(tape, leaf)
	h := Multiply(tape, x, x)
	tape.Layer = "b"
	y := tape.NewDense(h.Shape(), true)
	copy(tape.Floats(y), tape.Floats(h))
	tape.Record(&careless{h, y})
	tape.Release(h)
	tape.Layer = "c"
	assert.PanicsWithValue(t, "autograd: an operation in layer c reads a value that was let go, value 1×1×1×2×2 in layer a: "+advice, func() { tape.Floats(h) })
	assert.PanicsWithValue(t, "autograd: an operation in layer c reads a value that was let go, value 1×1×1×2×2 in layer a: "+advice, func() { tape.Words(h) })
	assert.PanicsWithValue(t, "autograd: Release in layer c: value 1×1×1×2×2 in layer a was released; Tape.Retain keeps one that is read later", func() { tape.Release(h) })
	assert.PanicsWithValue(t, "autograd: Record of *autograd_test.careless in layer c: value 1×1×1×2×2 in layer a was let go", func() { tape.Record(&careless{h, y}, h) })
	assert.PanicsWithValue(t, "autograd: Backward of *autograd_test.careless in layer b reads a value that was let go, value 1×1×1×2×2 in layer a: "+advice, func() { tape.Backward(y, make([]float32, 4)) })
}

const advice = "an operation lists in Tape.Record what its Backward reads; a layer calls Tape.Retain for what a later layer reads"

// The first error of an operation is the tape's until Reset.
func TestOpFails(t *testing.T) {
	tape := &autograd.Tape{Layer: "features.0"}
	x := tape.Leaf(tensor.NewNCHW(1, 1, 1, 1), true)
	y := tape.NewDense(x.Shape(), true)
	copy(tape.Floats(y), tape.Floats(x))
	tape.Record(&failing{x, y})
	require.NoError(t, tape.Err())
	tape.Backward(y, []float32{1})
	require.EqualError(t, tape.Err(), "Backward of *autograd_test.failing in layer features.0: derivative NaN")
	tape.Reset()
	require.NoError(t, tape.Err())
	tape.Layer = "classifier"
	tape.Fail(errors.New("input"))
	require.EqualError(t, tape.Err(), "layer classifier: input")
}

// A gradient that is added in the forward pass, as a penalty's, counts beside the seed, where
// operations are fused too.
func TestGradientOfThePenalty(t *testing.T) {
	for _, steps := range []int{1, 3} {
		run := func(penalty, seed float32) []float32 {
			s := newStack(3, 18)
			tape := &autograd.Tape{}
			x := tape.InputSpikes(spikesOf(tensor.Shape{N: 2, Steps: 3, C: 3, H: 4, W: 4}), true)
			y := autograd.FireThroughTime(tape, autograd.BatchNormEval(tape, autograd.Conv2D(tape, x, s.w, s.b, 1, 1), &s.bn), autograd.Dynamics{Decay: 0.9, Threshold: 0.8}, 3, triangle{}, false)
			sh := y.Shape().WithSteps(steps)
			if penalty != 0 {
				g := make([]float32, sh.Floats())
				for i := range g {
					g[i] = penalty
				}
				tape.AddGrad(y, g, steps)
			}
			z := autograd.MeanOverTime(tape, autograd.AvgPool(tape, y, 2, 2, 2))
			d := make([]float32, z.Shape().N*z.Shape().Neurons())
			for i := range d {
				d[i] = seed
			}
			tape.Backward(z, d)
			return append([]float32(nil), x.Grad().Data...)
		}
		both, first, second := run(1, 24), run(1, 0), run(0, 24)
		for i, g := range both {
			require.InDelta(t, first[i]+second[i], g, 1e-4)
		}
		require.NotZero(t, first[0])
		require.InDelta(t, 2*first[0], second[0], 1e-5)
	}
}

func spikesOf(s tensor.Shape) *tensor.Spikes {
	x := tensor.NewSpikes(s)
	for i := range x.Bits {
		x.Bits[i] = uint16(i*i*7+i) & 7
	}
	return x
}

// A value of the pass before Reset is one that was let go.
func TestValuesAfterReset(t *testing.T) {
	tape := &autograd.Tape{Layer: "a"}
	x := tape.Leaf(tensor.NewNCHW(1, 1, 2, 2), true)
	tape.Reset()
	assert.PanicsWithValue(t, "autograd: an operation reads a value that was let go, value 1×1×1×2×2 in layer a: "+advice, func() { tape.Floats(x) })
	assert.PanicsWithValue(t, "autograd: Release: value 1×1×1×2×2 in layer a was released; Tape.Retain keeps one that is read later", func() { tape.Release(x) })
	assert.PanicsWithValue(t, "autograd: Retain: value 1×1×1×2×2 in layer a was released; Tape.Retain keeps one that is read later", func() { tape.Retain(x) })
}

// doubled is 2·x. Its Backward has both contributions open at a time.
type doubled struct{ x, y *autograd.Value }

func (o *doubled) Output() *autograd.Value { return o.y }
func (o *doubled) Backward(t *autograd.Tape) {
	g, steps := t.Grad(o.y)
	slots := []autograd.GradSlot{t.OpenGrad(o.x, steps), t.OpenGrad(o.x, steps)}
	for _, s := range slots {
		for i, v := range g {
			if s.Add {
				v += s.Data[i]
			}
			s.Data[i] = v
		}
	}
	for _, s := range slots {
		t.CloseGrad(s)
	}
}

// An operation with one value as two inputs may open both gradients before it closes one.
func TestGradientsOpenAtATime(t *testing.T) {
	for _, steps := range []int{1, 3} {
		for _, before := range []float32{0, 10} {
			tape := &autograd.Tape{}
			x := tape.Leaf(tensor.NewFrames(tensor.Shape{N: 2, Steps: 3, C: 1, H: 1, W: 2}), true)
			y := tape.NewDense(x.Shape(), true)
			clear(tape.Floats(y))
			tape.Record(&doubled{x, y})
			seed := tensor.NewDense(y.Shape().WithSteps(steps))
			want := seed.Unpack().Data
			for i := range want {
				want[i] = float32(i + 1)
			}
			seed.Pack(tensor.NCHW{N: 2, Steps: steps, C: 1, H: 1, W: 2, Data: want})
			if before != 0 {
				g := make([]float32, len(seed.Data))
				for i := range g {
					g[i] = before
				}
				tape.AddGrad(x, g, steps)
			}
			tape.BackwardFrom(y, seed)
			for i := range want {
				want[i] = 2*want[i] + before
			}
			assert.Equal(t, want, x.Grad().Unpack().Data)
		}
	}
}

// A gradient of a wrong length is a panic that names the value.
func TestAddGradOfAWrongLength(t *testing.T) {
	tape := &autograd.Tape{Layer: "a"}
	x := tape.Leaf(tensor.NewNCHW(1, 1, 2, 2), true)
	for _, n := range []int{4, 100} {
		assert.PanicsWithValue(t, fmt.Sprintf("autograd: AddGrad: %d values of 1 steps for value 1×1×1×2×2 in layer a: expected 64", n), func() { tape.AddGrad(x, make([]float32, n), 1) })
	}
}

// slots opens and closes the gradient of its input so many times.
type slots struct {
	x, y        *autograd.Value
	open, close int
}

func (o *slots) Output() *autograd.Value { return o.y }
func (o *slots) Backward(t *autograd.Tape) {
	var s autograd.GradSlot
	for range o.open {
		s = t.OpenGrad(o.x, 1)
		clear(s.Data)
	}
	for range o.close {
		t.CloseGrad(s)
	}
}

// An operation that closes a gradient not at all, or twice, is named.
func TestGradientsAreClosedOnce(t *testing.T) {
	for want, o := range map[string]slots{
		"autograd: Backward of *autograd_test.slots in layer a left 1 gradients open: expected a call of CloseGrad for each of OpenGrad": {open: 1},
		"autograd: Backward of *autograd_test.slots in layer a closes a gradient that is not open":                                       {open: 1, close: 2},
		"autograd: Backward of *autograd_test.slots in layer a closes a gradient that is not open ":                                      {close: 1},
	} {
		tape := &autograd.Tape{Layer: "a"}
		o.x = tape.Leaf(tensor.NewNCHW(1, 1, 2, 2), true)
		o.y = tape.NewDense(o.x.Shape(), true)
		tape.Record(&o)
		assert.PanicsWithValue(t, strings.TrimSpace(want), func() { tape.Backward(o.y, make([]float32, 4)) })
	}
}

// A tape reads no value of another one.
func TestValueOfAnotherTape(t *testing.T) {
	x := new(autograd.Tape).Leaf(tensor.NewNCHW(1, 1, 2, 2), true)
	assert.PanicsWithValue(t, "autograd: an operation in layer a reads value 1×1×1×2×2 of another tape", func() { autograd.ReLU(&autograd.Tape{Layer: "a"}, x) })
}
