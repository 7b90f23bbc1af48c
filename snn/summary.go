package snn

import (
	"fmt"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// Row describes one layer.
type Row struct {
	Name    string            // the layer's full name, such as features.0
	Kind    string            // what the layer is, such as conv 3×3 /1
	In, Out tensor.Shape      // shapes of its input and output, with N = Steps = 1
	Neurons int               // number of spiking neurons
	MACs    int               // multiply-accumulate operations of a step with dense input
	Convex  bool              // Params are the weights of a convex combination
	Params  []*autograd.Param // parameters and buffers, with their names set
	// Layer is the layer itself. Package train refuses to resume a training if an exported
	// field of Layer, other than a parameter, has changed. Layer may be nil if Kind and the
	// shapes determine all settings of the layer.
	Layer Layer
}

// Summary lists a model's layers in the order in which they run.
type Summary struct {
	Rows []Row

	names map[Layer]string // names of the layers described so far, where they are pointers
}

// note stores the name of a layer. If the layer has a name already, note returns that name
// and true. It does so only for pointers to types with a size: other values can be equal
// although they are different layers.
func (s *Summary) note(l Layer, name string) (first string, again bool) {
	if t := reflect.TypeOf(l); t.Kind() != reflect.Pointer || t.Elem().Size() == 0 {
		return "", false
	}
	if first, again = s.names[l]; again {
		return first, true
	}
	if s.names == nil {
		s.names = map[Layer]string{}
	}
	s.names[l] = name
	return "", false
}

// add appends a row.
func (s *Summary) add(r Row) { s.Rows = append(s.Rows, r) }

// params sets the names of a layer's parameters and buffers. It returns those that are not
// nil, in PyTorch's order.
func params(layer string, by map[string]*autograd.Param) (ps []*autograd.Param) {
	for _, name := range []string{"weight", "bias", "running_mean", "running_var", "comb"} {
		if p := by[name]; p != nil {
			p.Name = join(layer, name)
			ps = append(ps, p)
		}
	}
	return ps
}

// String returns a table with a line for each layer: its kind, the shape of its output, and
// the numbers of trained values, of multiply-accumulate operations a step, and of neurons.
func (s *Summary) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "layer\tkind\toutput\tparameters\tMACs a step\tneurons\t")
	var ps, macs, neurons int
	for _, r := range s.Rows {
		n := 0
		for _, p := range r.Params {
			if p.Trainable {
				n += p.Len()
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d×%d×%d\t%s\t%s\t%s\t\n", r.Name, r.Kind, r.Out.C, r.Out.H, r.Out.W,
			thousands(n), thousands(r.MACs), thousands(r.Neurons))
		ps, macs, neurons = ps+n, macs+r.MACs, neurons+r.Neurons
	}
	fmt.Fprintf(w, "total\t\t\t%s\t%s\t%s\t\n", thousands(ps), thousands(macs), thousands(neurons))
	w.Flush()
	return b.String()
}

// thousands formats n with commas between thousands, and 0 as the empty string.
func thousands(n int) string {
	if n == 0 {
		return ""
	}
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
