package lipschitz

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// BoundSearch sets the effort of [Connection.Bound].
type BoundSearch struct {
	Lambda LambdaSearch
	Conv   ConvSearch
}

// DefaultBoundSearch returns the defaults of both searches.
func DefaultBoundSearch() BoundSearch {
	return BoundSearch{Lambda: DefaultLambdaSearch(), Conv: DefaultConvSearch()}
}

// PathBounds holds the bounds of a [Path].
type PathBounds struct {
	// Lambda bounds Λ of the matrix C_out × C_in·k·k of the path's Map. The inputs of the
	// path are spikes, except for a path from the image.
	Lambda LambdaBounds
	// Norm bounds the norm of Map as a map of images.
	Norm ConvNorm
	// Upper is a proven upper bound of ‖Map·Δ‖₂/‖Δ‖₂. Δ is a difference of spikes, or of
	// images if the path begins at the image. Upper is Norm.Upper. For spikes it is the
	// smaller of Norm.Upper and √n·Lambda.Upper, where no input is in more than n windows;
	// the reason is that of ByOverlaps in [Conv.Norm].
	Upper float64
}

// ConnectionBounds holds the bounds of a [Connection] and of the neurons that it feeds.
type ConnectionBounds struct {
	Connection
	Bounds []PathBounds // one for each of Paths
	// Gamma is γ of all paths together, see [Gamma].
	Gamma float64
	// PaperGamma is γ of Eq. 15 of all paths together, see [PaperGamma].
	PaperGamma float64
	// PaperConstant is Γ of Eq. 15, see [Dynamics.Theorem1]. It is 0 for the logits and for
	// neurons with soft reset.
	PaperConstant float64
	// Lo and Hi bound the membrane potentials before the comparison with the threshold, see
	// [MembraneBounds]. They are 0 for the logits and for neurons with soft reset.
	Lo, Hi float64
	// MaxDifferences bounds D₂² of the output for any two inputs, see
	// [Dynamics.MaxDifferences]. It is 0 for the logits and for neurons with soft reset.
	MaxDifferences int

	dynamics Dynamics
}

// Bound computes the bounds of a connection whose neurons run for T = steps. It returns the
// errors of [Lambda] and [Conv.Norm] with the name of the layer, and an error for a bias that is not
// finite. It returns ctx.Err() if ctx ends the search.
func (c Connection) Bound(ctx context.Context, steps int, o BoundSearch) (*ConnectionBounds, error) {
	if err := checkBias("Connection.Bound", c.Bias, len(c.Bias)); err != nil {
		return nil, fmt.Errorf("%w (of %s)", err, c.Layer)
	}
	b := &ConnectionBounds{Connection: c}
	for _, p := range c.Paths {
		m := p.Map
		l, err := Lambda(ctx, m.Weight, m.Cout, m.Cin*m.KH*m.KW, o.Lambda)
		if err != nil {
			return nil, fmt.Errorf("%w (from %s to %s)", err, p.From, c.Layer)
		}
		search := o.Conv
		if m.Overlaps() == 1 { // ByOverlaps equals the norm
			search.Grid, search.MaxDense = 0, 0
		}
		n, err := m.Norm(ctx, search)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("%w (from %s to %s)", err, p.From, c.Layer)
		}
		pb := PathBounds{Lambda: l, Norm: n, Upper: n.Upper}
		if p.From != Image {
			pb.Upper = min(pb.Upper, up(l.Upper*math.Sqrt(float64(m.Overlaps()))))
		}
		b.Bounds = append(b.Bounds, pb)
	}
	most := rowSums{pos: slices.Max(c.Positive), neg: slices.Max(c.Negative)}
	b.Gamma, b.PaperGamma = addUp(most.pos, most.neg), most.paperGamma()
	if c.Neurons == nil || c.SoftReset {
		return b, nil
	}
	b.dynamics = Dynamics{Decay: c.Decay, Threshold: c.Threshold, Steps: steps}
	if err := b.dynamics.validate("Connection.Bound"); err != nil {
		return nil, err
	}
	b.Lo, b.Hi = math.Inf(1), math.Inf(-1)
	for i, bias := range c.Bias {
		least, most := addDown(bias, -c.Negative[i]), addUp(bias, c.Positive[i])
		lo, hi := b.dynamics.potentials(least, most)
		b.Lo, b.Hi = min(b.Lo, lo), max(b.Hi, hi)
		b.MaxDifferences += b.dynamics.maxDifferences(least, most)
	}
	h, w := c.Paths[0].Map.Out()
	b.MaxDifferences *= h * w
	var err error
	b.PaperConstant, err = b.dynamics.Theorem1(0, b.PaperGamma, 0, len(c.Bias)*h*w)
	return b, err
}

// LayerAmplification compares the effect of a perturbation on a layer of neurons with its
// bounds. Every slice has one value for each of the N images. Squares of D₂ count the
// spikes that differ.
type LayerAmplification struct {
	Layer          string
	Neurons, Steps int
	// In is D₂ of the input over all paths. A path from the image contributes the distance
	// of the images over all steps. Out is D₂ of the output spikes.
	In, Out []float64
	// Currents is the measured distance ‖I − I'‖₂ of the currents over all neurons and
	// steps. CurrentBound is its bound Σ_p Upper_p·D₂ over the paths p.
	Currents, CurrentBound []float64
	// ByMargin bounds Out² by [Dynamics.MarginBound] with the energy CurrentBound².
	// ByCurrents does so with the energy Currents². The comparison of the two shows how
	// much of the slack comes from CurrentBound.
	ByMargin, ByCurrents []int
	// ByTheorem1 is the right-hand side of Eq. 13 for PaperGamma, with CurrentBound in place
	// of Λ·D₂, see [Dynamics.Theorem1]. It does not bound Out² for neurons with a bias, so
	// Bound ignores it. It is +Inf for soft reset, which Theorem 1 does not cover.
	ByTheorem1 []float64
	// MaxOut bounds Out² for any input: it is the smaller of Neurons·Steps and
	// MaxDifferences.
	MaxOut int
}

// Bound returns the smallest bound of Out² of image n that follows from the weights and the
// clean image.
func (a LayerAmplification) Bound(n int) int { return min(a.ByMargin[n], a.MaxOut) }

// MeasureAmplification runs m on the images clean and perturbed. It returns the measured
// effect of the perturbation on every layer of neurons, together with its bounds. bounds
// belongs to all [Connections] of m, in their order, and is for m.Steps steps. The batches, the
// keys and the errors are those of [SpikeDistances]. All bounds of neurons with soft reset are
// Neurons·Steps.
//
// The bounds hold for neurons that compute exactly. They do not account for the rounding of
// a potential at the threshold.
func MeasureAmplification(m *snn.Model, bounds []*ConnectionBounds, clean, perturbed tensor.NCHW, keys []rng.Key) ([]LayerAmplification, error) {
	both, keys, err := joined(m, clean, perturbed, keys)
	if err != nil {
		return nil, fmt.Errorf("lipschitz: MeasureAmplification: %w", err)
	}
	d := map[string][]float64{} // D₂ of the output of each layer
	var layers []LayerAmplification
	between := func(layer string, s *tensor.Spikes) {
		a, b := halves(s)
		var failed error
		if d[layer], failed = Distance(2, a, b); failed != nil {
			err = failed
		}
	}
	pass := snn.Pass{Keys: keys}
	pass.Gradient = tap{
		Gradient: snn.BPTT{},
		image: func(x *autograd.Value) {
			if s := x.Spikes(); s != nil {
				between(Image, s)
			} else {
				d[Image] = denseD(2, x.Dense(), m.Steps)
			}
		},
		show: func(layer string, current *tensor.Dense, steps int) {
			n := len(layers)
			switch {
			case err != nil:
			case n >= len(bounds) || bounds[n].Layer != layer:
				err = fmt.Errorf("no bounds of %s; expected those of all connections, in their order", layer)
			default:
				var a LayerAmplification
				a, err = bounds[n].amplify(current, steps, d)
				layers = append(layers, a)
			}
		},
	}
	pass.OnSpikes = func(layer string, s *tensor.Spikes) {
		between(layer, s)
		if err == nil {
			layers[len(layers)-1].Out = d[layer]
		}
	}
	if _, failed := m.Logits(pass, both); failed != nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("lipschitz: MeasureAmplification: %w", err)
	}
	return layers, nil
}

// amplify returns everything except Out. current holds the currents of both batches, and d
// holds D₂ of the output of each layer before.
func (b *ConnectionBounds) amplify(current *tensor.Dense, steps int, d map[string][]float64) (LayerAmplification, error) {
	a := LayerAmplification{Layer: b.Layer, Neurons: current.Neurons(), Steps: steps, Currents: denseD(2, current, steps)}
	images := len(a.Currents)
	a.In, a.CurrentBound = make([]float64, images), make([]float64, images)
	for i, p := range b.Paths {
		for n, v := range d[p.From] {
			a.In[n] += v * v
			a.CurrentBound[n] += b.Bounds[i].Upper * v
		}
	}
	for n := range a.In {
		a.In[n] = math.Sqrt(a.In[n])
		a.CurrentBound[n] = up(a.CurrentBound[n])
	}
	all := a.Neurons * steps
	a.MaxOut = all
	a.ByMargin, a.ByCurrents = slices.Repeat([]int{all}, images), slices.Repeat([]int{all}, images)
	a.ByTheorem1 = slices.Repeat([]float64{math.Inf(1)}, images)
	if b.Neurons == nil || b.SoftReset {
		return a, nil
	}
	if steps != b.dynamics.Steps {
		return a, fmt.Errorf("the bounds of %s are those of %d steps, and the model has %d; expected the same number", b.Layer, b.dynamics.Steps, steps)
	}
	a.MaxOut = min(all, b.MaxDifferences)
	first := firstHalf(current)
	energy := func(distances []float64) []float64 {
		e := make([]float64, images)
		for n, v := range distances {
			e[n] = v * v
		}
		return e
	}
	var err error
	if a.ByMargin, err = b.dynamics.MarginBound(first, energy(a.CurrentBound)); err != nil {
		return a, err
	}
	if a.ByCurrents, err = b.dynamics.MarginBound(first, energy(a.Currents)); err != nil {
		return a, err
	}
	for n, v := range a.CurrentBound { // Λ·D₂ = 1·v
		if a.ByTheorem1[n], err = b.dynamics.Theorem1(1, b.PaperGamma, v, a.Neurons); err != nil {
			return a, err
		}
	}
	return a, nil
}

// firstHalf copies the first half of the images of x.
func firstHalf(x *tensor.Dense) *tensor.Dense {
	shape := x.Shape
	shape.N /= 2
	y := tensor.NewDense(shape)
	size := len(x.Data) / x.Blocks() / 2
	for block := range x.Blocks() {
		copy(y.Data[block*size:][:size], x.Data[2*block*size:])
	}
	return y
}
