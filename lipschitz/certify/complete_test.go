package certify_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/lipschitz/certify"
)

// TestCompleteEnumerated holds complete verification against enumerated images. It decides every
// image; what it certifies may not be broken on the grid, and what it breaks comes with an image.
func TestCompleteEnumerated(t *testing.T) {
	var decided, unknown, byBounds, byNodes atomic.Int64
	t.Run("networks", func(t *testing.T) {
		for kind, k := range kinds {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				for seed := range onGrids {
					n := newTiny(t, kind, 100+seed, style(seed))
					x := grid(kind)
					class := n.classes(t, x)
					for _, eps := range []float64{1 / float64(k.levels), 2.5 / float64(k.levels)} {
						b := broken(kind, x, class, class, eps)
						var open []int
						first := 0
						for i := range x.N {
							if i%17 == seed {
								open = append(open, i)
							}
						}
						for _, i := range open {
							r, err := certify.Complete(context.Background(), n.m, x.Slice(i, i+1), class[i:i+1], certify.Config{Epsilon: eps}, certify.Effort{Nodes: 200})
							require.NoError(t, err, "%v", n)
							switch r[0].Verdict {
							case certify.Certified:
								decided.Add(1)
								require.False(t, b[i], "%v, ε = %v: image %d is certified, but an image of the grid breaks it", n, eps, i)
								if r[0].Nodes > 0 {
									byNodes.Add(1)
								} else {
									byBounds.Add(1)
								}
							case certify.Broken:
								decided.Add(1)
								breaks(t, n, kind, x.Image(i), class[i], eps, r[0].Result)
							default:
								unknown.Add(1)
								if first < 1 {
								t.Log(n, eps, i, b[i], r[0].Why)
								first++
								}
							}
						}
					}
				}
			})
		}
	})
	t.Log(decided.Load(), unknown.Load(), byBounds.Load(), byNodes.Load())
}
