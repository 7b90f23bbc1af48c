package certify_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
)

var (
	tightness = flag.Bool("tightness", false, "run TestTightness, which prints the table of docs/certificates.md")
	netFile   = flag.String("net", "", "a network file of Fashion-MNIST for TestTightness, in place of its own networks")
	only      = flag.String("only", "", "the architecture of the one network of TestTightness to run")
	count     = flag.Int("images", 10, "images of TestTightness")
)

// TestTightness trains networks on the embedded images and prints the largest ε that each method
// certifies, by bisection. It takes the first test images that the network classifies correctly.
func TestTightness(t *testing.T) {
	if !*tightness {
		t.Skip("without -tightness")
	}
	set, err := fashion.Test()
	require.NoError(t, err)
	fmt.Println("network                                    method       median ε  mean ε  least  ≥ 0.5/255  ≥ 1/255  s/image")
	report := func(name string, m *snn.Model) {
		x, y := correct(t, m, set, *count)
		for _, method := range []certify.Method{certify.Intervals{}, certify.Trains{}, certify.Linear{}} {
			start := time.Now()
			var all []float64
			sum, half, one := 0.0, 0, 0
			const calls = 9
			for i := range x.N {
				lo, hi := 0.0, 8.0 // in 1/255
				for range calls {
					mid := (lo + hi) / 2
					r, err := certify.Certify(context.Background(), m, x.Slice(i, i+1), y[i:i+1], certify.Config{Epsilon: mid / 255, Method: method})
					require.NoError(t, err)
					if r[0].Verdict == certify.Certified {
						lo = mid
					} else {
						hi = mid
					}
				}
				all = append(all, lo)
				sum += lo
				half += of(lo >= 0.5)
				one += of(lo >= 1)
			}
			slices.Sort(all)
			fmt.Printf("%-42s %-12v %8.2f  %6.2f  %5.2f  %7.0f %%  %5.0f %%  %7.2f\n", name, method, all[len(all)/2], sum/float64(x.N), all[0],
				100*float64(half)/float64(x.N), 100*float64(one)/float64(x.N), time.Since(start).Seconds()/float64(calls*x.N))
		}
	}
	if *netFile != "" {
		m, _, err := zoo.Load(*netFile)
		require.NoError(t, err)
		report(*netFile, m)
		return
	}
	images, err := fashion.Train()
	require.NoError(t, err)
	for _, c := range []struct {
		arch  string
		steps int
		decay float32
		soft  bool
	}{
		{"| fc64 fc", 4, 1, false},
		{"| fc64 fc64 fc", 4, 1, false},
		{"| fc64 fc64 fc", 8, 0.9, false},
		{"conv8 A conv16 A | fc", 4, 1, false},
		{"conv8 A conv16 A | fc", 4, 1, true},
		{"small", 4, 1, false},
	} {
		if *only != "" && c.arch != *only {
			continue
		}
		cfg := zoo.Default(c.arch).For(images)
		cfg.Steps, cfg.Decay, cfg.SoftReset = c.steps, c.decay, c.soft
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		trainer, err := train.New(m, images, train.Default(2), rng.New(1))
		require.NoError(t, err)
		for _, err := range trainer.Epochs(context.Background()) {
			require.NoError(t, err)
		}
		name := fmt.Sprintf("%s, T = %d", c.arch, c.steps)
		if c.decay != 1 {
			name += fmt.Sprintf(", λ = %v", c.decay)
		}
		if c.soft {
			name += ", soft reset"
		}
		report(name, m)
	}
}

func of(b bool) int {
	if b {
		return 1
	}
	return 0
}

// correct returns the first n images of set that m classifies correctly, and their labels.
func correct(t *testing.T, m *snn.Model, set snn.Dataset, n int) (tensor.NCHW, []int) {
	shape := set.Shape()
	x, y := tensor.NewNCHW(n, shape.C, shape.H, shape.W), []int(nil)
	for i := 0; len(y) < n; i++ {
		one := tensor.NewNCHW(1, shape.C, shape.H, shape.W)
		require.NoError(t, set.Fill(one, []int{i}))
		z, err := m.Logits(snn.Pass{}, one)
		require.NoError(t, err)
		if slices.Index(z, slices.Max(z)) == set.Label(i) {
			copy(x.Image(len(y)), one.Data)
			y = append(y, set.Label(i))
		}
	}
	return x, y
}
