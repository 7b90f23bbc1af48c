package attack_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz/smooth"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// No attack alters the class of the network that windows smooth, on an example that is certified against
// as many changes. Attacks on the network itself, random changes, and the best changes of all, one after
// the other, are tried. The last ones do alter classes with more changes than are certified.
func TestSpikesAreWithinCertificates(t *testing.T) {
	racetest.Costly(t)
	m := model(t, small, false)
	data := spikesFor(t, m, 12, 60, 1)
	flips := attack.Flips{Levels: 1}
	beyond := 0
	for _, w := range []smooth.Windows{
		{Axis: smooth.Time, Size: 1, Stride: 1},
		{Axis: smooth.Columns, Size: 1, Stride: 1, MaxShift: 1},
		{Axis: smooth.Lattice, Block: 3, Size: 1, Stride: 1, MaxShift: 1},
	} {
		certify := func(x tensor.NCHW) []smooth.Certificate {
			list, err := w.Certify(ctx, m, x, nil, rng.New(1))
			require.NoError(t, err)
			return list
		}
		certified, retimed := 0, 0
		for i, c := range certify(data.x) {
			if c.Class == smooth.Abstain || c.Radius == 0 || certified > 3 {
				continue
			}
			x, y := data.x.Slice(i, i+1), []int{c.Class}
			radius := int(c.Radius)
			for k := 1; k <= radius; k++ {
				certified++
				greedy := attack.GreedySpikes(flips, float32(k), k, snn.BPTT{})
				retiming := attack.GreedySpikes(attack.Retiming{Levels: 1, Steps: m.Steps}, 1, k, snn.BPTT{})
				for _, a := range []snn.Adversary{
					greedy, retiming, attack.SpikeSearch{Norm: flips, Eps: float32(k), Passes: 60},
					attack.RandomNoise{Norm: flips, Eps: float32(k), Points: 10},
				} {
					adv := perturb(t, a, m, x, y, nil)
					if a == retiming {
						if w.MaxShift == 0 || movesOf(attack.Retiming{Levels: 1, Steps: m.Steps}, adv.Data, x.Data) > radius {
							continue // another edit, or a spike has moved past others
						}
						retimed++
					}
					assert.Equal(t, c.Class, certify(adv)[0].Class, "%v: %d changes of %v, certified are %d", attack.Describe(a), k, w, radius)
				}
			}
			point := slices.Clone(x.Data)
			for k := 1; k <= radius+1; k++ {
				all := tensor.NewFrames(tensor.Shape{N: len(point), Steps: x.Steps, C: x.C, H: x.H, W: x.W})
				for j := range point {
					copy(all.Image(j), point)
					all.Image(j)[j] = 1 - point[j]
				}
				best, lead := -1, len(point)
				for j, after := range certify(all) {
					other := 0
					for class, n := range after.Votes {
						if class != c.Class {
							other = max(other, n)
						}
					}
					if by := after.Votes[c.Class] - other; by < lead {
						best, lead = j, by
					}
					if after.Class != c.Class {
						require.Greater(t, k, radius, "%v: image %d, %d changes", w, i, k)
						beyond++
					}
				}
				copy(point, all.Image(best))
			}
		}
		assert.Positive(t, certified, "%v", w)
		if w.MaxShift > 0 {
			assert.Positive(t, retimed, "%v", w)
		}
	}
	assert.Positive(t, beyond)
}
