package nir

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/snn"
)

// Metadata of a neuron whose spikes lower its potential, for which NIR has no field.
const (
	resetKey = "snnrat_reset"
	subtract = "subtract"
)

// fill returns a value for each neuron of the present shape: v has one value for all, or one for
// each channel.
func (x *exporter) fill(v ...float64) Array {
	a := Array{Type: "f8", Shape: slices.Clone(x.shape)}
	n := 1
	for _, d := range x.shape {
		n *= d
	}
	for i := range n {
		a.Floats = append(a.Floats, v[i*len(v)/n])
	}
	return a
}

// tau returns the time constants of decays λ = 1 − dt/τ.
func (x *exporter) tau(decay []float64) ([]float64, error) {
	tau := make([]float64, len(decay))
	for i, l := range decay {
		if l == 1 {
			return nil, errors.New("some neurons have no leak: NIR has those in an IF or I alone")
		}
		tau[i] = x.dt / (1 - l)
	}
	return tau, nil
}

// below returns the largest float32 below each threshold: NIR's neurons fire above theirs.
func below(theta []float64) []float64 {
	v := make([]float64, len(theta))
	for i, t := range theta {
		v[i] = float64(math.Nextafter32(float32(t), float32(math.Inf(-1))))
	}
	return v
}

func (x *exporter) lif(name string, l *snn.LIF) error {
	gain := float32(1)
	if l.DecayInput {
		gain -= l.Decay
	}
	return x.neuron(name, []float64{float64(l.Decay)}, []float64{0}, []float64{float64(l.Threshold)}, []float64{float64(gain)}, l.Reset, l.Start, l.SoftReset)
}

func (x *exporter) glif(name string, l *snn.GLIF) error {
	if l.Adaptation != nil {
		return fmt.Errorf("layer %s: NIR has no neurons with adaptation", name)
	}
	d := l.Dynamics()
	of := func(v []float32, missing float64) []float64 {
		if v == nil {
			return []float64{missing}
		}
		return float64s(v)
	}
	if err := x.neuron(name, of(d.Decay, 0), of(d.SynapticDecay, 0), of(d.Threshold, 1), of(d.Gain, 1), l.Reset, l.Start, l.SoftReset); err != nil {
		return err
	}
	if l.Recurrent == nil {
		return nil
	}
	neuron := x.from[0]
	w := singles(l.Recurrent)
	if len(x.shape) > 1 {
		return fmt.Errorf("layer %s: spikes of the shape %v return to neurons: NIR's Linear has one dimension", name, x.shape)
	}
	if len(w.Shape) < 2 {
		diagonal := Floats([]int{x.shape[0], x.shape[0]}, make([]float64, x.shape[0]*x.shape[0])...)
		for i, v := range x.fill(w.Floats...).Floats {
			diagonal.Floats[i*x.shape[0]+i] = v
		}
		w = diagonal
	}
	x.node(name+".recurrent", "Linear", map[string]Array{"weight": w})
	x.g.Edges = append(x.g.Edges, [2]string{x.from[0], neuron})
	x.from = []string{neuron}
	return nil
}

// neuron adds an IF, a LIF or a CubaLIF whose input counts gain times.
func (x *exporter) neuron(name string, decay, synaptic, theta, gain []float64, reset, start float32, soft bool) error {
	fields := map[string]Array{"v_threshold": x.fill(below(theta)...), "v_reset": x.fill(float64(reset))}
	kind := "LIF"
	inputs := x.fill(gain...).Floats
	switch leaks := slices.ContainsFunc(decay, func(l float64) bool { return l < 1 }); {
	case slices.ContainsFunc(synaptic, func(a float64) bool { return a > 0 }):
		kind = "CubaLIF"
		tau, err := x.tau(synaptic)
		if err != nil {
			return fmt.Errorf("layer %s: its synaptic current does not decay, which NIR cannot say", name)
		}
		fields["tau_syn"] = x.fill(tau...)
		fields["w_in"] = x.fill(tau...)
		for i := range fields["w_in"].Floats {
			fields["w_in"].Floats[i] /= x.dt
		}
		fallthrough
	case leaks:
		tau, err := x.tau(decay)
		if err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
		r := x.fill(tau...)
		for i := range r.Floats {
			r.Floats[i] *= inputs[i] / x.dt
		}
		field := "tau"
		if kind == "CubaLIF" {
			field = "tau_mem"
		}
		fields["r"], fields[field], fields["v_leak"] = r, x.fill(tau...), x.fill(0)
	default:
		kind = "IF"
		r := x.fill(gain...)
		for i := range r.Floats {
			r.Floats[i] /= x.dt
		}
		fields["r"] = r
	}
	n := x.node(name, kind, fields)
	x.note(x.from[0], "fires above its v_threshold, the largest float32 below the network's threshold")
	if soft {
		n.Metadata = map[string]Array{resetKey: Text(subtract)}
		x.note(x.from[0], "a spike lowers its potential; NIR would set it to v_reset. Metadata %s says so", resetKey)
	}
	if start != 0 {
		x.note(x.from[0], "its potential starts at %v, which NIR does not say", start)
	}
	return nil
}

// integrator adds an I, an LI or a CubaLI.
func (x *exporter) integrator(name string, l *Integrator) error {
	shape := slices.Clone(x.shape)
	of := func(fn func(i int) float64) Array {
		a := Floats(shape)
		for i := range l.Decay {
			a.Floats = append(a.Floats, fn(i))
		}
		return a
	}
	some := func(list []float64, is func(v float64) bool) bool { return slices.ContainsFunc(list, is) }
	nonzero := func(v float64) bool { return v != 0 }
	direct := !some(l.SynapticDecay, nonzero) // without a current of its own
	kind, fields := "I", map[string]Array{"r": of(func(i int) float64 { return l.Gain[i] * l.InputGain[i] / x.dt })}
	switch leaks := some(l.Decay, func(v float64) bool { return v != 1 }); {
	case leaks || !direct:
		tau, err := x.tau(l.Decay)
		if err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
		fields = map[string]Array{
			"r":      of(func(i int) float64 { return l.Gain[i] * tau[i] / x.dt }),
			"v_leak": of(func(i int) float64 { return l.Offset[i] * tau[i] / x.dt }),
		}
		if direct && !some(l.InputGain, func(v float64) bool { return v != 1 }) {
			kind, fields["tau"] = "LI", of(func(i int) float64 { return tau[i] })
			break
		}
		syn, err := x.tau(l.SynapticDecay)
		if err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
		kind = "CubaLI"
		fields["tau_mem"] = of(func(i int) float64 { return tau[i] })
		fields["tau_syn"] = of(func(i int) float64 { return syn[i] })
		fields["w_in"] = of(func(i int) float64 { return l.InputGain[i] * syn[i] / x.dt })
	case some(l.Offset, nonzero):
		return fmt.Errorf("layer %s: an offset without a leak, which NIR cannot say", name)
	}
	x.node(name, kind, fields)
	if some(l.Start, nonzero) {
		x.note(x.from[0], "its potential does not start at 0, which NIR does not say")
	}
	return nil
}
