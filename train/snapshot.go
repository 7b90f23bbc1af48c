package train

import "slices"

// snapshot is a copy of what training changes.
type snapshot struct {
	values   [][]float32 // of Trainer.state
	steps    int         // of Trainer.updater
	history  []Metrics
	part     tally
	changing bool
}

// take copies the state of t into the memory of the last snapshot.
func (s *snapshot) take(t *Trainer) {
	s.values = slices.Grow(s.values, len(t.state))[:len(t.state)]
	for i, p := range t.state {
		s.values[i] = append(s.values[i][:0], p.Data()...)
	}
	s.steps, s.history, s.part, s.changing = t.updater.Steps, t.history, t.part, t.changing
}

// restore puts the copy back.
func (s *snapshot) restore(t *Trainer) {
	for i, p := range t.state {
		copy(p.MutableData(), s.values[i])
	}
	t.updater.Steps, t.history, t.part, t.changing = s.steps, s.history, s.part, s.changing
}
