package nir

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Config says what a NIR graph leaves open: how its equations are computed in steps of time.
type Config struct {
	Dt    float64 // the time step, in the unit of the graph's time constants; finite and positive
	Steps int     // number of time steps, from 1 to 65536
	// Exponential solves the leak exactly, λ = e^(−dt/τ). By default a step is one of Euler,
	// λ = 1 − dt/τ. The input counts 1 − λ times in both.
	Exponential bool
	// AtThreshold lets a neuron fire at its threshold, and not only above it as NIR says.
	AtThreshold bool
	// SoftReset lowers the potential by v_threshold − v_reset after a spike. By default, as NIR
	// says, the potential becomes v_reset.
	SoftReset bool
	// Start is the potential before the first step, of which NIR says nothing.
	Start Start
	// Surrogate is that of the neurons, or nil for that of snn.NewLIF.
	Surrogate snn.Surrogate
	// Encoder is that of the model, or nil for snn.Direct.
	Encoder snn.Encoder
}

// Start says which potential neurons have before the first step.
type Start int

const (
	AtZero  Start = iota // 0
	AtLeak               // v_leak, which is 0 for an IF or I
	AtReset              // v_reset, which is v_leak for an LI or CubaLI
)

// A Note says what a conversion did to a node that its reader might not expect.
type Note struct {
	Node, Text string
}

// String returns the note behind its node's name.
func (n Note) String() string { return n.Node + ": " + n.Text }

// Model makes a network of the graph, and returns notes about all that is not what the graph says to
// the letter. It returns an error that names a setting of cfg that is out of range, or a node whose
// type, fields or edges the network cannot have.
//
// The network takes images with values in [0,1], of the shape of the graph's input node, or as many
// frames as it has steps. Its logits are the mean over time of what reaches the output node.
func (g *Graph) Model(cfg Config) (*snn.Model, []Note, error) {
	if err := g.Validate(); err != nil {
		return nil, nil, err
	}
	if !(cfg.Dt > 0) || math.IsInf(cfg.Dt, 0) {
		return nil, nil, fmt.Errorf("nir: a time step of %v: want a finite number above 0", cfg.Dt)
	}
	if cfg.Start < AtZero || cfg.Start > AtReset {
		return nil, nil, fmt.Errorf("nir: a start of %d: want AtZero, AtLeak or AtReset", cfg.Start)
	}
	b := &builder{cfg: cfg, nodes: map[string]*Node{}, shapes: map[string][]int{}, returns: map[string]*Node{}}
	err := b.flatten("", g)
	var m *snn.Model
	if err == nil {
		m, err = b.model()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("nir: %w", err)
	}
	return m, b.notes, nil
}

// A builder makes a network of a graph.
type builder struct {
	cfg     Config
	nodes   map[string]*Node // of all graphs, with their graphs' names before their own
	edges   [][2]string
	returns map[string]*Node // what a neuron's spikes return through: a Linear, or the neuron itself
	shapes  map[string][]int // of the nodes' outputs
	notes   []Note
	claimed int64 // values that the graph claims and does not hold
}

// maxClaimed bounds the values that a small graph can claim.
const maxClaimed = 1 << 27

// claim counts values of which the graph holds some. It returns an error if the graph claims too many.
func (b *builder) claim(values, held int64) error {
	if b.claimed += max(0, values-held); b.claimed > maxClaimed {
		return fmt.Errorf("%d values, of which the graph holds %d: want at most 2²⁷ in all that it does not hold", values, held)
	}
	return nil
}

// claimBlocks claims arrays of the shape in, in blocks of channels.
func (b *builder) claimBlocks(arrays int, in []int) error {
	s, err := shapeOf(in)
	if err != nil {
		return err
	}
	return b.claim(int64(arrays*s.Blocks()*tensor.Lanes)*int64(s.H*s.W), 0)
}

func (b *builder) note(node, format string, args ...any) {
	b.notes = append(b.notes, Note{node, fmt.Sprintf(format, args...)})
}

// fieldsOf has the fields that NIR gives the types of nodes.
var fieldsOf = map[string][]string{
	"Input": {"shape"}, "Output": {"shape"},
	"Affine": {"weight", "bias"}, "Linear": {"weight"}, "Scale": {"scale"},
	"Conv1d":    {"weight", "bias", "stride", "padding", "dilation", "groups", "input_shape"},
	"Conv2d":    {"weight", "bias", "stride", "padding", "dilation", "groups", "input_shape"},
	"SumPool2d": {"kernel_size", "stride", "padding"}, "AvgPool2d": {"kernel_size", "stride", "padding"},
	"Flatten":   {"start_dim", "end_dim", "input_type"},
	"Threshold": {"threshold"}, "IF": {"r", "v_threshold", "v_reset"}, "LIF": {"tau", "r", "v_leak", "v_threshold", "v_reset"},
	"CubaLIF": {"tau_mem", "tau_syn", "w_in", "r", "v_leak", "v_threshold", "v_reset"},
	"I":       {"r"}, "LI": {"tau", "r", "v_leak"}, "CubaLI": {"tau_mem", "tau_syn", "w_in", "r", "v_leak"},
}

// port returns the first of a graph's nodes of type Input or Output, or nothing.
func (g *Graph) port(kind string) string {
	for _, n := range slices.Sorted(maps.Keys(g.Nodes)) {
		if g.Nodes[n].Type == kind {
			return n
		}
	}
	return ""
}

// flatten collects the nodes and edges of a graph and of those in it. The input and output nodes
// of an inner graph pass values on. It returns an error if two nodes get one name, an inner graph has
// no input or output, or a node has a field that NIR does not give its type.
func (b *builder) flatten(prefix string, g *Graph) error {
	end := func(name, kind string) string {
		if inner := g.Nodes[name].Graph; inner != nil {
			return prefix + name + "." + inner.port(kind)
		}
		return prefix + name
	}
	for _, e := range g.Edges {
		b.edges = append(b.edges, [2]string{end(e[0], "Output"), end(e[1], "Input")})
	}
	for name, n := range g.Nodes {
		if n.Graph != nil {
			for _, kind := range []string{"Input", "Output"} {
				if n.Graph.port(kind) == "" {
					return fmt.Errorf("node %s: its graph has no node of type %s", prefix+name, kind)
				}
			}
			if err := b.flatten(prefix+name+".", n.Graph); err != nil {
				return err
			}
			continue
		}
		if b.nodes[prefix+name] != nil {
			return fmt.Errorf("node %s: there are two of this name, one of them in an inner graph", prefix+name)
		}
		for _, f := range slices.Sorted(maps.Keys(n.Fields)) {
			if known, ok := fieldsOf[n.Type]; ok && !slices.Contains(known, f) {
				return fmt.Errorf("node %s of type %s: field %s: want none but %s", prefix+name, n.Type, f, strings.Join(known, ", "))
			}
		}
		b.nodes[prefix+name] = n
	}
	return nil
}

// before and after return the nodes from which edges lead to a node, and to which they lead from it.
func (b *builder) before(name string) []string { return b.ends(name, 1) }
func (b *builder) after(name string) []string  { return b.ends(name, 0) }

func (b *builder) ends(name string, side int) (ends []string) {
	for _, e := range b.edges {
		if e[side] == name {
			ends = append(ends, e[1-side])
		}
	}
	return ends
}

func isNeuron(kind string) bool {
	return kind == "IF" || kind == "LIF" || kind == "CubaLIF" || kind == "Threshold"
}

// cutReturns takes recurrent edges out of the graph: those from a neuron to itself, and through a
// Linear or an Affine back to it.
func (b *builder) cutReturns() error {
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		if n := b.nodes[name]; n == nil || !isNeuron(n.Type) { // nil: taken out
			continue
		}
		for _, next := range b.after(name) {
			n := b.nodes[next]
			through := (n.Type == "Linear" || n.Type == "Affine") && slices.Equal(b.before(next), []string{name}) && slices.Equal(b.after(next), []string{name})
			if next != name && !through {
				continue
			}
			if b.returns[name] != nil {
				return fmt.Errorf("node %s: its spikes return to it twice, want once", name)
			}
			b.returns[name] = n
			b.edges = slices.DeleteFunc(b.edges, func(e [2]string) bool {
				return e[0] == name && e[1] == next || e[0] == next && e[1] == name
			})
			if through {
				delete(b.nodes, next)
			}
		}
	}
	return nil
}

// order returns the nodes, each after those from which edges lead to it.
func (b *builder) order() (names []string, err error) {
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case open:
			return fmt.Errorf("node %s: edges lead from it back to it, through other nodes than a Linear or an Affine", name)
		case done:
			return nil
		}
		state[name] = open
		for _, before := range b.before(name) {
			if err := visit(before); err != nil {
				return err
			}
		}
		state[name] = done
		names = append(names, name)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// batched reports whether the shape of an input node has a first dimension of 1 which the weights
// behind it do not have.
func (b *builder) batched(input string, dims []int) bool {
	return len(dims) == 2 && dims[0] == 1 && !slices.ContainsFunc(b.after(input), func(name string) bool {
		n := b.nodes[name]
		return n.Type != "Affine" && n.Type != "Linear" || len(n.Fields["weight"].Shape) != 2
	})
}

// only returns the name of the one node of the outer graph without edges on a side.
func (b *builder) only(kind string, side int) (string, error) {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		if b.nodes[name].Type == kind && len(b.ends(name, side)) == 0 {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d nodes of type %s %v: want one", len(found), kind, found)
	}
	return found[0], nil
}

func (b *builder) model() (*snn.Model, error) {
	input, err := b.only("Input", 1)
	if err != nil {
		return nil, err
	}
	output, err := b.only("Output", 0)
	if err != nil {
		return nil, err
	}
	if err := b.cutReturns(); err != nil {
		return nil, err
	}
	names, err := b.order()
	if err != nil {
		return nil, err
	}
	cfg := snn.Config{Steps: b.cfg.Steps, Encoder: b.cfg.Encoder}
	net := &network{}
	place := map[string]int{} // of the nodes' values
	chain := true
	for _, name := range names {
		n := b.nodes[name]
		if name == input {
			dims, err := n.dims("shape")
			if err != nil {
				return nil, fmt.Errorf("node %s: %w", name, err)
			}
			if b.batched(name, dims) {
				dims = dims[1:]
				b.note(name, "the first dimension of its shape, 1, is taken for that of images, which NIR does not count")
			}
			in, err := shapeOf(dims)
			if err != nil {
				return nil, fmt.Errorf("node %s: %w", name, err)
			}
			cfg.Channels, cfg.Height, cfg.Width = in.C, in.H, in.W
			b.shapes[name], place[name] = dims, 0
			continue
		}
		from := b.before(name)
		if len(from) == 0 {
			return nil, fmt.Errorf("node %s: no edge leads to it", name)
		}
		if name != output && len(b.after(name)) == 0 {
			return nil, fmt.Errorf("node %s: no edge leads from it", name)
		}
		dims := b.shapes[from[0]]
		node := vertex{name: name}
		for _, f := range from {
			if !slices.Equal(b.shapes[f], dims) {
				return nil, fmt.Errorf("node %s: values of the shapes %v of %s and %v of %s: want equal ones to add up", name, dims, from[0], b.shapes[f], f)
			}
			node.from = append(node.from, place[f])
		}
		if node.layer, b.shapes[name], err = b.layer(name, n, dims); err != nil {
			return nil, fmt.Errorf("node %s of type %s: %w", name, n.Type, err)
		}
		chain = chain && len(node.from) == 1 && node.from[0] == len(net.nodes)
		if node.layer == nil && len(node.from) == 1 { // passes its value on
			place[name] = node.from[0]
			continue
		}
		net.nodes = append(net.nodes, node)
		place[name] = len(net.nodes)
	}
	if place[output] != len(net.nodes) {
		return nil, errors.New("the output is not the last value") // cannot be: all lead to it
	}
	if len(net.nodes) == 0 {
		return nil, errors.New("there is no node between input and output")
	}
	if len(b.shapes[output]) > 1 {
		b.note(output, "values of the shape %v become the features of one pixel, the logits", b.shapes[output])
		net.nodes = append(net.nodes, vertex{output, snn.Flatten{}, []int{len(net.nodes)}})
	}
	if !chain {
		return snn.NewModel(cfg, net)
	}
	body := &snn.Sequential{}
	for _, n := range net.nodes {
		body.Append(n.name, n.layer)
	}
	return snn.NewModel(cfg, body)
}

// shapeOf returns the shape of a value of a NIR graph: features, channels of a line, or channels
// of an image. It returns an error if there are more than 2²⁸ of them.
func shapeOf(dims []int) (tensor.Shape, error) {
	s := tensor.Shape{N: 1, Steps: 1, H: 1, W: 1}
	switch len(dims) {
	case 1:
		s.C = dims[0]
	case 2:
		s.C, s.W = dims[0], dims[1]
	case 3:
		s.C, s.H, s.W = dims[0], dims[1], dims[2]
	default:
		return s, fmt.Errorf("shape %v: want one to three dimensions, without that of images", dims)
	}
	for _, d := range dims {
		if d < 1 || d > 1<<20 {
			return s, fmt.Errorf("shape %v: want dimensions from 1 to 2²⁰", dims)
		}
	}
	if float64(s.C)*float64(s.H)*float64(s.W) > 1<<28 {
		return s, fmt.Errorf("shape %v: want at most 2²⁸ values", dims)
	}
	return s, nil
}

// numeric returns a field of numbers.
func (n *Node) numeric(field string) (Array, error) {
	a, ok := n.Fields[field]
	switch {
	case !ok:
		return a, fmt.Errorf("field %s is missing", field)
	case a.Type == "str":
		return a, fmt.Errorf("field %s has the text %q: want numbers", field, a.Texts)
	}
	return a, nil
}

// dims returns a field of whole numbers above or equal to 0.
func (n *Node) dims(field string) ([]int, error) {
	a, err := n.numeric(field)
	if err != nil {
		return nil, err
	}
	v := make([]int, 0, 4)
	for _, x := range a.numbers() {
		if x != math.Trunc(x) || x < 0 || x > 1<<30 {
			return nil, fmt.Errorf("field %s has %v: want whole numbers from 0 on", field, x)
		}
		v = append(v, int(x))
	}
	return v, nil
}

// reads returns an error if a field of the node, which may be missing, is not the shape in of its
// input. It may have dimensions of 1 before that.
func (n *Node) reads(field string, in []int) error {
	if _, ok := n.Fields[field]; !ok {
		return nil
	}
	dims, err := n.dims(field)
	if err != nil {
		return err
	}
	if lead := len(dims) - len(in); lead < 0 || !slices.Equal(dims[lead:], in) || slices.ContainsFunc(dims[:lead], func(d int) bool { return d != 1 }) {
		return fmt.Errorf("%s %v, but its input has the shape %v", field, dims, in)
	}
	return nil
}

// layer returns the layer of a node for an input of the shape in, or nil for one that passes its
// value on, and the shape of the output.
func (b *builder) layer(name string, n *Node, in []int) (snn.Layer, []int, error) {
	switch n.Type {
	case "Input", "Output":
		if _, err := n.numeric("shape"); err != nil {
			return nil, nil, err
		}
		return nil, in, n.reads("shape", in)
	case "Affine", "Linear":
		return affine(n, in)
	case "Conv1d", "Conv2d":
		return b.conv(n, in)
	case "SumPool2d", "AvgPool2d":
		return b.pool(name, n, in)
	case "Flatten":
		return b.flat(name, n, in)
	case "Scale":
		if err := b.claimBlocks(1, in); err != nil {
			return nil, nil, err
		}
		s, err := b.values(n, "scale", in)
		if err != nil {
			return nil, nil, err
		}
		return &Scale{Factor: s}, in, nil
	case "IF", "LIF", "CubaLIF", "Threshold":
		l, err := b.neuron(name, n, in)
		return l, in, err
	case "I", "LI", "CubaLI":
		if err := b.claimBlocks(len(Integrator{}.coefficients), in); err != nil {
			return nil, nil, err
		}
		l, err := b.integrator(n, in)
		return l, in, err
	}
	return nil, nil, errors.New("no layer for this type: want Affine, Linear, Conv1d, Conv2d, SumPool2d, AvgPool2d, Flatten, Scale, Threshold, IF, LIF, CubaLIF, I, LI, CubaLI, Input or Output")
}

func affine(n *Node, in []int) (snn.Layer, []int, error) {
	w := n.Fields["weight"]
	if len(w.Shape) != 2 || len(in) != 1 || w.Shape[1] != in[0] || w.Shape[0] < 1 {
		return nil, nil, fmt.Errorf("weight of shape %v for an input of shape %v: want [out, in] for [in]", w.Shape, in)
	}
	l := snn.NewLinear(w.Shape[1], w.Shape[0], n.Type == "Affine")
	if err := set(l.Weight, w.numbers(), "weight"); err != nil {
		return nil, nil, err
	}
	if l.Bias != nil {
		if err := set(l.Bias, n.Fields["bias"].numbers(), "bias"); err != nil {
			return nil, nil, err
		}
	}
	return l, w.Shape[:1], nil
}

// set puts values into a parameter.
func set(p *autograd.Param, v []float64, field string) error {
	if len(v) != p.Len() {
		return fmt.Errorf("field %s has %d values, want %d", field, len(v), p.Len())
	}
	single, err := float32s(v, field)
	if err != nil {
		return err
	}
	p.Import(single)
	return nil
}

// float32s rounds values. It returns an error for one that is no finite float32.
func float32s(v []float64, field string) ([]float32, error) {
	s := make([]float32, len(v))
	for i, x := range v {
		if s[i] = float32(x); math.IsNaN(x) || math.IsInf(float64(s[i]), 0) {
			return nil, fmt.Errorf("field %s has the value %v: want finite float32 numbers", field, x)
		}
	}
	return s, nil
}

// flat checks that the result has one dimension.
func (b *builder) flat(name string, n *Node, in []int) (snn.Layer, []int, error) {
	if err := n.reads("input_type", in); err != nil {
		return nil, nil, err
	}
	start, end := 1, -1
	for field, to := range map[string]*int{"start_dim": &start, "end_dim": &end} {
		if _, ok := n.Fields[field]; !ok {
			continue
		}
		a, err := n.numeric(field)
		if err != nil {
			return nil, nil, err
		}
		v := a.numbers()
		if len(v) != 1 || v[0] != math.Trunc(v[0]) || math.Abs(v[0]) > 1<<20 {
			return nil, nil, fmt.Errorf("field %s has the value %v: want one whole number", field, v)
		}
		*to = int(v[0])
	}
	if end < 0 {
		end += len(in)
	}
	size := 1
	for _, d := range in {
		size *= d
	}
	switch {
	case start == 0 && end == len(in)-1:
	case start == 1 && (end == len(in)-1 || end == len(in)):
		if len(in) > 1 {
			b.note(name, "start_dim 1 is taken to leave the dimension of images alone, which NIR does not count: all dimensions become one")
		}
	default:
		return nil, nil, fmt.Errorf("dimensions %d to %d of %v: want all of them", start, end, in)
	}
	return snn.Flatten{}, []int{size}, nil
}
