package attack

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/org/snnrat/snn"
)

// Greedy makes the changes of spikes with the largest gain, in [Flips] or [Retiming]. The gain of a
// change is the sum of the gradients where spikes appear, minus that where they disappear.
//
// In Flips it makes changes until it has made Eps of them. From then on it exchanges: it takes a change
// back and makes another one, if that has a gain. In Retiming a change moves one spike, and each change
// of a step concerns another pixel. A place, that is a value of the frames or a pixel with its polarity,
// changes at most twice. The attack ends early if no change has a gain.
//
// The gradient is evaluated anew after each step. The generation of the sparse dynamic attack (Lun et
// al. 2025) also makes changes by gradient, but more of them in each step, and asks for the loss of
// each. A [SpikeSearch] after the attack does that here. Greedy ignores the attack's Alpha.
type Greedy struct {
	Changes int // ≥ 1, in a step
}

// GreedySpikes returns an attack that changes spikes by gradient, at most eps of them in [Flips], or
// by at most eps steps in [Retiming]. It makes so many steps of one change each from the image itself,
// raises the margin, and takes back the changes that it does not need.
func GreedySpikes(norm Norm, eps float32, steps int, g snn.Gradient) *Attack {
	return &Attack{
		Objective: Margin{}, Gradient: g, Norm: norm, Start: AtImage{}, Eps: eps,
		Rule: Greedy{Changes: 1}, Steps: steps, KeepBest: true, Reduce: true,
	}
}

// String names the rule and the changes of a step.
func (r Greedy) String() string { return "greedy, " + count(r.Changes, "change") + " a step" }

// Validate returns an error if Changes is out of range.
func (r Greedy) Validate() error {
	if r.Changes < 1 {
		return fmt.Errorf("attack: greedy: %d changes in a step: expected at least 1", r.Changes)
	}
	return nil
}

// Begin implements [StepRule].
func (r Greedy) Begin(ball Ball, _ float32, _ int) Stepper {
	return &greedySteps{ball: ball, norm: ball.Norm.(spikeNorm), changes: r.Changes, touched: map[int]int{}}
}

type greedySteps struct {
	ball    Ball
	norm    spikeNorm
	changes int
	touched map[int]int // changes so far, by place
	stuck   bool        // whether the last step found no change with a gain
}

func (s *greedySteps) Step(x, g []float32, _ float64) {
	n, center, eps := s.norm, s.ball.Center, s.ball.Eps
	add := s.best(x, g, n.further(x, center, eps))
	var back []edit
	made := 0
	for left := n.left(x, center, eps); made < s.changes && len(add) > 0; made++ {
		e := add[0]
		add = add[1:]
		if left > 0 {
			if left--; e.gain(g) <= 0 {
				break
			}
		} else {
			if back == nil {
				back = s.best(x, g, n.back(x, center))
			}
			if len(back) == 0 || back[0].gain(g)+e.gain(g) <= 0 {
				break
			}
			s.make(back[0], x)
			back = back[1:]
		}
		s.make(e, x)
	}
	s.stuck = made == 0
}

// make makes an edit.
func (s *greedySteps) make(e edit, x []float32) {
	e.apply(x, s.norm.levels())
	s.touched[s.norm.place(e, len(x))]++
}

// best returns the edits with the largest gains, in their order, each at a place of its own. Those of
// the list that lead to center may have a negative gain.
func (s *greedySteps) best(x, g []float32, list []edit) (top []edit) {
	list = slices.DeleteFunc(list, func(e edit) bool { return s.touched[s.norm.place(e, len(x))] > 1 })
	slices.SortStableFunc(list, func(a, b edit) int { return cmp.Compare(b.gain(g), a.gain(g)) })
	seen := map[int]bool{}
	for _, e := range list {
		if len(top) == s.changes {
			break
		}
		if p := s.norm.place(e, len(x)); !seen[p] {
			seen[p] = true
			top = append(top, e)
		}
	}
	return top
}

// reduce takes back the changes of the oracle's best point, which is misclassified, that it does not
// need. It returns ErrFound unless a question fails.
func (o *Oracle) reduce() error {
	n := o.Threat.Norm.(spikeNorm)
	o.fewest = n
	for size := max(1, len(n.back(o.best, o.Clean))/2); ; {
		fewer := false
		list := n.back(o.best, o.Clean)
		for at := 0; at < len(list); at += size {
			x := slices.Clone(o.best)
			made := 0
			for _, e := range list[at:min(at+size, len(list))] {
				if e.fits(x) { // else another spike of the pixel is in the way
					e.apply(x, n.levels())
					made++
				}
			}
			if made == 0 || n.changes(x, o.Clean) >= n.changes(o.best, o.Clean) {
				continue
			}
			_, err := o.Logits(x)
			switch {
			case errors.Is(err, ErrFound):
				fewer = true
			case err != nil:
				return err
			}
		}
		if size > 1 {
			size /= 2
		} else if !fewer {
			break
		}
	}
	return ErrFound
}
