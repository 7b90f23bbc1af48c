package nir

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// GraphOf returns the graph of a network, for time steps of dt seconds, and notes about what the
// graph does not say. Its time constants are those of Euler steps, as [Graph.Model] takes them by
// default: the network of the graph then has the same weights, decays and thresholds. It returns
// an error that names a layer for which NIR has no node.
//
// Batch norm has its running statistics. It becomes part of the convolution or the linear layer
// before it, where that is all that its input comes from and nothing else reads that layer's output. It
// is a convolution of 1×1 pixels elsewhere.
func GraphOf(m *snn.Model, dt float64) (*Graph, []Note, error) {
	if !(dt > 0) || math.IsInf(dt, 0) {
		return nil, nil, fmt.Errorf("nir: a time step of %v: want a finite number above 0", dt)
	}
	if err := m.ValidateParams(); err != nil {
		return nil, nil, fmt.Errorf("nir: %w", err)
	}
	if _, direct := m.Encoder.(snn.Direct); m.Encoder != nil && !direct {
		return nil, nil, fmt.Errorf("nir: the encoder %T is no node of NIR: want snn.Direct", m.Encoder)
	}
	x := &exporter{g: &Graph{Version: Version, Nodes: map[string]*Node{}}, dt: dt, shape: []int{m.Channels, m.Height, m.Width}}
	if m.Height == 1 && m.Width == 1 {
		x.shape = x.shape[:1]
	}
	x.node("input", "Input", map[string]Array{"shape": whole(x.shape...)})
	if mean, std := m.Normalization(); mean != nil {
		scale, shift := make([]float64, m.Channels), make([]float64, m.Channels)
		for c := range scale {
			scale[c], shift[c] = 1/float64(std[c]), -float64(mean[c])/float64(std[c])
		}
		x.channels("normalize", scale, shift)
	}
	if err := x.layer("", m.Body()); err != nil {
		return nil, nil, fmt.Errorf("nir: %w", err)
	}
	x.node("output", "Output", map[string]Array{"shape": whole(x.shape...)})
	x.note("output", "the mean over %d steps, which makes logits of its values, is not part of a graph", m.Steps)
	return x.g, x.notes, nil
}

// An exporter makes a graph of layers.
type exporter struct {
	g     *Graph
	dt    float64
	from  []string // the nodes whose values add up to the present one
	shape []int    // of the present value
	fork  string   // the node whose value the shortcut of the last residual block reads
	notes []Note
}

func (x *exporter) note(node, format string, args ...any) {
	x.notes = append(x.notes, Note{node, fmt.Sprintf(format, args...)})
}

func whole(v ...int) Array {
	a := Array{Type: "i8", Shape: []int{len(v)}}
	for _, i := range v {
		a.Ints = append(a.Ints, int64(i))
	}
	return a
}

// singles returns the values of a parameter.
func singles(p *autograd.Param) Array {
	return Array{Type: "f4", Shape: slices.Clone(p.Shape), Floats: float64s(p.Export())}
}

func float64s(v []float32) []float64 {
	d := make([]float64, len(v))
	for i, x := range v {
		d[i] = float64(x)
	}
	return d
}

// node adds a node behind the present value, and makes its output the present value.
func (x *exporter) node(name, kind string, fields map[string]Array) *Node {
	if name == "" { // the only layer of a network may have no name
		name = strings.ToLower(kind)
	}
	for base, i := name, 1; x.g.Nodes[name] != nil; i++ {
		name = base + "_" + strconv.Itoa(i)
	}
	n := &Node{Type: kind, Fields: fields}
	x.g.Nodes[name] = n
	for _, f := range x.from {
		x.g.Edges = append(x.g.Edges, [2]string{f, name})
	}
	x.from = []string{name}
	return n
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func (x *exporter) layer(name string, l snn.Layer) error {
	switch l := l.(type) {
	case *snn.Sequential:
		for i, inner := range l.Layers() {
			if err := x.layer(join(name, l.Names()[i]), inner); err != nil {
				return err
			}
		}
		return nil
	case *snn.Residual:
		return x.residual(name, l)
	case *network:
		return x.network(name, l)
	case *snn.Dropout:
		return nil // passes its input on in an evaluation
	case *snn.Conv2D:
		if len(x.shape) == 1 {
			return fmt.Errorf("layer %s: a convolution of one pixel is no node of NIR: want a linear layer", name)
		}
		x.conv(name, l)
	case *snn.Linear:
		if len(x.shape) > 1 { // one pixel
			if err := x.layer(join(name, "flatten"), snn.Flatten{}); err != nil {
				return err
			}
		}
		fields := map[string]Array{"weight": singles(l.Weight)}
		kind := "Linear"
		if l.Bias != nil {
			kind, fields["bias"] = "Affine", singles(l.Bias)
		}
		x.node(name, kind, fields)
		x.shape = []int{l.Weight.Shape[0]}
	case *snn.BatchNorm:
		x.batchNorm(name, l)
	case snn.AvgPool:
		if len(x.shape) == 1 { // of one pixel
			return nil
		}
		k := []int{l.K, l.K}
		if l.K == 0 {
			k = x.shape[1:]
		}
		x.node(name, "AvgPool2d", map[string]Array{"kernel_size": whole(k...), "stride": whole(k...), "padding": whole(0, 0)})
		x.shape = []int{x.shape[0], x.shape[1] / k[0], x.shape[2] / k[1]}
	case snn.Flatten:
		if len(x.shape) == 1 {
			return nil
		}
		x.node(name, "Flatten", map[string]Array{"start_dim": Ints(nil, 0), "end_dim": Ints(nil, -1), "input_type": whole(x.shape...)})
		n := 1
		for _, d := range x.shape {
			n *= d
		}
		x.shape = []int{n}
	case *Scale:
		x.node(name, "Scale", map[string]Array{"scale": Floats(slices.Clone(x.shape), l.Factor...)})
	case *Integrator:
		return x.integrator(name, l)
	case *snn.LIF:
		return x.lif(name, l)
	case *snn.GLIF:
		return x.glif(name, l)
	default:
		return fmt.Errorf("layer %s: a %T is no node of NIR", name, l)
	}
	return nil
}

func (x *exporter) conv(name string, l *snn.Conv2D) {
	bias := Array{Type: "f4", Shape: []int{l.Weight.Shape[0]}, Floats: make([]float64, l.Weight.Shape[0])}
	if l.Bias != nil {
		bias = singles(l.Bias)
	}
	h, w := x.shape[1], x.shape[2]
	x.node(name, "Conv2d", map[string]Array{"input_shape": whole(h, w), "weight": singles(l.Weight), "bias": bias,
		"stride": whole(l.Stride, l.Stride), "padding": whole(l.Pad, l.Pad), "dilation": whole(1, 1), "groups": Ints(nil, 1)})
	out := func(n, k int) int { return (n+2*l.Pad-k)/l.Stride + 1 }
	x.shape = []int{l.Weight.Shape[0], out(h, l.Weight.Shape[2]), out(w, l.Weight.Shape[3])}
}

// channels adds y = scale·x + shift for each channel.
func (x *exporter) channels(name string, scale, shift []float64) {
	c := len(scale)
	if len(x.shape) == 1 {
		w := Floats([]int{c, c}, make([]float64, c*c)...)
		for i, s := range scale {
			w.Floats[i*c+i] = s
		}
		x.node(name, "Affine", map[string]Array{"weight": w, "bias": Floats([]int{c}, shift...)})
		return
	}
	x.node(name, "Conv2d", map[string]Array{"input_shape": whole(x.shape[1:]...), "weight": Floats([]int{c, 1, 1, 1}, scale...), "bias": Floats([]int{c}, shift...),
		"stride": whole(1, 1), "padding": whole(0, 0), "dilation": whole(1, 1), "groups": Ints(nil, int64(c))})
}

func (x *exporter) batchNorm(name string, l *snn.BatchNorm) {
	weight, bias, mean, variance := l.Weight.Export(), l.Bias.Export(), l.RunningMean.Export(), l.RunningVar.Export()
	scale, shift := make([]float64, len(weight)), make([]float64, len(weight))
	for c := range scale {
		scale[c] = float64(weight[c]) / math.Sqrt(float64(variance[c])+float64(l.Eps))
		shift[c] = float64(bias[c]) - scale[c]*float64(mean[c])
	}
	before := x.g.Nodes[x.from[0]]
	if len(x.from) > 1 || x.from[0] == x.fork || before.Type != "Conv2d" && before.Type != "Affine" && before.Type != "Linear" {
		x.channels(name, scale, shift)
		return
	}
	w, b := before.Fields["weight"], before.Fields["bias"]
	w.Type, w.Floats = "f8", slices.Clone(w.Floats)
	each := len(w.Floats) / len(scale)
	for i := range w.Floats {
		w.Floats[i] *= scale[i/each]
	}
	folded := Floats([]int{len(scale)}, shift...)
	for c, v := range b.Floats {
		folded.Floats[c] += v * scale[c]
	}
	before.Fields["weight"], before.Fields["bias"] = w, folded
	if before.Type == "Linear" {
		before.Type = "Affine"
	}
	x.note(x.from[0], "has the batch norm %s in its weights, in another order of rounding", name)
}

// residual exports y = comb[0]·shortcut + comb[1]·branch.
func (x *exporter) residual(name string, l *snn.Residual) error {
	start, shape := x.from, x.shape
	if l.Short == nil {
		x.fork = start[0]
	}
	comb := l.Comb.Export()
	run := func(layers map[string]snn.Layer, order ...string) error {
		for _, n := range order {
			if err := x.layer(join(name, n), layers[n]); err != nil {
				return err
			}
		}
		return nil
	}
	layers := map[string]snn.Layer{"n1": l.N1, "conv1": l.Conv1, "n2": l.N2, "conv2": l.Conv2, "conv_s": l.Short}
	stem, branch := []string{"n1"}, []string{"conv1", "n2", "conv2"}
	if l.BN1 != nil {
		layers["bn1"], stem = l.BN1, []string{"bn1", "n1"}
	}
	if l.BN2 != nil {
		layers["bn2"], branch = l.BN2, []string{"conv1", "bn2", "n2", "conv2"}
	}
	if err := run(layers, stem...); err != nil {
		return err
	}
	fork, forked := x.from, x.shape
	if err := run(layers, branch...); err != nil {
		return err
	}
	sum := x.scale(join(name, "branch"), comb[1])
	if l.Short != nil {
		x.from, x.shape = fork, forked
		if err := run(layers, "conv_s"); err != nil {
			return err
		}
	} else {
		x.from, x.shape = start, shape
	}
	x.from = append(x.scale(join(name, "shortcut"), comb[0]), sum...)
	return nil
}

// scale adds a node that multiplies the present value, and returns its name.
func (x *exporter) scale(name string, by float32) []string {
	x.node(name, "Scale", map[string]Array{"scale": x.fill(float64(by))})
	return x.from
}

func (x *exporter) network(name string, l *network) error {
	from, shapes := [][]string{x.from}, [][]int{x.shape}
	for _, n := range l.nodes {
		var sum []string
		for k, f := range n.from {
			x.from, x.shape = from[f], shapes[f]
			// What is added to a sum is one node, so that its own sum comes first, and not the same one twice.
			if k > 0 && (len(x.from) > 1 || slices.Contains(sum, x.from[0])) {
				x.scale(join(name, n.name+".part"), 1)
			}
			sum = append(sum, x.from...)
		}
		x.from = sum
		if n.layer != nil {
			if err := x.layer(join(name, n.name), n.layer); err != nil {
				return err
			}
		}
		from, shapes = append(from, x.from), append(shapes, x.shape)
	}
	return nil
}
