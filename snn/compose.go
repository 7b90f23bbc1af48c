package snn

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Sequential runs layers one after another.
type Sequential struct {
	full   []string // the layers' full names, set by Describe
	names  []string
	layers []Layer
}

// NewSequential returns a sequence of layers with the names 0, 1, 2, …, as those of
// PyTorch's nn.Sequential.
func NewSequential(layers ...Layer) *Sequential {
	s := &Sequential{}
	for i, l := range layers {
		s.Append(strconv.Itoa(i), l)
	}
	return s
}

// Append adds a layer at the end and returns s. The full name of the layer is that of s, a
// dot and name, as in features.0. With the name "", it is that of s alone.
func (s *Sequential) Append(name string, l Layer) *Sequential {
	s.names = append(s.names, name)
	s.layers = append(s.layers, l)
	s.full = nil
	return s
}

// Layers returns the layers in the order in which they run.
func (s *Sequential) Layers() []Layer { return slices.Clone(s.layers) }

// Names returns the names of the layers, in the order of Layers. They are those that Append was
// given.
func (s *Sequential) Names() []string { return slices.Clone(s.names) }

// Forward implements [Layer]. It releases the output of each layer once the next one has
// run.
func (s *Sequential) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	h := x
	names := s.names
	if s.full != nil {
		names = s.full
	}
	outer := p.Tape.Layer
	for i, l := range s.layers {
		p.Tape.Layer = names[i]
		next := l.Forward(p, h)
		if p.Tape.TakeNonFinite() { // layers of neurons have taken theirs
			p.Fail(fmt.Errorf("layer %s: an input is not a finite number", names[i]))
		}
		if h != x && next != h {
			p.Tape.Release(h)
		}
		h = next
	}
	p.Tape.Layer = outer
	return h
}

// Describe implements [Layer].
func (s *Sequential) Describe(sum *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	s.full = nil
	for _, n := range s.names {
		s.full = append(s.full, join(name, n))
	}
	for i, l := range s.layers {
		var err error
		if in, err = describe(sum, l, s.full[i], in); err != nil {
			return in, err
		}
	}
	return in, nil
}

// Init implements [Initializer]. Each layer gets its own key.
func (s *Sequential) Init(key rng.Key) {
	for i, l := range s.layers {
		if l, ok := l.(Initializer); ok {
			l.Init(key.Derive(s.names[i], uint64(i)))
		}
	}
}

// join returns the name of part b of layer a. Either may be empty.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "." + b
}

// layerError is an error with the name of its layer. Enclosing layers pass it on as it is.
type layerError struct {
	name string
	err  error
}

func (e *layerError) Error() string {
	if e.name == "" { // the model's body itself
		return e.err.Error()
	}
	return fmt.Sprintf("layer %s: %v", e.name, e.err)
}
func (e *layerError) Unwrap() error { return e.err }

// describe calls l.Describe. It returns an error if l is nil or is in the network already,
// and adds the layer's name to an error of l.
func describe(s *Summary, l Layer, name string, in tensor.Shape) (tensor.Shape, error) {
	if l == nil {
		return in, &layerError{name, errors.New("nil: expected a layer")}
	}
	if first, again := s.note(l, name); again {
		return in, &layerError{name, fmt.Errorf("it is the same %T as layer %s: expected an object of its own for each layer", l, first)}
	}
	out, err := l.Describe(s, name, in)
	if _, named := err.(*layerError); err != nil && !named {
		err = &layerError{name, err}
	}
	return out, err
}

// Residual is a pre-activation residual block. Its output is a learned convex combination
// of two branches (Ding et al. 2022, after Cisse et al. 2017):
//
//	o = n1(bn1(x))
//	y = comb[0]·shortcut + comb[1]·conv2(drop(n2(bn2(conv1(o)))))
//
// The shortcut is x if Short is nil, and Short(o) otherwise. A pass fails if a layer of the block is no
// longer that with which the network was built.
type Residual struct {
	BN1   *BatchNorm // nil for none
	N1    Neuron
	Conv1 *Conv2D
	BN2   *BatchNorm // nil for none
	N2    Neuron
	Drop  *Dropout // nil for none
	Conv2 *Conv2D
	Short *Conv2D         // convolution of the shortcut; nil if input and output have the same shape
	Comb  *autograd.Param // [2], weights of the shortcut and of the other branch

	// What Describe found: a pass runs these.
	stem, branch *Sequential
	short        *Conv2D
	built        [8]Layer // all of their layers, see layers
}

// layers returns the layers, or nil pointers, in the order of residualNames.
func (b *Residual) layers() [8]Layer {
	return [8]Layer{b.BN1, b.N1, b.Conv1, b.BN2, b.N2, b.Drop, b.Conv2, b.Short}
}

var residualNames = [8]string{"bn1", "n1", "conv1", "bn2", "n2", "drop", "conv2", "short"}

// parts returns the block's layers under their names: those before the branches, and those
// of the residual branch.
func (b *Residual) parts() (stem, branch *Sequential) {
	stem, branch = &Sequential{}, &Sequential{}
	if b.BN1 != nil {
		stem.Append("bn1", b.BN1)
	}
	stem.Append("n1", b.N1)
	branch.Append("conv1", b.Conv1)
	if b.BN2 != nil {
		branch.Append("bn2", b.BN2)
	}
	branch.Append("n2", b.N2)
	if b.Drop != nil {
		branch.Append("drop", b.Drop)
	}
	branch.Append("conv2", b.Conv2)
	return stem, branch
}

// Forward implements [Layer].
func (b *Residual) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	stem, branch := b.stem, b.branch
	for i, l := range b.layers() {
		if !sameLayer(l, b.built[i]) {
			p.Fail(fmt.Errorf("layer %s: %s was replaced, added or removed after the network was built: expected that before, or a new network", p.Tape.Layer, residualNames[i]))
		}
	}
	o := stem.Forward(p, x)
	shortcut := x
	if b.short != nil {
		shortcut = b.short.Forward(p, o)
	}
	r := branch.Forward(p, o)
	p.Tape.Release(o)
	y := autograd.Convex(p.Tape, shortcut, r, b.Comb)
	p.Tape.Release(r)
	if shortcut != x {
		p.Tape.Release(shortcut)
	}
	return y
}

// Describe implements [Layer].
func (b *Residual) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	if b.N1 == nil || b.Conv1 == nil || b.N2 == nil || b.Conv2 == nil {
		return in, errors.New("a layer is nil: expected N1, Conv1, N2 and Conv2")
	}
	stem, branch := b.parts()
	b.stem, b.branch, b.short, b.built = stem, branch, b.Short, b.layers()
	o, err := describe(s, stem, name, in)
	if err != nil {
		return in, err
	}
	short := in
	if b.Short != nil {
		if short, err = describe(s, b.Short, join(name, "short"), o); err != nil {
			return in, err
		}
	}
	out, err := describe(s, branch, name, o)
	if err != nil {
		return in, err
	}
	if b.Comb == nil || len(b.Comb.Shape) != 1 || b.Comb.Len() != 2 {
		return in, errors.New("no weights of its two branches: expected Comb of shape [2]")
	}
	if out != short {
		return in, fmt.Errorf("the branches' shapes %v and %v differ", short, out)
	}
	s.add(Row{
		Name: join(name, "convex"), Kind: "convex combination", In: in, Out: out, Convex: true,
		Params: params(join(name, "convex"), map[string]*autograd.Param{"comb": b.Comb}),
	})
	return out, nil
}

// Init implements [Initializer]. It gives each branch the weight 0.5.
func (b *Residual) Init(key rng.Key) {
	stem, branch := b.parts()
	stem.Init(key.Derive("stem", 0))
	branch.Init(key.Derive("branch", 0))
	if b.Short != nil {
		b.Short.Init(key.Derive("short", 0))
	}
	b.Comb.Import([]float32{0.5, 0.5})
}
