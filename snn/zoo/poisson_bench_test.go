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

// replay is the Poisson encoder. It draws the spikes of a chunk of images once and copies them later.
type replay map[rng.Key]*tensor.Spikes

func (r replay) Encode(p *snn.Pass, x *autograd.Value) *autograd.Value {
	k := p.Keys[0]
	if s, ok := r[k]; ok {
		return p.Tape.InputSpikes(s, false)
	}
	y := snn.Poisson{}.Encode(p, x)
	s := y.Spikes()
	r[k] = &tensor.Spikes{Shape: s.Shape, Bits: slices.Clone(s.Bits)}
	return y
}

// BenchmarkPoissonShare reports the share of drawing spikes in a forward pass of rate-coded
// networks, T = 100, on 8 images of 3×32×32. Passes that draw alternate with passes that copy
// the same spikes. The share is the median difference over the median of the passes that draw.
func BenchmarkPoissonShare(b *testing.B) {
	for _, arch := range []string{"conv8 A conv16 A | fc", "vgg5"} {
		b.Run(arch, func(b *testing.B) {
			m, err := zoo.New(zoo.RateCoded(arch), rng.New(1))
			require.NoError(b, err)
			x, r := tensor.NewNCHW(8, m.Channels, m.Height, m.Width), rng.New(2).Rand()
			for i := range x.Data {
				x.Data[i] = r.Float32()
			}
			var logits []float32
			pass := func(e snn.Encoder) float64 {
				m.Encoder = e
				start := time.Now()
				out, err := m.Logits(snn.Pass{}, x)
				took := time.Since(start)
				require.NoError(b, err)
				if logits == nil {
					logits = out
				}
				require.Equal(b, logits, out)
				return 1e3 * took.Seconds()
			}
			given := replay{}
			pass(given)
			var draws, differences []float64
			for b.Loop() {
				drawn := pass(snn.Poisson{})
				draws, differences = append(draws, drawn), append(differences, drawn-pass(given))
			}
			slices.Sort(draws)
			slices.Sort(differences)
			all, drawing := draws[len(draws)/2], differences[len(differences)/2]
			b.ReportMetric(0, "ns/op") // of two passes
			b.ReportMetric(all, "ms/pass")
			b.ReportMetric(drawing, "ms/drawing")
			b.ReportMetric(100*drawing/all, "%share")
		})
	}
}
