package autograd

import (
	"math"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
)

// throughCurrent keeps one factor for each neuron.
type throughCurrent struct {
	from   source
	y      *Value
	factor *Value    // ∂rate/∂from.x, [C/16][N][H][W][16]
	decay  []float32 // α of each channel in whole blocks, or nil
}

// FireGLIFThroughCurrent runs GLIF neurons as FireGLIFThroughTime does. The backward pass goes
// through the firing rate as a function of the mean current (RGA, Bu et al. 2023). With the mean
// over time z = mean(Gain·i(t))/Threshold of what is added to the membrane potential,
//
//	∂i(t) = ∂s(t)·f(z)·Gain/Threshold
//	f(z)  = 0.2                                  if 0 ≤ z < 1 − Decay
//	        (0.8 + 0.2·Decay)/(1 + Decay)        if 1 − Decay ≤ z ≤ 2
//	        0                                    otherwise
//
// i(t) is x(t), or the synaptic current: then ∂x(t) = ∂i(t) + SynapticDecay·∂x(t+1). A
// gradient of one step stays at one step without a synaptic current. Recurrence and Adaptation do not
// count. The coefficients get no gradient, and Threshold is positive.
func FireGLIFThroughCurrent(t *Tape, x *Value, n GLIF, steps int) *Value {
	const name = "FireGLIFThroughCurrent"
	in := x
	x = t.currents(name, x, steps)
	from := t.source(x)
	if from.bn != nil || n.SynapticDecay != nil {
		t.Floats(x)
		from = source{x: x}
	}
	k := new(kernel.GLIF)
	memory := t.pad(k, name, &n, x.shape.C)
	y := fire(t, from, (*glifNeurons)(k), steps, x.needsGrad, x.needsGrad)
	if y.needsGrad {
		op := &throughCurrent{from: from, y: y, factor: t.NewDense(x.shape.WithSteps(1), false)}
		if k.SynapticDecay != nil {
			op.decay = append(op.decay, k.SynapticDecay...)
		}
		op.factors(t, k)
		t.Record(op, op.factor)
		t.Release(op.factor)
	}
	t.Release(memory)
	t.letGo(x, in)
	return y
}

// factors writes f(z)·Gain/Threshold, times the factor of the norm.
func (o *throughCurrent) factors(t *Tape, n *kernel.GLIF) {
	sh, norm := o.from.x.shape, o.from.norm
	units, size := sh.Blocks()*sh.N, sh.Pixels()*tensor.Lanes
	mean := t.Floats(o.factor) // of i(t) over time at first
	if o.decay == nil {
		kernel.SumSteps(mean, t.floats(o.from.x), units, sh.Steps, size, 1/float32(sh.Steps), false, t.Threads)
	} else {
		o.meanCurrent(t, mean)
	}
	if norm.A != nil {
		kernel.Affine(mean, mean, norm.A, norm.B, sh.Blocks(), sh.N*sh.Pixels(), t.Threads)
	}
	parallel.For(t.Threads, units, func(u int) {
		var scale, low, high, least [tensor.Lanes]float32
		for l := range scale {
			c := u/sh.N*tensor.Lanes + l
			scale[l] = 1 / n.Threshold[c]
			if n.Gain != nil {
				scale[l] *= n.Gain[c]
			}
			least[l] = 1 - n.Decay[c]
			low[l], high[l] = 0.2*scale[l], (0.8+0.2*n.Decay[c])/(1+n.Decay[c])*scale[l]
			if norm.A != nil {
				low[l], high[l] = low[l]*norm.A[c], high[l]*norm.A[c]
			}
		}
		for v := mean[u*size:][:size]; len(v) > 0; v = v[tensor.Lanes:] {
			for l, m := range v[:tensor.Lanes] {
				// Without branches: positive numbers are ordered as their bits.
				z := math.Float32bits(m*scale[l] + 0) // −0 becomes 0
				below := uint32(int32(z-math.Float32bits(least[l])) >> 31)
				outside := uint32(int32(math.Float32bits(2)-z)>>31 | int32(z)>>31)
				f := math.Float32bits(high[l])&^below | math.Float32bits(low[l])&below
				v[l] = math.Float32frombits(f &^ outside)
			}
		}
	})
}

// meanCurrent writes the mean over time of the synaptic current.
func (o *throughCurrent) meanCurrent(t *Tape, mean []float32) {
	sh, steps := o.from.x.shape, o.y.shape.Steps
	size := sh.Pixels() * tensor.Lanes
	data, current := t.Floats(o.from.x), t.Scratch(len(mean))
	defer t.FreeScratch(current)
	parallel.For(t.Threads, sh.Blocks()*sh.N, func(u int) {
		decay := o.decay[u/sh.N*tensor.Lanes:][:tensor.Lanes]
		mean, current := mean[u*size:][:size], current[u*size:][:size]
		clear(mean)
		clear(current)
		for step := range steps {
			for i, x := range data[(u*sh.Steps+min(step, sh.Steps-1))*size:][:size] {
				current[i] = float32(decay[i%tensor.Lanes]*current[i]) + x
				mean[i] += current[i] / float32(steps)
			}
		}
	})
}

func (o *throughCurrent) Output() *Value { return o.y }

func (o *throughCurrent) Backward(t *Tape) {
	x, all, scale := o.from.x.shape, o.y.shape.Steps, float32(1)
	units, size := x.Blocks()*x.N, x.Pixels()*tensor.Lanes
	if o.decay != nil { // the factor is the same at every step, so that the filter can come first
		g := t.GradEveryStep(o.y)
		parallel.For(t.Threads, units, func(u int) {
			decay := o.decay[u/x.N*tensor.Lanes:][:tensor.Lanes]
			for step := all - 2; step >= 0; step-- {
				now, next := g[(u*all+step)*size:][:size], g[(u*all+step+1)*size:][:size]
				for i, d := range next {
					now[i] += float32(decay[i%tensor.Lanes] * d)
				}
			}
		})
	}
	g, steps := t.Grad(o.y)
	if x.Steps < all {
		if steps > 1 {
			g, steps = t.sumGrad(o.y), 1
		} else {
			scale = float32(all)
		}
	}
	s := t.OpenGradOver(o.from.x, o.y, steps)
	factor := t.Floats(o.factor)
	parallel.For(t.Threads, units, func(u int) {
		f := factor[u*size:][:size]
		for step := range steps {
			src, dst := g[(u*steps+step)*size:][:size], s.Data[(u*steps+step)*size:][:size]
			for i, d := range src {
				d = float32(d * f[i] * scale)
				if s.Add {
					d += dst[i]
				}
				dst[i] = d
			}
		}
	})
	t.CloseGrad(s)
}
