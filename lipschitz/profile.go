package lipschitz

import (
	"fmt"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// LayerDistance is how far a perturbation has moved a layer of neurons.
type LayerDistance struct {
	Layer string       // the neurons' name in the model, such as features.2
	Shape tensor.Shape // of their spikes
	D     []float64    // D_p of the spike trains, for each image
}

// Profile returns the distance D_p, p ≥ 1, between the spikes that the images of
// clean and of perturbed cause in every layer of neurons of m, in the order in which
// the layers run. Both batches hold N images with values in [0,1]; image n of one
// belongs to image n of the other, and what is random in the encoding is drawn alike
// for both, from keys[n], as in [snn.Pass]; keys may be nil.
//
// The model is evaluated as it is, in evaluation mode. The spikes of both batches
// are held meanwhile, a bit a neuron, step and image. Profile returns an error if p
// is out of range, if the batches do not fit the model or each other, or if a
// parameter of the model is not finite.
func Profile(m *snn.Model, p float64, clean, perturbed tensor.NCHW, keys []rng.Key) ([]LayerDistance, error) {
	if clean.N != perturbed.N {
		return nil, fmt.Errorf("lipschitz: Profile: %d clean and %d perturbed images; expected as many", clean.N, perturbed.N)
	}
	// A NaN would end at the first neuron, which it keeps silent.
	for _, q := range m.State() {
		if i := slices.IndexFunc(q.Data(), func(v float32) bool { return v-v != 0 }); i >= 0 {
			return nil, fmt.Errorf("lipschitz: Profile: %s holds %v; expected finite values", q.Name, q.Data()[i])
		}
	}
	a, err := spikes(m, clean, keys)
	if err != nil {
		return nil, fmt.Errorf("lipschitz: Profile: clean images: %w", err)
	}
	b, err := spikes(m, perturbed, keys)
	if err != nil {
		return nil, fmt.Errorf("lipschitz: Profile: perturbed images: %w", err)
	}
	profile := make([]LayerDistance, len(a))
	for i := range a {
		d, err := D(p, a[i].Spikes, b[i].Spikes)
		if err != nil {
			return nil, err
		}
		profile[i] = LayerDistance{Layer: a[i].layer, Shape: a[i].Shape, D: d}
	}
	return profile, nil
}

type layerSpikes struct {
	layer string
	*tensor.Spikes
}

// spikes returns those that x causes in every layer of neurons.
func spikes(m *snn.Model, x tensor.NCHW, keys []rng.Key) (all []layerSpikes, err error) {
	_, err = m.Evaluate(snn.Pass{Keys: keys, Observe: func(layer string, s *tensor.Spikes) {
		all = append(all, layerSpikes{layer, &tensor.Spikes{Shape: s.Shape, Bits: slices.Clone(s.Bits)}})
	}}, x)
	return all, err
}
