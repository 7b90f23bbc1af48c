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

	history []Metrics // of the completed epochs
	running bool
	before  snapshot // of the current epoch

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
// An error ends the sequence, and then the model and the trainer are as they were
// before the epoch that it names: when ctx is done, which is looked at before every
// step (the error is ctx.Err(), wrapped); when the loss or a parameter is no longer a
// finite number; when a batch cannot be loaded, perturbed or regularized; and when
// Config.Monitor fails. The error names the step, too, where there is one.
func (t *Trainer) Epochs(ctx context.Context) iter.Seq2[Metrics, error] {
	return func(yield func(Metrics, error) bool) {
		for len(t.history) < t.cfg.Epochs {
			m, err := t.epoch(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// History returns the metrics of the completed epochs, those before a resume
// included. Their maps are shared: leave them as they are.
func (t *Trainer) History() []Metrics { return slices.Clone(t.history) }

// tally adds up what an epoch's metrics are the means of.
type tally struct {
	images, correct int // an image counts once for every update that it was part of
	loss            float64
	spikes, chances int // a chance is one neuron in one step
}

// epoch makes the next epoch, or no change.
func (t *Trainer) epoch(ctx context.Context) (_ Metrics, err error) {
	epoch := len(t.history)
	t.running = true
	t.before.take(t)
	completed := false
	defer func() {
		t.running = false
		if !completed { // by an error, or a panic of the caller's
			t.before.restore(t)
		}
	}()

	start := time.Now()
	lr := t.cfg.Schedule.Rate(t.cfg.LR, epoch, t.cfg.Epochs)
	steps := t.loader.Batches()
	var sum tally
	step, images := 0, 0
	for batch, err := range t.loader.Epoch(ctx, epoch) {
		var loss float64
		if err == nil {
			loss, err = t.step(ctx, batch, lr, &sum)
		}
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err() // plain, whoever noticed
			}
			return Metrics{}, fmt.Errorf("train: epoch %d of %d, step %d of %d: %w", epoch+1, t.cfg.Epochs, step+1, steps, err)
		}
		step++
		images += batch.X.N
		if t.cfg.Progress != nil {
			t.cfg.Progress(Progress{epoch + 1, t.cfg.Epochs, step, steps, loss})
		}
	}
	seconds := max(time.Since(start), 1).Seconds()
	measured, err := t.measure(ctx, epoch+1)
	if err != nil {
		return Metrics{}, fmt.Errorf("train: epoch %d of %d: %w", epoch+1, t.cfg.Epochs, err)
	}
	completed = true
	m := Metrics{
		Epoch: epoch + 1, LR: lr,
		Loss:       sum.loss / float64(sum.images),
		Accuracy:   float64(sum.correct) / float64(sum.images),
		FiringRate: float64(sum.spikes) / float64(max(sum.chances, 1)),
		Measured:   measured,
		Seconds:    seconds, ImagesPerSecond: float64(images) / seconds,
	}
	t.history = append(t.history, m)
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
func (t *Trainer) step(ctx context.Context, b dataset.Batch, lr float64, sum *tally) (float64, error) {
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
	periods := t.cfg.HIRE.periods()
	total := 0.0
	for period := range periods {
		loss, grad, err := t.update(b, lr, period, sum)
		if err != nil {
			return 0, err
		}
		total += loss
		if period+1 < periods {
			b.X = t.cfg.HIRE.move(b.X, grad)
		}
	}
	return total / float64(periods), nil
}

// update makes the update of one period of a batch, and returns its mean loss and,
// if another period follows, the loss's gradient by the images.
func (t *Trainer) update(b dataset.Batch, lr float64, period int, sum *tally) (float64, tensor.NCHW, error) {
	n := uint64(t.updater.Steps)
	loss, grad, err := t.gradient(b, lr, period, sum)
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
func (t *Trainer) gradient(b dataset.Batch, lr float64, period int, sum *tally) (loss float64, images tensor.NCHW, err error) {
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
	periods := t.cfg.HIRE.periods()
	pass := snn.Pass{
		Train: true, Steps: t.model.Steps / periods, Gradient: t.cfg.Gradient, Keys: t.keys,
		FusedUpdate: t.updater.FusedUpdate(lr, t.model.Threads),
		OnSpikes: func(_ string, s *tensor.Spikes) {
			sum.spikes += s.Count()
			sum.chances += s.Neurons() * s.Frames()
		},
	}
	ofLogits := func(logits []float32) []float32 {
		autograd.CrossEntropy(t.losses, t.grad, logits, b.Y, t.cfg.LabelSmoothing)
		for i, l := range t.losses {
			sum.loss += l
			loss += l
			if argmax(logits[i*classes:][:classes]) == b.Y[i] {
				sum.correct++
			}
		}
		sum.images += b.X.N
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

// snapshot is a copy of what training changes.
type snapshot struct {
	values  [][]float32 // of Trainer.state
	steps   int
	history []Metrics
}

// take keeps the state of t, in the memory of the last snapshot.
func (s *snapshot) take(t *Trainer) {
	s.values = slices.Grow(s.values, len(t.state))[:len(t.state)]
	for i, p := range t.state {
		s.values[i] = append(s.values[i][:0], p.Data()...)
	}
	s.steps, s.history = t.updater.Steps, t.history
}

// restore puts back what take kept.
func (s *snapshot) restore(t *Trainer) {
	for i, p := range t.state {
		copy(p.MutableData(), s.values[i])
	}
	t.updater.Steps, t.history = s.steps, s.history
}
