package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
	"gonum.org/v1/gonum/stat"
)

// unitCurrents is the initialization of scaleCurrents.
const unitCurrents = "currents of root mean square 1"

// neuronLayers returns the names of the layers of neurons.
func neuronLayers(m *snn.Model) (names []string) {
	for _, r := range m.Summary().Rows {
		if r.Neurons > 0 {
			names = append(names, r.Name)
		}
	}
	return names
}

// stage is a layer of neurons and the parameters that make its currents.
type stage struct {
	layer  string
	weight *autograd.Param
	// scaling are the parameters that the currents are proportional to: those of batch norm, or
	// the weight and its bias.
	scaling []*autograd.Param
}

// stagesOf returns the layers of neurons in their order, and the weight of the output. Each layer
// of neurons must be fed by one weight, as in a VGG.
func stagesOf(m *snn.Model) ([]stage, *autograd.Param, error) {
	var stages []stage
	for _, p := range m.Params() {
		if len(p.Shape) > 1 {
			stages = append(stages, stage{weight: p, scaling: []*autograd.Param{p}})
			continue
		}
		if len(stages) == 0 {
			return nil, nil, fmt.Errorf("parameter %s: expected a weight first", p.Name)
		}
		s := &stages[len(stages)-1]
		if p.Name == strings.TrimSuffix(s.weight.Name, ".weight")+".bias" || s.scaling[0] != s.weight {
			s.scaling = append(s.scaling, p)
		} else {
			s.scaling = []*autograd.Param{p} // of batch norm
		}
	}
	layers := neuronLayers(m)
	if len(stages) != len(layers)+1 {
		return nil, nil, fmt.Errorf("%d weights and %d layers of neurons: expected one weight for each layer and one for the output", len(stages), len(layers))
	}
	for k, layer := range layers {
		stages[k].layer = layer
	}
	return stages[:len(layers)], stages[len(layers)].weight, nil
}

// firstImages returns the first n images of a set, or all.
func firstImages(set *dataset.Set, n int) (tensor.NCHW, error) {
	x := tensor.NewNCHW(min(n, set.N), set.C, set.H, set.W)
	first := make([]int, x.N)
	for i := range first {
		first[i] = i
	}
	return x, set.Fill(x, first)
}

// onCurrents calls fn with the currents of a layer of neurons for images. They are valid during
// the call.
func onCurrents(m *snn.Model, layer string, g snn.Gradient, x tensor.NCHW, fn func(*tensor.Dense)) error {
	_, err := m.Logits(snn.Pass{Gradient: g, OnNeurons: func(p *snn.Pass, n snn.Neuron, currents, _ *autograd.Value) {
		if n.Name() == layer {
			fn(autograd.Densify(p.Tape, currents).Dense())
		}
	}}, x)
	return err
}

// multiply multiplies the values of parameters by a factor.
func multiply(factor float64, ps ...*autograd.Param) {
	for _, p := range ps {
		for i, v := range p.MutableData() {
			p.Data()[i] = v * float32(factor)
		}
	}
}

// scaleCurrents scales the parameters of a network, layer by layer from the first. The currents of
// each layer of neurons then have the root mean square 1 for the first images of a set (Mishkin,
// Matas: All you need is a good init, ICLR 2016). Without batch norm, hardly any neuron of a deep
// network would fire otherwise. Each layer of neurons must be fed by one weight, as in a VGG.
func scaleCurrents(m *snn.Model, set *dataset.Set) error {
	stages, _, err := stagesOf(m)
	if err != nil {
		return err
	}
	x, err := firstImages(set, 64)
	if err != nil {
		return err
	}
	for _, s := range stages {
		var square, count float64
		err := onCurrents(m, s.layer, nil, x, func(d *tensor.Dense) {
			for _, v := range d.Data { // the padding is zero
				square += float64(v) * float64(v)
			}
			count = float64(d.Frames()) * float64(d.Neurons())
		})
		if err != nil {
			return err
		}
		if square == 0 {
			return fmt.Errorf("layer %s has no currents: expected some to scale", s.layer)
		}
		multiply(1/math.Sqrt(square/count), s.scaling...)
	}
	return nil
}

// canBalance returns an error if balance cannot scale a network.
func canBalance(m *snn.Model, share float64) error {
	if !(share > 0 && share <= 1) {
		return fmt.Errorf("quantile %v: expected a share in (0, 1]", share)
	}
	_, _, err := stagesOf(m)
	return err
}

// balance scales the parameters of a network. In each layer of its ReLU network, this share of the
// currents is then at most the threshold 1 for the first images of a set. The logits stay the same, up
// to rounding. Spikes cannot express currents above the threshold (Diehl et al.: Fast-classifying,
// high-accuracy spiking deep networks through weight and threshold balancing, IJCNN 2015). Each layer
// of neurons must be fed by one weight, as in a VGG.
func balance(m *snn.Model, set *dataset.Set, share float64) error {
	stages, output, err := stagesOf(m)
	if err != nil {
		return err
	}
	x, err := firstImages(set, 256)
	if err != nil {
		return err
	}
	for k, s := range stages {
		var sorted []float64
		err := onCurrents(m, s.layer, snn.CBA{}, x, func(d *tensor.Dense) {
			values := d.Unpack().Data
			sorted = make([]float64, len(values))
			for i, v := range values {
				sorted[i] = float64(v)
			}
		})
		if err != nil {
			return err
		}
		slices.Sort(sorted)
		most := stat.Quantile(share, stat.Empirical, sorted, nil)
		if most <= 0 {
			return fmt.Errorf("layer %s: a share of %v of its currents is at most %v: expected a positive one to scale", s.layer, share, most)
		}
		next := output
		if k+1 < len(stages) {
			next = stages[k+1].weight
		}
		multiply(1/most, s.scaling...)
		multiply(most, next)
	}
	return nil
}
