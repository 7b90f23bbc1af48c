package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// Trainer trains a model on a set. It is not safe for concurrent use. Nothing else may
// change the model while it trains.
type Trainer struct {
	model   *snn.Model
	set     snn.Dataset
	cfg     Config
	key     rng.Key
	loader  *dataset.Loader
	ranks   Ranks
	state   []*autograd.Param // all that training changes, of the model and the optimizer
	updater *Updater

	history  []Metrics // of the completed epochs
	part     tally     // of the epoch under way
	running  bool      // Epochs is making steps
	changing bool      // a step is changing the state, or has failed with NoRollback
	told     bool      // all ranks know of a failure in the step under way
	before   snapshot  // of the state when epoch was called
	saving   autosave

	average average
	best    string // path of the best network, or empty

	// Memory that a step reuses.
	keys   []rng.Key // [N]
	losses []float64 // [N]
	sums   sums
}

// New returns a trainer of model on a data set, such as a *dataset.Set. All random numbers
// of the training come from key.
//
// New returns an error that names the first field of cfg that is out of its range. It
// returns an error if [snn.Model.ValidateDataset] refuses the set, or if the model has no
// layer of neurons of the name that a penalty has. It also returns an error if a layer of
// batch norm would see a single value per channel in some batch, since one value has no
// variance.
//
// With Config.Ranks, all ranks call New. It returns an error on every rank if one fails or
// trains something else.
func New(model *snn.Model, set snn.Dataset, cfg Config, key rng.Key) (*Trainer, error) {
	t, err := newTrainer(model, set, cfg, key)
	if cfg.Ranks != nil {
		if t == nil {
			t = &Trainer{ranks: cfg.Ranks}
		}
		err = t.meet(err)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

func newTrainer(model *snn.Model, set snn.Dataset, cfg Config, key rng.Key) (*Trainer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := model.ValidateDataset(set); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	if err := cfg.Recipe.Validate(model, set); err != nil {
		return nil, fmt.Errorf("train: Config.Recipe: %w", err)
	}
	if err := cfg.Validation.validate(model); err != nil {
		return nil, err
	}
	if err := validatePenalties(cfg.Penalties, cfg.Loss, model); err != nil {
		return nil, err
	}
	if err := validateBatchNorm(model, set.Shape(), cfg); err != nil {
		return nil, err
	}
	if err := cfg.validateRanks(set.Shape().N); err != nil {
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
	average := newAverage(cfg.EMA, model.State())
	ranks := cfg.Ranks
	if ranks == nil {
		ranks = alone{}
	}
	return &Trainer{
		model: model, set: set, cfg: cfg, key: key, loader: loader, ranks: ranks, updater: updater, average: average,
		state: slices.Concat(model.State(), updater.State(), average.mean),
	}, nil
}

// Epochs trains for the epochs that are left and yields the metrics of each as it is
// completed. Leave the loop and range over Epochs again to go on.
//
// An error ends the sequence. It names the epoch, and the step where there is one. There
// are two kinds:
//
//   - ctx is done, and the error is ctx.Err(), wrapped. Or an image cannot be read, or the
//     adversary, the validation, the monitor, a recorder or the writing of a file fails. The
//     trainer is then in the state after the last completed step. Epochs checks ctx before
//     every step.
//   - A step fails after it has begun to change the model: a current, a logit, a loss, a
//     penalty or a parameter is not a finite number, or a recipe or a projection fails. The
//     trainer then returns to its state at the beginning of the epoch. If this sequence began
//     within the epoch, it returns to its state at that point. With Config.NoRollback it cannot
//     return: Save and Epochs give an error until Resume has restored a checkpoint.
//
// If a recorder or the checkpoint after an epoch fails, the epoch is complete: History has its
// metrics.
//
// A panic in the caller's code leaves the trainer in one of these states too. In all cases,
// Save writes that state, and Epochs continues from it with the same results.
func (t *Trainer) Epochs(ctx context.Context) iter.Seq2[Metrics, error] {
	return func(yield func(Metrics, error) bool) {
		defer func() { t.before = snapshot{} }() // as much memory as the state
		var err error
		if t.changing {
			err = fmt.Errorf("train: %w", errFailed)
		} else {
			err = t.autosave(true)
		}
		if err == nil {
			err = t.record()
		}
		if err != nil {
			yield(Metrics{}, err)
			return
		}
		for len(t.history) < t.cfg.Epochs {
			m, err := t.epoch(ctx)
			if err == nil {
				err = t.record()
			}
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

// Completed returns the number of epochs that are done, with a fraction for the completed
// steps of the current epoch.
func (t *Trainer) Completed() float64 {
	return float64(len(t.history)) + float64(t.part.Steps)/float64(t.loader.Batches())
}

// tally holds the sums over the completed steps of an epoch, from which its metrics come.
type tally struct {
	Steps   int     `json:"steps"`
	Images  int     `json:"images"`
	Seconds float64 `json:"seconds"`
	Seen    int     `json:"seen"`    // images, counted once per update
	Correct int     `json:"correct"` // of Seen, those classified as labelled
	Loss    float64 `json:"loss"`    // sum over Seen
	Spikes  int64   `json:"spikes"`
	Chances int64   `json:"chances"` // neurons × time steps, over Seen
	Penalty float64 `json:"penalty"` // sum over Seen, which Loss includes
}

// errFailed is why a trainer cannot be used.
var errFailed = errors.New("a step has failed, and with Config.NoRollback there is no earlier state: expected Resume from a checkpoint first")

// epoch makes the steps that are left of the epoch under way.
func (t *Trainer) epoch(ctx context.Context) (_ Metrics, err error) {
	epoch, steps := len(t.history), t.loader.Batches()
	t.running = true
	if !t.cfg.NoRollback {
		t.before.take(t)
	}
	defer func() {
		t.running = false
		if t.changing && !t.cfg.NoRollback { // an error or a panic has ended a step on its way
			t.before.restore(t)
		}
	}()
	clock := time.Now()
	tick := func() {
		now := time.Now()
		t.part.Seconds += now.Sub(clock).Seconds()
		clock = now
	}
	rate := func(step int) float64 {
		return t.cfg.Schedule.Rate(t.cfg.LR, Position{epoch, t.cfg.Epochs, step, steps})
	}
	for batch, err := range t.loader.EpochFrom(ctx, epoch, t.part.Steps) {
		var loss float64
		lr := rate(t.part.Steps)
		if err == nil && (!finite(lr) || lr < 0) {
			err = fmt.Errorf("schedule %T: the learning rate is %v, want a finite number of at least 0", t.cfg.Schedule, lr)
		}
		if err = t.agree(err); err == nil {
			loss, err = t.step(ctx, batch, lr)
		}
		tick()
		if err != nil {
			if ctx.Err() != nil && !t.changing {
				err = ctx.Err() // the same error, whoever noticed
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
	scores, err := t.validation(ctx, epoch+1)
	var measured map[string]float64
	if err == nil {
		measured, err = t.measure(ctx, epoch+1)
	}
	if err == nil {
		err = t.saveBest(scores)
	}
	if err != nil {
		return Metrics{}, fmt.Errorf("train: epoch %d of %d: %w", epoch+1, t.cfg.Epochs, err)
	}
	sum := t.part
	seconds := max(sum.Seconds, 1e-9)
	m := Metrics{
		Epoch: epoch + 1, LR: rate(steps - 1),
		Loss:       sum.Loss / float64(sum.Seen),
		Accuracy:   float64(sum.Correct) / float64(sum.Seen),
		Penalty:    sum.Penalty / float64(sum.Seen),
		FiringRate: float64(sum.Spikes) / float64(max(sum.Chances, 1)),
		Measured:   measured, Validation: scores,
		Seconds: seconds, ImagesPerSecond: float64(sum.Images) / seconds,
	}
	t.history, t.part = append(t.history, m), tally{}
	return m, nil
}

// measure returns the numbers of the monitor, if there is one, after the given number of
// epochs.
func (t *Trainer) measure(ctx context.Context, epochs int) (map[string]float64, error) {
	if t.cfg.Monitor == nil {
		return nil, nil
	}
	var measured map[string]float64
	text, err := t.ofFirst(func() (_ []byte, err error) {
		measured, err = t.cfg.Monitor.Measure(ctx, t.model, epochs)
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
		return json.Marshal(measured)
	})
	if err != nil || t.ranks.Rank() == 0 {
		return measured, err
	}
	err = json.Unmarshal(text, &measured)
	return measured, err
}

// step trains on one batch and returns its mean loss.
func (t *Trainer) step(ctx context.Context, b dataset.Batch, lr float64) (float64, error) {
	images := b.X.N // of all ranks
	local := t.cfg.MicroShards / t.ranks.Size()
	lo, hi := t.cfg.bound(t.ranks.Rank()*local, images), t.cfg.bound(t.ranks.Rank()*local+max(1, local), images)
	b = dataset.Batch{X: b.X.Slice(lo, hi), Y: b.Y[lo:hi], ID: b.ID[lo:hi]}
	s := &Step{X: b.X, Clean: b.X, Labels: b.Y, IDs: b.ID, Epoch: len(t.history), t: t, lr: lr, images: images}
	perturb := func() error {
		if t.cfg.Adversary == nil {
			return nil
		}
		// The adversary gets copies, so that a careless one leaves Clean and the labels as they are.
		x, err := t.cfg.Adversary.Perturb(ctx, t.model, b.X.Clone(), slices.Clone(b.Y), slices.Clone(b.ID), t.key.Derive("adversary", uint64(t.updater.Steps)))
		if err != nil {
			return fmt.Errorf("adversary: %w", err)
		}
		if x.Shape() != b.X.Shape() {
			return fmt.Errorf("adversary: %v images for a batch of %v", x, b.X)
		}
		s.X = x
		return nil
	}
	if err := t.agree(perturb()); err != nil {
		return 0, err
	}
	t.changing = true
	if t.updater.Steps == 0 {
		t.average.begin()
	}
	t.told = false
	err := t.cfg.Recipe.Step(ctx, s)
	if err != nil && t.told { // no rank waits for it
		return 0, err
	}
	if err == nil && s.updates == 0 {
		err = fmt.Errorf("recipe %T: it made no update, want at least one", t.cfg.Recipe)
	}
	if err := t.agree(err); err != nil {
		return 0, err
	}
	t.part.Steps++
	t.part.Images += images
	t.changing = false
	return s.losses / float64(s.updates), nil
}

// split reports whether each rank keeps the optimizer's state of its part of the parameters.
func (t *Trainer) split() bool { return t.ranks.Size() > 1 && t.updater.elementwise }

// update makes the update of the optimizer. If its state is split, each rank updates its part
// of the parameters.
func (t *Trainer) update(lr float64) error {
	if t.split() {
		rank := t.ranks.Rank()
		var updated []*autograd.Param
		for i, p := range t.updater.params {
			if g := p.Grad(); g != nil {
				c := t.sums.params[i].cuts
				t.updater.updatePart(i, c[rank], g[c[rank]:c[rank+1]], lr, t.model.Threads)
				p.ClearGrad()
				updated = append(updated, p)
			}
		}
		if err := t.collect(updated); err != nil {
			return err
		}
	}
	t.updater.Step(lr, t.model.Threads)
	return nil
}

// collect makes parameters whole of which each rank has a part.
func (t *Trainer) collect(ps []*autograd.Param) (err error) {
	var transfers []Transfer
	for i, p := range ps {
		transfers = append(transfers, t.ranks.Collect(i, p.MutableData(), cuts(len(p.Data()), t.ranks.Size())))
	}
	for _, tr := range transfers {
		if e := tr.Wait(); err == nil {
			err = e
		}
	}
	return t.agree(err)
}

// project applies the regularizer and the simplex projection.
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
			if err := t.cfg.Simplex(p.MutableData()[:p.Len()]); err != nil { // p is a vector, and the rest is padding
				return fmt.Errorf("simplex: %s: %w", p.Name, err)
			}
		}
	}
	return nil
}
