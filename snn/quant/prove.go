package quant

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/tensor"
)

// Verdict is what is known about an image and the images around it.
type Verdict string

// The verdicts.
const (
	Certified Verdict = "certified" // a proof: all images have the label
	Broken    Verdict = "broken"    // one of the images has another class
	Unknown   Verdict = "unknown"   // neither, after the given number of nodes
)

// Proof is the result of [Network.Prove].
type Proof struct {
	Verdict Verdict
	Nodes   int // of the search tree
	// Counterexample is an image with another class than the label, if the verdict is Broken,
	// [C, H, W]. The network was run on it.
	Counterexample []uint8
}

// Prove decides by branch and bound whether the network gives the label to all images whose pixels
// differ by at most eps, in 255ths, from those of the image x. nodes is the largest number of nodes
// of the search tree. There are finitely many images, and sums of integers are exact. So the search
// ends with a proof or a counterexample if nodes is large enough.
//
// A node is a box of images, with a range for the current of each neuron that reads the image. Such
// a neuron has a constant current. A larger current gives it a lexicographically larger spike train,
// so a range of currents gives a list of trains. Intervals of all other values follow. A node that
// they do not decide is split: a neuron has the first or the last of its trains. Where every neuron
// has one train, the output is known. If it is wrong, pixels are split until an image with these
// trains is found, or there is none.
//
// Prove returns an error if the network is not valid, has more than 64 steps, or has a layer that reads
// the image and is no convolution for neurons alone. It also returns one if x is not one image or an
// argument is out of range. It returns the error of ctx with the verdict Unknown.
func (n *Network) Prove(ctx context.Context, x tensor.NCHW, label, eps, nodes int) (Proof, error) {
	unknown := Proof{Verdict: Unknown}
	p, err := n.prepare()
	if err != nil {
		return unknown, err
	}
	switch {
	case x.N != 1 || x.Steps > 1:
		return unknown, fmt.Errorf("quant: Prove: %v: expected one image", x)
	case label < 0 || label >= len(n.Bias):
		return unknown, fmt.Errorf("quant: Prove: label %d: expected 0 to %d", label, len(n.Bias)-1)
	case eps < 0 || eps > math.MaxUint8 || nodes < 1:
		return unknown, fmt.Errorf("quant: Prove: eps %d and %d nodes: expected 0 to 255, and at least one", eps, nodes)
	case n.Steps > 64:
		return unknown, fmt.Errorf("quant: Prove: %d steps: expected at most 64", n.Steps)
	}
	if _, err := n.Logits(x); err != nil {
		return unknown, err
	}
	s := &search{n: n, p: p, label: label}
	if err := s.readers(); err != nil {
		return unknown, err
	}
	root := part{currents: slices.Repeat([]Range{{math.MinInt64 / 4, math.MaxInt64 / 4}}, len(s.rows))}
	for _, v := range x.Data {
		c := int64(Pixel(v))
		root.box = append(root.box, Range{max(0, c-int64(eps)), min(255, c+int64(eps))})
	}
	open, proof := []part{root}, unknown
	for len(open) > 0 {
		if ctx.Err() != nil || proof.Nodes == nodes {
			return proof, ctx.Err()
		}
		proof.Nodes++
		q := open[len(open)-1]
		halves, found := s.visit(q)
		if found != nil {
			proof.Verdict, proof.Counterexample = Broken, found
			return proof, nil
		}
		open = append(open[:len(open)-1], halves...)
	}
	proof.Verdict = Certified
	return proof, nil
}

// part is a node of the search tree.
type part struct {
	box      []Range // of each pixel
	currents []Range // of each row
}

// clone returns a copy of q.
func (q part) clone() part { return part{slices.Clone(q.box), slices.Clone(q.currents)} }

// row is the current of a neuron that reads the image, with its gain and its bias:
// Σ weights[i]·v[pixels[i]] + constant.
type row struct {
	pixels   []int
	weights  []int64
	constant int64
	layer    *Neurons
	channel  int
}

// search is the search around an image.
type search struct {
	n     *Network
	p     *plan
	label int
	rows  []row
	first map[int]int // by the index of a layer of neurons that reads the image: its first row
}

// readers makes the rows.
func (s *search) readers() error {
	s.first = map[int]int{}
	convs := map[int]*Conv{}
	for i := range s.p.steps {
		st := &s.p.steps[i]
		switch l := st.layer.(type) {
		case *Conv:
			if st.in == 0 && (st.add >= 0 || i == len(s.p.steps)-1) {
				return fmt.Errorf("quant: Prove: layer %q: a convolution of the image that is added to others, or the output: expected neurons behind it", l.Name)
			}
			if st.add > 0 && convs[st.add] != nil {
				return fmt.Errorf("quant: Prove: layer %q: the currents of the image are added to it: expected neurons behind them", l.Name)
			}
			if st.in == 0 {
				convs[i+1] = l
			}
		case *Neurons:
			if c := convs[st.in]; c != nil {
				s.first[i] = len(s.rows)
				s.addRows(c, l, &s.p.values[i+1])
			}
		default:
			if name, _ := l.names(); st.in == 0 {
				return fmt.Errorf("quant: Prove: layer %q: pooling of the image: expected a convolution", name)
			}
		}
	}
	if len(s.rows) == 0 {
		return errors.New("quant: Prove: no neurons read the image")
	}
	return nil
}

// addRows adds the rows of the neurons l behind the convolution c.
func (s *search) addRows(c *Conv, l *Neurons, out *value) {
	for i := range out.c * out.h * out.w {
		o, y, x := i/(out.h*out.w), i/out.w%out.h*c.Stride-c.Pad, i%out.w*c.Stride-c.Pad
		gain := int64(c.gain(o))
		if l.Gain != nil {
			gain *= int64(l.Gain[o])
		}
		r := row{constant: int64(l.Bias[o]), layer: l, channel: o}
		for k := range c.Cin * c.KH * c.KW {
			w := gain * int64(c.Weight[o*c.Cin*c.KH*c.KW+k])
			ch, ky, kx := k/(c.KH*c.KW), y+k/c.KW%c.KH, x+k%c.KW
			switch {
			case ky >= 0 && ky < s.n.Height && kx >= 0 && kx < s.n.Width:
				if w != 0 {
					r.pixels, r.weights = append(r.pixels, (ch*s.n.Height+ky)*s.n.Width+kx), append(r.weights, w)
				}
			case c.Border != nil:
				r.constant += w * int64(c.Border[ch])
			}
		}
		s.rows = append(s.rows, r)
	}
}

// visit closes q, returns its halves, or returns a counterexample.
func (s *search) visit(q part) (halves []part, counterexample []uint8) {
	q = q.clone()
	if !s.tighten(q) {
		return nil, nil
	}
	trains := make([][]train, len(s.rows))
	split, most := -1, 1
	for i := range s.rows {
		trains[i] = s.trains(i, q.currents[i])
		if len(trains[i]) > most {
			split, most = i, len(trains[i])
		}
	}
	if s.proven(trains) {
		return nil, nil
	}
	if v := s.middle(q.box); s.wrong(v) {
		return nil, v
	}
	if split >= 0 {
		low, high := q.clone(), q
		cut := trains[split][most/2].currents.Min
		low.currents[split].Max, high.currents[split].Min = cut-1, cut
		return []part{low, high}, nil
	}
	widest := 0
	for i, r := range q.box {
		if r.Max-r.Min > q.box[widest].Max-q.box[widest].Min {
			widest = i
		}
	}
	r := q.box[widest]
	if r.Min == r.Max {
		return nil, nil // one image, which is right
	}
	low, high := q.clone(), q
	low.box[widest].Max, high.box[widest].Min = (r.Min+r.Max)/2, (r.Min+r.Max)/2+1
	return []part{low, high}, nil
}

// tighten narrows the boxes and currents of q to what they allow each other. It returns false if
// it finds that q has no image.
func (s *search) tighten(q part) bool {
	for changed := true; changed; {
		changed = false
		for i := range s.rows {
			r, c := &s.rows[i], &q.currents[i]
			sum := Range{r.constant, r.constant}
			for k, p := range r.pixels {
				sum = sum.plus(q.box[p].times(r.weights[k]))
			}
			*c = Range{max(c.Min, sum.Min), min(c.Max, sum.Max)}
			if c.Min > c.Max {
				return false
			}
			if *c == sum {
				continue
			}
			for k, p := range r.pixels {
				w, b := r.weights[k], q.box[p]
				part := b.times(w)
				// w·v is from least to most, whatever the other pixels are.
				least, most := c.Min-(sum.Max-part.Max), c.Max-(sum.Min-part.Min)
				if w < 0 {
					w, least, most = -w, -most, -least
				}
				now := Range{max(b.Min, -floorDiv(-least, w)), min(b.Max, floorDiv(most, w))}
				if now.Min > now.Max {
					return false
				}
				if now != b {
					q.box[p], changed = now, true
					sum = sum.plus(Range{-part.Min, -part.Max}).plus(now.times(r.weights[k]))
				}
			}
		}
	}
	return true
}

// floorDiv returns ⌊a/b⌋ for b > 0.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// train is a spike train, the first step in the highest bit, and the currents that give it.
type train struct {
	bits     uint64
	currents Range
}

// trains returns the trains of a neuron that reads the image, for a range of currents.
func (s *search) trains(i int, c Range) (list []train) {
	for at := c.Min; at <= c.Max; {
		bits := s.train(i, at)
		lo, hi := at, c.Max // the last current with these bits
		for lo < hi {
			if mid := lo + (hi-lo+1)/2; s.train(i, mid) == bits {
				lo = mid
			} else {
				hi = mid - 1
			}
		}
		list = append(list, train{bits, Range{at, lo}})
		at = lo + 1
	}
	return list
}

// train returns the spike train for a current.
func (s *search) train(i int, current int64) (bits uint64) {
	l, m := s.rows[i].layer, int64(0)
	theta := int64(l.Threshold[s.rows[i].channel])
	for range s.n.Steps {
		m = m*int64(l.Leak)>>l.LeakShift + current
		bits <<= 1
		if m >= theta {
			bits |= 1
			if m -= theta; !l.SoftReset {
				m = 0
			}
		}
	}
	return bits
}

// middle returns the image in the middle of a box.
func (s *search) middle(box []Range) []uint8 {
	v := make([]uint8, len(box))
	for i, r := range box {
		v[i] = uint8((r.Min + r.Max) / 2)
	}
	return v
}

// wrong reports whether the network gives the image v another class than the label.
func (s *search) wrong(v []uint8) bool {
	x := tensor.NewNCHW(1, s.n.Channels, s.n.Height, s.n.Width)
	for i, v := range v {
		x.Data[i] = float32(v) / 255
	}
	class, err := s.n.Predict(x)
	return err == nil && class[0] != s.label
}
