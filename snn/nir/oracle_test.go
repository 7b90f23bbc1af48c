package nir_test

import (
	"math"
	"slices"

	"github.com/org/snnrat/snn/nir"
)

// simulate computes what reaches the output node at every step, by the equations of NIR, node by
// node and step by step in float64. frames[t] is the input of step t.
func simulate(g *nir.Graph, cfg nir.Config, frames [][]float64) (outputs [][]float64) {
	type state struct{ v, i []float64 }
	states := map[string]*state{}
	last := map[string][]float64{} // values of the step before
	for _, frame := range frames {
		now := map[string][]float64{}
		var value func(name string) []float64
		value = func(name string) []float64 {
			if v, ok := now[name]; ok {
				return v
			}
			n := g.Nodes[name]
			if n.Type == "Input" {
				return frame
			}
			var x []float64
			for _, e := range g.Edges {
				if e[1] != name {
					continue
				}
				var v []float64
				if returns(g, name, e[0]) {
					if v = last[name]; e[0] != name && v != nil {
						v = matrix(g.Nodes[e[0]], v)
					}
				} else {
					v = value(e[0])
				}
				for i := range v {
					if len(x) < len(v) {
						x = append(x, 0)
					}
					x[i] += v[i]
				}
			}
			if states[name] == nil {
				s := &state{make([]float64, len(x)), make([]float64, len(x))}
				for i := range s.v {
					switch {
					case cfg.Start == nir.AtLeak && n.Fields["v_leak"].Floats != nil, cfg.Start == nir.AtReset && n.Fields["v_reset"].Floats == nil && n.Fields["v_leak"].Floats != nil:
						s.v[i] = of(n, "v_leak", i, len(x))
					case cfg.Start == nir.AtReset && n.Fields["v_reset"].Floats != nil:
						s.v[i] = of(n, "v_reset", i, len(x))
					}
				}
				states[name] = s
			}
			s := states[name]
			now[name] = node(n, cfg, x, s.v, s.i)
			return now[name]
		}
		outputs = append(outputs, slices.Clone(value("output")))
		last = now
	}
	return outputs
}

// returns reports whether the edge from one node to another is recurrent: from a neuron to
// itself, or from a Linear whose only input is this neuron.
func returns(g *nir.Graph, neuron, from string) bool {
	return from == neuron || g.Nodes[from].Type == "Linear" && slices.Contains(g.Edges, [2]string{neuron, from})
}

// of returns the value of a field for neuron i of n.
func of(n *nir.Node, field string, i, neurons int) float64 {
	v := n.Fields[field].Floats
	if field == "v_reset" && v == nil {
		return 0
	}
	return v[i*len(v)/neurons]
}

func node(n *nir.Node, cfg nir.Config, x, v, cur []float64) []float64 {
	y := make([]float64, len(x))
	step := func(tau float64) float64 { // 1 − λ
		if cfg.Exponential {
			return 1 - math.Exp(-cfg.Dt/tau)
		}
		return cfg.Dt / tau
	}
	switch n.Type {
	case "Output", "Flatten":
		return x
	case "Affine", "Linear":
		return matrix(n, x)
	case "Conv2d", "Conv1d":
		return convolve(n, x)
	case "SumPool2d", "AvgPool2d":
		return pool(n, x)
	case "Scale":
		for i := range x {
			y[i] = x[i] * of(n, "scale", i, len(x))
		}
		return y
	case "Threshold":
		for i := range x {
			if x[i] > of(n, "threshold", i, len(x)) {
				y[i] = 1
			}
		}
		return y
	}
	for i := range x {
		get := func(field string) float64 { return of(n, field, i, len(x)) }
		switch n.Type {
		case "I", "IF":
			v[i] += cfg.Dt * get("r") * x[i]
		case "LI", "LIF":
			v[i] += step(get("tau")) * (get("v_leak") - v[i] + get("r")*x[i])
		case "CubaLI", "CubaLIF":
			cur[i] += step(get("tau_syn")) * (get("w_in")*x[i] - cur[i])
			v[i] += step(get("tau_mem")) * (get("v_leak") - v[i] + get("r")*cur[i])
		}
		if n.Type == "I" || n.Type == "LI" || n.Type == "CubaLI" {
			y[i] = v[i]
			continue
		}
		if v[i] > get("v_threshold") || cfg.AtThreshold && v[i] == get("v_threshold") {
			y[i] = 1
			if cfg.SoftReset {
				v[i] -= get("v_threshold") - get("v_reset")
			} else {
				v[i] = get("v_reset")
			}
		}
	}
	return y
}

func matrix(n *nir.Node, x []float64) []float64 {
	w := n.Fields["weight"]
	y := make([]float64, w.Shape[0])
	for o := range y {
		for i := range x {
			y[o] += w.Floats[o*len(x)+i] * x[i]
		}
		if b := n.Fields["bias"].Floats; b != nil {
			y[o] += b[o]
		}
	}
	return y
}

// two returns a field of one or two numbers as two: those of height and width.
func two(n *nir.Node, field string, missing int) [2]int {
	v := n.Fields[field].Ints
	switch {
	case v == nil:
		return [2]int{missing, missing}
	case len(v) == 1 && n.Type == "Conv1d":
		return [2]int{missing, int(v[0])}
	case len(v) == 1:
		return [2]int{int(v[0]), int(v[0])}
	}
	return [2]int{int(v[0]), int(v[1])}
}

// convolve computes a convolution with the node's input_shape.
func convolve(n *nir.Node, x []float64) (y []float64) {
	w := n.Fields["weight"]
	size := n.Fields["input_shape"].Ints
	h, wd := int(size[0]), int(size[len(size)-1])
	k := [2]int{1, w.Shape[len(w.Shape)-1]}
	if n.Type == "Conv2d" {
		k[0] = w.Shape[2]
	} else {
		h = 1
	}
	stride, dilation := two(n, "stride", 1), two(n, "dilation", 1)
	var before, after [2]int
	if text := n.Fields["padding"].Texts; text == nil {
		before = two(n, "padding", 0)
		after = before
	} else if text[0] == "same" {
		for d := range 2 {
			total := dilation[d] * (k[d] - 1)
			before[d], after[d] = total/2, total-total/2
		}
	}
	groups := int(n.Fields["groups"].Ints[0])
	rows := (h+before[0]+after[0]-dilation[0]*(k[0]-1)-1)/stride[0] + 1
	columns := (wd+before[1]+after[1]-dilation[1]*(k[1]-1)-1)/stride[1] + 1
	for o := range w.Shape[0] {
		for r := range rows {
			for c := range columns {
				sum := n.Fields["bias"].Floats[o]
				for i := range w.Shape[1] {
					for ky := range k[0] {
						for kx := range k[1] {
							yy, xx := r*stride[0]+ky*dilation[0]-before[0], c*stride[1]+kx*dilation[1]-before[1]
							if yy < 0 || yy >= h || xx < 0 || xx >= wd {
								continue
							}
							from := o/(w.Shape[0]/groups)*w.Shape[1] + i
							sum += w.Floats[((o*w.Shape[1]+i)*k[0]+ky)*k[1]+kx] * x[(from*h+yy)*wd+xx]
						}
					}
				}
				y = append(y, sum)
			}
		}
	}
	return y
}

// pool computes a pooling; metadata height and width are those of its input.
func pool(n *nir.Node, x []float64) (y []float64) {
	h, w := int(n.Metadata["height"].Ints[0]), int(n.Metadata["width"].Ints[0])
	k, stride, pad := two(n, "kernel_size", 1), two(n, "stride", 1), two(n, "padding", 0)
	for c := range len(x) / (h * w) {
		for r := range (h+2*pad[0]-k[0])/stride[0] + 1 {
			for q := range (w+2*pad[1]-k[1])/stride[1] + 1 {
				sum := 0.
				for ky := range k[0] {
					for kx := range k[1] {
						yy, xx := r*stride[0]+ky-pad[0], q*stride[1]+kx-pad[1]
						if yy >= 0 && yy < h && xx >= 0 && xx < w {
							sum += x[(c*h+yy)*w+xx]
						}
					}
				}
				if n.Type == "AvgPool2d" {
					sum /= float64(k[0] * k[1])
				}
				y = append(y, sum)
			}
		}
	}
	return y
}
