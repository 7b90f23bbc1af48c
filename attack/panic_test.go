package attack_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// faulty is an objective, a start and a norm that panics.
type faulty struct{ attack.LInf }

func (faulty) Evaluate(_ []float64, _, _ []float32, _, _ []int) { panic("boom") }

func (faulty) Initialize([]float32, attack.Norm, float32, *rand.Rand) { panic("boom") }

func (faulty) Project(_, _ []float32, _ float32) { panic("boom") }

// A panic in a caller's code reaches the caller, whichever goroutine the code runs on, and
// the network can be attacked again.
func TestPanicReachesCaller(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	m := model(t, small, false)
	x, y, ids := images(m, 64, 0, 1) // eight parts
	want := perturb(t, attack.FGSM(0.1, snn.BPTT{}), m, x, y, ids)
	for name, spoil := range map[string]func(a *attack.Attack){
		"objective": func(a *attack.Attack) { a.Objective = faulty{} },
		"start":     func(a *attack.Attack) { a.Start = faulty{} },
		"norm":      func(a *attack.Attack) { a.Norm = faulty{} },
		"target":    func(a *attack.Attack) { a.Target = func(uint64, int) int { panic("boom") } },
	} {
		a := attack.FGSM(0.1, snn.BPTT{})
		spoil(a)
		assert.PanicsWithValue(t, "boom", func() { _, _ = a.Perturb(ctx, m, x, y, ids, rng.New(1)) }, name)
		assert.PanicsWithValue(t, "boom", func() {
			_, _ = attack.Evaluate(ctx, m, set{x: x, y: y}, []attack.Named{{Name: name, Attack: a}}, attack.DefaultConfig())
		}, name)
		require.Equal(t, want.Data, perturb(t, attack.FGSM(0.1, snn.BPTT{}), m, x, y, ids).Data, name)
	}
}
