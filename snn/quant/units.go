package quant

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// chooseUnits sets the units and gains of all nodes.
func (c *converter) chooseUnits(out signal) {
	sums := map[*node][]*node{} // the nodes of each root
	for _, n := range c.nodes {
		sums[n.root] = append(sums[n.root], n)
		n.largest = make([]float64, n.conv.Cout)
		row := len(n.weight) / n.conv.Cout
		for i, w := range n.weight {
			n.largest[i/row] = max(n.largest[i/row], math.Abs(w)/n.rel/c.cfg.most())
		}
	}
	for _, n := range c.nodes {
		if n.root == n {
			n.chooseUnit(sums[n])
		}
	}
	for _, r := range c.reads {
		if r.alone {
			for i, b := range r.node.bias {
				r.node.unit[i] = max(r.node.unit[i], max(r.threshold, math.Abs(b))/mostUnits)
			}
		}
	}
	if n := out.node; n != nil { // one unit for all classes
		u := 0.
		for i, b := range n.bias {
			u = max(u, n.root.unit[i], math.Abs(b)/n.rel/mostUnits)
		}
		for i := range n.root.unit {
			n.root.unit[i] = u
		}
	}
	for _, n := range c.nodes {
		for i, u := range n.unit {
			if u == 0 { // no weights, and no neurons that read it alone
				n.unit[i] = 1
			}
		}
		if len(sums[n.root]) == 1 {
			continue
		}
		for i, v := range n.largest {
			n.conv.Gain = append(n.conv.Gain, int32(max(1, math.Ceil(v/n.root.unit[i]-1e-6))))
		}
	}
}

// chooseUnit sets the unit of each channel of a sum of nodes, n the first. It is a fraction of
// the smallest that would do for one of them, so that gains round little. No gain is above
// mostGain.
func (n *node) chooseUnit(sum []*node) {
	n.unit = slices.Clone(n.largest)
	if len(sum) == 1 {
		return
	}
	for i := range n.unit {
		least, most := math.Inf(1), 0.
		for _, q := range sum {
			if v := q.largest[i]; v > 0 {
				least, most = min(least, v), max(most, v)
			}
		}
		if n.unit[i] = 0; most > 0 {
			n.unit[i] = max(least/4, most/mostGain)
		}
	}
}

// mostGain bounds the gains of convolutions in residual networks. 255 and a small factor are for
// sums of convolutions of the image and of spikes.
const mostGain = 2048

// gain returns the gain of channel o.
func (c *Conv) gain(o int) int32 {
	if c.Gain == nil {
		return 1
	}
	return c.Gain[o]
}

// unitOf returns what a weight of 1 in channel o is in the float network.
func (n *node) unitOf(o int) float64 { return float64(n.conv.gain(o)) * n.rel * n.root.unit[o] }

// quantize sets the integers of the convolution.
func (n *node) quantize(most float64) {
	row := len(n.weight) / n.conv.Cout
	n.conv.Weight = make([]int8, len(n.weight))
	for i, w := range n.weight {
		n.conv.Weight[i] = int8(max(-most, min(most, math.Round(w/n.unitOf(i/row)))))
	}
	for _, u := range n.root.unit {
		n.conv.Scale = append(n.conv.Scale, float32(n.rel*u))
	}
}

// round sets the weights of the float network to those of the convolution.
func (n *node) round() {
	row, k := len(n.weight)/n.conv.Cout, n.conv.KH*n.conv.KW
	was := n.param.Export()
	for i, q := range n.conv.Weight {
		if f := n.out[i/row] * n.in[i/k%n.conv.Cin]; f != 0 {
			was[i] = float32(float64(q) * n.unitOf(i/row) / f)
		}
	}
	n.param.Import(was)
}

// quantize sets the integers of the neurons.
func (r *pending) quantize(cfg Config) {
	n := r.neurons
	for i, b := range r.node.bias {
		a, gain := 1., int32(1)
		if r.scale != nil {
			a = r.scale[i]
			b = a*b + r.shift[i]
		}
		unit, largest := math.Abs(a)*r.node.rel*r.node.root.unit[i], max(r.threshold, math.Abs(b))
		switch {
		case largest > unit*16*mostUnits: // the currents do not matter
			unit, gain = largest/mostUnits, 0
		case a < 0:
			gain = -1
		}
		n.Gain = append(n.Gain, gain)
		n.Bias = append(n.Bias, int32(math.Round(b/unit)))
		n.Threshold = append(n.Threshold, max(1, int32(math.Round(r.threshold/unit))))
	}
	if r.alone || !slices.ContainsFunc(n.Gain, func(g int32) bool { return g != 1 }) {
		n.Gain = nil
	}
}

// output sets the bias and the scale of the logits.
func (c *converter) output(out signal) error {
	steps := float64(c.model.Steps)
	if out.node == nil {
		c.net.Bias, c.net.Scale = make([]int32, out.c), out.worth[0]/steps
		return nil
	}
	n := out.node
	if out.scale != nil {
		return errors.New("the output is batch norm of a residual sum: expected a linear layer")
	}
	unit := n.rel * n.root.unit[0]
	c.net.Scale = unit / steps
	for _, b := range n.bias {
		v := math.Round(steps * b / unit)
		if math.Abs(v) > math.MaxInt32 {
			return fmt.Errorf("layer %s: a bias of %v in units of %v could overflow int32", n.conv.Name, v, unit)
		}
		c.net.Bias = append(c.net.Bias, int32(v))
	}
	return nil
}
