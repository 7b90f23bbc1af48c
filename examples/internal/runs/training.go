package runs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// DefaultInterval is the longest time of training that a killed run loses.
const DefaultInterval = 10 * time.Minute

// Training is a training that continues from a checkpoint file.
type Training struct {
	// Checkpoint is the path of the file. Run goes on from it if it exists.
	Checkpoint string
	// Interval is the time after which the state is saved within an epoch.
	Interval time.Duration

	// Resumed, if not nil, is called once with the epochs that the checkpoint completed.
	Resumed func(epochs float64)
	// Epoch, if not nil, is called after every epoch whose checkpoint is saved.
	Epoch func(train.Metrics)
	// Done, if not nil, is called after the last epoch with the metrics of all. The model then
	// holds the average of train.Config.EMA, if there is one.
	Done func([]train.Metrics) error
}

// Run trains model on set for the epochs that are left, and returns the metrics of all. It
// saves a checkpoint before the first step, so a read-only folder or a full disk shows at
// once, and then after every epoch, after every Interval, and when ctx is done. A training
// that fails in its first epoch leaves no checkpoint. Errors name the file or the step.
func (t Training) Run(ctx context.Context, model *snn.Model, set *dataset.Set, cfg train.Config, key rng.Key) ([]train.Metrics, error) {
	trainer, err := train.New(model, set, cfg, key)
	if err != nil {
		return nil, err
	}
	if err := trainer.Resume(t.Checkpoint); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (remove the file to train anew)", err)
	}
	trainer.SaveEvery(t.Interval, t.Checkpoint)
	if t.Resumed != nil {
		t.Resumed(trainer.Completed())
	}
	for m, err := range trainer.Epochs(ctx) {
		if err != nil {
			if ctx.Err() == nil && trainer.Completed() == 0 {
				if left := Remove(t.Checkpoint); left != nil {
					err = fmt.Errorf("%w; %w", err, left)
				}
			}
			return nil, err
		}
		if t.Epoch != nil {
			t.Epoch(m)
		}
	}
	history := trainer.History()
	if t.Done != nil {
		err = trainer.WithAverage(func() error { return t.Done(history) })
	}
	return history, err
}
