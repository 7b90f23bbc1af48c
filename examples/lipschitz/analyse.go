package main

import (
	"context"
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/examples/internal/figures"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// radii are the radii of the attacks, in 255ths.
var radii = []float64{2, 4, 8}

// newTrial returns the attack at a radius: PGD with 7 steps of a third of the radius.
func newTrial(eps float64) trials.Trial { return trials.New("PGD", snn.BPTT{}, eps, eps/255/3, 7) }

// analysis holds the results for a network.
type analysis struct {
	Weights []weight `json:"weights"`
	Layers  []layer  `json:"layers"`
	// SigmaProduct and LambdaProduct are the products of SigmaMax and of the upper bound of
	// Λ over all weights.
	SigmaProduct  float64 `json:"sigma_max_product"`
	LambdaProduct float64 `json:"lambda_upper_product"`
	// Violations counts the images whose differences exceed the bound, over all layers and
	// radii.
	Violations int `json:"violations"`

	connections []lipschitz.Connection
	distances   []*figures.Distances // one for each radius
}

// interval holds the bounds of Λ.
type interval struct {
	Lower float64 `json:"lambda_lower"`
	Upper float64 `json:"lambda_upper"`
	Exact bool    `json:"lambda_exact"`
	Nodes int64   `json:"nodes"`
}

func newInterval(b lipschitz.LambdaBounds) interval {
	return interval{b.Lower, b.Upper, b.Exact, b.Nodes}
}

// width returns (Upper − Lower)/Upper in percent.
func (i interval) width() string {
	if i.Exact {
		return "exact"
	}
	return fmt.Sprintf("%.2f", 100*(i.Upper-i.Lower)/i.Upper)
}

// weight describes a weight as the matrix C_out × C_in·k·k.
type weight struct {
	figures.Spectrum
	Rows int `json:"rows"`
	Cols int `json:"cols"`
	interval
	SigmaMax float64 `json:"sigma_max"` // a proven upper bound
	Gamma    float64 `json:"gamma"`
	// PaperGamma is γ of Eq. 15 as printed.
	PaperGamma float64 `json:"gamma_eq15"`
	Defect     float64 `json:"defect"`
}

// layer describes a layer of neurons, or the logits, with what feeds it and what an attack
// does to it.
type layer struct {
	Layer string  `json:"layer"`
	Paths []path  `json:"paths"`
	Gamma float64 `json:"gamma"`
	// PaperGamma and PaperConstant are γ and Γ of Eq. 15 as printed.
	PaperGamma    float64 `json:"gamma_eq15"`
	PaperConstant float64 `json:"constant_eq15"`
	// The membrane range R is the difference of these two.
	Lo             float64     `json:"lowest_potential"`
	Hi             float64     `json:"highest_potential"`
	MaxDifferences int         `json:"max_differences"`
	Neurons        int         `json:"neurons"`
	Steps          int         `json:"steps"`
	Attacked       []*attacked `json:"attacked"` // one for each radius; none for the logits
}

// path is one of the linear maps that feed a layer, with everything folded in.
type path struct {
	From   string `json:"from"`
	Weight string `json:"weight,omitempty"`
	Map    string `json:"map"`
	interval
	Matrix     float64 `json:"sigma_max_matrix"` // C_out × C_in·k·k; a proven upper bound
	ImageLower float64 `json:"sigma_max_image_lower"`
	ImageUpper float64 `json:"sigma_max_image_upper"`
	Upper      float64 `json:"upper"` // bounds the amplification of differences of spikes
}

// attacked holds the effect of an attack on a layer, as means over the images. Squares count
// spikes.
type attacked struct {
	Eps           float64 `json:"eps_255"`
	In            float64 `json:"d2_in"`
	Out           float64 `json:"d2_out"`
	Amplification float64 `json:"amplification"`         // D₂ out over D₂ in
	Largest       float64 `json:"largest_amplification"` // of all images
	Currents      float64 `json:"currents"`
	CurrentBound  float64 `json:"currents_bound"`
	Differences   float64 `json:"d2_out_squared"`
	ByMargin      float64 `json:"bound_by_margin"`
	ByCurrents    float64 `json:"bound_by_measured_currents"`
	// Theorem1 is the right-hand side of Eq. 13 as printed.
	Theorem1 float64 `json:"eq13_right_side"`
	Bound    float64 `json:"bound"` // of d2_out_squared
}

// trainingWork is the work of training a network, in forward passes of an image.
func (j *job) trainingWork() float64 { return 3 * float64(j.Epochs*j.Train.N) }

// boundWork estimates the work of the bounds of a weight in the same unit. It counts the
// multiplications of the search for Λ and of the Cholesky factorizations on a grid. A forward
// pass makes a dozen multiplications in the time of one of these.
func (j *job) boundWork(n *network, rows, cols int, grid bool) float64 {
	macs := 1
	for _, r := range n.model.Summary().Rows {
		macs += r.MACs
	}
	macs *= n.model.Steps
	small := float64(min(rows, cols))
	work := 200*float64(j.Starts)*float64(rows*cols) + small*small*float64(max(rows, cols))
	if grid {
		work += float64(j.Grid*j.Grid) / 2 * math.Pow(2*small, 3)
	}
	return 12 * work / float64(macs)
}

// attackWork is the work of the attack on an image.
func attackWork(eps float64) float64 { return newTrial(eps).Work(2) }

// work is the work of everything that a network needs.
func (j *job) work(n *network) (work float64) {
	if n.train {
		work = j.trainingWork()
	}
	for _, p := range n.weights() {
		work += j.boundWork(n, p.Shape[0], p.Len()/p.Shape[0], false)
	}
	for _, c := range n.connections {
		work += j.connectionWork(n, c)
	}
	for _, eps := range radii {
		work += float64(j.Test.N) * attackWork(eps)
	}
	return work
}

func (j *job) connectionWork(n *network, c lipschitz.Connection) (work float64) {
	for _, p := range c.Paths {
		work += j.boundWork(n, p.Map.Cout, p.Map.Cin*p.Map.KH*p.Map.KW, p.Map.Overlaps() > 1)
	}
	return work
}

// weights returns the weights of the network that are matrices.
func (n *network) weights() (ps []*autograd.Param) {
	for _, p := range n.model.Params() {
		if len(p.Shape) > 1 {
			ps = append(ps, p)
		}
	}
	return ps
}

// analyse fills in the analysis of n.
func (j *job) analyse(ctx context.Context, n *network) error {
	var err error
	if n.train { // training has changed the weights
		if n.connections, err = lipschitz.Connections(n.model); err != nil {
			return err
		}
	}
	if err := j.analyseWeights(ctx, n); err != nil {
		return err
	}
	search := lipschitz.DefaultBoundSearch()
	search.Lambda = j.search()
	search.Conv.Grid = j.Grid
	var bounds []*lipschitz.ConnectionBounds
	for _, c := range n.connections {
		b, err := c.Bound(ctx, n.model.Steps, search)
		if err != nil {
			return err
		}
		bounds = append(bounds, b)
		l := layer{
			Layer: c.Layer, Gamma: b.Gamma, PaperGamma: b.PaperGamma, PaperConstant: b.PaperConstant,
			Lo: b.Lo, Hi: b.Hi, MaxDifferences: b.MaxDifferences, Steps: n.model.Steps,
		}
		for i, p := range c.Paths {
			m, pb := p.Map, b.Bounds[i]
			to := path{
				From: p.From, Matrix: pb.Norm.Reshaped, ImageLower: pb.Norm.Lower, ImageUpper: pb.Norm.Upper, Upper: pb.Upper,
				Map:      fmt.Sprintf("%d×%d×%d×%d, stride %d, padding %d, of %d×%d", m.Cout, m.Cin, m.KH, m.KW, m.Stride, m.Pad, m.Height, m.Width),
				interval: newInterval(pb.Lambda),
			}
			if p.Weight != nil {
				to.Weight = p.Weight.Name
			}
			l.Paths = append(l.Paths, to)
		}
		n.Layers = append(n.Layers, l)
		j.meter.Add(j.connectionWork(n, c), n.Name+": bounds of "+c.Layer)
	}
	j.meter.Finished(n.Name + ": bounds")
	for _, eps := range radii {
		if err := j.attack(ctx, n, bounds, eps); err != nil {
			return err
		}
		j.meter.Finished(fmt.Sprintf("%s: %v", n.Name, newTrial(eps)))
	}
	return nil
}

func (j *job) search() lipschitz.LambdaSearch {
	return lipschitz.LambdaSearch{Starts: j.Starts, MaxNodes: int64(j.Nodes)}
}

func (j *job) analyseWeights(ctx context.Context, n *network) error {
	spectra, err := figures.Spectra(ctx, n.model)
	if err != nil {
		return err
	}
	n.SigmaProduct, n.LambdaProduct = 1, 1
	for i, p := range n.weights() {
		w, rows, cols := lipschitz.Matrix(p)
		to := weight{Spectrum: spectra[i], Rows: rows, Cols: cols}
		l, err := lipschitz.Lambda(ctx, w, rows, cols, j.search())
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			to.interval = newInterval(l)
			to.SigmaMax, err = lipschitz.SpectralUpper(w, rows, cols, spectra[i].Values[0])
		}
		if err == nil {
			to.Gamma, err = lipschitz.Gamma(w, rows, cols)
		}
		if err == nil {
			to.PaperGamma, err = lipschitz.PaperGamma(w, rows, cols)
		}
		if err == nil {
			to.Defect, err = regularize.Defect(p, 0)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		n.SigmaProduct *= to.SigmaMax
		n.LambdaProduct *= to.Upper
		n.Weights = append(n.Weights, to)
		j.meter.Add(j.boundWork(n, rows, cols, false), n.Name+": "+p.Name)
	}
	return nil
}

// batch is the number of images in an attack.
const batch = 25

// attack measures the effect of the attack at a radius on the layers.
func (j *job) attack(ctx context.Context, n *network, bounds []*lipschitz.ConnectionBounds, eps float64) error {
	trial := newTrial(eps)
	key := rng.New(j.Seed).Derive("attacks", 0).Derive(trial.String(), 0)
	sums := make([]*attacked, len(n.Layers)-1)
	for i := range sums {
		sums[i] = &attacked{Eps: eps}
	}
	d := &figures.Distances{D2: make([]float64, len(sums)), PerNeuron: make([]float64, len(sums))}
	for lo := 0; lo < j.Test.N; lo += batch {
		x, adv, err := figures.Perturb(ctx, n.model, j.Test, lo, min(lo+batch, j.Test.N), trial.Adversary(), key)
		if err != nil {
			return fmt.Errorf("%v: %w", trial, err)
		}
		layers, err := lipschitz.MeasureAmplification(n.model, bounds, x, adv, nil)
		if err != nil {
			return fmt.Errorf("%v: %w", trial, err)
		}
		for k, a := range layers {
			n.Layers[k].Neurons = a.Neurons
			for i := range x.N {
				n.Violations += sums[k].add(a, i, 1/float64(j.Test.N))
				d.D2[k] = sums[k].Out
				d.PerNeuron[k] = sums[k].Out / math.Sqrt(float64(a.Neurons*a.Steps))
			}
		}
		j.meter.Add(float64(x.N)*attackWork(eps), fmt.Sprintf("%s: %v", n.Name, trial))
	}
	for k, s := range sums {
		d.Layers = append(d.Layers, n.Layers[k].Layer)
		n.Layers[k].Attacked = append(n.Layers[k].Attacked, s)
	}
	n.distances = append(n.distances, d)
	return nil
}

// add adds image i of a to the means. It returns 1 if the bound does not hold.
func (s *attacked) add(a lipschitz.LayerAmplification, i int, share float64) (violations int) {
	differences := math.Round(a.Out[i] * a.Out[i])
	ratio := 0.0
	if a.In[i] > 0 {
		ratio = a.Out[i] / a.In[i]
	}
	for _, v := range []struct {
		to *float64
		v  float64
	}{
		{&s.In, a.In[i]}, {&s.Out, a.Out[i]}, {&s.Amplification, ratio},
		{&s.Currents, a.Currents[i]}, {&s.CurrentBound, a.CurrentBound[i]}, {&s.Differences, differences},
		{&s.ByMargin, float64(a.ByMargin[i])}, {&s.ByCurrents, float64(a.ByCurrents[i])},
		{&s.Theorem1, min(a.ByTheorem1[i], math.MaxFloat32)}, {&s.Bound, float64(a.Bound(i))},
	} {
		*v.to += v.v * share
	}
	s.Largest = max(s.Largest, ratio)
	if differences > float64(a.Bound(i)) {
		return 1
	}
	return 0
}
