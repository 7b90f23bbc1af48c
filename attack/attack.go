package attack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Attack is a gradient attack. It begins at Start and repeats Steps times
//
//	x ← clip(Π(x + α·d)).
//
// Here d is the steepest direction of the objective in Norm, Π projects onto the ball of
// radius Eps in Norm around the original image, and clip projects onto [0,1]. The gradient
// is that of the network in evaluation mode, without batch statistics and dropout.
//
// If x holds examples of several frames, every frame has a gradient and a perturbation of
// its own, and the norm is that of the whole example. SharedFrames chooses one perturbation
// for all frames.
//
// FGSM, RFGSM, PGD and BIM return an Attack, whose fields may be changed for other
// combinations. Several goroutines may use one Attack. An Attack calls the methods of its
// fields from several goroutines at a time; a panic in one of them reaches the caller of
// Perturb.
type Attack struct {
	Objective Objective    // the function of the logits that the attack raises
	Gradient  snn.Gradient // the gradient approximation
	Norm      Norm         // bounds the perturbation and shapes the step
	Start     Start        // the point in the ball where the first step begins
	Eps       float32      // ε ≥ 0, the radius of the ball in Norm; pixels are in [0,1]
	Alpha     float32      // α > 0, the length of a step in Norm; may be 0 if Eps is 0, or if Rule ignores it
	Steps     int          // ≥ 1, from each start; each is a forward and a backward pass

	// Rule makes the steps. Nil stands for the steps above, of length Alpha.
	Rule StepRule
	// Starts is the number of starts, each with random numbers of its own. 0 stands for 1.
	Starts int
	// KeepBest returns the best of all points, and stops at the first that is misclassified.
	// Otherwise the attack returns the point after its last step. KeepBest costs one more
	// forward pass for each start, and for each step whose Gradient changes the forward pass, as
	// snn.CBA does. A [Battery] and [Rounds] keep the best point in any case.
	KeepBest bool
	// Reduce takes back changes of spikes once an image is misclassified, in [Flips] and [Retiming]:
	// first many at a time, then one by one, until each change that is left is needed. The
	// attack then returns the point with the fewest changes. It needs KeepBest.
	Reduce bool
	// Targets, if positive, makes a start for each of that many wrong classes, those with the
	// largest logits first. The objective then aims at that class, while any wrong class counts
	// as success. It needs KeepBest.
	Targets int
	// Draws is the number of passes over which a random network's logits and gradients are
	// averaged (Athalye et al. 2018). 0 stands for 1. In a [Battery] that of the battery's
	// configuration counts instead.
	Draws int

	// Target makes the attack targeted. It returns the class to aim at for the id and the
	// label of an image: a class in [0, classes) other than the label. Perturb calls it
	// once for each image, from the caller's goroutine. Nil stands for an untargeted
	// attack. A [Battery], [Rounds] and [Transfer] do not call Perturb, and refuse Target.
	Target func(id uint64, label int) int

	// SharedFrames makes one perturbation δ, [C][H][W], for all frames of an example. δ
	// begins at Start of the zero perturbation and moves by the gradient summed over the
	// frames, within the ball around zero. Frame t becomes clip(Π(x_t + δ)). The bound Eps
	// is then one of each frame. Without several frames, SharedFrames has no effect.
	SharedFrames bool
}

// FGSM returns the fast gradient sign method, x' = clip(x + ε·sign(∇L)) (Goodfellow et
// al. 2015). Set Norm to L2{} for the fast gradient method.
func FGSM(eps float32, g snn.Gradient) *Attack {
	return &Attack{Objective: CrossEntropy{}, Gradient: g, Norm: LInf{}, Start: AtImage{}, Eps: eps, Alpha: eps, Steps: 1}
}

// RFGSM returns FGSM after a random step (Tramèr et al. 2018). The random step is
// x' = clip(x + (ε/2)·sign(N(0,1))), and an FGSM step of ε/2 from x' follows, as in Ding et
// al. 2022.
func RFGSM(eps float32, g snn.Gradient) *Attack {
	return &Attack{Objective: CrossEntropy{}, Gradient: g, Norm: LInf{}, Start: RandomStep{eps / 2}, Eps: eps, Alpha: eps / 2, Steps: 1}
}

// PGD returns projected gradient descent from a point drawn uniformly from the ball (Madry
// et al. 2018). Ding et al. 2022 test with ε = 8/255, α = 0.01 and 7 steps.
func PGD(eps, alpha float32, steps int, g snn.Gradient) *Attack {
	return &Attack{Objective: CrossEntropy{}, Gradient: g, Norm: LInf{}, Start: InBall{}, Eps: eps, Alpha: alpha, Steps: steps}
}

// BIM returns the basic iterative method: PGD that starts at the image itself (Kurakin et
// al. 2017).
func BIM(eps, alpha float32, steps int, g snn.Gradient) *Attack {
	return &Attack{Objective: CrossEntropy{}, Gradient: g, Norm: LInf{}, Start: AtImage{}, Eps: eps, Alpha: alpha, Steps: steps}
}

// Validate returns an error that names a field that is nil or out of range. Perturb calls
// it first.
func (a *Attack) Validate() error {
	switch {
	case a.Objective == nil:
		return fmt.Errorf("attack: no objective: expected one such as CrossEntropy{}")
	case a.Gradient == nil:
		return fmt.Errorf("attack: no gradient approximation: expected one such as snn.BPTT{}")
	case a.Norm == nil:
		return fmt.Errorf("attack: no norm: expected one such as LInf{}")
	case a.Start == nil:
		return fmt.Errorf("attack: no start: expected one such as AtImage{}")
	case !(a.Eps >= 0) || math.IsInf(float64(a.Eps), 0):
		return fmt.Errorf("attack: eps %v: expected a number of at least 0", a.Eps)
	case !(a.Alpha > 0 || a.Alpha == 0 && (a.Eps == 0 || a.Rule != nil && !isMomentum(a.Rule))) || math.IsInf(float64(a.Alpha), 0):
		return fmt.Errorf("attack: alpha %v: expected a positive number", a.Alpha)
	case a.Steps < 1:
		return fmt.Errorf("attack: %d steps: expected at least 1", a.Steps)
	case a.Starts < 0 || a.Targets < 0 || a.Draws < 0:
		return fmt.Errorf("attack: %d starts, %d targets, %d draws: expected at least 0", a.Starts, a.Targets, a.Draws)
	case !a.KeepBest && (a.Starts > 1 || a.Targets > 0):
		return errors.New("attack: several starts or targets without KeepBest: only the last one would count")
	case a.Targets > 0 && a.Target != nil:
		return errors.New("attack: Target and Targets: expected one of them")
	}
	if _, ok := a.Norm.(spikeNorm); ok {
		if a.SharedFrames {
			return fmt.Errorf("attack: SharedFrames in %v: expected frames with changes of their own", a.Norm)
		}
		if err := (Threat{Norm: a.Norm, Eps: a.Eps}).validate(); err != nil {
			return fmt.Errorf("attack: %w", err)
		}
		if (a.Rule == nil || isMomentum(a.Rule)) && a.Alpha < 1 && a.Eps > 0 {
			return fmt.Errorf("attack: alpha %v in %v: expected at least 1, or a step would change nothing", a.Alpha, a.Norm)
		}
	} else if _, greedy := a.Rule.(Greedy); greedy || a.Reduce {
		return fmt.Errorf("attack: %v with Greedy or Reduce: expected a norm of spikes, Flips or Retiming", a.Norm)
	}
	if a.Reduce && !a.KeepBest {
		return errors.New("attack: Reduce without KeepBest: the attack would not know that an image is misclassified")
	}
	if v, ok := a.Rule.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return err
		}
	}
	if m, ok := a.Gradient.(GradientMix); ok && (len(m) == 0 || slices.Contains(m, nil)) {
		return fmt.Errorf("attack: a GradientMix of %d gradient approximations, some of which may be nil: expected at least one, and none nil", len(m))
	}
	if _, ok := a.Objective.(KL); ok && (a.Target != nil || a.Targets > 0) {
		return fmt.Errorf("attack: objective %v with a target: expected one with a targeted form, such as CrossEntropy{}", a.Objective)
	}
	return nil
}

func isMomentum(r StepRule) bool { _, is := r.(Momentum); return is }

// Perturb implements [snn.Adversary]. It checks what it returns: every image is within
// the attack's [Threat], by Norm's Distance in float64. It returns an error if that check
// fails, or if a logit or a gradient is not finite.
//
// An image whose gradient is zero does not move in that step. The images are those of the
// last step, or the best ones if KeepBest is set.
func (a *Attack) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	adv, _, err := a.PerturbDetail(ctx, m, x, y, ids, key)
	return adv, err
}

// PerturbDetail implements [Detailer].
func (a *Attack) PerturbDetail(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, Detail, error) {
	if err := a.Validate(); err != nil {
		return tensor.NCHW{}, Detail{}, err
	}
	target, err := a.targets(m, x, y, ids)
	if err != nil {
		return tensor.NCHW{}, Detail{}, err
	}
	if a.Eps == 0 {
		_, _, err := prepare(m, x, y, ids, key)
		if err == nil {
			if err = (Threat{Norm: a.Norm}).start(x, 0); err != nil {
				err = fmt.Errorf("attack: %w", err)
			}
		}
		return x.Clone(), Detail{target, make([]bool, x.N)}, err
	}
	return perturbEach(ctx, a, m, x, y, ids, key, target, a.KeepBest)
}

// Search implements [Searcher].
func (a *Attack) Search(o *Oracle) error {
	if o.own {
		defer func(before int) { o.draws = before }(o.draws)
		o.draws = max(a.Draws, 1)
	}
	targets := []int{o.Target}
	if a.Target != nil && o.Target < 0 {
		return errors.New("an attack with a Target outside Perturb: expected Targets")
	}
	if v, ok := a.Objective.(interface{ validateClasses(int, bool) error }); ok {
		if err := v.validateClasses(o.Classes, o.Target >= 0 || a.Targets > 0); err != nil {
			return err
		}
	}
	if a.Targets > 0 {
		z, err := o.Logits(o.Clean)
		if err != nil {
			return err
		}
		targets = likeliest(z, o.Label, a.Targets)
	}
	for i, target := range targets {
		for start := range max(a.Starts, 1) {
			err := a.from(o, target, i*max(a.Starts, 1)+start)
			if a.Reduce && errors.Is(err, ErrFound) {
				err = o.reduce()
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// from makes the steps from one start.
func (a *Attack) from(o *Oracle, target, start int) error {
	o.Forget()
	p := a.newPath(o, start)
	objective, err := a.objective(o, target)
	if err != nil {
		return err
	}
	rule := a.Rule
	if rule == nil {
		rule = steepest{}
	}
	stepper := rule.Begin(p.ball, a.Alpha, a.Steps)
	var first, best, before float64 // values: at the start, the best, and the best before the last tenth
	for step := range a.Steps {
		g := a.Gradient
		if v, ok := g.(Varying); ok {
			g = v.At(step, o.Rand("gradient", uint64(start*a.Steps+step)))
		}
		value, grad, err := o.Gradient(p.image, g, objective)
		if err == nil && o.keep && snn.ChangesForward(g) {
			_, err = o.Logits(p.image)
		}
		if err != nil {
			if errors.Is(err, ErrFound) {
				return err
			}
			return fmt.Errorf("step %d: %w", step+1, err)
		}
		if step == 0 {
			first, best = value, value
		}
		if best = max(best, value); step < a.Steps-a.Steps/10 {
			before = best
		}
		stepper.Step(p.point, p.along(grad), value)
		p.project()
		if s, ok := stepper.(*greedySteps); ok && s.stuck {
			break
		}
	}
	if best > first {
		o.late = max(o.late, float32((best-before)/(best-first)))
	}
	if o.keep {
		_, err = o.Logits(p.image)
		return err
	}
	o.last = p.image
	return nil
}

// objective returns the objective around the oracle's image.
func (a *Attack) objective(o *Oracle, target int) (Objective, error) {
	objective := a.Objective
	if c, ok := objective.(CleanObjective); ok {
		r := &request{x: o.Clean, gradient: a.Gradient, keys: o.keys(o.key.Derive("clean", 0))}
		if err := o.ask(r); err != nil {
			return nil, err
		}
		objective = c.WithClean(r.logits)
	}
	if target != o.Target {
		objective = aimed{objective, target}
	}
	return objective, nil
}

// aimed is an objective that aims at a class, although any wrong class counts as success.
type aimed struct {
	Objective
	target int
}

// Evaluate implements [Objective].
func (a aimed) Evaluate(value []float64, grad, logits []float32, y, _ []int) {
	a.Objective.Evaluate(value, grad, logits, y, []int{a.target})
}

// likeliest returns the most likely classes other than label, at most n.
func likeliest(logits []float32, label, n int) []int {
	var classes []int
	for k := range logits {
		if k != label {
			classes = append(classes, k)
		}
	}
	slices.SortStableFunc(classes, func(a, b int) int { return cmp.Compare(logits[b], logits[a]) })
	return classes[:min(n, len(classes))]
}

// targets validates the arguments of Perturb and returns the target of each image, or nil if the
// attack is untargeted.
func (a *Attack) targets(m *snn.Model, x tensor.NCHW, y []int, ids []uint64) ([]int, error) {
	if a.Target == nil {
		return nil, nil
	}
	ids, _, err := prepare(m, x, y, ids, rng.Key{})
	if err != nil {
		return nil, err
	}
	target := make([]int, len(y))
	for i, label := range y {
		target[i] = a.Target(ids[i], label)
		if target[i] < 0 || target[i] >= m.Classes() || target[i] == label {
			return nil, fmt.Errorf("attack: image %d: target %d: expected a class from 0 to %d other than the label %d", i, target[i], m.Classes()-1, label)
		}
	}
	return target, nil
}

// prepare validates the arguments of Perturb and returns the id and the key of each image.
func prepare(m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) ([]uint64, []rng.Key, error) {
	if err := m.ValidateImages(x); err != nil {
		return nil, nil, fmt.Errorf("attack: %w", err)
	}
	if len(y) != x.N {
		return nil, nil, fmt.Errorf("attack: %d labels for %d images: expected one each", len(y), x.N)
	}
	for i, label := range y {
		if label < 0 || label >= m.Classes() {
			return nil, nil, fmt.Errorf("attack: image %d: label %d: expected 0 to %d", i, label, m.Classes()-1)
		}
	}
	if ids == nil {
		ids = make([]uint64, x.N)
		for i := range ids {
			ids[i] = uint64(i)
		}
	}
	if len(ids) != x.N {
		return nil, nil, fmt.Errorf("attack: %d ids for %d images: expected one each", len(ids), x.N)
	}
	return ids, imageKeys(key, ids), nil
}

// imageKeys returns the key of each image.
func imageKeys(key rng.Key, ids []uint64) []rng.Key {
	keys := make([]rng.Key, len(ids))
	for i, id := range ids {
		keys[i] = key.Derive("image", id)
	}
	return keys
}

// clip moves values into [0,1]. It moves no value away from an original in [0,1].
func clip(x []float32) {
	for i, v := range x {
		x[i] = min(max(v, 0), 1)
	}
}
