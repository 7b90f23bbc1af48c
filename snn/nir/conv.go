package nir

import (
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// A window is the geometry of a convolution or a pooling along one dimension.
type window struct {
	size, stride, dilation int
	before, after          int // padding
}

// extent returns how many pixels the window spans.
func (w window) extent() int { return w.dilation*(w.size-1) + 1 }

// outputs returns the number of windows along n pixels.
func (w window) outputs(n int) int {
	if n += w.before + w.after - w.extent(); n < 0 {
		return 0
	}
	return n/w.stride + 1
}

// windows returns the geometry along height and width.
func windows(n *Node, sizes []int) (w [2]window, err error) {
	for i := range w {
		w[i] = window{size: 1, stride: 1, dilation: 1}
	}
	lines := w[2-len(sizes):] // a Conv1d has a width alone
	for i := range lines {
		lines[i].size = sizes[i]
	}
	for _, field := range []string{"stride", "dilation", "padding"} {
		a, ok := n.Fields[field]
		if !ok && field == "dilation" { // a pooling has none
			continue
		}
		if field == "padding" && a.Type == "str" && len(a.Texts) == 1 {
			switch a.Texts[0] {
			case "valid":
			case "same":
				for i := range lines {
					total := lines[i].extent() - 1
					lines[i].before, lines[i].after = total/2, total-total/2
					if lines[i].stride != 1 {
						return w, fmt.Errorf("padding same with a stride of %d: want 1", lines[i].stride)
					}
				}
			default:
				return w, fmt.Errorf("padding %q: want numbers, same or valid", a.Texts[0])
			}
			continue
		}
		v, err := n.dims(field)
		if err != nil {
			return w, err
		}
		if len(v) == 1 && len(lines) == 2 {
			v = []int{v[0], v[0]}
		}
		if len(v) != len(lines) {
			return w, fmt.Errorf("field %s has %d numbers, want %d", field, len(v), len(lines))
		}
		for i, x := range v {
			switch {
			case field == "padding":
				lines[i].before, lines[i].after = x, x
			case x < 1:
				return w, fmt.Errorf("field %s has %d: want 1 or more", field, x)
			case field == "stride":
				lines[i].stride = x
			default:
				lines[i].dilation = x
			}
		}
	}
	for _, l := range w {
		if l.size < 1 || l.size > 1<<12 || l.stride > 1<<20 || l.dilation > 1<<12 || l.before > 1<<12 {
			return w, fmt.Errorf("a window of %d pixels, stride %d, dilation %d and padding %d: too large", l.size, l.stride, l.dilation, l.before)
		}
	}
	return w, nil
}

// convolution returns a convolution whose weight for output channel o and input channel c, at the
// pixel y, x of the window, is what weight returns. The graph holds so many of them as held says. One
// side of padding, dilation and groups become weights of zero: a convolution of snn pads all sides
// alike.
func (b *builder) convolution(w [2]window, cout, held int, in []int, bias, trainable bool, weight func(o, c, y, x int) float64) (*snn.Conv2D, []int, error) {
	s, err := shapeOf(in)
	if err != nil {
		return nil, nil, err
	}
	out := []int{cout, w[0].outputs(s.H), w[1].outputs(s.W)}
	if cout < 1 {
		return nil, nil, fmt.Errorf("%d output channels: want at least 1", cout)
	}
	if out[1] < 1 || out[2] < 1 {
		return nil, nil, fmt.Errorf("its window exceeds the %d×%d input", s.H, s.W)
	}
	if _, err := shapeOf(out); err != nil {
		return nil, nil, fmt.Errorf("its output: %w", err)
	}
	pad := 0
	for _, l := range w {
		pad = max(pad, l.before, l.after)
	}
	kh, kw := w[0].extent()+2*pad-w[0].before-w[0].after, w[1].extent()+2*pad-w[1].before-w[1].after
	stride := w[1].stride
	switch {
	case w[0].stride == stride:
	case out[1] == 1: // a window over all pixels has one output at any stride
		kh = s.H + 2*pad
	case out[2] == 1:
		stride, kw = w[0].stride, s.W+2*pad
	default:
		return nil, nil, fmt.Errorf("strides %d and %d: want equal ones", w[0].stride, w[1].stride)
	}
	if float64(cout)*float64(s.C)*float64(kh)*float64(kw) > 1<<28 {
		return nil, nil, fmt.Errorf("%d×%d×%d×%d weights: more than 2²⁸", cout, s.C, kh, kw)
	}
	if err := b.claim(int64(cout*s.C*kh*kw), int64(held)); err != nil {
		return nil, nil, err
	}
	l := snn.NewConv2D(s.C, cout, 1, stride, pad, bias)
	l.Weight = autograd.NewParam(cout, s.C, kh, kw)
	l.Weight.Trainable = trainable
	values := make([]float64, cout*s.C*kh*kw)
	for o := range cout {
		for c := range s.C {
			for y := range w[0].size {
				for x := range w[1].size {
					row, column := pad-w[0].before+y*w[0].dilation, pad-w[1].before+x*w[1].dilation
					values[((o*s.C+c)*kh+row)*kw+column] = weight(o, c, y, x)
				}
			}
		}
	}
	if len(in) == 2 {
		out = []int{cout, out[2]}
	}
	return l, out, set(l.Weight, values, "weight")
}

func (b *builder) conv(n *Node, in []int) (snn.Layer, []int, error) {
	a, err := n.numeric("weight")
	if err != nil {
		return nil, nil, err
	}
	lines := 2
	if n.Type == "Conv1d" {
		lines = 1
	}
	if len(a.Shape) != 2+lines || len(in) != 1+lines {
		return nil, nil, fmt.Errorf("weight of shape %v for an input of shape %v: want %d and %d dimensions", a.Shape, in, 2+lines, 1+lines)
	}
	if err := n.reads("input_shape", in[1:]); err != nil {
		return nil, nil, err
	}
	w, err := windows(n, a.Shape[2:])
	if err != nil {
		return nil, nil, err
	}
	groups := []int{1}
	if _, ok := n.Fields["groups"]; ok {
		if groups, err = n.dims("groups"); err != nil {
			return nil, nil, err
		}
	}
	cout, each := a.Shape[0], a.Shape[1]
	if len(groups) != 1 || groups[0] < 1 || each*groups[0] != in[0] || cout%groups[0] != 0 {
		return nil, nil, fmt.Errorf("weight of shape %v and groups %v for %d input channels", a.Shape, groups, in[0])
	}
	values := a.numbers()
	l, out, err := b.convolution(w, cout, len(values), in, true, true, func(o, c, y, x int) float64 {
		if c -= o / (cout / groups[0]) * each; c < 0 || c >= each {
			return 0
		}
		return values[((o*each+c)*w[0].size+y)*w[1].size+x]
	})
	if err != nil {
		return nil, nil, err
	}
	return l, out, set(l.Bias, n.Fields["bias"].numbers(), "bias")
}

// pool returns average pooling, or a convolution with fixed equal weights where that cannot be it.
func (b *builder) pool(name string, n *Node, in []int) (snn.Layer, []int, error) {
	sizes, err := n.dims("kernel_size")
	if err != nil {
		return nil, nil, err
	}
	if len(sizes) == 1 {
		sizes = []int{sizes[0], sizes[0]}
	}
	if len(sizes) != 2 || len(in) != 3 {
		return nil, nil, fmt.Errorf("kernel_size %v for an input of shape %v: want two numbers for three dimensions", sizes, in)
	}
	w, err := windows(n, sizes)
	if err != nil {
		return nil, nil, err
	}
	if n.Type == "AvgPool2d" {
		apart := w[0].stride == w[0].size || w[0].size == in[1] && w[0].size == in[2] // no two windows overlap
		if w[0] == w[1] && apart && w[0].before == 0 && w[0].outputs(in[1]) > 0 && w[0].outputs(in[2]) > 0 {
			return snn.AvgPool{K: w[0].size}, []int{in[0], w[0].outputs(in[1]), w[0].outputs(in[2])}, nil
		}
		if w[0].before > 0 || w[1].before > 0 {
			b.note(name, "its average counts the padding, as PyTorch does by default")
		}
	}
	each := 1.
	if n.Type == "AvgPool2d" {
		each = 1 / float64(w[0].size*w[1].size)
	}
	l, out, err := b.convolution(w, in[0], 0, in, false, false, func(o, c, _, _ int) float64 {
		if o != c {
			return 0
		}
		return each
	})
	if err != nil {
		return nil, nil, err
	}
	return l, out, nil
}
