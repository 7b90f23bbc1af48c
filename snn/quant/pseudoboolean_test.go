package quant

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/crillab/gophersat/solver"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/tensor"
)

// TestProveAgainstPseudoBoolean holds Prove against a solver of pseudo-Boolean constraints, on networks
// with one hidden layer and 16 pixels, whose images are too many to be enumerated. It logs the time of
// both.
func TestProveAgainstPseudoBoolean(t *testing.T) {
	verdicts := map[Verdict]int{}
	for _, c := range []struct{ neurons, eps int }{{4, 2}, {4, 8}, {8, 4}, {8, 8}, {16, 4}, {16, 8}} {
		r := rand.New(rand.NewPCG(1, 1))
		var own, other time.Duration
		nodes := 0
		for range 6 {
			n, x := dense(r, c.neurons)
			class, err := n.Predict(x)
			require.NoError(t, err)
			began := time.Now()
			p, err := n.Prove(context.Background(), x, class[0], c.eps, 100_000)
			require.NoError(t, err)
			own += time.Since(began)
			nodes += p.Nodes
			verdicts[p.Verdict]++
			began = time.Now()
			want := Certified
			if breaks(t, n, x, class[0], c.eps) {
				want = Broken
			}
			other += time.Since(began)
			require.Equal(t, want, p.Verdict, "%+v", c)
		}
		t.Logf("%d neurons, ε = %d/255: branch and bound %v with %d nodes, pseudo-Boolean %v", c.neurons, c.eps, own, nodes, other)
	}
	require.Greater(t, verdicts[Certified], 10)
	require.Greater(t, verdicts[Broken], 5)
}

// dense returns a random network of 4×4 pixels with a hidden layer of IF neurons, T = 4 and ten classes,
// and an image.
func dense(r *rand.Rand, neurons int) (*Network, tensor.NCHW) {
	fc := func(input string, cout, cin, side int) *Conv {
		c := &Conv{
			Name: "fc of " + input, Input: input, Cout: cout, Cin: cin, KH: side, KW: side, Stride: 1,
			Weight: make([]int8, cout*cin*side*side), Scale: slices.Repeat([]float32{1}, cout),
		}
		for i := range c.Weight {
			c.Weight[i] = int8(r.IntN(255) - 127)
		}
		return c
	}
	n := &Network{Channels: 1, Height: 4, Width: 4, Steps: 4, Scale: 1, Bias: make([]int32, 10)}
	hidden := &Neurons{Name: "n", Input: "fc of image", Leak: 1, Bias: make([]int32, neurons), Threshold: slices.Repeat([]int32{30000}, neurons)}
	n.Layers = []Layer{fc(Image, neurons, 1, 4), hidden, fc("n", 10, neurons, 1)}
	x := tensor.NewNCHW(1, 1, 4, 4)
	for i := range x.Data {
		x.Data[i] = float32(r.IntN(256)) / 255
	}
	return n, x
}

// sum is Σ weights[i]·lits[i], of literals that are 0 or 1.
type sum struct{ lits, weights []int }

func (s *sum) add(lit, weight int) {
	if weight != 0 {
		s.lits, s.weights = append(s.lits, lit), append(s.weights, weight)
	}
}

// atLeast returns the constraint s ≥ least.
func (s sum) atLeast(least int) solver.PBConstr {
	return solver.GtEq(slices.Clone(s.lits), slices.Clone(s.weights), least)
}

// breaks reports whether an image within eps of x has another class than the label. A pixel is its least
// value plus its bits. For each neuron, one literal stands for each of its spike trains. It implies that
// the current is in the range of the train. The number of spikes then decides for a class.
func breaks(t *testing.T, n *Network, x tensor.NCHW, label, eps int) bool {
	p, err := n.prepare()
	require.NoError(t, err)
	s := &search{n: n, p: p, label: label}
	require.NoError(t, s.readers())
	literals := 0
	literal := func() int { literals++; return literals }
	build := func(rival int) (all []solver.PBConstr) {
		literals = 0
		least, pixels := make([]int, len(x.Data)), make([]sum, len(x.Data))
		for i, v := range x.Data {
			c := int(Pixel(v))
			least[i] = max(0, c-eps)
			width := min(255, c+eps) - least[i]
			negative := sum{}
			for k := 0; 1<<k <= width; k++ {
				l := literal()
				pixels[i].add(l, 1<<k)
				negative.add(l, -1<<k)
			}
			all = append(all, negative.atLeast(-width))
		}
		margin := sum{}
		out := n.Layers[len(n.Layers)-1].(*Conv)
		for i, r := range s.rows {
			constant := int(r.constant)
			current, negative := sum{}, sum{}
			lo, hi := 0, 0 // of the current without the constant
			for k, at := range r.pixels {
				w := int(r.weights[k])
				constant += w * least[at]
				for j, l := range pixels[at].lits {
					v := w * pixels[at].weights[j]
					current.add(l, v)
					negative.add(l, -v)
					lo, hi = lo+min(v, 0), hi+max(v, 0)
				}
			}
			one := sum{}
			difference := int(out.Weight[rival*out.Cin+i]) - int(out.Weight[label*out.Cin+i])
			for _, train := range s.trains(i, Range{int64(constant + lo), int64(constant + hi)}) {
				l := literal()
				one.add(l, 1)
				margin.add(l, difference*bits.OnesCount64(train.bits))
				from, to := int(train.currents.Min)-constant, int(train.currents.Max)-constant
				a, b := current, negative
				a.lits, a.weights = slices.Clone(a.lits), slices.Clone(a.weights)
				b.lits, b.weights = slices.Clone(b.lits), slices.Clone(b.weights)
				a.add(-l, from-lo)
				b.add(-l, hi-to)
				all = append(all, a.atLeast(from), b.atLeast(-to))
			}
			all = append(all, one.atLeast(1), solver.AtMost(slices.Clone(one.lits), 1))
		}
		need := int(n.Bias[label]) - int(n.Bias[rival])
		if rival > label {
			need++
		}
		return append(all, margin.atLeast(need))
	}
	for rival := range n.Bias {
		if rival != label && solver.New(solver.ParsePBConstrs(build(rival))).Solve() == solver.Sat {
			return true
		}
	}
	return false
}
