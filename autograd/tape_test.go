package autograd_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/race"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// deepNet is a network of all kinds of operations, written out on the tape.
type deepNet struct {
	steps  int
	rate   bool // through the rate instead of through time
	params []*autograd.Param
	x      tensor.NCHW
	keys   []rng.Key
}

func newDeepNet(rate bool) *deepNet {
	net := &deepNet{steps: 4, rate: rate, x: tensor.NewNCHW(3, 2, 9, 8)}
	r := rand.New(rand.NewPCG(10, 11))
	for i := range net.x.Data {
		net.x.Data[i] = r.Float32()
	}
	for i := range net.x.N {
		net.keys = append(net.keys, rng.New(3).Derive("image", uint64(i)))
	}
	return net
}

// param returns the network's next parameter, drawing it on the first pass.
func (net *deepNet) param(next *int, shape ...int) *autograd.Param {
	if *next == len(net.params) {
		p := autograd.NewParam(shape...)
		r := rand.New(rand.NewPCG(12, uint64(*next)))
		v := normals(r, p.Len())
		for i := range v {
			v[i] = v[i]*0.4 + 0.05
		}
		p.Import(float32s(v))
		net.params = append(net.params, p)
	}
	*next++
	return net.params[*next-1]
}

// pass runs the network on a tape, and back from the logits. done says whether it
// gives values back as soon as it can.
func (net *deepNet) pass(t *autograd.Tape, input, done bool) result {
	t.Reset()
	leaf := t.Leaf(net.x, input)
	y := net.forward(t, leaf, done)
	out := &tensor.Dense{Shape: y.Shape(), Data: slices.Clone(y.Dense().Data)}
	seed := make([]float32, out.N*out.C)
	for i := range seed {
		seed[i] = float32(i%7) - 3
	}
	t.Backward(y, seed)
	r := result{y: out}
	if input {
		g := leaf.Grad()
		r.grads = append(r.grads, &tensor.Dense{Shape: g.Shape, Data: slices.Clone(g.Data)})
	}
	for _, p := range net.params {
		r.dw = append(r.dw, p.ExportGrad())
	}
	return r
}

func (net *deepNet) forward(t *autograd.Tape, x *autograd.Value, done bool) *autograd.Value {
	next := 0
	drop := func(v *autograd.Value) {
		if done {
			t.Release(v)
		}
	}
	dynamics := autograd.Dynamics{Decay: 0.9, Threshold: 0.6}
	fire := func(x *autograd.Value) *autograd.Value {
		if net.rate {
			return autograd.FireThroughRate(t, x, dynamics, net.steps)
		}
		return autograd.FireThroughTime(t, x, dynamics, net.steps, snn.Triangle{Width: 1}, false)
	}
	norm := func(x *autograd.Value) *autograd.Value {
		c := x.Shape().C
		w := []*autograd.Param{net.param(&next, c), net.param(&next, c)}
		return autograd.BatchNormTrain(t, x, batchNorm(w, filled(c, 0, 0), filled(c, 1, 0)), net.steps)
	}
	conv := func(x *autograd.Value, cout int) *autograd.Value {
		return autograd.Conv2D(t, x, net.param(&next, cout, x.Shape().C, 3, 3), net.param(&next, cout), 1, 1)
	}
	h := conv(x, 17)
	for range 3 {
		n := norm(h)
		s := fire(n)
		drop(n)
		r := conv(s, 17)
		drop(s)
		y := autograd.Convex(t, h, r, net.param(&next, 2))
		drop(h)
		drop(r)
		h = y
	}
	s := fire(h)
	drop(h)
	p := autograd.AvgPool(t, s, 2, 2, 2)
	drop(s)
	d := autograd.Dropout(t, p, 0.2, false, net.steps, net.keys)
	drop(p)
	m := autograd.MaxPool(t, d, 2, 2, 2)
	drop(d)
	f := autograd.Flatten(t, m)
	drop(m)
	l := autograd.Linear(t, f, net.param(&next, 5, f.Shape().C), net.param(&next, 5))
	drop(f)
	z := autograd.ReLU(t, l)
	drop(l)
	y := autograd.MeanOverTime(t, z)
	drop(z)
	return y
}

func (net *deepNet) clearGrads() {
	for _, p := range net.params {
		p.ClearGrad()
	}
}

func both(t *testing.T, fn func(t *testing.T, rate bool)) {
	for _, rate := range []bool{false, true} {
		t.Run(fmt.Sprintf("rate %v", rate), func(t *testing.T) { fn(t, rate) })
	}
}

// Buffers that are given back early are reused, and no result changes by it, on a new
// tape and on a used one.
func TestDoneChangesNothing(t *testing.T) {
	both(t, func(t *testing.T, rate bool) {
		net := newDeepNet(rate)
		want := net.pass(&autograd.Tape{Params: true}, true, false)
		require.Greater(t, norm(float64s(want.grads[0].Data)), 0.0)
		tape := &autograd.Tape{Params: true}
		for _, done := range []bool{true, true, false, true} {
			net.clearGrads()
			requireSameBits(t, want, net.pass(tape, true, done))
		}
	})
}

// The same pass has the same bits at any number of threads, whatever it is asked for.
func TestPassThreads(t *testing.T) {
	both(t, func(t *testing.T, rate bool) {
		net := newDeepNet(rate)
		want := net.pass(&autograd.Tape{Params: true, Threads: 1}, true, true)
		for _, threads := range []int{1, 2, 0} {
			net.clearGrads()
			requireSameBits(t, want, net.pass(&autograd.Tape{Params: true, Threads: threads}, true, true))
			net.clearGrads()
			got := net.pass(&autograd.Tape{Threads: threads}, true, true)
			requireSameBits(t, result{y: want.y, grads: want.grads}, result{y: got.y, grads: got.grads})
			for _, dw := range got.dw {
				require.Nil(t, dw)
			}
			net.clearGrads()
			got = net.pass(&autograd.Tape{Params: true, Threads: threads}, false, true)
			requireSameBits(t, result{y: want.y, dw: want.dw}, got)
		}
	})
}

// Gradients of parameters add up until they are cleared. Doubling is exact.
func TestParameterGradientsAccumulate(t *testing.T) {
	net := newDeepNet(false)
	tape := &autograd.Tape{Params: true}
	once := net.pass(tape, false, true)
	twice := net.pass(tape, false, true)
	for i, p := range net.params {
		for j := range once.dw[i] {
			assert.InDelta(t, 2*once.dw[i][j], twice.dw[i][j], 1e-5*norm(float64s(once.dw[i])), "parameter %d", i)
		}
		p.ClearGrad()
		assert.Nil(t, p.Grad())
		assert.Nil(t, p.ExportGrad())
	}
	requireSameBits(t, once, net.pass(tape, false, true))
}

// What a value's readers send back adds up, in whichever order and with however many
// steps.
func TestValueUsedTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	s := tensor.Shape{N: 2, Steps: 3, C: 17, H: 2, W: 2}
	x := array{s, normals(r, s.Frames()*s.Neurons())}
	seed := array{s.WithSteps(1), normals(r, s.N*s.Neurons())}
	for _, order := range [][]bool{{true, false}, {false, true}, {true, true}, {false, false}} {
		tape := &autograd.Tape{}
		in := tape.Input(x.dense(), true)
		var y *autograd.Value
		for _, varies := range order {
			// ∂y/∂x is 1[x > 0], with its own value at every step, or 1/3 at each.
			branch := autograd.MeanOverTime(tape, in)
			if varies {
				branch = autograd.MeanOverTime(tape, autograd.ReLU(tape, in))
			}
			if y == nil {
				y = branch
			} else {
				y = autograd.Add(tape, y, branch)
			}
		}
		tape.BackwardFrom(y, seed.dense())
		g := ofDense(in.Grad())
		each(s, func(n, step, c, y, z int) {
			want := 0.0
			for _, varies := range order {
				if !varies || x.at(n, step, c, y, z) > 0 {
					want += seed.at(n, 0, c, y, z) / 3
				}
			}
			require.InDelta(t, want, g.at(n, step, c, y, z), 1e-6)
		})
	}
}

// A warm step takes its values from the arena: what it allocates is bookkeeping, a
// small part of a first step's memory in a bounded number of objects.
func TestWarmStepAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("pools drop what they hold under the race detector")
	}
	both(t, func(t *testing.T, rate bool) {
		net := newDeepNet(rate)
		tape := &autograd.Tape{Params: true, Threads: 1}
		step := func() {
			net.clearGrads()
			tape.Reset()
			y := net.forward(tape, tape.Leaf(net.x, true), true)
			tape.Backward(y, make([]float32, y.Shape().N*y.Shape().C))
		}
		bytes := func(fn func()) uint64 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			fn()
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		first := bytes(step)
		var n float64
		const runs = 10
		defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would empty the kernels' pools
		warm := bytes(func() { n = testing.AllocsPerRun(runs, step) }) / (runs + 1)
		t.Logf("%v allocations, %d bytes; the first step %d bytes", n, warm, first)
		assert.Less(t, n, 330.0)
		assert.Less(t, warm, first/20)
	})
}

// What an evaluation holds at a time does not grow with its depth: every value goes
// back once its last reader has run, computed or not. Forty layers allocate less over
// four than half a value each; the kernels' scratch memory and the arena's slack are
// within that.
func TestMemoryDoesNotGrowWithDepth(t *testing.T) {
	shape := tensor.Shape{N: 8, Steps: 4, C: 16, H: 16, W: 16}
	allocated := func(depth int) int {
		w := autograd.NewParam(shape.C, shape.C, 3, 3)
		bn := batchNorm(vectors(shape.C), filled(shape.C, 0, 0), filled(shape.C, 1, 0))
		x := tensor.NewNCHW(shape.N, shape.C, shape.H, shape.W)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tape := &autograd.Tape{Threads: 1}
		h := tape.Leaf(x, false)
		for range depth {
			for _, next := range []func(*autograd.Value) *autograd.Value{
				func(h *autograd.Value) *autograd.Value { return autograd.Conv2D(tape, h, w, nil, 1, 1) },
				func(h *autograd.Value) *autograd.Value { return autograd.BatchNormEval(tape, h, bn) },
				func(h *autograd.Value) *autograd.Value {
					return autograd.FireThroughRate(tape, h, autograd.Dynamics{Decay: 1, Threshold: 1}, shape.Steps)
				},
				func(h *autograd.Value) *autograd.Value { return autograd.Conv2D(tape, h, w, nil, 1, 1) },
				func(h *autograd.Value) *autograd.Value { return autograd.BatchNormEval(tape, h, bn) },
				func(h *autograd.Value) *autograd.Value { return autograd.AvgPool(tape, h, 1, 1, 1) },
			} {
				y := next(h)
				tape.Release(h)
				h = y
			}
		}
		runtime.ReadMemStats(&after)
		return int(after.TotalAlloc - before.TotalAlloc)
	}
	few, many := allocated(4), allocated(44)
	value := 4 * shape.Floats()
	t.Logf("%d bytes, with 40 more layers %d; a value has %d", few, many, value)
	assert.Less(t, many-few, 40*value/2)
}

func TestReset(t *testing.T) {
	tape := &autograd.Tape{}
	x := tape.Leaf(tensor.NewNCHW(1, 1, 2, 2), true)
	autograd.ReLU(tape, x)
	tape.Reset()
	// The forgotten ReLU must not run.
	y := tape.Leaf(tensor.NewNCHW(1, 1, 1, 1), true)
	tape.Backward(y, []float32{3})
	assert.Equal(t, float32(3), y.Grad().At(0, 0, 0, 0, 0))
}

// A second backward pass would find no operations left, and give no gradient without a
// word.
func TestSecondBackward(t *testing.T) {
	tape := &autograd.Tape{}
	x := tape.Leaf(tensor.NewNCHW(1, 1, 1, 1), true)
	y := autograd.Add(tape, x, x)
	tape.Backward(y, []float32{3})
	assert.Equal(t, float32(6), x.Grad().At(0, 0, 0, 0, 0))
	assert.PanicsWithValue(t, "autograd: Backward: a backward pass has used up this tape's operations: expected Reset and a forward pass before another",
		func() { tape.Backward(y, []float32{3}) })
	assert.Panics(t, func() { tape.BackwardFrom(y, tensor.NewDense(y.Shape())) })
	tape.Reset()
	x = tape.Leaf(tensor.NewNCHW(1, 1, 1, 1), true)
	tape.Backward(autograd.Add(tape, x, x), []float32{3})
	assert.Equal(t, float32(6), x.Grad().At(0, 0, 0, 0, 0))
}

// A released value is not read any more, whether its memory was taken back or not.
func TestRelease(t *testing.T) {
	for _, grad := range []bool{false, true} {
		tape := &autograd.Tape{}
		x := tape.Leaf(tensor.NewNCHW(1, 1, 2, 2), grad)
		tape.Retain(x)
		tape.Release(x)
		y := autograd.ReLU(tape, x)
		tape.Release(x)
		for name, read := range map[string]func(){
			"Densify":         func() { autograd.ReLU(tape, x) },
			"Conv2D":          func() { autograd.Conv2D(tape, x, autograd.NewParam(1, 1, 1, 1), nil, 1, 0) },
			"AvgPool":         func() { autograd.AvgPool(tape, x, 1, 1, 1) },
			"MaxPool":         func() { autograd.MaxPool(tape, x, 1, 1, 1) },
			"Flatten":         func() { autograd.Flatten(tape, x) },
			"BatchNormEval":   func() { autograd.BatchNormEval(tape, x, batchNorm(vectors(1), filled(1, 0, 0), filled(1, 1, 0))) },
			"FireThroughRate": func() { autograd.FireThroughRate(tape, x, autograd.Dynamics{Decay: 1, Threshold: 1}, 1) },
			"Release":         func() { tape.Release(x) },
			"Retain":          func() { tape.Retain(x) },
		} {
			assert.PanicsWithValue(t, "autograd: "+name+": value 1×1×1×2×2 was released; Tape.Retain keeps one that is read later", read)
		}
		tape.Release(y)
		assert.Panics(t, func() { autograd.ReLU(tape, y) })
	}
}

// A leaf that did not ask for a gradient gets none, even if it is the output.
func TestBackwardLeavesOthersAlone(t *testing.T) {
	tape := &autograd.Tape{}
	x := tape.Leaf(tensor.NewNCHW(1, 2, 1, 1), false)
	tape.Backward(autograd.Flatten(tape, x), []float32{3, 4})
	assert.Nil(t, x.Grad())
}

func TestPanicsNameTheShapes(t *testing.T) {
	tape := &autograd.Tape{Params: true}
	in := func(s tensor.Shape) *autograd.Value { return tape.Input(tensor.NewDense(s), true) }
	x := in(tensor.Shape{N: 2, Steps: 3, C: 5, H: 4, W: 4})
	d := autograd.Dynamics{Decay: 1, Threshold: 1}
	for message, fn := range map[string]func(){
		"Conv2D: weights [4 6 3 3], stride 1, padding 1 do not fit 2×3×5×4×4": func() {
			autograd.Conv2D(tape, x, autograd.NewParam(4, 6, 3, 3), nil, 1, 1)
		},
		"Conv2D: a bias of shape [3] for the weights [4 5 3 3]: expected [4]": func() {
			autograd.Conv2D(tape, x, autograd.NewParam(4, 5, 3, 3), autograd.NewParam(3), 1, 1)
		},
		"BatchNorm: 6 channels do not fit 2×3×5×4×4": func() {
			autograd.BatchNormEval(tape, x, &autograd.BatchNormState{Weight: autograd.NewParam(5), Bias: autograd.NewParam(6), RunningMean: autograd.NewBuffer(5), RunningVar: autograd.NewBuffer(5), Eps: 1})
		},
		"WorstLogits: weights [4 5], 2×2×4×1×1 ± 2×2×5×1×1 and 4 labels do not fit": func() {
			z, r := tensor.Shape{N: 2, Steps: 2, C: 4, H: 1, W: 1}, tensor.Shape{N: 2, Steps: 2, C: 5, H: 1, W: 1}
			autograd.WorstLogits(tape, in(z), in(r), autograd.NewParam(4, 5), make([]int, 4))
		},
		"a value of shape 0×1×5×4×4: expected at least 1 in each extent": func() { tape.Leaf(tensor.NewNCHW(0, 5, 4, 4), true) },
		"a value of shape 2×0×5×1×1: expected at least 1 in each extent": func() {
			autograd.FireThroughRate(tape, in(tensor.Shape{N: 2, Steps: 1, C: 5, H: 1, W: 1}), d, 0)
		},
		"Conv2D: a window of 5×5 exceeds 2×3×5×4×4":    func() { autograd.Conv2D(tape, x, autograd.NewParam(4, 5, 5, 5), nil, 1, 0) },
		"Linear: weights [4 5] do not fit 2×3×5×4×4":   func() { autograd.Linear(tape, x, autograd.NewParam(4, 5), nil) },
		"AvgPool: a window of 5×2 with stride 2":       func() { autograd.AvgPool(tape, x, 5, 2, 2) },
		"MaxPool: a window of 2×2 with stride 0":       func() { autograd.MaxPool(tape, x, 2, 2, 0) },
		"Add: 2×3×5×4×4 and 2×2×5×4×4":                 func() { autograd.Add(tape, x, in(x.Shape().WithSteps(2))) },
		"Convex: weights [3] for two branches":         func() { autograd.Convex(tape, x, x, autograd.NewParam(3)) },
		"Dropout: probability 1, 2 keys for 2×3×5×4×4": func() { autograd.Dropout(tape, x, 1, false, 3, make([]rng.Key, 2)) },
		"Dropout: probability 0.5, 1 keys":             func() { autograd.Dropout(tape, x, 0.5, false, 3, make([]rng.Key, 1)) },
		"Normalize: 4 means and 5 deviations":          func() { autograd.Normalize(tape, x, autograd.NewBuffer(4), autograd.NewBuffer(5)) },
		"RepeatSteps: 4 steps for 2×3×5×4×4":           func() { autograd.RepeatSteps(tape, x, 4) },
		"BatchNorm: 4 channels do not fit 2×3×5×4×4":   func() { autograd.BatchNormEval(tape, x, batchNorm(vectors(4), filled(4, 0, 0), filled(4, 1, 0))) },
		"neurons of 4 steps for currents 2×3×5":        func() { autograd.FireThroughRate(tape, x, d, 4) },
		"Poisson: 4 steps and 2 keys for 2×3×5×4×4":    func() { autograd.Poisson(tape, x, 4, make([]rng.Key, 2)) },
		"Backward: a seed of 10 values for 2×3×5×4×4":  func() { tape.Backward(x, make([]float32, 10)) },
		"BackwardFrom: a seed 1×3×5×4×4 for 2×3×5×4×4": func() {
			tape.BackwardFrom(x, tensor.NewDense(tensor.Shape{N: 1, Steps: 3, C: 5, H: 4, W: 4}))
		},
		"a gradient of 2 steps for value 2×3×5×4×4":             func() { tape.BackwardFrom(x, tensor.NewDense(x.Shape().WithSteps(2))) },
		"NewParam: shape [3 0]":                                 func() { autograd.NewParam(3, 0) },
		"NewParam: shape [1 2 3]":                               func() { autograd.NewParam(1, 2, 3) },
		"Import: 3 values for features.0.weight of shape [2 2]": func() { p := autograd.NewParam(2, 2); p.Name = "features.0.weight"; p.Import(make([]float32, 3)) },
	} {
		t.Run(message, func(t *testing.T) {
			defer func() {
				got := fmt.Sprint(recover())
				assert.Contains(t, got, "autograd: ")
				assert.Contains(t, got, message)
			}()
			fn()
		})
	}
}

func vectors(c int) []*autograd.Param {
	return []*autograd.Param{autograd.NewParam(c), autograd.NewParam(c)}
}

// The gradient of a value that two operations read is that of both, in any order, also
// where neurons have taken the batch norm before it over.
func TestNeuronsShareBatchNorm(t *testing.T) {
	s := tensor.Shape{N: 3, Steps: 4, C: 17, H: 3, W: 2}
	r := rand.New(rand.NewPCG(19, 20))
	x, seed := array{s, normals(r, s.Frames()*s.Neurons())}, array{s, normals(r, s.Frames()*s.Neurons())}
	type reader func(t *autograd.Tape, h *autograd.Value) *autograd.Value
	fire := func(threshold float32) reader {
		return func(t *autograd.Tape, h *autograd.Value) *autograd.Value {
			return autograd.FireThroughTime(t, h, autograd.Dynamics{Decay: 0.9, Threshold: threshold}, s.Steps, uneven{}, false)
		}
	}
	run := func(first, second reader, apart bool) result {
		tape := &autograd.Tape{Params: true}
		w := vectors(s.C)
		w[0].Import(filled(s.C, 0.5, 0.1))
		w[1].Import(filled(s.C, 0.2, 0.05))
		leaf := tape.Input(x.dense(), true)
		h := autograd.BatchNormTrain(tape, leaf, batchNorm(w, filled(s.C, 0, 0), filled(s.C, 1, 0)), s.Steps)
		if apart {
			h.Dense() // nothing is left to be taken over
		}
		a := first(tape, h)
		y := autograd.Add(tape, a, second(tape, h))
		out := &tensor.Dense{Shape: y.Shape(), Data: slices.Clone(y.Dense().Data)}
		tape.BackwardFrom(y, seed.dense())
		return result{y: out, grads: []*tensor.Dense{leaf.Grad()}, dw: [][]float32{w[0].ExportGrad(), w[1].ExportGrad()}}
	}
	for name, readers := range map[string][2]reader{
		"neurons, ReLU":    {fire(0.7), autograd.ReLU},
		"ReLU, neurons":    {autograd.ReLU, fire(0.7)},
		"neurons, neurons": {fire(0.7), fire(1.2)},
	} {
		t.Run(name, func(t *testing.T) {
			want := run(readers[0], readers[1], true)
			got := run(readers[0], readers[1], false)
			requireSameBits(t, result{y: want.y}, result{y: got.y})
			assert.Less(t, difference(float64s(got.grads[0].Data), float64s(want.grads[0].Data)), 1e-5)
			for i := range want.dw {
				assert.Less(t, difference(float64s(got.dw[i]), float64s(want.dw[i])), 1e-5)
			}
		})
	}
}

// Values that nobody has read are computed when an operation needs them, also in the
// backward pass.
func TestUnreadValues(t *testing.T) {
	x := tensor.NewNCHW(2, 3, 2, 2)
	for i := range x.Data {
		x.Data[i] = float32(i%5) / 4
	}
	norms := func(t *autograd.Tape, w []*autograd.Param) *autograd.Value {
		h := autograd.BatchNormEval(t, t.Leaf(x, true), batchNorm(w, filled(3, 0.1, 0.1), filled(3, 1, 0.1)))
		return autograd.BatchNormEval(t, h, batchNorm(w[2:], filled(3, 0.2, 0.1), filled(3, 1, 0.2)))
	}
	weights := func() []*autograd.Param {
		w := append(vectors(3), vectors(3)...)
		for i, p := range w {
			p.Import(filled(3, 0.5, float32(i)))
		}
		return w
	}
	seed := filled(len(x.Data), -1, 0.1)
	read, unread := weights(), weights()
	tape := &autograd.Tape{Params: true}
	y := norms(tape, read)
	y.Dense()
	tape.Backward(y, seed)
	tape = &autograd.Tape{Params: true}
	tape.Backward(norms(tape, unread), seed)
	for i := range read {
		assert.Equal(t, read[i].ExportGrad(), unread[i].ExportGrad())
	}

	p := autograd.NewBuffer(3)
	p.Import([]float32{1, 1, 1})
	tape.Reset()
	clear(x.Data)
	bn := autograd.BatchNormEval(tape, tape.Leaf(x, false), &autograd.BatchNormState{
		Weight: p, Bias: p, RunningMean: p, RunningVar: p, Eps: 0,
	}) // (0 − 1)/1·1 + 1 = 0: nothing fires
	assert.Zero(t, autograd.Poisson(tape, bn, 3, imageKeys(2)).Spikes().Count())
}

// An input must have as many values as its shape says.
func TestInputOfAnotherLength(t *testing.T) {
	sh := tensor.Shape{N: 1, Steps: 1, C: 1, H: 2, W: 2}
	for _, n := range []int{0, 63, 65} {
		assert.PanicsWithValue(t, fmt.Sprintf("autograd: Input: %d values for the shape %v: expected 64", n, sh), func() {
			new(autograd.Tape).Input(&tensor.Dense{Shape: sh, Data: make([]float32, n)}, false)
		})
	}
	for _, n := range []int{0, 3, 5} {
		assert.PanicsWithValue(t, fmt.Sprintf("autograd: InputSpikes: %d words for the shape %v: expected 4", n, sh), func() {
			new(autograd.Tape).InputSpikes(&tensor.Spikes{Shape: sh, Bits: make([]uint16, n)}, false)
		})
	}
}
