package autograd

import (
	"fmt"
	"slices"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
)

// recurrentGLIF keeps the spikes and the currents with what returned to them.
type recurrentGLIF struct {
	modelRun  // its x is the sum of the currents and w·s(t−1)
	in, y     *Value
	w         *Param // [C, C]
	params    []*Param
	geom      kernel.Conv
	surrogate Surrogate
}

// FireGLIFRecurrent is [FireGLIFThroughTime] for neurons whose spikes return to the neurons of
// all channels at the same pixel. At step t the current of the neurons is
//
//	x(t) + w·s(t−1)
//
// w has the shape [C, C], and s(t) are the spikes of step t, 0 before the first one. For one
// pixel the layer is fully recurrent; for more, w is a 1 × 1 convolution.
// FireGLIFRecurrent panics if the shapes do not fit.
func FireGLIFRecurrent(t *Tape, x *Value, n GLIF, w *Param, steps int, s Surrogate, detach bool) *Value {
	const name = "FireGLIFRecurrent"
	sh := x.shape.WithSteps(steps)
	if len(w.Shape) != 2 || w.Shape[0] != sh.C || w.Shape[1] != sh.C {
		panic(fmt.Sprintf("autograd: %s: weights %v for %d channels: expected [%d %d]", name, w.Shape, sh.C, sh.C, sh.C))
	}
	in := t.currents(name, x, steps)
	t.Floats(in)
	var padded kernel.GLIF
	m, k := newGLIFModel(&padded, name, n, sh.C, detach)
	needsGrad := in.needsGrad || t.Params
	o := &recurrentGLIF{in: in, y: t.NewSpikes(sh, needsGrad), w: w, params: n.Params, surrogate: s, geom: kernel.Conv{
		Frames: sh.N, Cin: sh.C, Hin: sh.H, Win: sh.W, Cout: sh.C, Hout: sh.H, Wout: sh.W, KH: 1, KW: 1, Stride: 1,
	}}
	o.modelRun = modelRun{x: t.NewDense(sh, false), model: m, k: k, sh: sh}
	o.forward(t, &padded)
	if needsGrad {
		t.Record(o, o.x, o.y)
	}
	t.Release(o.x)
	return o.y
}

// FireGLIFRecurrentStep runs the next step of the layer of FireGLIFRecurrent, and returns its
// spikes. last are those of the step before. FireGLIFRecurrentStep overwrites them and the
// state. Zeros are the spikes before the first step. No gradient passes through.
//
// Calls that continue each other give the bits of one call of FireGLIFRecurrent.
// FireGLIFRecurrentStep panics as [FireGLIFSteps] does.
func FireGLIFRecurrentStep(t *Tape, x *Value, n GLIF, w *Param, state *GLIFState, last *tensor.Spikes) *Value {
	back := conv(t, t.InputSpikes(last, false), w, nil, 1, 1, 1, 0)
	y := FireGLIFSteps(t, Add(t, x, back), n, 1, state)
	copy(last.Bits, y.spikes)
	return y
}

func (o *recurrentGLIF) Output() *Value { return o.y }

// UsesParam reports whether p are the recurrent weights or a parameter of the neurons.
func (o *recurrentGLIF) UsesParam(p *Param) bool { return p == o.w || slices.Contains(o.params, p) }

// forward runs the layer step by step, in the kernel of GLIF neurons.
func (o *recurrentGLIF) forward(t *Tape, n *kernel.GLIF) {
	one := o.sh.WithSteps(1)
	scan, size := scanOf(one, 1), one.Floats()
	units, pixels := one.Blocks()*one.N, one.Pixels()
	current, back := t.Scratch(size), t.Scratch(size) // [C/16][N][H][W][16]
	state := kernel.GLIFState{Membrane: t.Scratch(size)}
	if n.SynapticDecay != nil || n.Recurrence != nil {
		state.Carry = t.Scratch(size)
	}
	if n.Adaptation != nil {
		state.Adaptation = t.Scratch(size)
	}
	state.Clear(n, scan)
	spikes := t.arena.Words(one.Words())
	for step := range o.sh.Steps {
		from := min(step, o.in.shape.Steps-1)
		copyStep(t, current, o.in.dense, units, pixels*tensor.Lanes, 1, 0, o.in.shape.Steps, from)
		if step > 0 {
			kernel.ConvSpikes(back, spikes, o.w.data, nil, o.geom, t.Threads)
			kernel.AXPY(current, 1, back, true, t.Threads)
		}
		if !kernel.GLIFForward(spikes, current, kernel.Norm{}, n, scan, &state, t.Threads) {
			t.MarkNonFinite()
		}
		copyStep(t, o.x.dense, current, units, pixels*tensor.Lanes, o.sh.Steps, step, 1, 0)
		copyStep(t, o.y.spikes, spikes, units, pixels, o.sh.Steps, step, 1, 0)
	}
	for _, v := range [][]float32{current, back, state.Membrane, state.Carry, state.Adaptation} {
		t.FreeScratch(v)
	}
	t.arena.FreeWords(spikes)
}

// known is a surrogate with these derivatives.
type known []float32

func (k known) Derivative(dst, _ []float32) { copy(dst, k) }

// copyStep copies step from of src, [units][srcSteps][frame], to step to of dst,
// [units][dstSteps][frame].
func copyStep[E any](t *Tape, dst, src []E, units, frame, dstSteps, to, srcSteps, from int) {
	part := max(1, cached/16/frame) // units
	parallel.For(t.Threads, (units+part-1)/part, func(i int) {
		for u := i * part; u < min(units, (i+1)*part); u++ {
			copy(dst[(u*dstSteps+to)*frame:][:frame], src[(u*srcSteps+from)*frame:])
		}
	})
}

// load copies the part of a chunk at a step from data, [C/16][N·steps][H][W][16], and store
// does the reverse.
func (r *modelRun) load(c chunk, t, steps int, part, data [][]float32) {
	for k, v := range part {
		r.each(c, t, steps, tensor.Lanes, func(at, from, n int) { copy(v[from:from+n], data[k][at:]) })
	}
}

func (r *modelRun) store(c chunk, t, steps int, data, part [][]float32) {
	for k, v := range part {
		r.each(c, t, steps, tensor.Lanes, func(at, from, n int) { copy(data[k][at:at+n], v[from:]) })
	}
}

// Backward computes the states again, and goes back step by step: the gradient of the spikes
// of step t−1 gets wᵀ times that of the current of step t.
func (o *recurrentGLIF) Backward(t *Tape) {
	dy, dySteps := t.Grad(o.y)
	fine := kernel.Finite(dy, t.Threads)
	s := o.model.NumStates()
	one := o.sh.WithSteps(1)
	scratch := func(count, floats int) [][]float32 {
		vs := make([][]float32, count)
		for k := range vs {
			vs[k] = t.Scratch(floats)
		}
		return vs
	}
	before := scratch(s, o.sh.Floats()) // [states][C/16][N·T][H][W][16]
	var slopes []float32                // u, and then a BlockSurrogate's derivatives, [C/16][N·T][H][W][16]
	blocks, ofBlocks := o.surrogate.(BlockSurrogate)
	if ofBlocks {
		slopes = t.Scratch(o.sh.Floats())
		defer t.FreeScratch(slopes)
	}
	dz := scratch(s, one.Floats())      // [states][C/16][N][H][W][16]
	current := scratch(2, one.Floats()) // gradients of the current, and of the spikes by the next step
	sum := scratch(1, one.Floats())[0]  // of the current over time, for one step of currents
	dx, ds := current[0], current[1]
	spikes := t.arena.Words(one.Words())
	defer func() {
		for _, v := range append(append(append(before, dz...), current...), sum) {
			t.FreeScratch(v)
		}
		t.arena.FreeWords(spikes)
	}()
	err := o.run(t, o.size(o.sh.Steps), func(_ int, c chunk, buf []float32) error {
		steps, _ := o.states(buf, c, o.sh.Steps, true)
		err := o.modelRun.forward(c, steps, nil)
		for i := range steps {
			o.store(c, i, o.sh.Steps, before, steps[i].before[:s])
			if ofBlocks {
				o.store(c, i, o.sh.Steps, [][]float32{slopes}, [][]float32{steps[i].u})
			}
		}
		return err
	})
	if ofBlocks && err == nil {
		kernel.BlockDerivatives(slopes, blocks, scanOf(o.sh, o.sh.Steps), t.Threads)
	}
	for _, v := range append(dz, ds, sum) {
		clear(v)
	}
	var slot GradSlot
	if o.in.needsGrad {
		slot = t.OpenGrad(o.in, o.in.shape.Steps)
	}
	sums := o.newSums(t)
	var dw []float32
	add := false
	if t.Params && o.w.Trainable {
		dw, add = o.w.OpenGrad()
		if !add {
			clear(dw)
		}
	}
	for step := o.sh.Steps - 1; step >= 0 && err == nil; step-- {
		err = o.run(t, o.size(1)+chunkPixels*tensor.Lanes*(s+len(o.k.values)+4), func(i int, c chunk, buf []float32) error {
			steps, buf := o.states(buf, c, 1, true)
			st := &steps[0]
			n := c.len()
			cut := func() (v []float32) { v, buf = buf[:n:n], buf[n:]; return v }
			z := make([][]float32, s+len(o.k.values)) // gradients with respect to states, and to parameters in this step
			for k := range z {
				if z[k] = cut(); k >= s {
					clear(z[k])
				}
			}
			own := [][]float32{cut(), cut()} // of the current, and of the spikes
			du, d := cut(), cut()
			o.load(c, step, o.sh.Steps, st.before[:s], before)
			o.load(c, step, o.sh.Steps, [][]float32{st.x}, [][]float32{o.x.dense})
			o.load(c, 0, 1, z[:s], dz)
			o.load(c, 0, 1, own[1:], current[1:])
			o.each(c, step, dySteps, tensor.Lanes, func(at, from, n int) { copy(d[from:from+n], dy[at:]) })
			for i, v := range d {
				own[1][i] += v
			}
			if err := o.integrate(c, step, st); err != nil {
				return err
			}
			surrogate := o.surrogate
			if ofBlocks {
				o.load(c, step, o.sh.Steps, [][]float32{d}, [][]float32{slopes})
				surrogate = known(d)
			}
			err := o.back(c, step, st, surrogate, z, own[1], du, own[0])
			o.store(c, 0, 1, dz, z[:s])
			o.store(c, 0, 1, current[:1], own[:1])
			if slot.v != nil && slot.steps > 1 {
				o.put(c, step, slot, own[0])
			}
			sums.add(i, z[s:])
			return err
		})
		if slot.steps == 1 {
			kernel.AXPY(sum, 1, dx, true, t.Threads)
		}
		if step == 0 {
			break
		}
		if dw != nil {
			copyStep(t, spikes, o.y.spikes, o.sh.Blocks()*o.sh.N, o.sh.Pixels(), 1, 0, o.sh.Steps, step-1)
			kernel.ConvWeightGradSpikes(dw, spikes, dx, o.geom, true, t.Threads)
		}
		kernel.ConvInputGrad(ds, dx, o.w.data, nil, o.geom, false, t.Threads)
	}
	if slot.v != nil {
		if slot.steps == 1 {
			for _, c := range o.chunks() {
				o.each(c, 0, 1, tensor.Lanes, func(at, _, n int) {
					for i, v := range sum[at:][:n] {
						if slot.Add {
							v += slot.Data[at+i]
						}
						slot.Data[at+i] = v
					}
				})
			}
		}
		t.CloseGrad(slot)
	}
	o.finish(t, sums, err, fine)
}
