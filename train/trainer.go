package train

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// Trainer trains a model on a set. It is not safe for concurrent use, and while it
// trains, nothing else may change the model.
type Trainer struct {
	model   *snn.Model
	set     *dataset.Set
	cfg     Config
	key     rng.Key
	loader  *dataset.Loader
	state   []*autograd.Param // all that training changes: the model's and the optimizer's
	updater *Updater

	history  []Metrics // of the completed epochs
	part     tally     // of the epoch under way
	running  bool      // Epochs is making steps
	changing bool      // a step is changing the state
	before   snapshot  // of the state at the beginning of this run of the epoch
	saving   autosave

	// A step's own memory.
	keys   []rng.Key // [N]
	losses []float64 // [N]
	grad   []float32 // [N, classes]
}

// New returns a trainer of model on set. All that is random about the training comes
// from key. It returns an error that names the field of cfg that is out of its range,
// or says how set does not fit model.
func New(model *snn.Model, set *dataset.Set, cfg Config, key rng.Key) (*Trainer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := fits(model, set); err != nil {
		return nil, err
	}
	if err := cfg.HIRE.validate(model.Steps); err != nil {
		return nil, err
	}
	loader, err := dataset.NewLoader(set, cfg.Loader, key.Derive("batches", 0))
	if err != nil {
		return nil, fmt.Errorf("train: Config.Loader: %w", err)
	}
	updater, err := NewUpdater(cfg.Optimizer, model.Params())
	if err != nil {
		return nil, err
	}
	return &Trainer{
		model: model, set: set, cfg: cfg, key: key, loader: loader, updater: updater,
		state: slices.Concat(model.State(), updater.State()),
	}, nil
}

func fits(model *snn.Model, set *dataset.Set) error {
	if set.C != model.Channels || set.H != model.Height || set.W != model.Width {
		return fmt.Errorf("train: the set's images are %d×%d×%d, want the model's %d×%d×%d",
			set.C, set.H, set.W, model.Channels, model.Height, model.Width)
	}
	if set.Classes > model.Classes() {
		return fmt.Errorf("train: the set has %d classes, want at most the model's %d", set.Classes, model.Classes())
	}
	return nil
}

// Epochs trains for the epochs that are left and yields the metrics of each as it is
// completed. Leave the loop and range over Epochs again to go on.
//
// An error ends the sequence. It names the epoch, and the step where there is one. There
// are two kinds:
//
//   - ctx is done (the error is ctx.Err(), wrapped), or an image cannot be read, or the
//     adversary, the monitor or the writing of a checkpoint fails. The trainer then stands
//     after the last completed step. ctx is looked at before every step.
//   - A step fails on its way: the pass returns an error, the loss or a parameter is no
//     longer a finite number, or a projection fails. The trainer then goes back to the
//     beginning of the epoch, or to the step at which this sequence went on with it.
//
// Panics of the caller's code leave the trainer likewise. In all cases Save writes where
// the trainer stands, and Epochs goes on from there with the same results.
func (t *Trainer) Epochs(ctx context.Context) iter.Seq2[Metrics, error] {
	return func(yield func(Metrics, error) bool) {
		if err := t.autosave(true); err != nil {
			yield(Metrics{}, err)
			return
		}
		for len(t.history) < t.cfg.Epochs {
			m, err := t.epoch(ctx)
			if saveErr := t.autosave(true); err == nil {
				err = saveErr
			} else if saveErr != nil {
				err = fmt.Errorf("%w; %w", err, saveErr)
			}
			if err != nil {
				m = Metrics{}
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// History returns the metrics of the completed epochs, those before a resume
// included. Their maps are shared and read-only.
func (t *Trainer) History() []Metrics { return slices.Clone(t.history) }

// Completed returns how many epochs of training are done. The fraction stands for the
// completed steps of the epoch under way.
func (t *Trainer) Completed() float64 {
	return float64(len(t.history)) + float64(t.part.Steps)/float64(t.loader.Batches())
}

// tally is the completed part of an epoch: what its metrics are the means of.
type tally struct {
	Steps   int     `json:"steps"`
	Images  int     `json:"images"`
	Seconds float64 `json:"seconds"`
	Seen    int     `json:"seen"` // images, counted once for every update that they were part of
	Correct int     `json:"correct"`
	Loss    float64 `json:"loss"`
	Spikes  int     `json:"spikes"`
	Chances int     `json:"chances"` // of a neuron to fire: one a time step
}

// epoch makes what is left of the epoch under way.
func (t *Trainer) epoch(ctx context.Context) (_ Metrics, err error) {
	epoch, steps := len(t.history), t.loader.Batches()
	t.running = true
	t.before.take(t)
	defer func() {
		t.running = false
		if t.changing { // an error or a panic has ended a step on its way
			t.before.restore(t)
		}
	}()
	clock := time.Now()
	tick := func() {
		now := time.Now()
		t.part.Seconds += now.Sub(clock).Seconds()
		clock = now
	}
	lr := t.cfg.Schedule.Rate(t.cfg.LR, epoch, t.cfg.Epochs)
	for batch, err := range t.loader.EpochFrom(ctx, epoch, t.part.Steps) {
		var loss float64
		if err == nil {
			loss, err = t.step(ctx, batch, lr)
		}
		tick()
		if err != nil {
			if ctx.Err() != nil && !t.changing {
				err = ctx.Err() // plain, whoever noticed
			}
			return Metrics{}, fmt.Errorf("train: epoch %d of %d, step %d of %d: %w", epoch+1, t.cfg.Epochs, t.part.Steps+1, steps, err)
		}
		if t.cfg.Progress != nil {
			t.cfg.Progress(Progress{epoch + 1, t.cfg.Epochs, t.part.Steps, steps, loss})
		}
		if err := t.autosave(false); err != nil {
			return Metrics{}, err
		}
	}
	tick()
	measured, err := t.measure(ctx, epoch+1)
	if err != nil {
		return Metrics{}, fmt.Errorf("train: epoch %d of %d: %w", epoch+1, t.cfg.Epochs, err)
	}
	sum := t.part
	seconds := max(sum.Seconds, 1e-9)
	m := Metrics{
		Epoch: epoch + 1, LR: lr,
		Loss:       sum.Loss / float64(sum.Seen),
		Accuracy:   float64(sum.Correct) / float64(sum.Seen),
		FiringRate: float64(sum.Spikes) / float64(max(sum.Chances, 1)),
		Measured:   measured,
		Seconds:    seconds, ImagesPerSecond: float64(sum.Images) / seconds,
	}
	t.history, t.part = append(t.history, m), tally{}
	return m, nil
}

// measure returns what the monitor, if there is one, measures after so many epochs.
func (t *Trainer) measure(ctx context.Context, epochs int) (map[string]float64, error) {
	if t.cfg.Monitor == nil {
		return nil, nil
	}
	measured, err := t.cfg.Monitor.Measure(ctx, t.model, epochs)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		if v := measured[name]; !finite(v) {
			return nil, fmt.Errorf("monitor: %s is %v, want a finite number", name, v)
		}
	}
	return measured, nil
}

// step trains on one batch and returns its mean loss.
func (t *Trainer) step(ctx context.Context, b dataset.Batch, lr float64) (float64, error) {
	if t.cfg.Adversary != nil {
		x, err := t.cfg.Adversary.Perturb(ctx, t.model, b.X, b.Y, b.ID, t.key.Derive("adversary", uint64(t.updater.Steps)))
		if err != nil {
			return 0, fmt.Errorf("adversary: %w", err)
		}
		if x.N != b.X.N {
			return 0, fmt.Errorf("adversary: %v images for a batch of %v", x, b.X)
		}
		b.X = x
	}
	t.changing = true
	periods := t.cfg.HIRE.periods()
	total := 0.0
	for period := range periods {
		loss, grad, err := t.update(b, lr, period)
		if err != nil {
			return 0, err
		}
		total += loss
		if period+1 < periods {
			b.X = t.cfg.HIRE.move(b.X, grad)
		}
	}
	t.part.Steps++
	t.part.Images += b.X.N
	t.changing = false
	return total / float64(periods), nil
}

// update makes the update of one period of a batch, and returns its mean loss and,
// if another period follows, the loss's gradient by the images.
func (t *Trainer) update(b dataset.Batch, lr float64, period int) (float64, tensor.NCHW, error) {
	n := uint64(t.updater.Steps)
	loss, grad, err := t.gradient(b, lr, period)
	if err != nil {
		return 0, grad, err
	}
	if !finite(loss) {
		return 0, grad, fmt.Errorf("the loss is %v, want a finite number (a lower learning rate may help)", loss)
	}
	t.updater.Step(lr, t.model.Threads)
	if err := t.project(t.key.Derive("regularizer", n)); err != nil {
		return 0, grad, err
	}
	// Neurons are silent on NaN, so it need not show in the loss.
	for _, p := range t.state {
		if !kernel.Finite(p.Data(), t.model.Threads) {
			return 0, grad, fmt.Errorf("%s holds a value that is not a finite number (a lower learning rate may help)", p.Name)
		}
	}
	return loss, grad, nil
}

// gradient computes the gradient of the mean loss of one period of a batch, of which
// large weights take their part of the update at once, and returns that loss and, if
// another period follows, its gradient by the images. If the loss is not finite there
// is no gradient and no update.
func (t *Trainer) gradient(b dataset.Batch, lr float64, period int) (loss float64, images tensor.NCHW, err error) {
	classes := t.model.Classes()
	t.losses = slices.Grow(t.losses[:0], b.X.N)[:b.X.N]
	t.grad = slices.Grow(t.grad[:0], b.X.N*classes)[:b.X.N*classes]
	t.keys = t.keys[:0]
	epoch := t.key.Derive("epoch", uint64(len(t.history)))
	if period > 0 {
		epoch = epoch.Derive("period", uint64(period))
	}
	for _, id := range b.ID {
		t.keys = append(t.keys, epoch.Derive("image", id))
	}
	for _, p := range t.updater.params {
		p.ClearGrad()
	}
	periods, sum := t.cfg.HIRE.periods(), &t.part
	pass := snn.Pass{
		Train: true, Steps: t.model.Steps / periods, Gradient: t.cfg.Gradient, Keys: t.keys,
		FusedUpdate: t.updater.FusedUpdate(lr, t.model.Threads),
		OnSpikes: func(_ string, s *tensor.Spikes) {
			sum.Spikes += s.Count()
			sum.Chances += s.Neurons() * s.Frames()
		},
	}
	ofLogits := func(logits []float32) []float32 {
		autograd.CrossEntropy(t.losses, t.grad, logits, b.Y, t.cfg.LabelSmoothing)
		for i, l := range t.losses {
			sum.Loss += l
			loss += l
			if argmax(logits[i*classes:][:classes]) == b.Y[i] {
				sum.Correct++
			}
		}
		sum.Seen += b.X.N
		loss /= float64(b.X.N)
		if !finite(loss) {
			return nil
		}
		for i := range t.grad {
			t.grad[i] /= float32(b.X.N)
		}
		return t.grad
	}
	if period+1 < periods {
		images, err = t.model.Gradients(pass, b.X, ofLogits)
	} else {
		err = t.model.ParamGradients(pass, b.X, ofLogits)
	}
	return loss, images, err
}

// project applies what keeps parameters on their sets.
func (t *Trainer) project(key rng.Key) error {
	if t.cfg.Regularizer != nil {
		for _, p := range t.updater.params {
			if len(p.Shape) < 2 {
				continue
			}
			if err := t.cfg.Regularizer.Apply(p, key.Derive(p.Name, 0), t.model.Threads); err != nil {
				return fmt.Errorf("regularizer: %w", err)
			}
		}
	}
	if t.cfg.Simplex != nil {
		for _, p := range t.model.ConvexParams() {
			if err := t.cfg.Simplex(p.MutableData()[:p.Len()]); err != nil { // a vector, so the rest is padding
				return fmt.Errorf("simplex: %s: %w", p.Name, err)
			}
		}
	}
	return nil
}
