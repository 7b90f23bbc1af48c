package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Recipe is what a training does with a batch. [OneUpdate], [HIRE], [AWP] and [IBP] are recipes. A
// recipe is a value without state.
//
// A recipe whose passes have fewer time steps than the model also has a method
// PassSteps(steps int) int, which returns their number. [New] then finds a batch norm that
// would see a single value.
type Recipe interface {
	// Validate returns an error that names the first field that is out of its range or
	// does not fit the model or the set.
	Validate(m *snn.Model, set snn.Dataset) error
	// Step trains on the batch of s, with the tools of s. It makes at least one update. An
	// error ends the training, and the trainer returns to an earlier state.
	Step(ctx context.Context, s *Step) error
}

// OneUpdate is the ordinary recipe: one pass over the batch and one update.
type OneUpdate struct{}

// Validate implements [Recipe].
func (OneUpdate) Validate(*snn.Model, snn.Dataset) error { return nil }

// Step implements [Recipe].
func (OneUpdate) Step(_ context.Context, s *Step) error {
	_, err := s.Update(StepPass{X: s.X})
	return err
}

// Step is a step of a training: a batch, and the tools of the trainer for a [Recipe]. It is
// valid during the call of Recipe.Step. With Config.Ranks, it holds the images of this rank,
// and a gradient is that of the whole batch all the same.
type Step struct {
	X      tensor.NCHW // the images, perturbed by the adversary if there is one
	Clean  tensor.NCHW // the images before the adversary
	Labels []int       // [N]
	IDs    []uint64    // [N], of the images in the set
	Epoch  int         // from 0

	t       *Trainer
	lr      float64
	images  int     // of the batch, on all ranks
	ready   bool    // there is a gradient that Apply can use
	pass    tally   // of the last gradient
	loss    float64 // mean loss of the last gradient, penalties included
	losses  float64 // sum of those of the updates
	updates int
}

// StepPass holds the settings of one pass of a [Step].
type StepPass struct {
	X     tensor.NCHW // the images, as many as Step.X has
	Steps int         // time steps; 0 stands for the model's
	// Draw numbers the draws of random numbers of a step, from 0. Passes of the same Draw
	// have the same dropout masks and Poisson spikes.
	Draw   int
	Images bool // return the gradient of the images too
	// Worst is the share in [0, 1] of the loss that is that of the worst logits over the images
	// within Eps of X, as [snn.Model.DifferentiateBounds] bounds them. 0 is the loss of X alone. A
	// loss that needs the clean output has none.
	Worst float64
	Eps   float32 // in [0, 1]
}

// Model returns the model that is trained. A recipe may change its parameters.
func (s *Step) Model() *snn.Model { return s.t.model }

// Gradient makes a pass in training mode over the images of p. It computes the gradient of
// the mean loss, with its penalties, in Param.Grad of every parameter, in place of what is
// there. With p.Images it returns the gradient of the images, and otherwise the zero value.
func (s *Step) Gradient(p StepPass) (tensor.NCHW, error) { return s.gradient(p, false) }

// Update is Gradient followed by Apply. It is the faster way, because it updates large
// weights while it computes their gradients.
func (s *Step) Update(p StepPass) (tensor.NCHW, error) {
	images, err := s.gradient(p, s.t.cfg.ClipNorm == 0 && (s.t.cfg.MicroShards == 0 || s.t.updater.elementwise))
	if err != nil {
		return images, err
	}
	return images, s.Apply()
}

// Apply updates the parameters by the gradient in Param.Grad: it clips the gradient, makes
// the update of the optimizer, and projects the weights. The metrics of the epoch count the
// last pass of Gradient before it. Apply returns an error if there was none since the last
// Apply. It also returns one if a parameter then is not a finite number, or has padding that
// is not zero.
func (s *Step) Apply() error {
	if !s.ready {
		return errors.New("Step.Apply: want a call of Step.Gradient before it")
	}
	s.ready = false
	t := s.t
	n := uint64(t.updater.Steps)
	if err := clip(t.updater.params, t.cfg.ClipNorm, t.model.Threads); err != nil {
		return err
	}
	if err := t.update(s.lr); err != nil {
		return err
	}
	if err := t.project(t.key.Derive("regularizer", n)); err != nil {
		return err
	}
	// NaN in a weight need not show in the loss, since neurons do not fire on it.
	for _, p := range t.state {
		if !kernel.Finite(p.Data(), t.model.Threads) {
			return fmt.Errorf("%s holds a value that is not a finite number (a lower learning rate may help)", p.Name)
		}
		if !p.PaddingIsZero() {
			return fmt.Errorf("%s: the padding is not zero: optimizers, regularizers, recipes and operations must leave it so", p.Name)
		}
	}
	t.average.update(t)
	t.part.add(s.pass, t.losses)
	s.losses += s.loss
	s.updates++
	return nil
}

// add counts a pass over images with these losses.
func (sum *tally) add(p tally, losses []float64) {
	for _, l := range losses {
		sum.Loss += l
	}
	sum.Loss += p.Penalty
	sum.count(p)
}

// count adds the numbers of p that a forward pass knows.
func (sum *tally) count(p tally) {
	sum.Penalty += p.Penalty
	sum.Seen += p.Seen
	sum.Correct += p.Correct
	sum.Spikes += p.Spikes
	sum.Chances += p.Chances
}

// gradient is Gradient. If fused is set, weights may be updated at once, and Apply must
// follow. Two passes update none, since the second backward pass reads them.
func (s *Step) gradient(p StepPass, fused bool) (images tensor.NCHW, err error) {
	t := s.t
	if p.X.N != s.X.N {
		return images, fmt.Errorf("a pass over %v, want the %d images of the step", p.X, s.X.N)
	}
	switch {
	case !(p.Worst >= 0 && p.Worst <= 1):
		return images, fmt.Errorf("StepPass.Worst is %v, want a number in [0, 1]", p.Worst)
	case p.Worst > 0 && t.cfg.Loss.NeedsClean():
		return images, fmt.Errorf("worst logits with the loss %s, want one that needs no clean output", lossName(t.cfg.Loss))
	}
	t.losses = slices.Grow(t.losses[:0], p.X.N)[:p.X.N]
	clear(t.losses)
	for _, p := range t.updater.params {
		p.ClearGrad()
	}
	s.ready = false
	draws := t.key.Derive("epoch", uint64(s.Epoch))
	if p.Draw > 0 {
		draws = draws.Derive("period", uint64(p.Draw))
	}
	t.keys = imageKeys(t.keys[:0], draws, s.IDs)
	if t.cfg.MicroShards > 0 {
		images, err = s.microGradient(p, draws, fused)
		s.ready = err == nil
		return images, err
	}
	whole := &part{hi: p.X.N}
	if fused && !t.cfg.Loss.NeedsClean() && p.Worst == 0 {
		whole.fused = t.updater.FusedUpdate(s.lr, t.model.Threads)
	}
	images, err = s.run(p, draws, whole)
	s.pass, s.loss = whole.sum, whole.penalty+mean(t.losses)
	s.ready = err == nil
	return images, err
}

// mean returns the mean of the losses of the images of a batch.
func mean(losses []float64) (m float64) {
	for _, l := range losses {
		m += l
	}
	return m / float64(len(losses))
}

// part is the part of a batch that a pass is made over: all of it, or a micro-shard.
type part struct {
	lo, hi  int                  // the images of Step.X from lo to hi − 1
	fused   autograd.FusedUpdate // or nil
	join    autograd.Parts       // the other parts, or nil for none
	forward func() error         // if not nil, called between the forward and the backward pass

	sum     tally                    // of the pass
	penalty float64                  // sum of the penalties of the part
	clean   map[string]*tensor.Dense // the currents of layers in the pass over the clean images
}

// run makes the pass over a part of the images of p, or the two passes of a loss that needs
// the clean output. It returns the gradient of the images if p asks for it.
func (s *Step) run(p StepPass, draws rng.Key, of *part) (images tensor.NCHW, err error) {
	t := s.t
	pass := snn.Pass{Train: true, Steps: p.Steps, Gradient: t.cfg.Gradient, Parts: of.join}
	if pass.Steps == 0 {
		pass.Steps = t.model.Steps
	}
	if !t.cfg.Loss.NeedsClean() {
		images, _, err = s.perturbedPass(pass, p, of, snn.Output{})
		return images, err
	}
	clean := pass
	clean.Keys = imageKeys(nil, draws.Derive("clean", 0), s.IDs[of.lo:of.hi])
	clean.OnNeurons = s.keepClean(of)
	_, err = t.model.Differentiate(clean, s.Clean.Slice(of.lo, of.hi), snn.OfParams, func(o snn.Output) (grad []float32, err error) {
		images, grad, err = s.perturbedPass(pass, p, of, o)
		return grad, err
	})
	return images, err
}

// perturbedPass makes the pass over a part of the images of p. It returns their gradient, and
// the gradient of the loss with respect to the output for the clean images.
func (s *Step) perturbedPass(pass snn.Pass, p StepPass, of *part, ofClean snn.Output) (images tensor.NCHW, clean []float32, err error) {
	t, sum := s.t, &of.sum
	labels, losses := s.Labels[of.lo:of.hi], t.losses[of.lo:of.hi]
	sum.Seen = len(labels)
	pass.Keys = t.keys[of.lo:of.hi]
	pass.FusedUpdate = of.fused
	pass.OnSpikes = func(_ string, spikes *tensor.Spikes) {
		sum.Spikes += int64(spikes.Count())
		sum.Chances += int64(spikes.Neurons()) * int64(spikes.Frames())
	}
	var penaltyErr error
	fired := map[string]bool{} // the layers that a penalty has seen
	if len(t.cfg.Penalties) > 0 {
		pass.OnNeurons = func(p *snn.Pass, n snn.Neuron, currents, output *autograd.Value) {
			fired[n.Name()] = true
			v, err := s.penalize(of, p, n, currents, output)
			if err != nil && penaltyErr == nil {
				penaltyErr = err
			}
			of.penalty += v
			sum.Penalty += float64(v * float64(len(labels)))
		}
	}
	wrt := snn.OfParams
	if p.Images {
		wrt |= snn.OfImages
	}
	images, err = t.model.Differentiate(pass, p.X.Slice(of.lo, of.hi), wrt, func(o snn.Output) (grad []float32, err error) {
		for _, p := range t.cfg.Penalties {
			if of := p.Of(); penaltyErr == nil && (len(fired) == 0 || of != "" && !fired[of]) {
				penaltyErr = fmt.Errorf("penalty %T of layer %q: the layer did not fire in this pass, want one whose Forward calls snn.Fire", p, of)
			}
		}
		if penaltyErr != nil {
			return nil, penaltyErr
		}
		for i, y := range labels { // before the loss, which may compute in the memory of the output
			if argmax(o.Mean[i*o.Classes:][:o.Classes]) == y {
				sum.Correct++
			}
		}
		grad, clean, err = compute(t.cfg.Loss, losses, BatchOutput{Output: o, Clean: ofClean, Labels: labels}, s.images)
		if err == nil && p.Worst > 0 {
			return grad, s.worstPass(pass, p, of, losses, grad)
		}
		if err == nil && of.forward != nil {
			err = of.forward()
		}
		return grad, err
	})
	return images, clean, err
}

// worstPass adds the gradients of p.Worst times the loss of the worst logits. losses and grad are
// those of the images, and become 1 − p.Worst times that, losses with that of the worst logits.
func (s *Step) worstPass(pass snn.Pass, p StepPass, of *part, losses []float64, grad []float32) error {
	t, labels := s.t, s.Labels[of.lo:of.hi]
	bounds := snn.Pass{Steps: pass.Steps, Gradient: pass.Gradient, Keys: pass.Keys}
	return t.model.DifferentiateBounds(bounds, p.X.Slice(of.lo, of.hi), p.Eps, labels, func(worst []float32) ([]float32, error) {
		ofWorst := make([]float64, len(losses))
		o := snn.Output{N: len(labels), Classes: t.model.Classes(), Steps: 1, Logits: worst, Mean: worst}
		g, _, err := compute(t.cfg.Loss, ofWorst, BatchOutput{Output: o, Labels: labels}, s.images)
		if err != nil {
			return nil, fmt.Errorf("worst logits: %w", err)
		}
		scale(g, p.Worst)
		scale(grad, 1-p.Worst)
		for i, l := range ofWorst {
			losses[i] += p.Worst * (l - losses[i])
		}
		if of.forward != nil {
			err = of.forward()
		}
		return g, err
	})
}

// imageKeys appends the key of each image to dst.
func imageKeys(dst []rng.Key, draws rng.Key, ids []uint64) []rng.Key {
	for _, id := range ids {
		dst = append(dst, draws.Derive("image", id))
	}
	return dst
}
