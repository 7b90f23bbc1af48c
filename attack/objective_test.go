package attack_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

func evaluate(o attack.Objective, z []float32, label, target int) (float64, []float32) {
	value, grad := make([]float64, 1), make([]float32, len(z))
	var targets []int
	if target >= 0 {
		targets = []int{target}
	}
	o.Evaluate(value, grad, z, []int{label}, targets)
	return value[0], grad
}

// The gradient of every objective is that of its value, by differences.
func TestObjectiveGradients(t *testing.T) {
	r := rng.New(1).Rand()
	clean := []float32{1, -1, 0.5, 2, 0}
	for name, o := range map[string]attack.Objective{
		"cross-entropy": attack.CrossEntropy{}, "margin": attack.Margin{}, "DLR": attack.DLR{}, "KL": attack.KL{}.WithClean(clean),
	} {
		for range 50 {
			z := make([]float32, len(clean))
			for k := range z {
				z[k] = float32(r.NormFloat64())
			}
			label, target := r.IntN(5), -1
			if name != "KL" && r.IntN(2) == 0 {
				target = (label + 1 + r.IntN(4)) % 5
			}
			_, grad := evaluate(o, z, label, target)
			for k := range z {
				const h = 1e-3
				moved := func(by float32) float64 {
					to := append([]float32(nil), z...)
					to[k] += by
					v, _ := evaluate(o, to, label, target)
					return v
				}
				require.InDelta(t, (moved(h)-moved(-h))/(2*h), grad[k], 0.02*(1+math.Abs(float64(grad[k]))), "%s, %v, label %d, target %d, class %d", name, z, label, target, k)
			}
		}
	}
}

// The values are those of the papers' formulas.
func TestObjectiveValues(t *testing.T) {
	z := []float32{3, 1, 7, 2}
	for _, c := range []struct {
		o             attack.Objective
		label, target int
		want          float64
	}{
		{attack.Margin{}, 2, -1, -4}, {attack.Margin{}, 0, -1, 4}, {attack.Margin{}, 0, 1, -2},
		{attack.DLR{}, 2, -1, -4. / 5}, {attack.DLR{}, 0, -1, 4. / 5}, {attack.DLR{}, 2, 0, -4 / 5.5},
		{attack.CrossEntropy{}, 2, -1, math.Log(1 + math.Exp(-4) + math.Exp(-5) + math.Exp(-6))},
	} {
		got, _ := evaluate(c.o, z, c.label, c.target)
		assert.InDelta(t, c.want, got, 1e-6, "%v", c)
	}
}

// Values and gradients are finite, and gradients not all zero, for logits of any scale and for
// few classes, equal ones included.
func TestObjectivesAreFinite(t *testing.T) {
	for _, o := range []attack.Objective{attack.CrossEntropy{}, attack.Margin{}, attack.DLR{}} {
		for classes := 2; classes <= 4; classes++ {
			for _, scale := range []float32{0, 1e-38, 1e-20, 1, 1e10, 1e38} {
				for order := range 24 {
					z := make([]float32, classes)
					for k := range z {
						z[k] = scale * float32((order>>k)&3-1)
					}
					for target := -1; target < classes; target++ {
						if target == 0 || target > 0 && classes < 3 {
							continue
						}
						what := fmt.Sprintf("%v of %v, target %d", o, z, target)
						v, grad := evaluate(o, z, 0, target)
						require.False(t, math.IsNaN(v) || math.IsInf(v, 0), what)
						some := false
						for _, g := range grad {
							require.False(t, g-g != 0, what)
							some = some || g != 0
						}
						// DLR is constant where the label is third: the attack has succeeded.
						if _, dlr := o.(attack.DLR); !dlr || target >= 0 || z[0] == slices.Max(z) {
							require.True(t, some, what)
						}
					}
				}
			}
		}
	}
}

// DLR does not change with the scale of the logits.
func TestDLRScale(t *testing.T) {
	z := []float32{0.5, 0.25, -1, 0.125}
	v, grad := evaluate(attack.DLR{}, z, 0, -1)
	for k := range z {
		z[k] *= 1 << 20
	}
	w, scaled := evaluate(attack.DLR{}, z, 0, -1)
	assert.Equal(t, v, w)
	for k := range grad {
		assert.Equal(t, grad[k], scaled[k]*(1<<20))
	}
}

// An attack of two classes refuses targeted DLR by name.
func TestTargetedDLROfTwoClasses(t *testing.T) {
	m := twoClasses(t)
	x, _, ids := images(m, 2, 0, 1)
	a := attack.PGD(0.1, 0.1, 1, snn.BPTT{})
	a.Objective, a.Targets, a.KeepBest = attack.DLR{}, 1, true
	_, err := a.Perturb(ctx, m, x, []int{0, 1}, ids, rng.New(1))
	assert.ErrorContains(t, err, "targeted DLR of 2 classes: expected at least 3, or another objective such as Margin{}")
}

// The cross-entropy tells margins apart that are far beyond the digits of a probability next to 1. An
// image that the network is surer of has a smaller value, and no larger gradient: averages over draws
// of a random network count it less.
func TestCrossEntropyOfGrowingMargins(t *testing.T) {
	value, slope := math.Inf(1), math.Inf(1)
	for _, margin := range []float32{0, 1, 5, 13, 13.9, 14, 20, 36, 37, 40, 100, 700} {
		v, grad := evaluate(attack.CrossEntropy{}, []float32{0, margin, -1, -2}, 1, -1)
		assert.Less(t, v, value, "margin %v", margin)
		assert.LessOrEqual(t, float64(-grad[1]), slope, "margin %v", margin)
		value, slope = v, float64(-grad[1])
		of, _ := evaluate(attack.CrossEntropy{}, []float32{0, margin, -1, -2}, 2, 1) // aims at what it is
		assert.Equal(t, -v, of, "margin %v", margin)
		rest := 1 + math.Exp(-1) + math.Exp(-2)
		assert.InEpsilon(t, math.Log1p(rest*math.Exp(-float64(margin))), v, 1e-8, "margin %v", margin)
	}
}
