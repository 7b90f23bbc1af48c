package snn

import (
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/org/snnrat/tensor"
)

// Memory is what gradients such as [ASSG] keep of one image from one pass of an attack to the
// next. An attack gives each image a new Memory at each start, and passes it in Pass.Memory with
// that image. It belongs to one network, and to one pass at a time. The zero value is a new one.
// After a pass that returned an error, its content is arbitrary.
//
// That of ASSG has two float32 for each neuron and step.
type Memory struct {
	layers  map[string]*layerMemory
	values  map[string][]float32
	updated atomic.Bool // whether a backward pass has written it
}

// NewMemory returns the memory of an image before its first pass.
func NewMemory() *Memory { return new(Memory) }

// Values returns n values that m keeps under a key, for gradients of a caller's own. They are 0 at
// first, and the caller may change them. A nil Memory keeps nothing: it returns n new values. Values
// panics if m has another number of values under that key.
func (m *Memory) Values(key string, n int) []float32 {
	if m == nil {
		return make([]float32, n)
	}
	v, ok := m.values[key]
	if !ok {
		if m.values == nil {
			m.values = map[string][]float32{}
		}
		v = make([]float32, n)
		m.values[key] = v
	}
	if len(v) != n {
		panic(fmt.Sprintf("snn: %d values of %q in a Memory that has %d", n, key, len(v)))
	}
	return v
}

// layerMemory is the memory of a layer of neurons, which a pass claims.
type layerMemory struct {
	neuron          Neuron
	shape           tensor.Shape
	mean, deviation []float32 // ASSG's M and D, [⌈C/16⌉][T][H][W][16]
	updated         *atomic.Bool
	claim           *int // by the run of a layer that used it last
	image           int  // the image there
}

// remember returns the memory of each image for the neurons n, whose currents have the shape sh
// at all steps. It fails the pass if the memories do not fit.
func (p *Pass) remember(n Neuron, sh tensor.Shape) []*layerMemory {
	if len(p.Memory) != sh.N {
		p.Fail(fmt.Errorf("layer %s: %d memories for %d images: expected one for each, or nil", n.Name(), len(p.Memory), sh.N))
		return nil
	}
	one := sh
	one.N = 1
	all, claim := make([]*layerMemory, sh.N), new(int)
	for i, m := range p.Memory {
		if m == nil {
			continue
		}
		l := m.layers[n.Name()]
		switch fits := l != nil && sameLayer(l.neuron, n) && l.shape == one; {
		case fits && l.claim == claim:
			p.Fail(fmt.Errorf("layer %s: images %d and %d have the same memory: expected one for each", n.Name(), l.image, i))
			return nil
		case fits:
		case m.updated.Load():
			p.Fail(fmt.Errorf("layer %s: the memory of image %d is that of another network, or of another number of steps: expected a new one for a new attack", n.Name(), i))
			return nil
		default:
			l = newLayerMemory(n, one, &m.updated)
			if m.layers == nil {
				m.layers = map[string]*layerMemory{}
			}
			m.layers[n.Name()] = l
		}
		l.claim, l.image = claim, i
		all[i] = l
	}
	return all
}

// sameLayer reports whether a and b are one layer. Layers that cannot be compared count as one
// if they have the same type.
func sameLayer(a, b Layer) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && (!t.Comparable() || a == b)
}

func newLayerMemory(n Neuron, one tensor.Shape, updated *atomic.Bool) *layerMemory {
	l := &layerMemory{neuron: n, shape: one, updated: updated, mean: make([]float32, one.Floats()), deviation: make([]float32, one.Floats())}
	for i := range l.mean {
		l.mean[i] = 1
	}
	return l
}
