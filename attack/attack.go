package attack

import (
	"context"
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
	Alpha     float32      // α > 0, the length of a step in Norm; may be 0 if Eps is 0
	Steps     int          // ≥ 1; each is a forward and a backward pass

	// Target makes the attack targeted. It returns the class to aim at for the id and the
	// label of an image: a class in [0, classes) other than the label. Perturb calls it
	// once for each image, from the caller's goroutine. Nil stands for an untargeted
	// attack.
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
	return &Attack{CrossEntropy{}, g, LInf{}, AtImage{}, eps, eps, 1, nil, false}
}

// RFGSM returns FGSM after a random step (Tramèr et al. 2018). The random step is
// x' = clip(x + (ε/2)·sign(N(0,1))), and an FGSM step of ε/2 from x' follows, as in Ding et
// al. 2022.
func RFGSM(eps float32, g snn.Gradient) *Attack {
	return &Attack{CrossEntropy{}, g, LInf{}, RandomStep{eps / 2}, eps, eps / 2, 1, nil, false}
}

// PGD returns projected gradient descent from a point drawn uniformly from the ball (Madry
// et al. 2018). Ding et al. 2022 test with ε = 8/255, α = 0.01 and 7 steps.
func PGD(eps, alpha float32, steps int, g snn.Gradient) *Attack {
	return &Attack{CrossEntropy{}, g, LInf{}, InBall{}, eps, alpha, steps, nil, false}
}

// BIM returns the basic iterative method: PGD that starts at the image itself (Kurakin et
// al. 2017).
func BIM(eps, alpha float32, steps int, g snn.Gradient) *Attack {
	return &Attack{CrossEntropy{}, g, LInf{}, AtImage{}, eps, alpha, steps, nil, false}
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
	case !(a.Alpha > 0 || a.Alpha == 0 && a.Eps == 0) || math.IsInf(float64(a.Alpha), 0):
		return fmt.Errorf("attack: alpha %v: expected a positive number", a.Alpha)
	case a.Steps < 1:
		return fmt.Errorf("attack: %d steps: expected at least 1", a.Steps)
	}
	if _, ok := a.Objective.(KL); ok && a.Target != nil {
		return fmt.Errorf("attack: objective %v with a target: expected one with a targeted form, such as CrossEntropy{}", a.Objective)
	}
	return nil
}

// Perturb implements [snn.Adversary]. It checks what it returns: every image is within
// the attack's [Threat], by Norm's Distance in float64. It returns an error if that check
// fails, or if a logit or a gradient is not finite.
//
// An image whose gradient is zero does not move in that step. The images are those of the
// last step. The objective may have been larger at an earlier one.
func (a *Attack) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	adv, _, err := a.PerturbDetail(ctx, m, x, y, ids, key)
	return adv, err
}

// PerturbDetail implements [Detailer].
func (a *Attack) PerturbDetail(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, Detail, error) {
	if err := a.Validate(); err != nil {
		return tensor.NCHW{}, Detail{}, err
	}
	ids, keys, err := prepare(m, x, y, ids, key)
	if err != nil {
		return tensor.NCHW{}, Detail{}, err
	}
	target, err := a.targets(m.Classes(), y, ids)
	if err != nil {
		return tensor.NCHW{}, Detail{}, err
	}
	adv, zero := x.Clone(), make([]bool, x.N)
	if a.Eps == 0 {
		return adv, Detail{target, zero}, nil
	}
	err = m.ForEachChunk(x.N, snn.Pass{Gradient: a.Gradient}, func(lo, hi int, pass snn.Pass) error {
		p := part{x: x.Slice(lo, hi), adv: adv.Slice(lo, hi), y: y[lo:hi], keys: keys[lo:hi], zero: zero[lo:hi], first: lo}
		if a.SharedFrames && x.Steps > 1 {
			p.delta = tensor.NewNCHW(hi-lo, x.C, x.H, x.W)
		}
		if target != nil {
			p.target = target[lo:hi]
		}
		return a.perturb(ctx, m, pass, &p)
	})
	if err != nil {
		return tensor.NCHW{}, Detail{}, fmt.Errorf("attack: %w", err)
	}
	return adv, Detail{target, zero}, nil
}

// part is a range of the images of a call.
type part struct {
	x, adv    tensor.NCHW
	delta     tensor.NCHW // the perturbation that the frames of each example share; no data for none
	y, target []int       // target is nil for an untargeted attack
	keys      []rng.Key
	zero      []bool // whether every gradient was zero
	first     int    // index of the first image in the call
}

// perturb attacks the images of p.
func (a *Attack) perturb(ctx context.Context, m *snn.Model, pass snn.Pass, p *part) error {
	for i, k := range p.keys {
		a.Start.Initialize(p.point(i), a.Norm, a.Eps, k.Derive("start", 0).Rand())
		a.project(p, i)
		p.zero[i] = true
	}
	objective, err := a.objective(m, pass, p)
	if err != nil {
		return err
	}
	for step := range a.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		grad, err := gradient(m, pass, p, objective, step)
		if err != nil {
			return fmt.Errorf("step %d: %w", step+1, err)
		}
		for i := range p.adv.N {
			g := p.along(grad.Image(i))
			p.zero[i] = p.zero[i] && !slices.ContainsFunc(g, func(v float32) bool { return v != 0 })
			a.Norm.Step(p.point(i), g, a.Alpha)
			a.project(p, i)
		}
	}
	t, _ := a.Threat()
	return t.check(p.adv, p.x, p.first)
}

// gradient returns the gradient of the objective with respect to the attacked images.
func gradient(m *snn.Model, pass snn.Pass, p *part, objective Objective, step int) (tensor.NCHW, error) {
	pass.Keys = make([]rng.Key, len(p.keys))
	for i, k := range p.keys {
		pass.Keys[i] = k.Derive("pass", uint64(step))
	}
	grad, err := m.InputGradient(pass, p.adv, func(logits []float32) []float32 {
		d := make([]float32, len(logits)) // [N, classes]
		objective.Gradient(d, logits, p.y, p.target)
		return d
	})
	if err != nil {
		return grad, fmt.Errorf("images from %d on: %w", p.first, err)
	}
	return grad, checkFinite(grad, p.first)
}

// targets returns the target of each image, or nil if the attack is untargeted.
func (a *Attack) targets(classes int, y []int, ids []uint64) ([]int, error) {
	if a.Target == nil {
		return nil, nil
	}
	target := make([]int, len(y))
	for i, label := range y {
		target[i] = a.Target(ids[i], label)
		if target[i] < 0 || target[i] >= classes || target[i] == label {
			return nil, fmt.Errorf("attack: image %d: target %d: expected a class from 0 to %d other than the label %d", i, target[i], classes-1, label)
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

// checkFinite returns an error that names the first value of a gradient that is not finite.
// The first image is image from.
func checkFinite(grad tensor.NCHW, from int) error {
	for i, v := range grad.Data {
		if v-v != 0 { // NaN for a NaN and for infinities
			return fmt.Errorf("%s: the gradient is %v: expected a finite number", grad.Place(i, from), v)
		}
	}
	return nil
}

// clip moves values into [0,1]. It moves no value away from an original in [0,1].
func clip(x []float32) {
	for i, v := range x {
		x[i] = min(max(v, 0), 1)
	}
}
