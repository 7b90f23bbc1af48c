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

// BoundSearch says how hard [Bound] tries.
type BoundSearch struct {
	Lambda LambdaSearch
	Conv   ConvSearch
}

// DefaultBoundSearch returns the defaults of both.
func DefaultBoundSearch() BoundSearch {
	return BoundSearch{Lambda: DefaultLambdaSearch(), Conv: DefaultConvSearch()}
}

// PathBounds is what bounds a [Path].
type PathBounds struct {
	// Lambda is that of Map's matrix C_out × C_in·k·k, whose columns are spikes unless
	// the path begins at an image.
	Lambda LambdaBounds
	// Norm is that of Map as a map of the image.
	Norm ConvNorm
	// Upper is a proven bound of ‖Map·Δ‖₂/‖Δ‖₂: the smaller of Norm.Upper and, if the Δ
	// are differences of spikes, √n·Lambda.Upper, with no input in more than n windows,
	// which bounds it as ByOverlaps of [Conv.Norm] does.
	Upper float64
}

// ConnectionBounds is what bounds a [Connection] and the neurons behind it.
type ConnectionBounds struct {
	Connection
	Bounds []PathBounds // of each of Paths
	// Gamma is γ of all paths together; see [Gamma].
	Gamma float64
	// Lo and Hi bound the membrane potentials before their comparison with the
	// threshold; see [MembraneBounds]. Γ is their difference. They are 0 for the
	// logits, and for neurons with soft reset.
	Lo, Hi float64
	// MostDifferences bounds D₂² of what comes out, whatever comes in; see
	// [Response.MostDifferences]. It is 0 for the logits.
	MostDifferences int

	response Response
}

// Bound computes the bounds of a connection for neurons that run for T = steps. The
// errors are those of [Lambda] and [Conv.Norm], which name the layer; if ctx ends the
// search, ctx.Err().
func (c Connection) Bound(ctx context.Context, steps int, o BoundSearch) (*ConnectionBounds, error) {
	b := &ConnectionBounds{Connection: c}
	for _, p := range c.Paths {
		m := p.Map
		l, err := Lambda(ctx, m.Weight, m.Cout, m.Cin*m.KH*m.KW, o.Lambda)
		if err != nil {
			return nil, fmt.Errorf("%w (from %s to %s)", err, p.From, c.Layer)
		}
		search := o.Conv
		if m.Overlaps() == 1 { // ByOverlaps is the norm
			search.Grid, search.MostDense = 0, 0
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
	b.Gamma = slices.Max(c.Positive) + slices.Max(c.Negative)
	if c.Neurons == nil || c.Neurons.SoftReset {
		return b, nil
	}
	b.response = Response{Decay: float64(c.Neurons.Decay), Threshold: float64(c.Neurons.Threshold), Steps: steps}
	if err := b.response.validate("Connection.Bound"); err != nil {
		return nil, err
	}
	b.Lo, b.Hi = math.Inf(1), math.Inf(-1)
	terms := 0 // of a current
	for _, p := range c.Paths {
		terms += p.Map.Cin * p.Map.KH * p.Map.KW
	}
	for i, bias := range c.Bias {
		lo, hi := b.response.potentials(bias-c.Negative[i], bias+c.Positive[i])
		b.Lo, b.Hi = min(b.Lo, lo), max(b.Hi, hi)
		slack := gammaOf(terms+2) * (c.Positive[i] + c.Negative[i] + 2*math.Abs(bias))
		b.MostDifferences += b.response.mostDifferences(bias-c.Negative[i], bias+c.Positive[i], slack)
	}
	h, w := c.Paths[0].Map.Out()
	b.MostDifferences *= h * w
	return b, nil
}

// Amplification is what a perturbation did to a layer of neurons, for each of N images,
// and what bounds it. Squares of D₂ count the spikes that differ.
type Amplification struct {
	Layer          string
	Neurons, Steps int
	// In is D₂ between the trains of spikes that come in, over all paths; that of an
	// image's path is the distance of the images over all steps. Out is D₂ between those
	// that go out.
	In, Out []float64
	// Currents is the distance ‖I − I'‖₂ over all neurons and steps, and MostCurrents
	// is Σ_p Upper_p·D₂ over the paths p, which bounds it.
	Currents, MostCurrents []float64
	// ByMargin bounds Out² by [Response.MarginBound] from MostCurrents, and
	// ByCurrents, to tell what is lost where, from the measured Currents.
	ByMargin, ByCurrents []int
	// ByReset bounds Out² by [Response.ResetBound] from MostCurrents.
	ByReset []float64
	// Most bounds Out² whatever comes in: the smaller of Neurons·Steps and
	// MostDifferences.
	Most int
}

// Bound returns the smallest of the bounds of Out² of image n that do not rest on
// measured currents.
func (a Amplification) Bound(n int) float64 {
	return min(float64(a.ByMargin[n]), a.ByReset[n], float64(a.Most))
}

// Amplify returns what the perturbation of the images clean does to every layer of
// neurons of m, and the two sides of the bounds of it. bounds are those of all
// [Connections] of m, in their order. Batches and keys are those of [Profile], and so
// are the errors. The bounds of neurons with soft reset are Neurons·Steps.
//
// The bounds are those of neurons that compute exactly: rounding of a potential that
// is at its threshold is not accounted for.
func Amplify(m *snn.Model, bounds []*ConnectionBounds, clean, perturbed tensor.NCHW, keys []rng.Key) ([]Amplification, error) {
	both, keys, err := joined(m, clean, perturbed, keys)
	if err != nil {
		return nil, fmt.Errorf("lipschitz: Amplify: %w", err)
	}
	d := map[string][]float64{} // D₂ of what comes from a layer
	var layers []Amplification
	between := func(layer string, s *tensor.Spikes) {
		a, b := halves(s)
		var failed error
		if d[layer], failed = D(2, a, b); failed != nil {
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
				var a Amplification
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
		return nil, fmt.Errorf("lipschitz: Amplify: %w", err)
	}
	return layers, nil
}

// amplify returns all but what goes out, from the currents of both batches and the
// distances d of what comes in.
func (b *ConnectionBounds) amplify(current *tensor.Dense, steps int, d map[string][]float64) (Amplification, error) {
	a := Amplification{Layer: b.Layer, Neurons: current.Neurons(), Steps: steps, Currents: denseD(2, current, steps)}
	images := len(a.Currents)
	a.In, a.MostCurrents = make([]float64, images), make([]float64, images)
	for i, p := range b.Paths {
		for n, v := range d[p.From] {
			a.In[n] += v * v
			a.MostCurrents[n] += b.Bounds[i].Upper * v
		}
	}
	for n := range a.In {
		a.In[n] = math.Sqrt(a.In[n])
		a.MostCurrents[n] = up(a.MostCurrents[n])
	}
	all := a.Neurons * steps
	a.Most = all
	a.ByMargin, a.ByCurrents = slices.Repeat([]int{all}, images), slices.Repeat([]int{all}, images)
	a.ByReset = slices.Repeat([]float64{math.Inf(1)}, images)
	if b.Neurons == nil || b.Neurons.SoftReset {
		return a, nil
	}
	a.Most = min(all, b.MostDifferences)
	first := firstHalf(current)
	energy := func(distances []float64) []float64 {
		e := make([]float64, images)
		for n, v := range distances {
			e[n] = v * v
		}
		return e
	}
	var err error
	if a.ByMargin, err = b.response.MarginBound(first, energy(a.MostCurrents)); err != nil {
		return a, err
	}
	if a.ByCurrents, err = b.response.MarginBound(first, energy(a.Currents)); err != nil {
		return a, err
	}
	for n, v := range a.MostCurrents {
		if a.ByReset[n], err = b.response.ResetBound(v, b.Lo, b.Hi, a.Neurons); err != nil {
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
