package quant

import (
	"fmt"
	"sync"
)

// Image is the name of the image as the input of a layer.
const Image = "image"

// Network is a spiking network of integers. The package comment defines what it computes.
//
// A Network is data that a caller may read or write by hand. It must not change after the first
// call of one of its methods. Several goroutines may use it at a time.
type Network struct {
	Channels, Height, Width int     // shape of an image
	Steps                   int     // T
	Layers                  []Layer // in the order in which they run
	// Bias is added to the sum over time of the last layer's output, [classes].
	Bias       []int32
	Scale      float64  // what a unit of the logits is in the logits of the float network, positive
	ClassNames []string // [classes], or nil if unknown
	// Threads bounds the goroutines of Logits. 0 stands for GOMAXPROCS. Results do not depend
	// on it.
	Threads int

	once sync.Once
	plan *plan
	err  error // of the plan
}

// Layer is a [Conv], [Neurons], a [SumPool] or a [MaxPool], as a pointer. A layer has a name of its
// own, and names the layer before it whose output it reads, or [Image].
type Layer interface{ names() (name, input string) }

// Conv is a 2-D convolution of spikes or bytes, or a linear layer.
type Conv struct {
	Name, Input string
	Add         string // the name of a layer of currents that are added to the sum; "" for none
	Cout, Cin   int
	KH, KW      int
	Stride, Pad int
	Weight      []int8  // [Cout][Cin][KH][KW], from −127 to 127
	Border      []uint8 // [Cin], pixels outside the image; nil for zeros, and for other inputs
	Gain        []int32 // [Cout], positive factors of the sums; nil for ones
	// Scale is what a unit of each channel's currents is in the float network, [Cout]. The
	// integers do not depend on it.
	Scale []float32
}

// Neurons is a layer of IF or LIF neurons.
type Neurons struct {
	Name, Input     string
	Gain            []int32 // [C]; nil for ones
	Bias, Threshold []int32 // [C]
	Leak            int32   // the leak λ is Leak / 2^LeakShift
	LeakShift       uint
	SoftReset       bool
}

// SumPool sums the windows of KH × KW spikes or bytes. They do not overlap.
type SumPool struct {
	Name, Input string
	KH, KW      int
}

// MaxPool is the largest spike of windows of K × K spikes. They do not overlap.
type MaxPool struct {
	Name, Input string
	K           int
}

func (l *Conv) names() (name, input string)    { return l.Name, l.Input }
func (l *Neurons) names() (name, input string) { return l.Name, l.Input }
func (l *SumPool) names() (name, input string) { return l.Name, l.Input }
func (l *MaxPool) names() (name, input string) { return l.Name, l.Input }

// Validate returns an error if the network is not one of the package comment: it names the layer
// whose settings or shapes do not fit, and the channel that could overflow.
func (n *Network) Validate() error {
	_, err := n.prepare()
	return err
}

// prepare makes the plan at the first call.
func (n *Network) prepare() (*plan, error) {
	n.once.Do(func() { n.plan, n.err = n.check() })
	return n.plan, n.err
}

// Ranges returns for each channel of a layer the range of its output and of all partial sums of a
// convolution, added to the range of Add. It returns an error if the network is not valid, or has
// no layer of this name.
func (n *Network) Ranges(layer string) ([]Range, error) {
	p, err := n.prepare()
	if err != nil {
		return nil, err
	}
	for i, l := range n.Layers {
		if name, _ := l.names(); name == layer {
			return p.values[i+1].ranges, nil
		}
	}
	return nil, fmt.Errorf("quant: no layer %q", layer)
}
