package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
)

// Bound is one end of an interval.
type Bound uint8

// The ends of an interval.
const (
	Lower Bound = iota
	Upper
)

// fireBound keeps both currents. Its backward pass computes the potentials again.
type fireBound struct {
	lo, hi, y *Value
	dynamics  Dynamics
	surrogate Surrogate
	of        Bound
}

// FireBound returns a bound of the spikes of neurons whose currents lie between lo and hi at each
// step. Where the lower bound has a spike, the neuron surely fires; where the upper bound has none,
// it surely does not. lo and hi have the given number of steps, or both have one.
//
// The bounds follow the membrane potential in an interval [a, b]. At each step
//
//	a ← Decay·a + lo(t),  b ← Decay·b + hi(t)
//	the neuron surely fires if a ≥ Threshold, perhaps if only b ≥ Threshold, and else not
//
// and then, for the hard and for the soft reset:
//
//	surely    a, b ← 0                       a, b ← a − Threshold, b − Threshold
//	perhaps   a ← min(a, 0), b ← Threshold   a ← min(a, 0), b ← max(Threshold, b − Threshold)
//
// This is S-IBP (Liang et al.: Toward Robust Spiking Neural Network Against Adversarial
// Perturbation, NeurIPS 2022), for both resets. The interval is computed in float32 and rounded to
// nearest. It is for training, and proves nothing about the last bit of a potential.
//
// The backward pass takes the surrogate s in place of the derivative of a spike, and goes back
// through a or b alone. No gradient passes through the reset. FireBound calls Tape.Fail if s is a
// [BlockSurrogate]. It panics if lo and hi differ in shape.
func FireBound(t *Tape, lo, hi *Value, d Dynamics, steps int, s Surrogate, of Bound) *Value {
	if lo.shape != hi.shape {
		panic(fmt.Sprintf("autograd: FireBound: currents from %v to %v", lo.shape, hi.shape))
	}
	if _, ok := s.(BlockSurrogate); ok {
		t.Fail(fmt.Errorf("surrogate %v reads all neurons of a block of channels, but bounds are computed for one: expected a surrogate of one neuron", s))
	}
	o := &fireBound{dynamics: d, surrogate: s, of: of}
	o.lo, o.hi = t.currents("FireBound", lo, steps), t.currents("FireBound", hi, steps)
	sh := lo.shape.WithSteps(steps)
	o.y = t.NewSpikes(sh, []*Value{lo, hi}[of].needsGrad)
	t.checkFinite(t.Floats(o.lo))
	t.checkFinite(t.Floats(o.hi))
	words := t.Words(o.y)
	parallel.For(t.Threads, sh.Blocks()*sh.N, func(unit int) {
		o.scan(unit, nil, nil, words[unit*sh.Steps*sh.Pixels():][:sh.Steps*sh.Pixels()])
	})
	t.Record(o, o.lo, o.hi)
	t.letGo(o.lo, lo)
	t.letGo(o.hi, hi)
	return o.y
}

// scan runs the interval of the neurons of a block of channels of an image. If u is not nil, scan
// writes to it the potential of the bound minus the threshold before each reset. It then writes to
// keep the derivative of the potential after the reset with respect to that before it. Both are
// [Steps][H·W·16]. If words is not nil, scan writes the spikes to it, [Steps][H·W].
func (o *fireBound) scan(unit int, u, keep []float32, words []uint16) {
	sh, d := o.y.shape, o.dynamics
	frame := sh.Pixels() * tensor.Lanes
	lo, hi := o.lo.dense, o.hi.dense
	for i := range frame {
		var a, b float32
		for step := range sh.Steps {
			at := (unit*o.lo.shape.Steps+min(step, o.lo.shape.Steps-1))*frame + i
			a = float32(d.Decay*a) + lo[at]
			b = float32(d.Decay*b) + hi[at]
			bound := a
			if o.of == Upper {
				bound = b
			}
			if words != nil {
				bit := uint16(1) << (i % tensor.Lanes)
				w := &words[step*sh.Pixels()+i/tensor.Lanes]
				if *w &^= bit; bound >= d.Threshold {
					*w |= bit
				}
			}
			var ka, kb float32 = 1, 1
			switch {
			case a >= d.Threshold && d.SoftReset:
				a, b = a-d.Threshold, b-d.Threshold
			case a >= d.Threshold:
				a, b, ka, kb = 0, 0, 0, 0
			case b >= d.Threshold:
				if a > 0 {
					a, ka = 0, 0
				}
				if d.SoftReset && b-d.Threshold > d.Threshold {
					b -= d.Threshold
				} else {
					b, kb = d.Threshold, 0
				}
			}
			if u != nil {
				k := ka
				if o.of == Upper {
					k = kb
				}
				u[step*frame+i], keep[step*frame+i] = bound-d.Threshold, k
			}
		}
	}
}

func (o *fireBound) Output() *Value { return o.y }

// Backward computes, from the last step to the first, with the surrogate derivative σ,
//
//	∂u(t) = σ(u(t))·∂s(t) + Decay·keep(t)·∂u(t+1),  ∂x(t) = ∂u(t)
func (o *fireBound) Backward(t *Tape) {
	t.Floats(o.lo) // computed by now, since the units read them side by side
	t.Floats(o.hi)
	x := []*Value{o.lo, o.hi}[o.of]
	dy := t.GradEveryStep(o.y)
	sh := o.y.shape
	frame := sh.Pixels() * tensor.Lanes
	units := sh.Blocks() * sh.N
	threads := min(parallel.Threads(t.Threads), units)
	size := sh.Steps * frame
	all := t.Scratch(threads * 2 * size)
	defer t.FreeScratch(all)
	free := make(chan []float32, threads)
	for i := range threads {
		free <- all[i*2*size:][:2*size]
	}
	surrogate, check := t.watch(o.surrogate)
	defer check()
	s := t.OpenGrad(x, x.shape.Steps)
	parallel.For(t.Threads, units, func(unit int) {
		buf := <-free
		defer func() { free <- buf }()
		u, keep := buf[:size], buf[size:]
		o.scan(unit, u, keep, nil)
		surrogate.Derivative(u, u)
		ds := dy[unit*size:][:size]
		dx := s.Data[unit*s.steps*frame:][:s.steps*frame]
		if !s.Add {
			clear(dx)
		}
		for i := range frame {
			var du float32
			for step := sh.Steps - 1; step >= 0; step-- {
				at := step*frame + i
				du = float32(u[at]*ds[at]) + float32(o.dynamics.Decay*keep[at]*du)
				dx[min(step, s.steps-1)*frame+i] += du
			}
		}
	})
	t.CloseGrad(s)
}
