// Package figures computes and draws the paper's Figures 2(c) and 2(d): how far attacks
// move the spikes of every layer, and the singular values of the weights.
package figures

import (
	"context"
	"fmt"
	"math"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Distances is how far an attack moves the spikes of every layer of neurons, on average
// over images.
type Distances struct {
	Layers []string `json:"layers"`
	// D2 is D₂ between the spikes that the clean and the attacked image cause.
	D2 []float64 `json:"d2"`
	// PerNeuron is D₂/√(N·T), in [0,1], for N neurons and T steps.
	PerNeuron []float64 `json:"d2_per_neuron"`
}

// batch is the number of images that Measure attacks together.
const batch = 32

// Measure attacks m with a on all images of data and returns what that does to its
// layers. The attacked images are those of attack.Evaluate with this key.
func Measure(ctx context.Context, m *snn.Model, data attack.Images, a attack.Named, key rng.Key) (*Distances, error) {
	d := &Distances{}
	n, c, h, w := data.Shape()
	for lo := 0; lo < n; lo += batch {
		hi := min(lo+batch, n)
		x := tensor.NewNCHW(hi-lo, c, h, w)
		indices, labels, ids, keys := make([]int, x.N), make([]int, x.N), make([]uint64, x.N), make([]rng.Key, x.N)
		for i := range x.N {
			indices[i], labels[i], ids[i] = lo+i, data.Label(lo+i), uint64(lo+i)
			keys[i] = key.Derive("image", ids[i])
		}
		if err := data.Fill(x, indices); err != nil {
			return nil, err
		}
		adv, err := a.Attack.Perturb(ctx, m, x, labels, ids, key.Derive("attack "+a.Name, 0))
		if err != nil {
			return nil, err
		}
		profile, err := lipschitz.Profile(m, 2, x, adv, keys)
		if err != nil {
			return nil, err
		}
		for k, l := range profile {
			if lo == 0 {
				d.Layers, d.D2, d.PerNeuron = append(d.Layers, l.Layer), append(d.D2, 0), append(d.PerNeuron, 0)
			}
			per := l.PerNeuron()
			for i, v := range l.D {
				d.D2[k] += v / float64(n)
				d.PerNeuron[k] += per[i] / float64(n)
			}
		}
	}
	return d, nil
}

// Curve is the distances of one network under one attack, with the colour and the dashes
// of its line.
type Curve struct {
	Name string
	*Distances
	Color  int
	Dashed bool
}

// DrawDistances returns Figure 2(c): distances against depth.
func DrawDistances(title string, curves []Curve) plots.Figure {
	f := plots.Figure{Title: title, X: "layer of neurons", Y: "D₂/√(N·T) between clean and attacked"}
	for _, c := range curves {
		l := plots.Line{Name: c.Name, Y: c.PerNeuron, Color: c.Color, Dashed: c.Dashed}
		for k := range c.Layers {
			l.X = append(l.X, float64(k+1))
		}
		f.Lines = append(f.Lines, l)
		if len(l.X) > len(f.XTicks) {
			f.XTicks = l.X
		}
	}
	return f
}

// Spectrum is the singular values of one layer's weight, largest first; a convolution's
// is taken as C_out × C_in·k·k.
type Spectrum struct {
	Weight string    `json:"weight"`
	Values []float64 `json:"singular_values"`
}

// Spectra returns the spectra of all weights of m of two extents or more.
func Spectra(ctx context.Context, m *snn.Model) (spectra []Spectrum, err error) {
	for _, p := range m.Params() {
		if len(p.Shape) < 2 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v, err := lipschitz.SingularValues(p)
		if err != nil {
			return nil, err
		}
		spectra = append(spectra, Spectrum{p.Name, v})
	}
	return spectra, nil
}

// Network is a network's spectra under its name in a legend.
type Network struct {
	Name    string
	Spectra []Spectrum
}

// bins is the number of intervals of a histogram.
const bins = 40

// DrawSpectra returns Figure 2(d): the share of the singular values, of all layers, in
// each of 40 intervals of equal length between 0 and the largest.
func DrawSpectra(title string, networks []Network) plots.Figure {
	most := 0.0
	for _, n := range networks {
		for _, s := range n.Spectra {
			for _, v := range s.Values {
				most = max(most, v)
			}
		}
	}
	width := most / bins
	if width == 0 {
		width = 1
	}
	f := plots.Figure{Title: title, X: fmt.Sprintf("singular value (intervals of %.2g)", width), Y: "share of them (%)"}
	for k, n := range networks {
		l := plots.Line{Name: n.Name, Color: k, X: make([]float64, bins), Y: make([]float64, bins)}
		for i := range bins {
			l.X[i] = (float64(i) + 0.5) * width
		}
		count := 0
		for _, s := range n.Spectra {
			count += len(s.Values)
		}
		for _, s := range n.Spectra {
			for _, v := range s.Values {
				l.Y[min(bins-1, int(math.Floor(v/width)))] += 100 / float64(count)
			}
		}
		f.Lines = append(f.Lines, l)
	}
	return f
}
