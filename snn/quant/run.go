package quant

import (
	"fmt"
	"math"

	"github.com/org/snnrat/tensor"
)

// Logits runs the network on images, or on frames for each of its steps, with values in [0,1].
// It returns the logits, row-major [N, classes]. They do not depend on the other images.
//
// Logits returns an error if Validate does, if x has another shape than the network's images, or
// if a value is not a number in [0,1].
func (n *Network) Logits(x tensor.NCHW) ([]int32, error) {
	p, err := n.prepare()
	if err != nil {
		return nil, err
	}
	if x.C != n.Channels || x.H != n.Height || x.W != n.Width || x.N < 1 || len(x.Data) != x.N*x.Pixels() {
		return nil, fmt.Errorf("quant: images %v with %d values: expected N×%d×%d×%d with N ≥ 1", x, len(x.Data), n.Channels, n.Height, n.Width)
	}
	if x.Steps < 0 || x.Steps > 1 && x.Steps != n.Steps {
		return nil, fmt.Errorf("quant: %d frames for %d steps: expected a frame for each step, or one image for all of them", x.Steps, n.Steps)
	}
	if err := x.ValidateRange(0, 1); err != nil {
		return nil, fmt.Errorf("quant: %w", err)
	}
	logits := make([]int32, x.N*len(n.Bias))
	n.run(p, x, logits)
	return logits, nil
}

// Predict returns the class of each image, [N]: that with the largest logit, the first one of
// several. Its errors are those of Logits.
func (n *Network) Predict(x tensor.NCHW) ([]int, error) {
	logits, err := n.Logits(x)
	if err != nil {
		return nil, err
	}
	classes := make([]int, x.N)
	for i := range classes {
		row := logits[i*len(n.Bias):][:len(n.Bias)]
		for c, v := range row {
			if v > row[classes[i]] {
				classes[i] = c
			}
		}
	}
	return classes, nil
}

// Pixel returns the integer that the network sees in place of the pixel x, which is in [0,1].
func Pixel(x float32) uint8 { return uint8(math.Floor(255*float64(x) + 0.5)) }

// data is a value of a batch. One of the slices is not nil, in the layout of package tensor.
type data struct {
	bytes    []uint8
	spikes   []uint16
	currents []int32
	steps    int
}

// repeat returns d, which has one step, with the given steps for each of the units, which are
// blocks of images. It takes the memory from r.
func (r *runner) repeat(d data, units, steps int) data {
	return data{repeat(&r.bytes, d.bytes, units, steps), repeat(&r.spikes, d.spikes, units, steps), repeat(&r.currents, d.currents, units, steps), steps}
}

// repeat repeats each of the units of v.
func repeat[T any](b *buffers[T], v []T, units, steps int) []T {
	if v == nil {
		return nil
	}
	frame := len(v) / units
	out := b.get(len(v) * steps)
	for i := range units * steps {
		copy(out[i*frame:], v[i/steps*frame:][:frame])
	}
	return out
}

// sum writes the logits of n images: the sums of d over the steps, plus the biases.
func (n *Network) sum(out *value, d data, logits []int32, images int) {
	times := int32(n.Steps / d.steps)
	for i := range images {
		for c := range out.c {
			v := n.Bias[c]
			for t := range d.steps {
				at := ((c/lanes*images+i)*d.steps+t)*lanes + c%lanes
				switch {
				case d.spikes != nil:
					v += times * int32(d.spikes[at/lanes]>>(at%lanes)&1)
				case d.bytes != nil:
					v += times * int32(d.bytes[at])
				default:
					v += times * d.currents[at]
				}
			}
			logits[i*out.c+c] = v
		}
	}
}
