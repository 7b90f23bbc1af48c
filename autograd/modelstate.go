package autograd

import (
	"fmt"

	"github.com/org/snnrat/tensor"
)

// NeuronModelState is what neurons of a [NeuronModel] carry from one step to the next.
type NeuronModelState struct {
	z     []*tensor.Dense
	shape tensor.Shape
	steps int
}

// NewNeuronModelState returns the state of neurons before the first step. sh is the shape of their
// currents, with any number of steps.
func NewNeuronModelState(m NeuronModel, sh tensor.Shape) *NeuronModelState {
	s := &NeuronModelState{shape: sh.WithSteps(1)}
	for range m.NumStates() {
		s.z = append(s.z, tensor.NewDense(s.shape))
	}
	return s
}

// States returns the states after the last step and its reset. Before the first step they are
// zeros. They share the memory of s.
func (s *NeuronModelState) States() []*tensor.Dense { return s.z }

// Clear makes s the state before the first step.
func (s *NeuronModelState) Clear() {
	s.steps = 0
	for _, z := range s.z {
		clear(z.Data)
	}
}

// FireModelStep runs the next step of the neurons of [FireModelThroughTime], from a state that it updates,
// and returns their spikes. x has one step. No gradient passes through. Calls that continue
// each other give the bits of one call of FireModelThroughTime.
//
// FireModelStep calls Tape.Fail as FireModelThroughTime does. It panics if the shapes of x and state
// differ.
func FireModelStep(t *Tape, x *Value, m NeuronModel, params []*Param, state *NeuronModelState) *Value {
	const name = "FireModelStep"
	if x.shape != state.shape || m.NumStates() != len(state.z) {
		panic(fmt.Sprintf("autograd: %s: %d states of shape %v for %d of currents %v", name, len(state.z), state.shape, m.NumStates(), x.shape))
	}
	r := t.newModelRun(name, x, m, coefficientsOf(name, params, x.shape.C), 1)
	y := t.NewSpikes(r.sh, false)
	z := make([][]float32, len(state.z))
	for k := range z {
		z[k] = state.z[k].Data
	}
	err := r.run(t, r.size(1), func(_ int, c chunk, buf []float32) error {
		steps, _ := r.states(buf, c, 1, false)
		st := &steps[0]
		r.each(c, 0, 1, tensor.Lanes, func(at, from, n int) { copy(st.x[from:from+n], r.x.dense[at:]) })
		if state.steps == 0 {
			r.start(st.before)
		} else {
			r.load(c, 0, 1, st.before[:len(z)], z)
		}
		err := r.integrate(c, state.steps, st)
		r.each(c, 0, 1, 1, func(at, from, n int) { copy(y.spikes[at:at+n], st.words[from:]) })
		m.Reset(st.after, st.s)
		if lanes := r.sh.C - c.block*tensor.Lanes; lanes < tensor.Lanes {
			for _, v := range st.after[:len(z)] {
				clearLanes(v, lanes) // which a reset or Start may have set
			}
		}
		r.store(c, 0, 1, z, st.after[:len(z)])
		return err
	})
	state.steps++
	if err != nil {
		t.Fail(err)
	}
	t.letGo(r.x, x)
	return y
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
