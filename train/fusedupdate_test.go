package train

import (
	"math"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/require"
)

// A large layer that is updated while its gradient is computed ends with the same
// bits, and without a gradient in memory.
func TestFusedUpdateIsThatOfStep(t *testing.T) {
	cfg := zoo.Default("conv16 conv130 A conv270 A | fc1030 fc10")
	cfg.Height, cfg.Width, cfg.Steps = 16, 16, 3
	x := tensor.NewNCHW(3, 3, 16, 16)
	r := rng.New(2).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	y := []int{3, 1, 9}
	train := func(fused bool, o Optimizer) []*autograd.Param {
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		u, err := NewUpdater(o, m.Params())
		require.NoError(t, err)
		for range 3 {
			pass := snn.Pass{Train: true}
			if fused {
				pass.FusedUpdate = u.FusedUpdate(0.1, 2)
			}
			for _, p := range m.Params() {
				p.ClearGrad()
			}
			require.NoError(t, m.ParamGradients(pass, x, func(logits []float32) []float32 {
				d := make([]float32, len(logits))
				autograd.CrossEntropy(nil, d, logits, y, 0)
				return d
			}))
			u.Step(0.1, 2)
		}
		taken := 0
		for _, p := range m.Params() {
			if p.Grad() == nil {
				taken++
			}
		}
		want := 0
		if _, whole := o.(lars); fused && !whole {
			want = 2 // 130→270, 3×3, and 4320→1030
		}
		require.Equal(t, want, taken)
		return append(m.State(), u.State()...)
	}
	if testing.Short() { // the race detector needs no other run
		train(true, DefaultSGD())
		return
	}
	for _, o := range []Optimizer{DefaultSGD(), DefaultAdam(), lars{DefaultSGD(), t}} {
		apart, fused := train(false, o), train(true, o)
		for i, p := range apart {
			require.Equal(t, p.Data(), fused[i].Data(), p.Name)
		}
	}
}

// twice runs a convolution two times.
type twice struct{ *snn.Conv2D }

func (l twice) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	return l.Conv2D.Forward(p, l.Conv2D.Forward(p, x))
}

// A large weight that a layer uses twice, or that has a gradient already, is updated once, by
// the sum.
func TestFusedUpdateOfSharedWeights(t *testing.T) {
	x := tensor.NewNCHW(2, 512, 2, 2)
	r := rng.New(2).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	back := func(logits []float32) []float32 { return logits }
	for name, layer := range map[string]func(c *snn.Conv2D) snn.Layer{
		"twice": func(c *snn.Conv2D) snn.Layer { return twice{c} },
		"once":  func(c *snn.Conv2D) snn.Layer { return c },
	} {
		train := func(fused bool) []float32 {
			c := snn.NewConv2D(512, 512, 1, 1, 0, false)
			m, err := snn.NewModel(snn.Config{Channels: 512, Height: 2, Width: 2, Steps: 2}, snn.NewSequential(layer(c), snn.AvgPool{}))
			require.NoError(t, err)
			m.Init(rng.New(1))
			u, err := NewUpdater(DefaultSGD(), m.Params())
			require.NoError(t, err)
			pass := snn.Pass{}
			if name == "once" {
				require.NoError(t, m.ParamGradients(pass, x, back)) // and not cleared
			}
			if fused {
				pass.FusedUpdate = u.FusedUpdate(0.01, 1)
				require.True(t, pass.FusedUpdate.Handles(c.Weight))
			}
			require.NoError(t, m.ParamGradients(pass, x, back))
			u.Step(0.01, 1)
			return c.Weight.Data()
		}
		require.Equal(t, train(false), train(true), name)
	}
}

// lars scales the gradient of a parameter to the norm of its values, as layer-wise rules
// do (You, Gitman, Ginsburg: LARS, 2017), and is otherwise the SGD that it embeds.
type lars struct {
	SGD
	t *testing.T
}

func (o lars) Update(w, grad []float32, slots [][]float32, lr float64, step, threads int) {
	norm := func(v []float32) (sum float64) {
		for _, x := range v {
			sum += float64(x) * float64(x)
		}
		return math.Sqrt(sum)
	}
	require.Len(o.t, grad, len(w))
	require.Len(o.t, slots[0], len(w))
	if g := norm(grad); g > 0 {
		lr *= 0.001 * norm(w) / g
	}
	o.SGD.Update(w, grad, slots, lr, step, threads)
}

// A layer-wise optimizer sees every parameter once and whole, whatever its size.
func TestLayerwiseOptimizerGetsWholeParameters(t *testing.T) {
	large := autograd.NewParam(1100, 300)
	require.Greater(t, large.Len(), 1<<18)
	u, err := NewUpdater(lars{DefaultSGD(), t}, []*autograd.Param{large})
	require.NoError(t, err)
	require.False(t, u.FusedUpdate(0.1, 1).Handles(large))
	u, err = NewUpdater(DefaultSGD(), []*autograd.Param{large})
	require.NoError(t, err)
	require.True(t, u.FusedUpdate(0.1, 1).Handles(large))
}
