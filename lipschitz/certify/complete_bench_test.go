package certify_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
)

// BenchmarkComplete decides the first test images of Fashion-MNIST that the bounds of Linear leave
// open and that plain gradient signs do not break. An image has a minute on one thread. The networks average the images to 7×7, and have one
// hidden layer. The metrics are the numbers of images by verdict, and the nodes of a search.
func BenchmarkComplete(b *testing.B) {
	for _, neurons := range []int{16, 32, 64, 128} {
		for _, steps := range []int{1, 4, 8} {
			m := trainedSmall(b, neurons, steps)
			for _, eps := range []int{1, 2, 4, 8} {
				b.Run(fmt.Sprintf("neurons=%d/T=%d/eps=%d", neurons, steps, eps), func(b *testing.B) {
					x, y := firstRight(b, m, 10)
					for b.Loop() {
						decide(b, m, x, y, float64(eps)/255, 2*time.Second)
					}
				})
			}
		}
	}
}

func decide(b *testing.B, m *snn.Model, x tensor.NCHW, y []int, eps float64, limit time.Duration) {
	count := map[certify.Verdict]float64{}
	nodes, searched, bounds := 0, 0, 0
	for i := range y {
		r, err := certify.Complete(context.Background(), m, x.Slice(i, i+1), y[i:i+1], certify.Config{Epsilon: eps}, certify.Effort{Nodes: 1 << 30, Time: limit})
		require.NoError(b, err)
		count[r[0].Verdict]++
		if r[0].Nodes > 0 {
			searched++
			nodes += r[0].Nodes
		} else if r[0].Verdict == certify.Certified {
			bounds++
		}
	}
	b.ReportMetric(float64(bounds), "by-bounds")
	b.ReportMetric(count[certify.Certified], "certified")
	b.ReportMetric(count[certify.Broken], "broken")
	b.ReportMetric(count[certify.Unknown], "unknown")
	b.ReportMetric(float64(nodes)/float64(max(searched, 1)), "nodes/search")
}

// trainedSmall returns a network with one hidden layer, trained for a few epochs.
func trainedSmall(b *testing.B, neurons, steps int) *snn.Model {
	set, err := fashion.Train()
	require.NoError(b, err)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 28, Width: 28, Steps: steps}, snn.NewSequential(
		snn.AvgPool{K: 4}, snn.Flatten{}, snn.NewLinear(49, neurons, true), snn.NewIF(), snn.NewLinear(neurons, 10, true),
	))
	require.NoError(b, err)
	m.Init(rng.New(1))
	trainer, err := train.New(m, set, train.Default(8), rng.New(1))
	require.NoError(b, err)
	for _, err := range trainer.Epochs(context.Background()) {
		require.NoError(b, err)
	}
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
