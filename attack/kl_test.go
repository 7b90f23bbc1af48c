package attack_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// kl is the mean over images of KL(softmax p ‖ softmax q).
func kl(p, q []float32, classes int) (sum float64) {
	softmax := func(z []float32) []float64 {
		e, s := make([]float64, len(z)), 0.0
		for k, v := range z {
			e[k] = math.Exp(float64(v))
			s += e[k]
		}
		for k := range e {
			e[k] /= s
		}
		return e
	}
	for i := 0; i < len(p); i += classes {
		a, b := softmax(p[i:i+classes]), softmax(q[i:i+classes])
		for k := range a {
			sum += a[k] * math.Log(a[k]/b[k])
		}
	}
	return sum
}

// The gradient is that of central differences.
func TestKLGradient(t *testing.T) {
	clean, z := []float32{1, -2, 0.5, 0, 3, -1}, []float32{0.5, 1, 0, 2, 2, 1}
	o := attack.KL{}.WithClean(clean)
	grad := make([]float32, len(z))
	o.Evaluate(make([]float64, 64), grad, z, []int{0, 1}, nil)
	for i := range z {
		up, down := slices.Clone(z), slices.Clone(z)
		up[i] += 0.0625
		down[i] -= 0.0625
		assert.InDelta(t, (kl(clean, up, 3)-kl(clean, down, 3))/0.125, grad[i], 1e-3)
	}
	clear(grad)
	attack.KL{}.WithClean(z).Evaluate(make([]float64, 64), grad, z, []int{0, 1}, nil)
	assert.Equal(t, make([]float32, len(z)), grad, "zero at the original image")
	assert.PanicsWithValue(t, "attack: KL: 0 clean logits for 6 logits: expected a KL of WithClean",
		func() { attack.KL{}.Evaluate(make([]float64, 64), grad, z, []int{0, 1}, nil) })
}

// shownKL is KL that shows the clean logits.
type shownKL struct {
	attack.KL
	seen chan []float32
}

func (w shownKL) WithClean(logits []float32) attack.Objective {
	w.seen <- logits
	return w.KL.WithClean(logits)
}

// The attack raises the divergence from the original image more than its start does, and
// more than noise of the same size, and under CBA it compares with the network without time.
func TestTRADES(t *testing.T) {
	racetest.Costly(t)
	m, x, y, ids := trained(t)
	clean, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	after := func(a snn.Adversary) float64 {
		adv, err := a.Perturb(ctx, m, x, y, ids, rng.New(1))
		require.NoError(t, err)
		logits, err := m.Logits(snn.Pass{}, adv)
		require.NoError(t, err)
		return kl(clean, logits, m.Classes()) / float64(x.N)
	}
	noise := after(&attack.Attack{Objective: attack.CrossEntropy{}, Gradient: snn.BPTT{}, Norm: attack.LInf{}, Start: attack.RandomStep{Length: 0.1}, Eps: 0.1, Alpha: 1e-9, Steps: 1})
	for _, g := range gradients() {
		d := after(attack.TRADES(0.1, 0.025, 10, g))
		assert.Greater(t, d, 3*noise, "%v", g)
	}
	// The clean logits are those of the network that the gradient is of.
	for _, g := range gradients() {
		want, err := m.Logits(snn.Pass{Gradient: g}, x)
		require.NoError(t, err)
		a, seen := attack.TRADES(0.1, 0.025, 1, g), make(chan []float32, x.N)
		a.Objective = shownKL{seen: seen}
		perturb(t, a, m, x, y, ids)
		close(seen)
		n := 0
		for logits := range seen {
			n += len(logits)
			found := false
			for at := 0; at < len(want); at += m.Classes() {
				found = found || slices.Equal(want[at:min(at+len(logits), len(want))], logits)
			}
			assert.True(t, found, "%v", g)
		}
		assert.Equal(t, len(want), n)
	}
	// It moves the images: from a start with next to no noise, many keep their spikes, and with
	// them a gradient of zero.
	stuck := func(a *attack.Attack) (n int) {
		_, d, err := a.PerturbDetail(ctx, m, x, y, ids, rng.New(1))
		require.NoError(t, err)
		for _, zero := range d.ZeroGradient {
			if zero {
				n++
			}
		}
		return n
	}
	authors := attack.TRADES(8./255, 2./255, 10, snn.BPTT{})
	authors.Start = attack.Gaussian{Std: 0.001}
	assert.Greater(t, stuck(authors), x.N/4)
	assert.Zero(t, stuck(attack.TRADES(8./255, 2./255, 10, snn.BPTT{})))
	// The label plays no part.
	a := attack.TRADES(0.1, 0.025, 3, snn.BPTT{})
	one := perturb(t, a, m, x, y, ids)
	assert.Equal(t, one, perturb(t, a, m, x, make([]int, len(y)), ids))

	_, err = nextClass(a, m.Classes()).Perturb(ctx, m, x, y, ids, rng.New(1))
	assert.EqualError(t, err, "attack: objective KL divergence with a target: expected one with a targeted form, such as CrossEntropy{}")
}
