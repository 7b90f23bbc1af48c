package quant

import "math/bits"

// intervals are ranges of a layer's output, [steps][c·h·w].
type intervals [][]Range

// proven reports whether the label is the class for all trains of the neurons that read the image.
func (s *search) proven(trains [][]train) bool {
	values := make([]intervals, len(s.p.values))
	for i := range s.p.steps {
		st, out := &s.p.steps[i], &s.p.values[i+1]
		size := out.c * out.h * out.w
		v := make(intervals, s.n.Steps)
		for t := range v {
			v[t] = make([]Range, size)
		}
		values[i+1] = v
		in := &s.p.values[st.in]
		switch l := st.layer.(type) {
		case *Conv:
			if st.in == 0 || i == len(s.p.steps)-1 && st.add < 0 {
				continue // the rows stand for it, or margin does
			}
			for t := range v {
				for k := range v[t] {
					if st.add >= 0 {
						v[t][k] = values[st.add][t][k]
					}
					gain := int64(l.gain(k / (out.h * out.w)))
					l.taps(in, out, k, func(weight, from int) {
						v[t][k] = v[t][k].plus(values[st.in][t][from].times(gain * int64(l.Weight[weight])))
					})
				}
			}
		case *Neurons:
			for k := range size {
				if first, ok := s.first[i]; ok {
					s.listed(v, k, trains[first+k])
				} else {
					l.fire(v, values[st.in], k, k/(out.h*out.w))
				}
			}
		case *SumPool:
			for t := range v {
				for k := range v[t] {
					eachOf(in, out, k, l.KH, l.KW, func(from int) { v[t][k] = v[t][k].plus(values[st.in][t][from]) })
				}
			}
		case *MaxPool:
			for t := range v {
				for k := range v[t] {
					eachOf(in, out, k, l.K, l.K, func(from int) {
						r := values[st.in][t][from]
						v[t][k] = Range{max(v[t][k].Min, r.Min), max(v[t][k].Max, r.Max)}
					})
				}
			}
		}
	}
	for c := range s.n.Bias {
		least := int64(0) // of the margin: of equal logits, the first counts
		if c < s.label {
			least = 1
		}
		if c != s.label && s.margin(values, trains, c) < least {
			return false
		}
	}
	return true
}

// taps calls fn for each weight of output k whose input is inside.
func (l *Conv) taps(in, out *value, k int, fn func(weight, from int)) {
	o, y, x := k/(out.h*out.w), k/out.w%out.h*l.Stride-l.Pad, k%out.w*l.Stride-l.Pad
	for i := range l.Cin * l.KH * l.KW {
		c, row, col := i/(l.KH*l.KW), y+i/l.KW%l.KH, x+i%l.KW
		if row >= 0 && row < in.h && col >= 0 && col < in.w {
			fn(o*l.Cin*l.KH*l.KW+i, (c*in.h+row)*in.w+col)
		}
	}
}

// eachOf calls fn for each input in the window of output k.
func eachOf(in, out *value, k, kh, kw int, fn func(from int)) {
	c, y, x := k/(out.h*out.w), k/out.w%out.h*kh, k%out.w*kw
	for i := range kh * kw {
		fn((c*in.h+y+i/kw)*in.w + x + i%kw)
	}
}

// listed sets the spikes of neuron k, which has one of the trains.
func (s *search) listed(v intervals, k int, list []train) {
	for t := range v {
		v[t][k] = Range{1, 0}
		for _, q := range list {
			bit := int64(q.bits >> (s.n.Steps - 1 - t) & 1)
			v[t][k] = Range{min(v[t][k].Min, bit), max(v[t][k].Max, bit)}
		}
	}
}

// fire sets the spikes of neuron k of channel c, from its currents x.
func (l *Neurons) fire(v, x intervals, k, c int) {
	gain, b, theta := int64(1), int64(l.Bias[c]), int64(l.Threshold[c])
	if l.Gain != nil {
		gain = int64(l.Gain[c])
	}
	var m Range
	for t := range v {
		product := m.times(int64(l.Leak))
		m = Range{product.Min >> l.LeakShift, product.Max >> l.LeakShift}.plus(x[t][k].times(gain)).plus(Range{b, b})
		fired := Range{}
		if l.SoftReset {
			fired = Range{max(m.Min, theta) - theta, m.Max - theta}
		}
		switch {
		case m.Min >= theta:
			v[t][k], m = Range{1, 1}, fired
		case m.Max >= theta: // perhaps
			v[t][k], m = Range{0, 1}, Range{min(m.Min, fired.Min), max(theta-1, fired.Max)}
		}
	}
}

// margin returns a lower bound of the logit of the label minus that of class c.
func (s *search) margin(values []intervals, trains [][]train, c int) int64 {
	last := len(s.p.steps) - 1
	st := &s.p.steps[last]
	margin := int64(s.n.Bias[s.label]) - int64(s.n.Bias[c])
	l, ok := st.layer.(*Conv)
	if !ok || st.add >= 0 {
		for _, v := range values[last+1] {
			margin += v[s.label].Min - v[c].Max
		}
		return margin
	}
	row := l.Cin * l.KH * l.KW
	first, direct := s.first[st.in-1]
	l.taps(&s.p.values[st.in], &s.p.values[last+1], 0, func(weight, from int) {
		difference := int64(l.gain(s.label))*int64(l.Weight[s.label*row+weight]) - int64(l.gain(c))*int64(l.Weight[c*row+weight])
		var count Range // of the input's spikes
		if direct {
			count = counts(trains[first+from])
		} else {
			for _, v := range values[st.in] {
				count = count.plus(v[from])
			}
		}
		margin += count.times(difference).Min
	})
	return margin
}

// counts returns the range of the numbers of spikes of trains.
func counts(list []train) Range {
	r := Range{64, 0}
	for _, q := range list {
		n := int64(bits.OnesCount64(q.bits))
		r = Range{min(r.Min, n), max(r.Max, n)}
	}
	return r
}
