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
	Name, Kind string
	In, Out    tensor.Shape // N = Steps = 1
	Neurons    int          // number of spiking neurons
	MACs       int          // multiply-accumulates a step, were the input dense
	Convex     bool         // the parameters are weights of a convex combination
	Params     []*autograd.Param
	// Layer is the layer itself: a training is resumed only if the exported fields, but
	// for parameters, are the same. It is nil if Kind and the shapes say all of them.
	Layer Layer
}

// Summary lists a model's layers in the order in which they run.
type Summary struct {
	Rows []Row

	names map[Layer]string // of the layers described so far that are pointers
}

// note keeps the name of a layer. If the layer has one already, note returns that.
// Pointers alone tell layers apart, and those to types of no size do not.
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

func (s *Summary) add(r Row) { s.Rows = append(s.Rows, r) }

// params names a layer's parameters and returns those that are there, in PyTorch's
// order.
func params(layer string, by map[string]*autograd.Param) (ps []*autograd.Param) {
	for _, name := range []string{"weight", "bias", "running_mean", "running_var", "comb"} {
		if p := by[name]; p != nil {
			p.Name = join(layer, name)
			ps = append(ps, p)
		}
	}
	return ps
}

// String formats the summary as a table: layers, output shapes, parameters, and
// operations a step.
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

// thousands formats n with separators, and zero as nothing.
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
