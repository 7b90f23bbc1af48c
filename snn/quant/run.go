package quant

import (
	"fmt"
	"math"

	"github.com/org/snnrat/internal/kernel"
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

// plainRun writes the logits of a batch. It uses the loops of plain.go, layer by layer.
func (n *Network) plainRun(p *plan, x tensor.NCHW, logits []int32) {
	values := make([]data, len(p.values))
	for i := range p.steps {
		values[i+1] = n.layer(p, &p.steps[i], x, values)
		for j := range values[:i+1] {
			if p.values[j].last == i {
				values[j] = data{}
			}
		}
	}
	n.sum(&p.values[len(n.Layers)], values[len(n.Layers)], logits, x.N)
}

// layer returns the output of a layer.
func (n *Network) layer(p *plan, s *step, x tensor.NCHW, values []data) data {
	in := values[s.in]
	if s.in == 0 {
		in = data{bytes: packImage(x, s.frame, s.border), steps: max(1, x.Steps)}
	}
	shape := &p.values[s.in]
	switch l := s.layer.(type) {
	case *Conv:
		geom, out := s.conv, data{steps: in.steps}
		if s.add >= 0 {
			out.steps = max(out.steps, values[s.add].steps)
			in = in.repeat(geom.BlocksIn()*x.N, out.steps)
		}
		geom.Frames = x.N * out.steps
		out.currents = make([]int32, geom.BlocksOut()*geom.Frames*geom.Hout*geom.Wout*lanes)
		if in.spikes != nil {
			convSpikes(out.currents, in.spikes, blockedWeights(l.Weight, s.conv), geom)
		} else {
			convBytes(out.currents, in.bytes, blockedWeights(l.Weight, s.conv), geom)
		}
		if l.Gain != nil || s.add >= 0 {
			var add []int32
			if s.add >= 0 {
				add = values[s.add].repeat(geom.BlocksOut()*x.N, out.steps).currents
			}
			block := geom.Frames * geom.Hout * geom.Wout * lanes
			for i, v := range out.currents {
				if o := i/block*lanes + i%lanes; o < l.Cout {
					out.currents[i] = l.gain(o) * v
					if add != nil {
						out.currents[i] += add[i]
					}
				}
			}
		}
		return out
	case *Neurons:
		blocks := len(s.scan.bias) / lanes
		sc := kernel.Scan{Units: blocks * x.N, Images: x.N, Pixels: shape.h * shape.w, Steps: n.Steps, CurrentSteps: in.steps}
		out := data{spikes: make([]uint16, sc.Units*sc.Steps*sc.Pixels), steps: n.Steps}
		neurons(out.spikes, in.currents, s.scan, sc)
		return out
	case *SumPool:
		geom := s.pool
		geom.Planes = (shape.c + lanes - 1) / lanes * x.N * in.steps
		out := data{bytes: make([]uint8, geom.Planes*geom.Hout*geom.Wout*lanes), steps: in.steps}
		if in.spikes != nil {
			sumSpikes(out.bytes, in.spikes, geom)
		} else {
			sumBytes(out.bytes, in.bytes, geom)
		}
		return out
	default: // *MaxPool
		geom := s.pool
		geom.Planes = (shape.c + lanes - 1) / lanes * x.N * in.steps
		out := data{spikes: make([]uint16, geom.Planes*geom.Hout*geom.Wout), steps: in.steps}
		kernel.MaxPoolSpikes(out.spikes, in.spikes, geom, 1)
		return out
	}
}

// repeat returns d with the given steps. It has as many, or one, which is then repeated for each
// of the units, which are blocks of images.
func (d data) repeat(units, steps int) data {
	if d.steps == steps {
		return d
	}
	return data{repeat(d.bytes, units, steps), repeat(d.spikes, units, steps), repeat(d.currents, units, steps), steps}
}

// repeat repeats each of the units of v.
func repeat[T any](v []T, units, steps int) []T {
	if v == nil {
		return nil
	}
	frame := len(v) / units
	out := make([]T, 0, len(v)*steps)
	for u := range units {
		for range steps {
			out = append(out, v[u*frame:(u+1)*frame]...)
		}
	}
	return out
}

// packImage returns the pixels of x in blocks, [⌈C/16⌉][frames][H + 2·frame][W + 2·frame][16].
// border has the pixels outside the image, [blocks][16].
func packImage(x tensor.NCHW, frame int, border []uint8) []uint8 {
	sh := x.Shape()
	h, w := x.H+2*frame, x.W+2*frame
	dst := make([]uint8, sh.Blocks()*sh.Frames()*h*w*lanes)
	if frame > 0 {
		block := sh.Frames() * h * w * lanes
		for i := range dst {
			dst[i] = border[i/block*lanes+i%lanes]
		}
	}
	for f := range sh.Frames() {
		for c := range x.C {
			plane := x.Data[(f*x.C+c)*x.H*x.W:]
			for y := range x.H {
				at := (((c/lanes*sh.Frames()+f)*h+y+frame)*w+frame)*lanes + c%lanes
				for i, v := range plane[y*x.W : (y+1)*x.W] {
					dst[at+i*lanes] = Pixel(v)
				}
			}
		}
	}
	return dst
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
