package certify_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
)

// BenchmarkComplete decides the first ten test images of Fashion-MNIST that a network classifies as
// labelled. A search has a minute. The networks average the images to 7×7, and have one or two
// hidden layers. PGD looks for counterexamples first. The metrics are the numbers of images by verdict, those that a search has
// certified or broken, and the nodes of all searches.
func BenchmarkComplete(b *testing.B) {
	for _, c := range []struct {
		hidden []int
		steps  int
	}{{[]int{32}, 1}, {[]int{32}, 8}, {[]int{64}, 8}, {[]int{128}, 4}, {[]int{512}, 4}, {[]int{1024}, 8}, {[]int{4096}, 4}, {[]int{32, 32}, 4}, {[]int{64, 64}, 4}} {
		var m *snn.Model
		for _, eps := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("neurons=%v,T=%d,eps=%d", c.hidden, c.steps, eps), func(b *testing.B) {
				if m == nil {
					m = trainedSmall(b, c.hidden, c.steps)
				}
				x, y := firstRight(b, m, 10)
				for b.Loop() {
					decide(b, m, x, y, float64(eps)/255)
				}
			})
		}
	}
}

// decide reports the verdicts of images.
func decide(b *testing.B, m *snn.Model, x tensor.NCHW, y []int, eps float64) {
	cfg := certify.Config{Epsilon: eps, Search: certify.SearchFunc(
		func(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, eps float32) (tensor.NCHW, error) {
			pgd := attack.PGD(eps, eps/4, 20, snn.BPTT{})
			pgd.KeepBest = true
			return pgd.Perturb(ctx, m, x, y, make([]uint64, len(y)), rng.New(1))
		})}
	results, err := certify.Complete(context.Background(), m, x, y, cfg, certify.Effort{Nodes: math.MaxInt, Time: time.Minute})
	require.NoError(b, err)
	count := map[certify.Verdict]float64{}
	nodes, proven, broken := 0, 0, 0
	for _, r := range results {
		count[r.Verdict]++
		nodes += r.Nodes
		switch {
		case r.Nodes == 0:
		case r.Verdict == certify.Certified:
			proven++
		case r.Verdict == certify.Broken:
			broken++
		}
	}
	b.ReportMetric(count[certify.Certified], "certified")
	b.ReportMetric(count[certify.Broken], "broken")
	b.ReportMetric(count[certify.Unknown], "unknown")
	b.ReportMetric(float64(proven), "searches-certified")
	b.ReportMetric(float64(broken), "searches-broken")
	b.ReportMetric(float64(nodes), "nodes")
}

// trainedSmall returns a network with hidden layers of the given sizes, trained for eight epochs.
func trainedSmall(b *testing.B, hidden []int, steps int) *snn.Model {
	set, err := fashion.Train()
	require.NoError(b, err)
	m := untrainedSmall(b, hidden, steps)
	trainer, err := train.New(m, set, train.Default(8), rng.New(1))
	require.NoError(b, err)
	for _, err := range trainer.Epochs(context.Background()) {
		require.NoError(b, err)
	}
	return m
}

// untrainedSmall returns the network with its first weights.
func untrainedSmall(b *testing.B, hidden []int, steps int) *snn.Model {
	body := snn.NewSequential(snn.AvgPool{K: 4}, snn.Flatten{})
	from := 49
	for i, n := range hidden {
		body.Append(fmt.Sprint("hidden", i), snn.NewLinear(from, n, true)).Append(fmt.Sprint("neurons", i), snn.NewIF())
		from = n
	}
	body.Append("output", snn.NewLinear(from, 10, true))
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 28, Width: 28, Steps: steps}, body)
	require.NoError(b, err)
	m.Init(rng.New(1))
	return m
}

// firstRight returns the first n test images that m classifies as labelled.
func firstRight(b *testing.B, m *snn.Model, n int) (tensor.NCHW, []int) {
	set, err := fashion.Test()
	require.NoError(b, err)
	x := tensor.NewNCHW(n, 1, 28, 28)
	one := tensor.NewNCHW(1, 1, 28, 28)
	var y []int
	for i := 0; len(y) < n; i++ {
		require.NoError(b, set.Fill(one, []int{i}))
		z, err := m.Logits(snn.Pass{}, one)
		require.NoError(b, err)
		best := 0
		for k, v := range z {
			if v > z[best] {
				best = k
			}
		}
		if best == set.Label(i) {
			copy(x.Image(len(y)), one.Data)
			y = append(y, best)
		}
	}
	return x, y
}
