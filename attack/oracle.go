package attack

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Searcher is an attack that is written for one image. The library runs a Search for many
// images side by side, and makes the passes that they ask for together. [PerturbEach] turns a
// Searcher into the Perturb of an [snn.Adversary].
type Searcher interface {
	snn.Adversary
	Bounded
	// Search looks for a misclassified image. It asks o for logits and gradients at points of
	// its choice, and returns as soon as o returns an error, with that error. The oracle keeps
	// the best of these points that lie within its Threat.
	Search(o *Oracle) error
}

// ErrFound is the error of an [Oracle] whose best point is misclassified. It is no failure.
var ErrFound = errors.New("attack: the image is misclassified")

// errStopped ends the searches that are on their way.
var errStopped = errors.New("attack: stopped")

// Oracle answers the questions of a [Searcher] about one image. It counts the passes and keeps
// the best point that it was asked about. It serves one goroutine.
type Oracle struct {
	Clean   []float32    // the original image, [C·H·W], or all its frames, [Steps·C·H·W]; read-only
	Shape   tensor.Shape // of Clean, with N = 1
	Label   int          // the true class, in [0, Classes)
	Target  int          // the class to aim at, or −1 if any wrong class will do
	Classes int
	ID      uint64 // of the image
	Threat  Threat // bounds the points that count

	key    rng.Key // of the image and the attack
	draws  int     // of a random network: passes that a question takes
	own    bool    // whether Attack.Draws takes the place of draws, as outside a battery
	keep   bool    // whether to keep the best point
	early  bool    // whether to stop at the first misclassified point
	yield  func(*request) bool
	model  *snn.Model    // that passes are made on
	memory []*snn.Memory // of each draw; nil before the first gradient
	// judge returns what score does by the passes of a verdict, whose random numbers are not the
	// attack's. Nil believes the attack's own passes.
	judge func(o *Oracle, x []float32) (margin float32, success bool, err error)

	by func(logits []float32) (margin float32, success bool) // in place of score, if not nil
	// fewest, if not nil, makes the better of two misclassified points the one with fewer changes.
	fewest spikeNorm

	asked int // requests, which number the passes' random streams
	effort

	last   []float32 // the last point of a search that keeps no best one
	before standing  // of earlier attacks
	standing
}

// standing is how far attacks have come.
type standing struct {
	best   []float32 // nil for none
	margin float32   // of best: the lower, the better the attack
	found  bool      // whether best is misclassified
}

// beats reports whether s is better than t.
func (s standing) beats(t standing) bool {
	if s.best == nil || t.best == nil {
		return s.best != nil
	}
	return s.found && !t.found || s.found == t.found && s.margin < t.margin
}

// effort is what a search has taken.
type effort struct {
	passes    int     // passes of one image: a forward pass is one, and a backward pass another
	gradients int     // gradients
	zeros     int     // gradients that were zero
	late      float32 // see Trial.Late
	byScores  bool    // see Trial.ByScores
}

// request is a question about a point.
type request struct {
	model     *snn.Model
	shape     tensor.Shape // of an image
	x         []float32
	gradient  snn.Gradient  // of the pass; nil for an evaluation
	objective Objective     // nil for a forward pass alone
	label     []int         // [1]
	target    []int         // [1], or nil
	keys      []rng.Key     // of each draw
	memory    []*snn.Memory // of each draw, for a gradient

	logits []float32 // the mean over draws
	value  float64   // the mean over draws
	grad   []float32 // the mean over draws
	err    error
}

// passes returns the number of passes of one image.
func (r *request) passes() int {
	if r.objective == nil {
		return len(r.keys)
	}
	return 2 * len(r.keys)
}

// Logits returns the network's logits at x. Several draws of a random network give their mean.
//
// If x is within the threat model and better than all points before, the oracle keeps a copy.
// Logits returns [ErrFound] if the search is over because x is misclassified.
func (o *Oracle) Logits(x []float32) ([]float32, error) {
	r := &request{x: x}
	if err := o.ask(r); err != nil {
		return nil, err
	}
	return r.logits, o.consider(x, r.logits)
}

// Gradient returns the value and the gradient of an objective at x, by the gradient
// approximation g. The gradient has the layout of x. The oracle treats x as Logits does, if the
// forward pass of g is that of the network.
func (o *Oracle) Gradient(x []float32, g snn.Gradient, objective Objective) (value float64, grad []float32, err error) {
	if objective == nil {
		return 0, nil, errors.New("no objective: expected one such as Margin{}")
	}
	for len(o.memory) < o.draws {
		o.memory = append(o.memory, snn.NewMemory())
	}
	r := &request{x: x, gradient: g, objective: objective, label: []int{o.Label}, memory: o.memory}
	if o.Target >= 0 {
		r.target = []int{o.Target}
	}
	if err := o.ask(r); err != nil {
		return 0, nil, err
	}
	o.gradients++
	if !slices.ContainsFunc(r.grad, func(v float32) bool { return v != 0 }) {
		o.zeros++
	}
	if !snn.ChangesForward(g) {
		err = o.consider(x, r.logits)
	}
	return r.value, r.grad, err
}

// Forget lets gradient approximations that keep a memory of the image, as [snn.ASSG] does, begin
// anew. A search calls it before each further start.
func (o *Oracle) Forget() { o.memory = nil }

// Best returns the best point so far and its margin, the true class's logit minus the largest
// other one. That of earlier attacks counts too. Without any it returns the original image and
// +Inf. The point is a copy.
func (o *Oracle) Best() (x []float32, margin float32) {
	top := o.standing
	if !top.beats(o.before) {
		top = o.before
	}
	if top.best == nil {
		return slices.Clone(o.Clean), float32(math.Inf(1))
	}
	return slices.Clone(top.best), top.margin
}

// Ball returns the set of points that count.
func (o *Oracle) Ball() Ball { return Ball{o.Threat.Norm, o.Threat.Eps, o.Clean, true} }

// Rand returns a random stream of the image and the attack. Equal purposes and indices give
// equal streams.
func (o *Oracle) Rand(purpose string, index uint64) *rand.Rand {
	return o.key.Derive(purpose, index).Rand()
}

// ask has a request answered.
func (o *Oracle) ask(r *request) error {
	if len(r.x) != len(o.Clean) {
		return fmt.Errorf("a point of %d values for an image of %d", len(r.x), len(o.Clean))
	}
	if r.keys == nil {
		r.keys = o.keys(o.key.Derive("pass", uint64(o.asked)))
		o.asked++
	}
	r.model, r.shape = o.model, o.Shape
	o.passes += r.passes()
	if !o.yield(r) {
		return errStopped
	}
	return r.err
}

// keys returns the keys of the draws of a request. The first is k itself.
func (o *Oracle) keys(k rng.Key) []rng.Key {
	ks := []rng.Key{k}
	for d := 1; d < o.draws; d++ {
		ks = append(ks, k.Derive("draw", uint64(d)))
	}
	return ks
}

// consider keeps x if it is the best point so far.
func (o *Oracle) consider(x, logits []float32) error {
	if !o.keep {
		return nil
	}
	score := o.score
	if o.by != nil {
		score = o.by
	}
	margin, found := score(logits)
	better := standing{x, margin, found}.beats(o.standing)
	if o.fewest != nil && found && o.found {
		better = o.fewest.changes(x, o.Clean) < o.fewest.changes(o.best, o.Clean)
	}
	if !better || o.Threat.check(o.image(x), o.image(o.Clean), 0) != nil {
		return nil
	}
	if found && o.judge != nil && o.by == nil {
		var err error
		if margin, found, err = o.judge(o, x); err != nil {
			return err
		}
		if !found && o.best != nil && (o.found || margin >= o.margin) {
			return nil
		}
	}
	o.best, o.margin, o.found = append(o.best[:0], x...), margin, found
	if found && o.early {
		return ErrFound
	}
	return nil
}

// image returns x as a batch of one image.
func (o *Oracle) image(x []float32) tensor.NCHW { return batchOf(o.Shape, [][]float32{x}) }

// score returns the margin by which the attack fails, and whether it succeeds.
func (o *Oracle) score(logits []float32) (margin float32, success bool) {
	class := argmax(logits)
	if o.Target >= 0 {
		return -marginOf(logits, o.Target), class == o.Target
	}
	return marginOf(logits, o.Label), class != o.Label
}

// marginOf returns the logit of a class minus the largest other one. It is the largest finite
// number if there is no other class. It is finite, as JSON has no infinity.
func marginOf(logits []float32, class int) float32 {
	other := float32(math.Inf(-1))
	for k, v := range logits {
		if k != class {
			other = max(other, v)
		}
	}
	return min(max(logits[class]-other, -math.MaxFloat32), math.MaxFloat32)
}

// argmax returns the index of the largest value, the first among equals.
func argmax(z []float32) int {
	top := 0
	for k, v := range z {
		if v > z[top] {
			top = k
		}
	}
	return top
}

// Ball is the set of points that an attack may reach: those at most Eps away from the original
// in Norm, with values in [0,1].
type Ball struct {
	Norm   Norm
	Eps    float32
	Center []float32
	image  bool // whether values are in [0,1]; those of a perturbation are not
}

// Project moves x to a point of the ball. It is the nearest one if no value leaves [0,1].
func (b Ball) Project(x []float32) {
	b.Norm.Project(x, b.Center, b.Eps)
	if b.image {
		clip(x)
	}
}
