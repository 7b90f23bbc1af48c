package autograd

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
)

// NeuronModel is a spiking neuron written in plain Go. A neuron has the states z, which are 0
// before the first step. At every step with the current x, it computes
//
//	z⁻, u = Integrate(z, x)
//	s = 1 if u ≥ 0, else 0
//	z = Reset(z⁻, s)
//
// and the output is the spike s. The methods work on many neurons at a time: z[k][i] is state
// k of neuron i, and all slices have one length. Each neuron must be computed from its own
// elements alone.
//
// Parameters follow the states: for S states, z[S+k] holds the value of parameter k for each
// neuron. Integrate and Reset must not change them.
//
// The gradients dz, ds, du and dx are those of the loss with respect to z, s, u and x. They
// have the layout of these.
//
// The methods must not keep the slices, and write only to what they replace. They are called
// from several goroutines at a time.
type NeuronModel interface {
	// NumStates returns S, the number of states.
	NumStates() int
	// Integrate replaces the states z by z⁻ and writes all of u, the membrane potential minus
	// the threshold.
	Integrate(z [][]float32, x, u []float32)
	// Reset replaces the states z⁻ by those after the spikes s, which are 0 or 1.
	Reset(z [][]float32, s []float32)
	// ResetGrad goes back through Reset. z and s are the z⁻ and s that Reset had. dz comes
	// with respect to the states that Reset computed, and ResetGrad replaces it by that with
	// respect to z⁻. It adds the gradient of the spikes through the reset to ds, or leaves ds
	// as it is to detach the reset.
	ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32)
	// IntegrateGrad goes back through Integrate. z and x are those that Integrate had. dz
	// comes with respect to z⁻, and IntegrateGrad replaces it by that with respect to z. It
	// writes all of dx. For a parameter, dz is the sum of the later steps: ResetGrad and
	// IntegrateGrad add to it.
	IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32)
}

// starter is a NeuronModel whose states before the first step are not 0. Start gets zeros and
// the parameters.
type starter interface{ Start(z [][]float32) }

// coefficients are the parameters of a [NeuronModel] with a value for each channel.
type coefficients struct {
	values [][]float32 // [parameters][C rounded up to 16]
	// grad gets the gradient of each value, [parameters][C rounded up to 16], summed over
	// images, steps and pixels. It is nil if no parameter is trained.
	grad func(sums [][]float64)
}

// coefficientsOf returns parameters of shape [] or [C] as coefficients of c channels.
func coefficientsOf(op string, params []*Param, c int) coefficients {
	var k coefficients
	for _, p := range params {
		if len(p.Shape) > 1 || len(p.Shape) == 1 && p.Shape[0] != c {
			panic(fmt.Sprintf("autograd: %s: parameter %s of shape %v for %d channels: expected [] or [%d]", op, p.Name, p.Shape, c, c))
		}
		v := p.data
		if len(p.Shape) == 0 {
			v = make([]float32, roundUp(c))
			for i := range c {
				v[i] = p.data[0]
			}
		}
		k.values = append(k.values, v)
	}
	if slices.ContainsFunc(params, func(p *Param) bool { return p.Trainable }) {
		k.grad = func(sums [][]float64) {
			for i, p := range params {
				if !p.Trainable {
					continue
				}
				if len(p.Shape) == 0 {
					for _, v := range sums[i][1:] {
						sums[i][0] += v
					}
				}
				p.AddGrad(sums[i])
			}
		}
	}
	return k
}

// modelRun is a run of a NeuronModel on the currents x.
type modelRun struct {
	x     *Value
	model NeuronModel
	k     coefficients
	sh    tensor.Shape
	wide  []float32 // the values of k for each neuron of a chunk, [C/16][parameters][chunkPixels][16], while run runs
}

// throughModel keeps the currents. Its backward pass computes the states again.
type throughModel struct {
	modelRun
	y         *Value
	surrogate Surrogate
	params    []*Param
}

// FireModelThroughTime runs neurons of a model on the input currents x for the given number of steps and
// returns their spikes. x has that number of steps, or one. The parameters have the shape [],
// or [C] with a value for each channel.
//
// The backward pass is backpropagation through time. The surrogate s takes the place of the
// derivative of the spike.
//
// FireModelThroughTime calls Tape.Fail if u is not finite, and the backward pass does if a derivative is
// not finite. The error names the value, the step, the image, the channel and the pixel.
// FireModelThroughTime also calls it if s is a [BlockSurrogate].
func FireModelThroughTime(t *Tape, x *Value, m NeuronModel, params []*Param, steps int, s Surrogate) *Value {
	if _, ok := s.(BlockSurrogate); ok {
		t.Fail(fmt.Errorf("surrogate %v reads all neurons of a block of channels, but a NeuronModel is computed in parts: expected a surrogate of one neuron", s))
	}
	const name = "FireModelThroughTime"
	r := t.newModelRun(name, x, m, coefficientsOf(name, params, x.shape.C), steps)
	y := t.runModel(&r, r.x.needsGrad || r.trains(t))
	if y.needsGrad {
		t.Record(&throughModel{modelRun: r, y: y, surrogate: s, params: params}, r.x)
	}
	t.letGo(r.x, x)
	return y
}

// FireModelThroughRate is FireModelThroughTime with the backward pass of [FireThroughRate]. The
// parameters get no gradient.
func FireModelThroughRate(t *Tape, x *Value, m NeuronModel, params []*Param, steps int) *Value {
	const name = "FireModelThroughRate"
	r := t.newModelRun(name, x, m, coefficientsOf(name, params, x.shape.C), steps)
	y := t.throughRateOf(r.x, t.runModel(&r, r.x.needsGrad))
	t.letGo(r.x, x)
	return y
}

// throughRateOf records the backward pass of [FireThroughRate] for neurons with the currents x
// and the spikes y.
func (t *Tape) throughRateOf(x, y *Value) *Value {
	if !x.needsGrad {
		return y
	}
	op := &throughRate{from: source{x: x}, in: x, y: y, fired: t.NewSpikes(x.shape.WithSteps(1), false)}
	kernel.Fired(op.fired.spikes, y.spikes, scanOf(x.shape, y.shape.Steps), t.Threads)
	y.maker = op
	t.Record(op)
	return y
}

func (t *Tape) newModelRun(op string, x *Value, m NeuronModel, k coefficients, steps int) modelRun {
	x = t.currents(op, x, steps)
	t.Floats(x) // computed by now, since the chunks read it side by side
	return modelRun{x: x, model: m, k: k, sh: x.shape.WithSteps(steps)}
}

// trains reports whether a parameter gets a gradient.
func (r *modelRun) trains(t *Tape) bool { return t.Params && r.k.grad != nil }

// chunkPixels bounds the pixels of a chunk, of 16 channels each, so that its states at all
// steps stay in cache.
const chunkPixels = 128

// unwritten is what u and dx hold before a neuron writes them, so that values which it leaves
// out are an error.
var unwritten = func() (v [chunkPixels * tensor.Lanes]float32) {
	for i := range v {
		v[i] = float32(math.NaN())
	}
	return v
}()

// chunk is a part of the neurons: of a block of channels, the pixels lo to hi−1 of the images
// n to end−1. Several images have all their pixels.
type chunk struct{ block, n, end, lo, hi int }

func (c chunk) len() int { return (c.end - c.n) * (c.hi - c.lo) * tensor.Lanes }

// chunks splits the neurons.
func (r *modelRun) chunks() (cs []chunk) {
	pixels := r.sh.Pixels()
	images := max(1, chunkPixels/pixels)
	for b := range r.sh.Blocks() {
		for n := 0; n < r.sh.N; n += images {
			for lo := 0; lo < pixels; lo += chunkPixels {
				cs = append(cs, chunk{b, n, min(n+images, r.sh.N), lo, min(lo+chunkPixels, pixels)})
			}
		}
	}
	return cs
}

// each calls fn for the part of each image of c. data[at:at+n] is that part at step t, where data
// has the given steps and lanes. part[from:from+n] is its place in the chunk.
func (r *modelRun) each(c chunk, t, steps, lanes int, fn func(at, from, n int)) {
	n := (c.hi - c.lo) * lanes
	for i := c.n; i < c.end; i++ {
		at := ((c.block*r.sh.N+i)*steps+min(t, steps-1))*r.sh.Pixels() + c.lo
		fn(at*lanes, (i-c.n)*n, n)
	}
}

// step is the memory of a chunk for one step.
type modelStep struct {
	before, after [][]float32 // [S + parameters][neurons], before Integrate and after it
	x, u, s       []float32   // [neurons]
	words         []uint16    // s as spikes, [neurons/16]
}

// states returns the memory of a chunk for k steps, cut from buf, with the parameters. If apart
// is not set, a step has its states before and after Integrate in the same place.
func (r *modelRun) states(buf []float32, c chunk, k int, apart bool) (steps []modelStep, rest []float32) {
	n, s, params := c.len(), r.model.NumStates(), len(r.k.values)
	cut := func() (v []float32) { v, buf = buf[:n:n], buf[n:]; return v }
	words := make([]uint16, n/tensor.Lanes) // of the last step
	steps = make([]modelStep, k)
	slices := make([][]float32, 2*k*(s+params))
	for i := range steps {
		st := &steps[i]
		st.before, st.after, slices = slices[:s+params:s+params], slices[s+params:][:s+params:s+params], slices[2*(s+params):]
		for z := range s {
			st.before[z] = cut()
			st.after[z] = st.before[z]
			if apart {
				st.after[z] = cut()
			}
		}
		for p := range params {
			v := r.wide[(c.block*params+p)*chunkPixels*tensor.Lanes:][:n:n]
			st.before[s+p], st.after[s+p] = v, v
		}
		st.x, st.u, st.s, st.words = cut(), cut(), cut(), words
	}
	return steps, buf
}

// size returns the floats that states needs for k steps of the largest chunk.
func (r *modelRun) size(k int) int {
	return chunkPixels * tensor.Lanes * k * (2*r.model.NumStates() + 3)
}

// widen writes r.wide.
func (r *modelRun) widen(t *Tape) {
	r.wide = t.Scratch(r.sh.Blocks() * len(r.k.values) * chunkPixels * tensor.Lanes)
	at := r.wide
	for b := range r.sh.Blocks() {
		for _, values := range r.k.values {
			for range chunkPixels {
				copy(at, values[b*tensor.Lanes:][:tensor.Lanes])
				at = at[tensor.Lanes:]
			}
		}
	}
}

// forward runs a chunk. It writes spikes, unless it is nil. steps has memory for each step, or
// for one step that serves all.
func (r *modelRun) forward(c chunk, steps []modelStep, spikes []uint16) error {
	var err error
	r.start(steps[0].before)
	for t := range r.sh.Steps {
		st, next := &steps[min(t, len(steps)-1)], &steps[min(t+1, len(steps)-1)]
		r.currents(c, t, st)
		if e := r.integrate(c, t, st); err == nil {
			err = e
		}
		if spikes != nil {
			r.each(c, t, r.sh.Steps, 1, func(at, from, n int) { copy(spikes[at:at+n], st.words[from:]) })
		}
		if t+1 < r.sh.Steps {
			if len(steps) > 1 {
				for k := range r.model.NumStates() {
					copy(next.before[k], st.after[k])
				}
			}
			r.model.Reset(next.before, st.s)
		}
	}
	return err
}

// currents sets st.x to the currents of step t. Those of one image are where they are.
func (r *modelRun) currents(c chunk, t int, st *modelStep) {
	r.each(c, t, r.x.shape.Steps, tensor.Lanes, func(at, from, n int) {
		if n == c.len() {
			st.x = r.x.dense[at:][:n:n]
			return
		}
		copy(st.x[from:from+n], r.x.dense[at:])
	})
}

// start writes the states before the first step.
func (r *modelRun) start(z [][]float32) {
	for _, z := range z[:r.model.NumStates()] {
		clear(z)
	}
	if m, ok := r.model.(starter); ok {
		m.Start(z)
	}
}

// integrate computes st.after, st.u and the spikes st.s and st.words from st.before and st.x.
// It returns an error if u is not finite. Channels beyond C have no spikes.
func (r *modelRun) integrate(c chunk, t int, st *modelStep) (err error) {
	for k, after := range st.after[:r.model.NumStates()] {
		if before := st.before[k]; &after[0] != &before[0] {
			copy(after, before)
		}
	}
	copy(st.u, unwritten[:])
	r.model.Integrate(st.after, st.x, st.u)
	lanes := min(tensor.Lanes, r.sh.C-c.block*tensor.Lanes)
	// A neuron without a membrane and with the threshold 0 fires if u ≥ 0.
	scan := kernel.Scan{Units: 1, Images: 1, Pixels: len(st.words), Steps: 1, CurrentSteps: 1}
	finite := kernel.NeuronForward(st.words, st.u, kernel.Norm{}, kernel.Neuron{}, scan, 1)
	if lanes < tensor.Lanes {
		for p := range st.words {
			st.words[p] &= 1<<lanes - 1
		}
	}
	kernel.Densify(st.s, st.words, 1)
	if finite {
		return nil
	}
	for i, u := range st.u {
		if u-u != 0 && i%tensor.Lanes < lanes {
			return fmt.Errorf("the membrane potential minus the threshold is %v at %s: expected a finite number", u, r.place(c, t, i))
		}
	}
	return nil
}

// place says which neuron of a chunk is meant.
func (r *modelRun) place(c chunk, t, i int) string {
	pixel := i / tensor.Lanes
	n := c.hi - c.lo
	at := c.lo + pixel%n
	return fmt.Sprintf("step %d of image %d, channel %d, row %d, column %d", t, c.n+pixel/n, c.block*tensor.Lanes+i%tensor.Lanes, at/r.sh.W, at%r.sh.W)
}

// run calls fn for each chunk, with the number of floats of scratch memory. It returns the
// error of the first chunk that has one.
func (r *modelRun) run(t *Tape, size int, fn func(i int, c chunk, buf []float32) error) error {
	cs := r.chunks()
	threads := min(parallel.Threads(t.Threads), len(cs))
	bufs := make(chan []float32, threads)
	all := t.Scratch(threads * size)
	defer t.FreeScratch(all)
	r.widen(t)
	defer t.FreeScratch(r.wide)
	for i := range threads {
		bufs <- all[i*size:][:size:size]
	}
	var mu sync.Mutex
	var first error
	at := len(cs)
	parallel.For(threads, len(cs), func(i int) {
		buf := <-bufs
		if err := fn(i, cs[i], buf); err != nil {
			mu.Lock()
			if i < at {
				at, first = i, err
			}
			mu.Unlock()
		}
		bufs <- buf
	})
	return first
}

// runModel runs the neurons forward.
func (t *Tape) runModel(r *modelRun, needsGrad bool) *Value {
	y := t.NewSpikes(r.sh, needsGrad)
	err := r.run(t, r.size(1), func(_ int, c chunk, buf []float32) error {
		steps, _ := r.states(buf, c, 1, false)
		return r.forward(c, steps, y.spikes)
	})
	if err != nil {
		t.Fail(err)
	}
	return y
}

func (o *throughModel) Output() *Value { return o.y }

// UsesParam says that p is one of the model's parameters.
func (o *throughModel) UsesParam(p *Param) bool { return slices.Contains(o.params, p) }

// Backward goes back through the steps of each chunk. A parameter's gradient is the sum over
// the neurons of its channel, in float64, added up in the order of the chunks.
func (o *throughModel) Backward(t *Tape) {
	t.Floats(o.x) // computed by now, since the chunks read it side by side
	dy, dySteps := t.Grad(o.y)
	fine := kernel.Finite(dy, t.Threads)
	var slot GradSlot
	if o.x.needsGrad {
		slot = t.OpenGrad(o.x, o.x.shape.Steps)
	}
	sums := o.newSums(t)
	states := o.model.NumStates() + len(o.k.values)
	err := o.run(t, o.size(o.sh.Steps)+chunkPixels*tensor.Lanes*(states+4), func(i int, c chunk, buf []float32) error {
		steps, rest := o.states(buf, c, o.sh.Steps, true)
		if err := o.forward(c, steps, nil); err != nil {
			return err
		}
		dz, err := o.backward(c, steps, dy, dySteps, slot, rest)
		sums.add(i, dz[o.model.NumStates():])
		return err
	})
	if o.x.needsGrad {
		t.CloseGrad(slot)
	}
	o.finish(t, sums, err, fine)
}

// backward goes back through a chunk. It returns the gradient with respect to the states
// before the first step and to the parameters of each neuron.
func (o *throughModel) backward(c chunk, steps []modelStep, dy []float32, dySteps int, slot GradSlot, buf []float32) (dz [][]float32, err error) {
	n := c.len()
	cut := func() (v []float32) { v, buf = buf[:n:n], buf[n:]; clear(v); return v }
	for range o.model.NumStates() + len(o.k.values) {
		dz = append(dz, cut())
	}
	ds, du, dx, sum := cut(), cut(), cut(), cut()
	for t := o.sh.Steps - 1; t >= 0; t-- {
		o.each(c, t, dySteps, tensor.Lanes, func(at, from, n int) { copy(ds[from:from+n], dy[at:]) })
		direct := slot.v != nil && slot.steps > 1 && !slot.Add && c.end-c.n == 1
		if direct { // the chunk is one piece of the slot
			o.each(c, t, slot.steps, tensor.Lanes, func(at, _, n int) { dx = slot.Data[at:][:n:n] })
		}
		if e := o.back(c, t, &steps[t], o.surrogate, dz, ds, du, dx); err == nil {
			err = e
		}
		switch {
		case slot.v == nil || direct:
		case slot.steps > 1:
			o.put(c, t, slot, dx)
		default:
			for i, d := range dx {
				sum[i] += d
			}
		}
	}
	if slot.v != nil && slot.steps == 1 {
		o.put(c, 0, slot, sum)
	}
	return dz, err
}

// back goes back through step t of a chunk. ds is the gradient of its spikes, and dz that of
// the states after the step, which becomes that of the states before it. back writes the
// gradient with respect to the current to dx; du is scratch memory.
func (r *modelRun) back(c chunk, t int, st *modelStep, s Surrogate, dz [][]float32, ds, du, dx []float32) (err error) {
	if t+1 < r.sh.Steps {
		r.model.ResetGrad(dz, ds, st.after, st.s)
	}
	s.Derivative(du, st.u)
	ds = ds[:len(du)]
	for i, d := range du {
		du[i] = d * ds[i]
	}
	copy(dx, unwritten[:])
	r.model.IntegrateGrad(dz, dx, du, st.before, st.x)
	if lanes := min(tensor.Lanes, r.sh.C-c.block*tensor.Lanes); lanes < tensor.Lanes {
		clearLanes(dx, lanes)
		for _, z := range dz {
			clearLanes(z, lanes)
		}
	}
	if kernel.Finite(dx, 1) {
		return nil
	}
	for i, d := range dx {
		if d-d != 0 {
			return fmt.Errorf("the gradient with respect to the current is %v at %s: expected a finite derivative", d, r.place(c, t, i))
		}
	}
	return nil
}

// put writes or adds the gradient of a chunk's currents at step t.
func (r *modelRun) put(c chunk, t int, slot GradSlot, dx []float32) {
	r.each(c, t, slot.steps, tensor.Lanes, func(at, from, n int) {
		dst := slot.Data[at:][:n]
		if !slot.Add {
			copy(dst, dx[from:])
			return
		}
		for i, d := range dx[from:][:n] {
			dst[i] += d
		}
	})
}

// modelSums are sums of the parameters' gradients over the neurons of each chunk,
// [chunks][parameters][16], or nil if no parameter is trained.
type modelSums [][]float64

func (r *modelRun) newSums(t *Tape) modelSums {
	if !r.trains(t) {
		return nil
	}
	return make(modelSums, len(r.chunks()))
}

// add adds to the sums of chunk i. d has the gradient of each parameter and neuron.
func (s modelSums) add(i int, d [][]float32) {
	if s == nil {
		return
	}
	if s[i] == nil {
		s[i] = make([]float64, len(d)*tensor.Lanes)
	}
	for k, d := range d {
		sum := s[i][k*tensor.Lanes:][:tensor.Lanes]
		for ; len(d) > 0; d = d[tensor.Lanes:] {
			for l, v := range d[:tensor.Lanes] {
				sum[l] += float64(v)
			}
		}
	}
}

// finish adds the sums up in the order of the chunks and hands them out. It reports err, the
// error of the currents' gradients, and one of the sums, unless the gradient of the spikes is
// not finite: then the fault is another layer's.
func (r *modelRun) finish(t *Tape, sums modelSums, err error, fine bool) {
	if err != nil && fine {
		t.Fail(err)
	}
	if sums == nil || err != nil {
		return
	}
	total := make([][]float64, len(r.k.values))
	for k := range total {
		total[k] = make([]float64, roundUp(r.sh.C))
	}
	for i, c := range r.chunks() {
		for k := range total {
			for l, v := range sums[i][k*tensor.Lanes:][:tensor.Lanes] {
				total[k][c.block*tensor.Lanes+l] += v
			}
		}
	}
	for k, total := range total {
		for c, v := range total {
			if v-v != 0 && fine {
				t.Fail(fmt.Errorf("the gradient with respect to parameter %d of channel %d is %v: expected a finite derivative", k, c, v))
			}
		}
	}
	r.k.grad(total)
}

// clearLanes clears the lanes from the given one on.
func clearLanes(v []float32, from int) {
	for i := from; i < len(v); i += tensor.Lanes {
		clear(v[i : i+tensor.Lanes-from])
	}
}
