// Package figures computes and draws the paper's Figures 2(c) and 2(d): the distance that
// attacks move the spikes of every layer by, and the singular values of the weights.
package figures

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Distances holds the distance that an attack moves the spikes of every layer of neurons by.
// It is the mean over the images.
type Distances struct {
	Layers []string `json:"layers"`
	// D2 is the distance D₂ between the spikes of the clean and of the attacked image.
	D2 []float64 `json:"d2"`
	// PerNeuron is D₂/√(N·T), in [0,1], for N neurons and T steps.
	PerNeuron []float64 `json:"d2_per_neuron"`
	// PerSpike is D₂/√S for the S spikes of the clean image. It is the mean over the images for
	// which the layer has clean spikes, and 0 if there are none.
	PerSpike []float64 `json:"d2_per_spike,omitempty"`
	// Rate is the firing rate for the clean images, the mean of S/(N·T), in [0,1].
	Rate []float64 `json:"firing_rate,omitempty"`
}

// batch is the number of images that Measure attacks together.
const batch = 32

// Measure attacks m with a on all images of data and returns the distances of the spikes.
// The attacked images are those of attack.Evaluate with this key. Errors are those of the
// attack and of the network.
func Measure(ctx context.Context, m *snn.Model, data snn.Dataset, a attack.Named, key rng.Key) (*Distances, error) {
	d := &Distances{}
	n := data.Shape().N
	var firing []float64 // images with clean spikes, for each layer
	for lo := 0; lo < n; lo += batch {
		hi := min(lo+batch, n)
		x, adv, err := Perturb(ctx, m, data, lo, hi, a.Attack, key.Derive("attack "+a.Name, 0))
		if err != nil {
			return nil, err
		}
		keys := make([]rng.Key, x.N)
		for i := range keys {
			keys[i] = key.Derive("image", uint64(lo+i))
		}
		profile, err := lipschitz.SpikeDistances(m, 2, x, adv, keys)
		if err != nil {
			return nil, err
		}
		for k, l := range profile {
			if lo == 0 {
				d.Layers, d.D2, d.PerNeuron = append(d.Layers, l.Layer), append(d.D2, 0), append(d.PerNeuron, 0)
				d.PerSpike, d.Rate, firing = append(d.PerSpike, 0), append(d.Rate, 0), append(firing, 0)
			}
			per, perSpike := l.PerNeuron(), l.PerSpike()
			for i, v := range l.D {
				d.D2[k] += v / float64(n)
				d.PerNeuron[k] += per[i] / float64(n)
				d.Rate[k] += float64(l.Spikes[i]) / float64(l.Shape.Steps*l.Shape.Neurons()) / float64(n)
				if l.Spikes[i] > 0 {
					d.PerSpike[k] += perSpike[i]
					firing[k]++
				}
			}
		}
	}
	for k, images := range firing {
		d.PerSpike[k] /= max(images, 1)
	}
	return d, nil
}

// Perturb returns the images lo to hi − 1 of data, clean (x) and as a attacks them on m (adv).
// The identity of an image is its index.
func Perturb(ctx context.Context, m *snn.Model, data snn.Dataset, lo, hi int, a snn.Adversary, key rng.Key) (x, adv tensor.NCHW, err error) {
	shape := data.Shape()
	shape.N = hi - lo
	x = tensor.NewFrames(shape)
	indices, labels, ids := make([]int, x.N), make([]int, x.N), make([]uint64, x.N)
	for i := range x.N {
		indices[i], labels[i], ids[i] = lo+i, data.Label(lo+i), uint64(lo+i)
	}
	if err = data.Fill(x, indices); err == nil {
		adv, err = a.Perturb(ctx, m, x, labels, ids, key)
	}
	return x, adv, err
}

// Curve is a line of DrawDistances: the distances of one network under one attack.
type Curve struct {
	Name string
	*Distances
	Color  int
	Dashed bool
}

// DrawDistances returns Figure 2(c): the distances against the depth of the layer.
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
	f.YTicks = ticks(highest(f.Lines))
	return f
}

// highest returns the largest Y of the lines, at least 0.
func highest(lines []plots.Line) (most float64) {
	for _, l := range lines {
		for _, y := range l.Y {
			most = max(most, y)
		}
	}
	return most
}

// ticks returns up to eight round numbers, the first 0 and the last at least most. It returns
// nil if most is not positive and finite.
func ticks(most float64) (at []float64) {
	if !(most > 0) || math.IsInf(most, 0) {
		return nil
	}
	exp := math.Pow(10, math.Floor(math.Log10(most)))
	step := 2 * exp
	for _, s := range []float64{1, 0.5, 0.2} {
		if most/(s*exp) <= 6 {
			step = s * exp
		}
	}
	for i := 0; len(at) == 0 || at[len(at)-1] < most; i++ {
		v, err := strconv.ParseFloat(fmt.Sprintf("%.6g", float64(i)*step), 64)
		if err != nil {
			panic(err)
		}
		at = append(at, v)
	}
	return at
}

// Spectrum holds the singular values of a weight. The weight of a convolution is the matrix
// C_out × C_in·k·k.
type Spectrum struct {
	Weight string    `json:"weight"`          // the parameter's name
	Values []float64 `json:"singular_values"` // largest first
}

// Spectra returns the spectra of all parameters of m with at least two dimensions.
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

// Network holds the spectra of a network.
type Network struct {
	Name    string // in the legend
	Spectra []Spectrum
}

// DrawSpectra returns Figure 2(d), the distribution of the singular values of all layers. It
// divides the range from 0 to the largest value into at most 40 equal intervals, and shows the
// share of the values in each.
func DrawSpectra(title string, networks []Network) plots.Figure {
	most, bins := 0.0, 40
	for _, n := range networks {
		count := 0
		for _, s := range n.Spectra {
			count += len(s.Values)
			for _, v := range s.Values {
				most = max(most, v)
			}
		}
		bins = min(bins, max(10, int(math.Sqrt(float64(count)))))
	}
	width := most / float64(bins)
	if width == 0 {
		width = 1
	}
	f := plots.Figure{Title: title, X: fmt.Sprintf("singular value (intervals of %.2g)", width), Y: "share of them (%)"}
	for k, n := range networks {
		l := plots.Line{Name: n.Name, Color: k, Unmarked: true, X: make([]float64, bins), Y: make([]float64, bins)}
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
	f.XTicks, f.YTicks = ticks(most), ticks(highest(f.Lines))
	return f
}
