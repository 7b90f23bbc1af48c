package lipschitz

import (
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// LayerDistance is the distance that a perturbation causes at a layer of neurons.
type LayerDistance struct {
	Layer  string       // name of the neurons in the model, such as features.2
	Shape  tensor.Shape // of their spikes
	P      float64      // p of D_p
	D      []float64    // D_p for each image
	Spikes []int        // number of spikes of each clean image, over all neurons and steps
}

// PerNeuron returns D_p/(T·C·H·W)^(1/p) for each image. For spikes it is at most 1.
func (l LayerDistance) PerNeuron() []float64 {
	return l.over(func(int) float64 { return float64(l.Shape.Steps * l.Shape.Neurons()) })
}

// PerSpike returns D_p divided by the p-th root of the number of spikes of the clean image.
// For spikes this is D_p relative to the distance from silence. It is +Inf for a distance
// without clean spikes, and 0 for the distance 0.
func (l LayerDistance) PerSpike() []float64 {
	return l.over(func(n int) float64 { return float64(l.Spikes[n]) })
}

func (l LayerDistance) over(count func(n int) float64) []float64 {
	d := make([]float64, len(l.D))
	for n, v := range l.D {
		if v != 0 {
			d[n] = v / math.Pow(count(n), 1/l.P)
		}
	}
	return d
}

// SpikeDistances returns the distance D_p, p ≥ 1, between the spikes of clean and of
// perturbed images. It has one element for each layer of neurons of m, in the order in
// which the layers run.
//
// Both batches hold N images with values in [0,1]. Image n of one batch belongs to image n
// of the other. A random encoding draws the same numbers for both images, from keys[n] as in
// [snn.Pass]. keys can be nil.
//
// SpikeDistances runs m in evaluation mode on all 2·N images at once. It returns an error
// if p is out of range, if the batches do not fit the model or each other, or if a parameter
// of the model is not finite.
func SpikeDistances(m *snn.Model, p float64, clean, perturbed tensor.NCHW, keys []rng.Key) ([]LayerDistance, error) {
	_, spikes, err := profile(m, p, clean, perturbed, keys, false)
	return spikes, err
}

// CurrentDistances is like [SpikeDistances] for the input currents of the neurons,
//
//	D_p = (Σ_t ‖I(t) − I'(t)‖_p^p)^(1/p)
//
// over the neurons and T steps.
func CurrentDistances(m *snn.Model, p float64, clean, perturbed tensor.NCHW, keys []rng.Key) ([]LayerDistance, error) {
	currents, _, err := profile(m, p, clean, perturbed, keys, true)
	return currents, err
}

// profile returns the distances of the spikes, and those of the currents if they are wanted.
func profile(m *snn.Model, p float64, clean, perturbed tensor.NCHW, keys []rng.Key, wantCurrents bool) (currents, spikes []LayerDistance, err error) {
	op := "SpikeDistances"
	if wantCurrents {
		op = "CurrentDistances"
	}
	if !(p >= 1) || math.IsInf(p, 0) {
		return nil, nil, fmt.Errorf("lipschitz: %s: p is %v; expected a finite number of at least 1", op, p)
	}
	both, keys, err := joined(m, clean, perturbed, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("lipschitz: %s: %w", op, err)
	}
	pass := snn.Pass{Keys: keys, OnSpikes: func(layer string, s *tensor.Spikes) {
		a, b := halves(s)
		var d []float64
		if d, err = Distance(p, a, b); err != nil {
			return
		}
		spikes = append(spikes, LayerDistance{Layer: layer, Shape: a.Shape, P: p, D: d, Spikes: counts(a)})
	}}
	if wantCurrents {
		pass.Gradient = tap{Gradient: snn.BPTT{}, show: func(_ string, current *tensor.Dense, steps int) {
			currents = append(currents, LayerDistance{P: p, D: denseD(p, current, steps)})
		}}
	}
	if _, failed := m.Logits(pass, both); failed != nil {
		return nil, nil, fmt.Errorf("lipschitz: %s: %w", op, failed)
	}
	for i := range currents {
		for _, d := range currents[i].D {
			if d-d != 0 {
				return nil, nil, fmt.Errorf("lipschitz: CurrentDistances: the currents of %s are %v apart; expected finite numbers", spikes[i].Layer, d)
			}
		}
		currents[i].Layer, currents[i].Shape, currents[i].Spikes = spikes[i].Layer, spikes[i].Shape, spikes[i].Spikes
	}
	return currents, spikes, err
}

// joined checks the arguments of [SpikeDistances]. It returns both batches as one, with a
// key for each image.
func joined(m *snn.Model, clean, perturbed tensor.NCHW, keys []rng.Key) (tensor.NCHW, []rng.Key, error) {
	if clean.N != perturbed.N {
		return tensor.NCHW{}, nil, fmt.Errorf("%d clean and %d perturbed images; expected as many", clean.N, perturbed.N)
	}
	if keys != nil && len(keys) != clean.N {
		return tensor.NCHW{}, nil, fmt.Errorf("%d keys for %d images; expected as many", len(keys), clean.N)
	}
	if err := m.ValidateImages(clean); err != nil {
		return tensor.NCHW{}, nil, fmt.Errorf("clean images: %w", err)
	}
	if err := m.ValidateImages(perturbed); err != nil {
		return tensor.NCHW{}, nil, fmt.Errorf("perturbed images: %w", err)
	}
	// The comparison with the threshold would hide a NaN.
	for _, q := range m.State() {
		if i := slices.IndexFunc(q.Data(), func(v float32) bool { return v-v != 0 }); i >= 0 {
			return tensor.NCHW{}, nil, fmt.Errorf("%s holds %v; expected finite values", q.Name, q.Data()[i])
		}
	}
	shape := clean.Shape()
	if perturbed.Shape() != shape {
		return tensor.NCHW{}, nil, fmt.Errorf("clean images %v and perturbed images %v; expected the same shape", clean, perturbed)
	}
	shape.N *= 2
	both := tensor.NewFrames(shape)
	copy(both.Data[copy(both.Data, clean.Data):], perturbed.Data)
	if keys == nil {
		keys = make([]rng.Key, clean.N)
		for i := range keys {
			keys[i] = rng.New(0).Derive("image", uint64(i))
		}
	}
	return both, append(slices.Clone(keys), keys...), nil
}

// tap is a gradient that passes the encoded image and the currents of every layer of neurons
// to its functions.
type tap struct {
	snn.Gradient
	image func(x *autograd.Value) // can be nil
	show  func(layer string, current *tensor.Dense, steps int)
}

// Encode implements [snn.Gradient].
func (t tap) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	y := t.Gradient.Encode(p, e, x)
	if t.image != nil {
		t.image(y)
	}
	return y
}

// Fire implements [snn.Gradient].
func (t tap) Fire(p *snn.Pass, n snn.Neuron, current *autograd.Value) *autograd.Value {
	x := autograd.Densify(p.Tape, current) // the spikes of a layer before, or of the encoder, are no dense values
	t.show(n.Name(), x.Dense(), p.Steps)
	if x != current {
		p.Tape.Release(x)
	}
	return t.Gradient.Fire(p, n, current)
}

// denseD returns D_p between the first and the second half of the images of x. x has T
// steps, or 1 step that stands for all of them.
func denseD(p float64, x *tensor.Dense, steps int) []float64 {
	half := x.N / 2
	image := x.Steps * x.Pixels() * tensor.Lanes // floats of an image in a block of channels
	d := make([]float64, half)
	for n := range d {
		var sum float64
		for block := range x.Blocks() {
			a := x.Data[(block*x.N+n)*image:][:image]
			b := x.Data[(block*x.N+half+n)*image:][:image]
			for i, v := range a {
				sum += math.Pow(math.Abs(float64(v)-float64(b[i])), p)
			}
		}
		d[n] = math.Pow(sum*float64(steps)/float64(x.Steps), 1/p)
	}
	return d
}

// halves copies the first and the second half of the images of s.
func halves(s *tensor.Spikes) (a, b *tensor.Spikes) {
	shape := s.Shape
	shape.N /= 2
	a, b = tensor.NewSpikes(shape), tensor.NewSpikes(shape)
	size := len(s.Bits) / s.Blocks() / 2
	for block := range s.Blocks() {
		copy(a.Bits[block*size:][:size], s.Bits[2*block*size:])
		copy(b.Bits[block*size:][:size], s.Bits[(2*block+1)*size:])
	}
	return a, b
}

// counts returns the number of spikes of each image.
func counts(s *tensor.Spikes) []int {
	silent := tensor.NewSpikes(s.Shape)
	d, err := Distance(1, s, silent)
	if err != nil {
		panic(err)
	}
	n := make([]int, len(d))
	for i, v := range d {
		n[i] = int(v)
	}
	return n
}
