package main

import (
	"context"
	"io"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/doctest"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
)

// The code of docs/own.md is that of the program.
func TestPage(t *testing.T) { doctest.Page(t, "../../docs/own.md", 7, "main.go") }

// The program runs on a few images and prints a report.
func TestRun(t *testing.T) {
	read, write, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = write
	defer func() { os.Stdout = stdout }()
	train, err := must(fashion.Train()).First(64)
	require.NoError(t, err)
	test, err := must(fashion.Test()).First(8)
	require.NoError(t, err)
	run(context.Background(), train, test)
	require.NoError(t, write.Close())
	out, err := io.ReadAll(read)
	require.NoError(t, err)
	for _, line := range []string{"epoch 2: loss ", "Accuracy on 8 images", "momentum ", "PGD ", "worst case ", "Ankle boot"} {
		assert.Contains(t, string(out), line)
	}
}

// A neuron that fires at 1 rests for a step, keeps its potential meanwhile, and passes no
// gradient of that step.
func TestRefractory(t *testing.T) {
	tape := &autograd.Tape{}
	x := tensor.NewDense(tensor.Shape{N: 1, Steps: 5, C: 1, H: 1, W: 1})
	for step, v := range []float32{0.5, 0.6, 9, 0.5, 0.5} {
		x.Set(0, step, 0, 0, 0, v)
	}
	in := tape.Input(x, true)
	y := autograd.FireModelThroughTime(tape, in, refractory{Decay: 1, Rest: 1}, nil, 5, gauss{1})
	spikes, seed := y.Spikes(), tensor.NewDense(y.Shape())
	for step, fires := range []bool{false, true, false, false, true} {
		assert.Equal(t, fires, spikes.At(0, step, 0, 0, 0), "step %d", step)
	}
	seed.Set(0, 4, 0, 0, 0, 1)
	tape.BackwardFrom(y, seed)
	// The last spike is at u = 0, where the surrogate is 1. The potential ½ of step 3 leads to
	// it, but for the reset of step 3 at u = −½. Before that, step 1 is reset from 1.1 at u = 0.1.
	third := 1 - 0.5*math.Exp(-0.25)
	for step, want := range []float64{-1.1 * third * math.Exp(-0.01), -1.1 * third * math.Exp(-0.01), 0, third, 1} {
		if step == 0 { // and by the reset of step 0, at u = −½
			want *= 1 - 0.5*math.Exp(-0.25)
		}
		assert.InDelta(t, want, in.Grad().At(0, step, 0, 0, 0), 1e-5, "step %d", step)
	}
}

// The gradient of the hinge loss is that of finite differences.
func TestHinge(t *testing.T) {
	z, h := []float32{0.5, 1, -2, 0.25}, hinge{Margin: 1}
	loss := func(z []float32) (float64, []float32) {
		losses := make([]float64, 1)
		o := train.BatchOutput{Labels: []int{3}}
		o.N, o.Classes, o.Mean = 1, 4, z
		g, _ := h.Compute(losses, o)
		return losses[0], g
	}
	at, g := loss(z)
	assert.InDelta(t, 1.25+1.75, at, 1e-6)
	for i := range z {
		moved := append([]float32(nil), z...)
		moved[i] += 1. / 64
		up, _ := loss(moved)
		assert.InDelta(t, (up-at)*64, g[i], 1e-4)
	}
}
