package zoo_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// given is an encoder that copies spikes.
type given struct{ s *tensor.Spikes }

func (g given) Encode(p *snn.Pass, _ *autograd.Value) *autograd.Value {
	return p.Tape.InputSpikes(g.s, false)
}

// BenchmarkPoissonShare reports the share of Poisson encoding in a forward pass of rate-coded
// networks, T = 100, on 8 images of 3×32×32. Passes that draw their spikes alternate with
// passes that copy given ones. The share is the difference of the medians over the median of
// the passes that draw.
func BenchmarkPoissonShare(b *testing.B) {
	for _, arch := range []string{"conv8 A conv16 A | fc", "vgg5"} {
		b.Run(arch, func(b *testing.B) {
			m, err := zoo.New(zoo.RateCoded(arch), rng.New(1))
			require.NoError(b, err)
			// Images one by one: Logits runs chunks of one image at T = 100.
			one := tensor.NewNCHW(1, m.Channels, m.Height, m.Width)
			r := rng.New(2).Rand()
			for i := range one.Data {
				one.Data[i] = r.Float32()
			}
			x := tensor.NCHW{N: 8, C: one.C, H: one.H, W: one.W, Data: slices.Repeat(one.Data, 8)}
			tape := &autograd.Tape{}
			spikes := autograd.Poisson(tape, tape.Leaf(one, false), m.Steps, []rng.Key{rng.New(3)}).Spikes()
			encoders := []snn.Encoder{given{spikes}, snn.Poisson{}}
			times := make([][]time.Duration, len(encoders))
			for b.Loop() {
				for i, e := range encoders {
					m.Encoder = e
					start := time.Now()
					_, err := m.Logits(snn.Pass{}, x)
					times[i] = append(times[i], time.Since(start))
					require.NoError(b, err)
				}
			}
			median := make([]float64, len(encoders))
			for i, t := range times {
				slices.Sort(t)
				median[i] = t[len(t)/2].Seconds()
			}
			b.ReportMetric(0, "ns/op") // of two passes: it says nothing
			b.ReportMetric(1e3*median[0], "ms/given")
			b.ReportMetric(1e3*median[1], "ms/poisson")
			b.ReportMetric(100*(1-median[0]/median[1]), "%share")
		})
	}
}
