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

// Attack is a gradient attack: from Start, Steps times,
//
//	x ← clip(Π(x + α·d)),  d the direction in Norm of the objective's gradient,
//
// Π being the projection on the ball of radius Eps around the image in Norm, and clip
// that on [0,1]. The gradient is that of the sum of the images' objectives, and that
// of the evaluated network (no batch statistics, no dropout).
//
// FGSM, RFGSM, PGD and BIM fill an Attack; other combinations are made by changing
// its fields. It may be used by several goroutines, and uses what its fields hold from
// several.
type Attack struct {
	Objective Objective    // what the attack raises
	Gradient  snn.Gradient // how gradients cross the neurons
	Norm      Norm         // that bounds the perturbation and shapes the step
	Start     Start        // where in the ball the first step begins
	Eps       float32      // ε ≥ 0, radius of the ball in Norm; pixels are in [0,1]
	Alpha     float32      // α > 0, length of a step in Norm; may be 0 if Eps is
	Steps     int          // ≥ 1, each a forward and a backward pass

	// Target makes the attack targeted: for an image's id and label it returns the
	// class the network is to see, in [0, classes) and not the label. nil stands for
	// an untargeted attack.
	Target func(id uint64, label int) int
}

// FGSM returns the fast gradient sign method, x' = clip(x + ε·sign(∇L))
// (Goodfellow et al. 2015). Set Norm to L2{} for the fast gradient method.
func FGSM(eps float32, g snn.Gradient) *Attack {
	return &Attack{CrossEntropy{}, g, LInf{}, AtImage{}, eps, eps, 1, nil}
}

// RFGSM returns FGSM after a random step (Tramèr et al. 2018, with the two halves of
// Ding et al. 2022): x' = clip(x + (ε/2)·sign(N(0,1))), and then an FGSM step of ε/2
// from x'.
func RFGSM(eps float32, g snn.Gradient) *Attack {
	return &Attack{CrossEntropy{}, g, LInf{}, RandomStep{eps / 2}, eps, eps / 2, 1, nil}
}

// PGD returns projected gradient descent from a point drawn uniformly from the ball
// (Madry et al. 2018). The paper's test settings are ε = 8/255, α = 0.01, 7 steps.
func PGD(eps, alpha float32, steps int, g snn.Gradient) *Attack {
	return &Attack{CrossEntropy{}, g, LInf{}, InBall{}, eps, alpha, steps, nil}
}

// BIM returns the basic iterative method, PGD from the image itself (Kurakin et al.
// 2017).
func BIM(eps, alpha float32, steps int, g snn.Gradient) *Attack {
	return &Attack{CrossEntropy{}, g, LInf{}, AtImage{}, eps, alpha, steps, nil}
}

// Validate returns an error that names the field that is missing or out of range.
// Perturb begins with it.
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
		p := part{x.Slice(lo, hi), adv.Slice(lo, hi), y[lo:hi], target, keys[lo:hi], zero[lo:hi], lo}
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

// part is some of the images that are attacked.
type part struct {
	x, adv    tensor.NCHW
	y, target []int // target is nil if the attack has none
	keys      []rng.Key
	zero      []bool // whether every gradient was zero
	first     int    // place of its first image among all
}

// perturb attacks the images of p.
func (a *Attack) perturb(ctx context.Context, m *snn.Model, pass snn.Pass, p *part) error {
	for i, k := range p.keys {
		image := p.adv.Image(i)
		a.Start.Initialize(image, a.Norm, a.Eps, k.Derive("start", 0).Rand())
		a.Norm.Project(image, p.x.Image(i), a.Eps)
		clip(image)
		p.zero[i] = true
	}
	for step := range a.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		grad, err := a.gradient(m, pass, p, step)
		if err != nil {
			return fmt.Errorf("step %d: %w", step+1, err)
		}
		for i := range p.adv.N {
			image := p.adv.Image(i)
			p.zero[i] = p.zero[i] && !slices.ContainsFunc(grad.Image(i), func(v float32) bool { return v != 0 })
			a.Norm.Step(image, grad.Image(i), a.Alpha)
			a.Norm.Project(image, p.x.Image(i), a.Eps)
			clip(image)
		}
	}
	return Threat{a.Norm, a.Eps}.check(p.adv, p.x, p.first)
}

// gradient returns the objective's gradient by the attacked images.
func (a *Attack) gradient(m *snn.Model, pass snn.Pass, p *part, step int) (tensor.NCHW, error) {
	pass.Keys = make([]rng.Key, len(p.keys))
	for i, k := range p.keys {
		pass.Keys[i] = k.Derive("pass", uint64(step))
	}
	var bad error
	grad, err := m.InputGradient(pass, p.adv, func(logits []float32) []float32 {
		if bad = checkFinite("logit", logits, p.adv.N, p.first); bad != nil {
			return nil
		}
		d := make([]float32, len(logits)) // [N, classes]
		a.Objective.Gradient(d, logits, p.y, p.target)
		return d
	})
	if err != nil {
		return grad, fmt.Errorf("images from %d on: %w", p.first, err)
	}
	if err = bad; err == nil {
		err = checkFinite("gradient", grad.Data, p.adv.N, p.first)
	}
	return grad, err
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

// prepare checks what every adversary of this package is given, and returns the ids and the key of
// each image.
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

// checkFinite returns an error that names the first of n images' values that is not
// a finite number. The first image is image from.
func checkFinite(what string, v []float32, n, from int) error {
	for i, f := range v {
		if f-f != 0 { // NaN for a NaN and for infinities
			per := len(v) / n
			return fmt.Errorf("image %d: %s %d is %v: expected a finite number", from+i/per, what, i%per, f)
		}
	}
	return nil
}

// clip moves values to [0,1]. Where the original is in [0,1], it moves none away from
// the original.
func clip(x []float32) {
	for i, v := range x {
		x[i] = min(max(v, 0), 1)
	}
}
