package lipschitz_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// neuronNet returns a network with the neurons n between two linear layers.
func neuronNet(t *testing.T, n snn.Neuron) *snn.Model {
	m, err := snn.NewModel(snn.Config{Channels: 6, Height: 1, Width: 1, Steps: 6},
		snn.NewSequential(snn.NewLinear(6, 20, true), n, snn.NewLinear(20, 3, true)))
	if err != nil {
		t.Fatal(err)
	}
	m.Init(rng.New(2))
	return m
}

func values(c int, v ...float32) *autograd.Param {
	p := autograd.NewBuffer(c)
	x := make([]float32, c)
	for i := range x {
		x[i] = v[i%len(v)]
	}
	p.Import(x)
	return p
}

// The Decay and Threshold of a connection are those of neurons of Dynamics that fire where the
// network's do.
func TestConnectionFoldsNeurons(t *testing.T) {
	perChannel := snn.NewParamLIF(20, 0.7, 0.2)
	for name, n := range map[string]snn.Neuron{
		"LIF":             snn.NewLIF(0.9),
		"decay input":     &snn.LIF{Decay: 0.6, Threshold: 0.1, DecayInput: true, Surrogate: snn.Triangle{Width: 1}},
		"PLIF":            &snn.GLIF{W: values(20, -0.4), Threshold: values(20, 0.1), DecayInput: true, Surrogate: snn.Triangle{Width: 1}},
		"equal channels":  perChannel,
		"limited decay":   &snn.GLIF{Decay: values(20, 1.5), Threshold: values(20, 0.2), Surrogate: snn.Triangle{Width: 1}},
		"PLIF, soft":      &snn.GLIF{W: values(20, 0.3), Threshold: values(20, 0.2), SoftReset: true, Surrogate: snn.Triangle{Width: 1}},
		"soft reset, LIF": &snn.LIF{Decay: 0.8, Threshold: 0.2, DecayInput: true, SoftReset: true, Surrogate: snn.Triangle{Width: 1}},
	} {
		m := neuronNet(t, n)
		cs, err := lipschitz.Connections(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c := cs[0]
		x := tensor.NewNCHW(4, 6, 1, 1)
		r := rng.New(3).Rand()
		for i := range x.Data {
			x.Data[i] = r.Float32()
		}
		var current *tensor.Dense
		compared, fired := 0, 0
		_, err = m.Logits(snn.Pass{
			Gradient: taps{show: func(layer string, v *autograd.Value) {
				if layer == "1" {
					current = v.Dense()
				}
			}},
			OnSpikes: func(_ string, s *tensor.Spikes) {
				for n := range 4 {
					for ch := range 20 {
						v, unsure := 0.0, false
						for step := range 6 {
							v = c.Decay*v + float64(current.At(n, min(step, current.Steps-1), ch, 0, 0))
							unsure = unsure || math.Abs(v-c.Threshold) < 1e-5
							if fires := v >= c.Threshold; fires != s.At(n, step, ch, 0, 0) && !unsure {
								t.Fatalf("%s: image %d, channel %d, step %d: %v by Decay %v and Threshold %v", name, n, ch, step, fires, c.Decay, c.Threshold)
							} else if fires {
								fired++
								if v -= c.Threshold; !c.SoftReset {
									v = 0
								}
							}
							compared++
						}
					}
				}
			},
		}, x)
		if err != nil {
			t.Fatal(err)
		}
		if compared != 480 || fired < 20 || fired > 460 {
			t.Errorf("%s: %d spikes of %d compared", name, fired, compared)
		}
		if _, err := c.Bound(context.Background(), m.Steps, quick()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Neurons of other dynamics are refused by name.
func TestConnectionsRefuseNeurons(t *testing.T) {
	recurrent := snn.NewPLIF(2)
	recurrent.Recurrent = autograd.NewParam(20, 20)
	leaks := snn.NewParamLIF(20, 0.5, 1)
	leaks.Decay.Import(values(20, 0.5, 0.75).Export())
	for want, n := range map[string]snn.Neuron{
		"layer 1 (*snn.LIF): reset to -0.5, start at 0: expected neurons with one decay": &snn.LIF{Decay: 1, Threshold: 1, Reset: -0.5, Surrogate: snn.Triangle{Width: 1}},
		"layer 1 (*snn.GLIF, ALIF λ=0.9 θ=1 b=1 ρ=0.9): expected":                        snn.NewALIF(0.9, 1, 0.9),
		"layer 1 (*snn.GLIF, CuBa-LIF λ=0.9 θ=1 α=0.5): expected":                        snn.NewCuBaLIF(0.5, 0.9),
		"layer 1 (*snn.GLIF, recurrent PLIF θ=1): expected":                              recurrent,
		"layer 1 (*snn.GLIF): a decay from 0.5 to 0.75:":                                 leaks,
		"layer 1: a decay of 0: expected a number in (0, 1]":                             snn.NewParamLIF(0, -0.5, 1),
		"layer 1: a threshold of 0 with a gain of 1: expected a positive number":         snn.NewParamLIF(20, 0.5, 0),
		"layer 1: a threshold of -1 with a gain of 1: expected a positive number":        snn.NewParamLIF(0, 0.5, -1),
		"layer 1: neurons of type *snn.Custom: expected":                                 snn.NewCustom(still{}, snn.Triangle{Width: 1}),
	} {
		_, err := lipschitz.Connections(neuronNet(t, n))
		if err == nil || !strings.Contains(err.Error(), "after image: "+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// still never fires.
type still struct{}

func (still) String() string                                                     { return "still" }
func (still) NumStates() int                                                     { return 0 }
func (still) Integrate(z [][]float32, x, u []float32)                            { copy(u, x) }
func (still) Reset(z [][]float32, s []float32)                                   {}
func (still) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {}
func (still) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	copy(dx, du)
}
