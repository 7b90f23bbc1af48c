package attack

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// spikeNorm is a norm of changes of spikes.
type spikeNorm interface {
	Norm
	// validate returns an error that names a field that is out of range, or that does not fit
	// examples of so many frames. 0 frames stand for any number.
	validate(frames int) error
	levels() int
	// outside says why the distance of x from y is +Inf. It returns nil if it is finite.
	outside(x, y []float32) error
	// around moves x to a random point at the border of the ball of radius eps around x.
	around(x []float32, eps float32, r *rand.Rand)
	// changes returns the number of changes between y and x, which are within some distance: of
	// levels, or of spikes that move.
	changes(x, y []float32) int
	// left returns how many edits further away from center than x the radius eps allows.
	left(x, center []float32, eps float32) int
	// further lists the single edits of x that lead away from center. The radius eps allows all
	// of them, one at a time, unless left is 0.
	further(x, center []float32, eps float32) []edit
	// allowed reports whether further would list e.
	allowed(x, center []float32, eps float32, e edit) bool
	// back lists edits that lead from x to center, one for each change.
	back(x, center []float32) []edit
	// place returns a number that edits which concern each other have in common. The frames have
	// n values.
	place(e edit, n int) int
	// most returns the largest distance between examples of a shape.
	most(s tensor.Shape) float32
}

// edit moves a spike from one value of the frames to another. Of an insertion from is −1, and of a
// deletion to.
type edit struct{ from, to int }

// reverse returns the edit that takes e back.
func (e edit) reverse() edit { return edit{e.to, e.from} }

// fits reports whether e leaves the values of x in [0,1].
func (e edit) fits(x []float32) bool {
	return (e.from < 0 || x[e.from] > 0) && (e.to < 0 || x[e.to] < 1)
}

// apply makes the edit.
func (e edit) apply(x []float32, levels int) {
	if e.from >= 0 {
		x[e.from] = valueOf(levelOf(x[e.from], levels)-1, levels)
	}
	if e.to >= 0 {
		x[e.to] = valueOf(levelOf(x[e.to], levels)+1, levels)
	}
}

// gain returns what e adds to a function of gradient g, but for a factor.
func (e edit) gain(g []float32) float32 {
	var sum float32
	if e.from >= 0 {
		sum -= g[e.from]
	}
	if e.to >= 0 {
		sum += g[e.to]
	}
	return sum
}

// valueOf returns the value of level k.
func valueOf(k, levels int) float32 { return float32(k) / float32(levels) }

// levelOf returns the level in [0, levels] that is nearest to v.
func levelOf(v float32, levels int) int {
	return int(math.Round(min(max(float64(v), 0), 1) * float64(levels)))
}

// offGrid returns the index of the first value of x that is no level, or −1.
func offGrid(x []float32, levels int) int {
	return slices.IndexFunc(x, func(v float32) bool {
		return !(v >= 0 && v <= 1) || valueOf(levelOf(v, levels), levels) != v
	})
}

// gridError returns an error that names the first value of x that is no level.
func gridError(x []float32, levels int) error {
	if i := offGrid(x, levels); i >= 0 {
		return fmt.Errorf("value %d is %v: expected a multiple of 1/%d in [0, 1]", i, x[i], levels)
	}
	return nil
}

// validateLevels returns an error if a number of levels is out of range.
func validateLevels(n fmt.Stringer, levels int) error {
	if levels < 1 || levels > 255 {
		return fmt.Errorf("%v: Levels %d: expected 1 to 255, the count that the value 1 stands for", n, levels)
	}
	return nil
}

// mostChanges is the largest radius in norms of spikes, up to which a float32 holds each whole number.
const mostChanges = 1 << 24

// spikesPrefix begins the names of the norms of spikes, and no others.
const spikesPrefix = "spike "

// spikeName returns the name of a norm of spikes.
func spikeName(name string, levels int) string {
	if levels == 1 {
		return spikesPrefix + name
	}
	return fmt.Sprintf("%s%s in %d levels", spikesPrefix, name, levels)
}

// counter is an adversary without a bound whose changes of spikes are counted.
type counter interface{ counted() spikeNorm }

// changesOf returns the number of changes of spikes in each image of adv, around its original in x. It
// returns nil for an adversary that is bounded in another norm.
func changesOf(a snn.Adversary, t Threat, adv, x tensor.NCHW) (changes []int) {
	n, ok := t.Norm.(spikeNorm)
	if c, is := a.(counter); is {
		n, ok = c.counted(), true
	}
	for i := 0; ok && i < x.N; i++ {
		changes = append(changes, n.changes(adv.Image(i), x.Image(i)))
	}
	return changes
}

// Fewest returns for each image the fewest changes of spikes by which one of the attacks that the worst
// case counts fooled the network: 0 for an image that it misclassifies without changes, and −1 if none
// of the attacks fooled it. The attacks must have counted their changes, see [Outcome].Changes. Fewest
// is an upper bound: an image may be fooled by fewer changes than the attacks found.
//
// With [Flips], an image is within every Eps of at least its number of changes. So the numbers give the
// accuracy against Eps, see [AccuracyWithin].
func (r *Report) Fewest() ([]int, error) {
	fewest := make([]int, r.Images)
	for i, y := range r.Labels {
		if r.Clean.Predicted[i] == y {
			fewest[i] = -1
		}
	}
	for _, o := range r.Attacks {
		if !o.InWorstCase {
			continue
		}
		if o.Changes == nil && r.Images > 0 {
			return nil, fmt.Errorf("attack: %s has not counted changes of spikes: expected an attack in Flips or Retiming", o.Name)
		}
		for i, y := range r.Labels {
			if o.Predicted[i] != y && (fewest[i] < 0 || o.Changes[i] < fewest[i]) {
				fewest[i] = o.Changes[i]
			}
		}
	}
	return fewest, nil
}

// AccuracyWithin returns the share, in [0,1], of the numbers of [Report.Fewest] that are −1 or above
// changes: the accuracy that so many changes of spikes leave.
func AccuracyWithin(fewest []int, changes int) float64 {
	return share(len(fewest), func(i int) bool { return fewest[i] < 0 || fewest[i] > changes })
}
