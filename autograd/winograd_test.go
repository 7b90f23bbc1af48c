package autograd_test

import (
	"slices"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A forward convolution uses Winograd's algorithm only if its input was allowed it, or is the
// pooling or the dropout of such a value. Spikes and what is computed from them never do.
func TestAllowWinograd(t *testing.T) {
	const n, channels, size = 2, 64, 8
	x := tensor.NewNCHW(n, channels, size, size)
	r := rng.New(5).Rand()
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	fires := x.Clone()
	for i, v := range x.Data {
		fires.Data[i] = 0
		if v > 0 {
			fires.Data[i] = 1
		}
	}
	w, b := newStack(channels, channels).w, newStack(channels, channels).b
	keys := []rng.Key{rng.New(1), rng.New(2)}
	relu := func(tape *autograd.Tape) *autograd.Value { return autograd.ReLU(tape, tape.Leaf(x, false)) }
	allowed := func(tape *autograd.Tape) *autograd.Value {
		y := relu(tape)
		y.AllowWinograd()
		return y
	}
	spikes := func(tape *autograd.Tape) *autograd.Value {
		y := tape.LeafSpikes(fires, false)
		y.AllowWinograd()
		return y
	}
	for _, c := range []struct {
		name     string
		input    func(*autograd.Tape) *autograd.Value
		winograd bool
	}{
		{"image", func(tape *autograd.Tape) *autograd.Value { return tape.Leaf(x, false) }, false},
		{"ReLU", relu, false},
		{"ReLU, allowed", allowed, true},
		{"average pooling", func(tape *autograd.Tape) *autograd.Value { return autograd.AvgPool(tape, allowed(tape), 2, 2, 2) }, true},
		{"largest of a window", func(tape *autograd.Tape) *autograd.Value { return autograd.MaxPool(tape, allowed(tape), 2, 2, 2) }, true},
		{"dropout", func(tape *autograd.Tape) *autograd.Value {
			return autograd.Dropout(tape, allowed(tape), .2, false, 1, keys)
		}, true},
		{"spikes", spikes, false},
		{"average pooling of spikes", func(tape *autograd.Tape) *autograd.Value { return autograd.AvgPool(tape, spikes(tape), 2, 2, 2) }, false},
		{"convolution behind", func(tape *autograd.Tape) *autograd.Value {
			return autograd.Conv2D(tape, allowed(tape), w, nil, 1, 1)
		}, false},
	} {
		tape := &autograd.Tape{}
		in := c.input(tape)
		got := slices.Clone(autograd.Conv2D(tape, in, w, b, 1, 1).Dense().Data)
		sh := in.Shape()
		geom := kernel.Conv{
			Frames: n, Cin: channels, Hin: sh.H, Win: sh.W, Cout: channels, Hout: sh.H, Wout: sh.W, KH: 3, KW: 3, Stride: 1, Pad: 1,
		}
		direct, fast := make([]float32, len(got)), make([]float32, len(got))
		if in.IsSpikes() {
			kernel.ConvSpikes(direct, in.Spikes().Bits, w.Data(), b.Data(), geom, 1)
		} else {
			kernel.ConvDense(direct, in.Dense().Data, w.Data(), b.Data(), geom, 1)
			kernel.ConvDenseWinograd(fast, in.Dense().Data, w.Data(), b.Data(), geom, 1)
			if kernel.CurrentLevel() != kernel.NEON {
				require.NotEqual(t, direct, fast, c.name)
			}
		}
		want := direct
		if c.winograd {
			want = fast
		}
		assert.True(t, slices.Equal(want, got), c.name)
	}
}
