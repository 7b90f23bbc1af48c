package train

import (
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
)

// average is the exponential moving average of a model's parameters and buffers.
type average struct {
	decay float64
	model []*autograd.Param
	mean  []*autograd.Param // of model, in its order; none without an average
}

// newAverage returns the average of the state of a model. There is none if decay is 0.
func newAverage(decay float64, state []*autograd.Param) average {
	a := average{decay: decay}
	if decay == 0 {
		return a
	}
	a.model = state
	for _, p := range state {
		m := autograd.NewParam(p.Shape...)
		m.Name, m.Trainable = p.Name, false
		a.mean = append(a.mean, m)
	}
	return a
}

// begin starts the average at the model as it is.
func (a *average) begin() {
	for i, m := range a.mean {
		copy(m.MutableData(), a.model[i].Data())
	}
}

// update counts the parameters after an update. Among the first updates, the decay is lower,
// so that the average does not stay where the training began.
func (a *average) update(t *Trainer) {
	n := float64(t.updater.Steps)
	d := float32(min(a.decay, (1+n)/(10+n))) // from 1/2 on, 1 − d is exact
	for i, m := range a.mean {
		v := m.MutableData()
		kernel.AXPY(v, d, v, false, t.model.Threads)
		kernel.AXPY(v, 1-d, a.model[i].Data(), true, t.model.Threads)
	}
}

// swap exchanges the values of the model and of the average.
func (a *average) swap() {
	for i, m := range a.mean {
		x, y := m.MutableData(), a.model[i].MutableData()
		for k := range x {
			x[k], y[k] = y[k], x[k]
		}
	}
}

// WithAverage calls fn while the model holds the average of its parameters and buffers that
// Config.EMA asks for, and returns fn's error:
//
//	err := trainer.WithAverage(func() error { return model.Save(path) })
//
// Without an average, or before the first update, the model stays as it is. fn must not
// change the model, and must not call methods of the trainer.
func (t *Trainer) WithAverage(fn func() error) error {
	if t.updater.Steps > 0 {
		t.average.swap()
		defer t.average.swap()
	}
	return fn()
}
