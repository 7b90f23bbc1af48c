package autograd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// opCase is a smooth operation, at one shape.
type opCase struct {
	name    string
	inputs  []tensor.Shape
	params  [][]int
	forward func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value
	naive   func(x []array, w [][]float64) array
}

// opCases is every smooth operation at the shapes where it has edges: channels
// around the block of 16 and the kernels' group of 64, odd extents, one image, and
// values that are the same at every step (Steps 1) beside those that are not.
func opCases() []opCase {
	var cases []opCase
	add := func(name string, inputs []tensor.Shape, params [][]int,
		forward func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value,
		naive func(x []array, w [][]float64) array) {
		for i, s := range inputs {
			name += fmt.Sprint([]string{" ", ","}[min(i, 1)], s)
		}
		cases = append(cases, opCase{name, inputs, params, forward, naive})
	}

	for _, c := range []struct {
		in                        tensor.Shape
		cout, kh, kw, stride, pad int
		bias                      bool
	}{
		{tensor.Shape{N: 1, Steps: 1, C: 1, H: 5, W: 7}, 15, 3, 3, 1, 1, true},
		{tensor.Shape{N: 2, Steps: 3, C: 15, H: 4, W: 5}, 16, 1, 1, 1, 0, false},
		{tensor.Shape{N: 2, Steps: 3, C: 16, H: 7, W: 5}, 17, 3, 3, 2, 1, true},
		{tensor.Shape{N: 1, Steps: 2, C: 17, H: 6, W: 6}, 33, 3, 3, 3, 2, false},
		{tensor.Shape{N: 3, Steps: 2, C: 33, H: 5, W: 4}, 1, 4, 3, 2, 0, true},
		{tensor.Shape{N: 2, Steps: 1, C: 3, H: 9, W: 8}, 16, 5, 2, 3, 1, true},
		{tensor.Shape{N: 1, Steps: 2, C: 70, H: 3, W: 3}, 20, 3, 3, 1, 1, true},
		{tensor.Shape{N: 2, Steps: 2, C: 130, H: 2, W: 3}, 65, 1, 1, 2, 0, true},
		{tensor.Shape{N: 2, Steps: 2, C: 16, H: 1, W: 1}, 32, 3, 3, 1, 1, true},
	} {
		params := [][]int{{c.cout, c.in.C, c.kh, c.kw}}
		if c.bias {
			params = append(params, []int{c.cout})
		}
		add(fmt.Sprintf("Conv2D to %d, %d×%d, stride %d, pad %d", c.cout, c.kh, c.kw, c.stride, c.pad), []tensor.Shape{c.in}, params,
			func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
				var b *autograd.Param
				if c.bias {
					b = w[1]
				}
				return autograd.Conv2D(t, x[0], w[0], b, c.stride, c.pad)
			},
			func(x []array, w [][]float64) array {
				var b []float64
				if c.bias {
					b = w[1]
				}
				return naiveConv(x[0], w[0], b, c.cout, c.kh, c.kw, c.stride, c.pad)
			})
	}
	for _, c := range []struct{ cin, cout, kh, stride, pad int }{{1, 15, 3, 1, 1}, {17, 16, 3, 2, 1}, {33, 1, 2, 2, 0}} {
		add(fmt.Sprintf("Conv2DRadius to %d, %d×3, stride %d, pad %d", c.cout, c.kh, c.stride, c.pad), []tensor.Shape{{N: 2, Steps: 2, C: c.cin, H: 5, W: 4}}, [][]int{{c.cout, c.cin, c.kh, 3}},
			func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
				return autograd.Conv2DRadius(t, x[0], w[0], c.stride, c.pad)
			},
			func(x []array, w [][]float64) array {
				return naiveConv(x[0], absolute(w[0]), nil, c.cout, c.kh, 3, c.stride, c.pad)
			})
	}
	for _, c := range []struct {
		in, classes int
		labels      []int
	}{{1, 2, []int{1}}, {17, 10, []int{9, 0, 3}}, {33, 16, []int{15, 2}}, {20, 35, []int{34, 16, 15, 0}}} {
		n := len(c.labels)
		add("WorstLogits", []tensor.Shape{{N: n, Steps: 1, C: c.classes, H: 1, W: 1}, {N: n, Steps: 1, C: c.in, H: 1, W: 1}}, [][]int{{c.classes, c.in}},
			func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
				return autograd.WorstLogits(t, x[0], x[1], w[0], c.labels)
			},
			func(x []array, w [][]float64) array {
				return elementwise(x[0].Shape, func(n, _, k, _, _ int) float64 {
					sum := x[0].at(n, 0, k, 0, 0)
					for j := range c.in {
						sum += math.Abs(w[0][k*c.in+j]-w[0][c.labels[n]*c.in+j]) * x[1].at(n, 0, j, 0, 0)
					}
					return sum
				})
			})
	}
	for _, c := range []struct{ n, steps, cin, cout int }{{1, 1, 1, 1}, {2, 3, 15, 17}, {3, 1, 33, 16}, {1, 4, 130, 33}} {
		add(fmt.Sprint("LinearRadius to ", c.cout), []tensor.Shape{{N: c.n, Steps: c.steps, C: c.cin, H: 1, W: 1}}, [][]int{{c.cout, c.cin}},
			func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
				return autograd.LinearRadius(t, x[0], w[0])
			},
			func(x []array, w [][]float64) array {
				return naiveConv(x[0], absolute(w[0]), nil, c.cout, 1, 1, 1, 0)
			})
		add(fmt.Sprint("Linear to ", c.cout), []tensor.Shape{{N: c.n, Steps: c.steps, C: c.cin, H: 1, W: 1}}, [][]int{{c.cout, c.cin}, {c.cout}},
			func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
				return autograd.Linear(t, x[0], w[0], w[1])
			},
			func(x []array, w [][]float64) array { return naiveConv(x[0], w[0], w[1], c.cout, 1, 1, 1, 0) })
	}

	for _, s := range []tensor.Shape{
		{N: 1, Steps: 1, C: 1, H: 5, W: 3},
		{N: 2, Steps: 3, C: 15, H: 3, W: 5},
		{N: 3, Steps: 1, C: 16, H: 4, W: 4},
		{N: 1, Steps: 4, C: 17, H: 1, W: 1},
		{N: 2, Steps: 2, C: 33, H: 7, W: 6},
	} {
		one, c := []tensor.Shape{s}, s.C
		long := 4 // the steps of an operation that lengthens values
		if s.Steps > 1 {
			long = s.Steps
		}
		moving, variance := filled(c, -0.3, 0.07), filled(c, 0.4, 0.11)
		add("BatchNormTrain", one, [][]int{{c}, {c}},
			func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
				return autograd.BatchNormTrain(t, x[0], batchNorm(w, moving, variance), long)
			},
			func(x []array, w [][]float64) array {
				m, v := naiveMoments(x[0])
				return naiveBatchNorm(x[0], w[0], w[1], m, v, 1e-2)
			})
		add("BatchNormEval", one, [][]int{{c}, {c}},
			func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
				return autograd.BatchNormEval(t, x[0], batchNorm(w, moving, variance))
			},
			func(x []array, w [][]float64) array {
				return naiveBatchNorm(x[0], w[0], w[1], float64s(moving), float64s(variance), 1e-2)
			})
		add("BatchNormRadius", one, [][]int{{c}},
			func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
				return autograd.BatchNormRadius(t, x[0], batchNorm([]*autograd.Param{w[0], vector(moving)}, moving, variance))
			},
			func(x []array, w [][]float64) array {
				zero := make([]float64, c)
				return naiveBatchNorm(x[0], absolute(w[0]), zero, zero, float64s(variance), 1e-2)
			})
		add("Normalize", one, nil,
			func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
				return autograd.Normalize(t, x[0], vector(moving), vector(variance))
			},
			func(x []array, _ [][]float64) array {
				return elementwise(s, func(n, t, c, y, z int) float64 {
					return (x[0].at(n, t, c, y, z) - float64(moving[c])) / float64(variance[c])
				})
			})
		add("ReLU", one, nil,
			func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
				return autograd.ReLU(t, x[0])
			},
			func(x []array, _ [][]float64) array {
				return elementwise(s, func(n, t, c, y, z int) float64 { return max(0, x[0].at(n, t, c, y, z)) })
			})
		add("MeanOverTime", one, nil,
			func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
				return autograd.MeanOverTime(t, x[0])
			},
			func(x []array, _ [][]float64) array {
				return elementwise(s.WithSteps(1), func(n, _, c, y, z int) float64 {
					sum := 0.0
					for t := range s.Steps {
						sum += x[0].at(n, t, c, y, z)
					}
					return sum / float64(s.Steps)
				})
			})
		if s.Steps == 1 {
			add("RepeatSteps", one, nil,
				func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
					return autograd.RepeatSteps(t, x[0], long)
				},
				func(x []array, _ [][]float64) array { return elementwise(s.WithSteps(long), x[0].at) })
		}
		flat := s
		flat.C, flat.H, flat.W = s.Neurons(), 1, 1
		add("Flatten", one, nil,
			func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
				return autograd.Flatten(t, x[0])
			},
			func(x []array, _ [][]float64) array { return array{flat, x[0].v} })
		for _, everyStep := range []bool{false, true} {
			keys := make([]rng.Key, s.N)
			for i := range keys {
				keys[i] = rng.New(7).Derive("image", uint64(i))
			}
			drop := func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
				return autograd.Dropout(t, x, 0.4, everyStep, long, keys)
			}
			add(fmt.Sprintf("Dropout (a mask every step: %v)", everyStep), one, nil,
				func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
					return drop(t, x[0])
				},
				func(x []array, _ [][]float64) array {
					t := &autograd.Tape{}
					ones := elementwise(s, func(_, _, _, _, _ int) float64 { return 1 })
					scaled := ofDense(drop(t, t.Input(ones.dense(), false)).Dense())
					return elementwise(scaled.Shape, func(n, t, c, y, z int) float64 {
						if scaled.at(n, t, c, y, z) == 0 {
							return 0
						}
						return x[0].at(n, t, c, y, z) / (1 - 0.4)
					})
				})
		}
		for _, pair := range [][]tensor.Shape{{s, s}, {s.WithSteps(1), s}, {s, s.WithSteps(1)}} {
			add("Add", pair, nil,
				func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
					return autograd.Add(t, x[0], x[1])
				},
				func(x []array, _ [][]float64) array { return naiveConvex(x[0], x[1], 1, 1) })
			add("Combine", pair, nil,
				func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
					return autograd.Combine(t, x[0], x[1], -0.5, 0.75)
				},
				func(x []array, _ [][]float64) array { return naiveConvex(x[0], x[1], -0.5, 0.75) })
			add("Convex", pair, [][]int{{2}},
				func(t *autograd.Tape, x []*autograd.Value, w []*autograd.Param) *autograd.Value {
					return autograd.Convex(t, x[0], x[1], w[0])
				},
				func(x []array, w [][]float64) array { return naiveConvex(x[0], x[1], w[0][0], w[0][1]) })
		}
	}

	for _, c := range []struct {
		in             tensor.Shape
		kh, kw, stride int
	}{
		{tensor.Shape{N: 1, Steps: 1, C: 1, H: 5, W: 7}, 2, 2, 2},
		{tensor.Shape{N: 2, Steps: 3, C: 15, H: 4, W: 4}, 2, 2, 2},
		{tensor.Shape{N: 2, Steps: 1, C: 16, H: 6, W: 5}, 3, 3, 1},
		{tensor.Shape{N: 1, Steps: 2, C: 17, H: 7, W: 8}, 2, 3, 3},
		{tensor.Shape{N: 2, Steps: 2, C: 33, H: 3, W: 3}, 1, 1, 2},
	} {
		one, window := []tensor.Shape{c.in}, fmt.Sprintf("%d×%d, stride %d", c.kh, c.kw, c.stride)
		add("AvgPool "+window, one, nil,
			func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
				return autograd.AvgPool(t, x[0], c.kh, c.kw, c.stride)
			},
			func(x []array, _ [][]float64) array { return naivePool(x[0], c.kh, c.kw, c.stride, mean) })
		add("MaxPool "+window, one, nil,
			func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
				return autograd.MaxPool(t, x[0], c.kh, c.kw, c.stride)
			},
			func(x []array, _ [][]float64) array { return naivePool(x[0], c.kh, c.kw, c.stride, slices.Max) })
		add("GlobalAvgPool", one, nil,
			func(t *autograd.Tape, x []*autograd.Value, _ []*autograd.Param) *autograd.Value {
				return autograd.GlobalAvgPool(t, x[0])
			},
			func(x []array, _ [][]float64) array { return naivePool(x[0], c.in.H, c.in.W, 1, mean) })
	}
	return cases
}

// filled returns n different numbers from start.
func filled(n int, start, step float32) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = start + step*float32(i)
	}
	return v
}

func float64s(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

func absolute(v []float64) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = math.Abs(x)
	}
	return w
}

func float32s(v []float64) []float32 {
	w := make([]float32, len(v))
	for i, x := range v {
		w[i] = float32(x)
	}
	return w
}

func vector(v []float32) *autograd.Param {
	p := autograd.NewBuffer(len(v))
	p.Import(v)
	return p
}

func batchNorm(w []*autograd.Param, mean, variance []float32) *autograd.BatchNormState {
	return &autograd.BatchNormState{
		Weight: w[0], Bias: w[1], RunningMean: vector(mean), RunningVar: vector(variance), Eps: 1e-2, Momentum: 0.1,
	}
}

// normals draws n numbers that float32 holds exactly.
func normals(r *rand.Rand, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = float64(float32(r.NormFloat64()))
	}
	return v
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// point is where an operation is looked at: its inputs and parameters.
type point struct {
	x []array
	w [][]float64
}

func (c opCase) point(r *rand.Rand) point {
	var p point
	for _, s := range c.inputs {
		p.x = append(p.x, array{s, normals(r, s.Frames()*s.Neurons())})
	}
	for _, s := range c.params {
		p.w = append(p.w, normals(r, product(s)))
	}
	return p
}

// arguments returns all inputs and parameters as plain numbers.
func (p point) arguments() [][]float64 {
	var all [][]float64
	for _, x := range p.x {
		all = append(all, x.v)
	}
	return append(all, p.w...)
}

// moved returns p with argument i moved by h in the direction d.
func (p point) moved(i int, d []float64, h float64) point {
	move := func(v []float64) []float64 {
		u := slices.Clone(v)
		for j := range u {
			u[j] += h * d[j]
		}
		return u
	}
	q := point{slices.Clone(p.x), slices.Clone(p.w)}
	if i < len(p.x) {
		q.x[i].v = move(q.x[i].v)
	} else {
		q.w[i-len(p.x)] = move(q.w[i-len(p.x)])
	}
	return q
}

// result is what a forward and backward pass gives: the output, and the gradients of
// the arguments, nil where none was asked for.
type result struct {
	y     *tensor.Dense
	grads []*tensor.Dense // of the inputs
	dw    [][]float32     // of the parameters
	uses  []bool          // whether an operation that is to run reads a parameter
}

// put makes a leaf of an array, and the value that an operation gets of it.
type put func(t *autograd.Tape, a array, grad bool) (leaf, x *autograd.Value)

func asValues(t *autograd.Tape, a array, grad bool) (leaf, x *autograd.Value) {
	leaf = t.Input(a.dense(), grad)
	return leaf, leaf
}

func asSpikes(t *autograd.Tape, a array, grad bool) (leaf, x *autograd.Value) {
	s := tensor.NewSpikes(a.Shape)
	each(a.Shape, func(n, t, c, y, x int) { s.Set(n, t, c, y, x, a.at(n, t, c, y, x) != 0) })
	leaf = t.InputSpikes(s, grad)
	return leaf, leaf
}

// asDeferred is the output of a batch norm that changes nothing, and is computed when
// it is read.
func asDeferred(t *autograd.Tape, a array, grad bool) (leaf, x *autograd.Value) {
	leaf = t.Input(a.dense(), grad)
	zero, one := vector(filled(a.C, 0, 0)), vector(filled(a.C, 1, 0))
	return leaf, autograd.BatchNormEval(t, leaf, &autograd.BatchNormState{Weight: one, Bias: zero, RunningMean: zero, RunningVar: one})
}

// pass runs the case at p on a tape, backwards from seed, which chooses its own
// number of steps.
func (c opCase) pass(t *autograd.Tape, p point, seed func(y tensor.Shape) *tensor.Dense, inputs bool, as put) result {
	t.Reset()
	var leaves, x []*autograd.Value
	var w []*autograd.Param
	for _, a := range p.x {
		leaf, v := as(t, a, inputs)
		leaves, x = append(leaves, leaf), append(x, v)
	}
	for i, v := range p.w {
		w = append(w, autograd.NewParam(c.params[i]...))
		w[i].Import(float32s(v))
	}
	y := c.forward(t, x, w)
	r := result{}
	if s := y.Spikes(); s != nil {
		r.y = s.Dense()
	} else {
		r.y = &tensor.Dense{Shape: y.Shape(), Data: slices.Clone(y.Dense().Data)}
	}
	for _, w := range w {
		r.uses = append(r.uses, t.Uses(w))
	}
	t.BackwardFrom(y, seed(y.Shape()))
	for _, x := range leaves {
		g := x.Grad()
		if g != nil {
			g.Data = slices.Clone(g.Data)
		}
		r.grads = append(r.grads, g)
	}
	for _, w := range w {
		r.dw = append(r.dw, w.ExportGrad())
	}
	return r
}

// gradient returns the gradient of argument i, spread over all its steps.
func (r result) gradient(c opCase, i int) []float64 {
	if i >= len(c.inputs) {
		return float64s(r.dw[i-len(c.inputs)])
	}
	g := ofDense(r.grads[i])
	return elementwise(c.inputs[i], g.at).v
}

// seedOf returns a seed with the given steps.
func seedOf(r *rand.Rand, steps int) func(y tensor.Shape) *tensor.Dense {
	var d *tensor.Dense
	return func(y tensor.Shape) *tensor.Dense {
		if d == nil {
			s := y.WithSteps(min(steps, y.Steps))
			d = array{s, normals(r, s.Frames()*s.Neurons())}.dense()
		}
		return d
	}
}

func norm(v []float64) float64 { return math.Sqrt(dot(v, v)) }

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

// difference returns the largest difference relative to b's largest magnitude.
func difference(a, b []float64) float64 {
	var worst, scale float64
	for i, x := range b {
		d := math.Abs(a[i] - x)
		if math.IsNaN(d) {
			return d
		}
		worst, scale = max(worst, d), max(scale, math.Abs(x))
	}
	if worst == 0 {
		return 0
	}
	return worst / scale
}

// Forward passes equal the equations, and gradients the difference quotients of the
// equations in random directions.
func TestOpsAgainstDifferences(t *testing.T) {
	racetest.Costly(t)
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			p := c.point(r)
			want := c.naive(p.x, p.w)
			for _, steps := range slices.Compact([]int{1, want.Steps}) {
				seed := seedOf(r, steps)
				tape := &autograd.Tape{Params: true, Threads: 1}
				got := c.pass(tape, p, seed, true, asValues)
				require.Equal(t, want.Shape, got.y.Shape)
				assert.NotContains(t, got.uses, false, "an update of a parameter must wait for this operation")
				assert.Less(t, difference(ofDense(got.y).v, want.v), 2e-6, "forward")
				requirePaddingZero(t, got.y)

				s := ofDense(seed(want.Shape))
				loss := func(p point) float64 {
					y := c.naive(p.x, p.w)
					return dot(y.v, elementwise(y.Shape, s.at).v)
				}
				for i, a := range p.arguments() {
					g := got.gradient(c, i)
					for range 3 {
						d := normals(r, len(a))
						const h = 1e-5
						quotient := (loss(p.moved(i, d, h)) - loss(p.moved(i, d, -h))) / (2 * h)
						assert.InDelta(t, quotient, dot(g, d), 1e-5*norm(g)+1e-8, "argument %d, seed of %d steps", i, steps)
					}
				}
				for _, g := range got.grads {
					requirePaddingZero(t, g)
				}
			}
		})
	}
}

func requirePaddingZero(t *testing.T, d *tensor.Dense) {
	t.Helper()
	e := d.Shape
	e.C = e.Blocks() * tensor.Lanes
	full := &tensor.Dense{Shape: e, Data: d.Data}
	each(e, func(n, s, c, y, x int) {
		if c >= d.C && full.At(n, s, c, y, x) != 0 {
			t.Fatalf("padding channel %d is %v", c, full.At(n, s, c, y, x))
		}
	})
}

// A pass is the same to the bit on a used tape, at any number of threads, and
// whatever else it is asked for; and it leaves gradients that it is not asked for
// alone.
func TestOpsAreDeterministicAndSelective(t *testing.T) {
	used := &autograd.Tape{}
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			p := c.point(r)
			seed := seedOf(r, 1<<30)
			want := c.pass(&autograd.Tape{Params: true, Threads: 1}, p, seed, true, asValues)
			for _, threads := range []int{1, 2, 3} {
				used.Threads = threads
				used.Params = true
				requireSameBits(t, want, c.pass(used, p, seed, true, asValues))

				used.Params = false
				got := c.pass(used, p, seed, true, asValues)
				for _, dw := range got.dw {
					require.Nil(t, dw)
				}
				requireSameBits(t, result{y: want.y, grads: want.grads}, result{y: got.y, grads: got.grads})

				used.Params = true
				got = c.pass(used, p, seed, false, asValues)
				for _, g := range got.grads {
					require.Nil(t, g)
				}
				requireSameBits(t, result{y: want.y, dw: want.dw}, result{y: got.y, dw: got.dw})
			}
		})
	}
}

func requireSameBits(t *testing.T, want, got result) {
	t.Helper()
	same := func(a, b []float32) {
		t.Helper()
		require.Equal(t, len(a), len(b))
		for i := range a {
			require.Equal(t, math.Float32bits(a[i]), math.Float32bits(b[i]), "value %d: %v and %v", i, a[i], b[i])
		}
	}
	same(want.y.Data, got.y.Data)
	require.Equal(t, len(want.grads), len(got.grads))
	for i := range want.grads {
		require.Equal(t, want.grads[i].Shape, got.grads[i].Shape)
		same(want.grads[i].Data, got.grads[i].Data)
	}
	require.Equal(t, len(want.dw), len(got.dw))
	for i := range want.dw {
		require.Equal(t, want.dw[i] == nil, got.dw[i] == nil)
		same(want.dw[i], got.dw[i])
	}
}

// A value that is computed only when it is read is read by every operation.
func TestOpsTakeDeferredValues(t *testing.T) {
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 8))
			p := c.point(r)
			for _, params := range []bool{false, true} {
				seed := seedOf(r, 1<<30)
				tape := &autograd.Tape{Params: params}
				want, got := c.pass(tape, p, seed, true, asValues), c.pass(tape, p, seed, true, asDeferred)
				requireSameBits(t, result{y: want.y, dw: want.dw}, result{y: got.y, dw: got.dw})
				for i := range c.inputs {
					require.Equal(t, want.gradient(c, i), got.gradient(c, i))
				}
			}
		})
	}
}

// Spikes and the same zeros and ones as values give the same outputs to the bit, and
// the same gradients but for rounding. Max pooling sends the gradient of a tie to the
// same place.
func TestOpsTakeSpikes(t *testing.T) {
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(5, 6))
			p := c.point(r)
			for _, x := range p.x {
				for i := range x.v {
					x.v[i] = float64(r.IntN(5) / 4)
				}
			}
			for _, steps := range []int{1, 1 << 30} {
				seed := seedOf(r, steps)
				tape := &autograd.Tape{Params: true}
				want := c.pass(tape, p, seed, true, asValues)
				got := c.pass(tape, p, seed, true, asSpikes)
				requireSameBits(t, result{y: want.y}, result{y: got.y})
				for i := range p.arguments() {
					assert.Less(t, difference(got.gradient(c, i), want.gradient(c, i)), 1e-5, "argument %d", i)
				}
			}
		})
	}
}
