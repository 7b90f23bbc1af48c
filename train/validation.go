package train

import (
	"context"
	"errors"
	"fmt"

	"github.com/org/snnrat/snn"
)

// Validation measures the accuracy after an epoch on images that the network does not train
// on. It does not affect the training, so a resumed training may have another.
type Validation struct {
	Set snn.Dataset
	// Adversary perturbs the images for a second accuracy. A cheap attack, such as FGSM,
	// shows whether a network still withstands attacks. Nil measures none. All random
	// numbers are the same after every epoch.
	Adversary snn.Adversary
	Every     int // epochs from one validation to the next, at least 1; the last epoch has one in any case
	BatchSize int // at least 1; results do not depend on it
}

// DefaultValidation returns a validation on the images of set, and on those of the adversary
// unless it is nil, after every epoch in batches of 64.
func DefaultValidation(set snn.Dataset, adversary snn.Adversary) *Validation {
	return &Validation{Set: set, Adversary: adversary, Every: 1, BatchSize: 64}
}

// Scores are the accuracies of a [Validation], in [0,1].
type Scores struct {
	Clean    float64  `json:"clean"`
	Attacked *float64 `json:"attacked,omitempty"` // on the images of the adversary; nil without one
}

// validate returns an error that names the first field that is out of its range or does not
// fit the model. A nil v is valid.
func (v *Validation) validate(m *snn.Model) error {
	switch {
	case v == nil:
		return nil
	case v.Set == nil:
		return errors.New("train: Config.Validation.Set is nil, want a data set")
	case v.Every < 1:
		return fmt.Errorf("train: Config.Validation.Every is %d, want at least 1", v.Every)
	case v.BatchSize < 1:
		return fmt.Errorf("train: Config.Validation.BatchSize is %d, want at least 1", v.BatchSize)
	}
	if err := m.ValidateDataset(v.Set); err != nil {
		return fmt.Errorf("train: Config.Validation.Set: %w", err)
	}
	return nil
}

// validation returns the scores after the given number of epochs, or nil if none are due.
func (t *Trainer) validation(ctx context.Context, epochs int) (*Scores, error) {
	v := t.cfg.Validation
	if v == nil || epochs%v.Every != 0 && epochs != t.cfg.Epochs {
		return nil, nil
	}
	scores := &Scores{}
	err := t.WithAverage(func() (err error) {
		key := t.key.Derive("validation", 0)
		if scores.Clean, err = accuracy(ctx, t.model, v.Set, v.BatchSize, nil, key, t.ranks); err != nil || v.Adversary == nil {
			return err
		}
		a, err := accuracy(ctx, t.model, v.Set, v.BatchSize, v.Adversary, key, t.ranks)
		scores.Attacked = &a
		return err
	})
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if err != nil {
		err = fmt.Errorf("validation: %w", err)
	}
	if err := t.agree(err); err != nil {
		return nil, err
	}
	return scores, nil
}

// SaveBest makes Epochs save the network to path whenever a validation is better than all
// before it, those before a resume included. The file is one of [snn.Model.Save]. It holds
// the average of the parameters if there is Config.EMA. The better validation is that of the
// higher accuracy on the adversary's images, or on the clean ones without an adversary. SaveBest
// does not compare one with the other, if a resume added or removed the adversary. An
// error of the file ends the sequence. With an empty path, Epochs saves no networks.
//
// SaveBest returns an error if Config.Validation is nil.
func (t *Trainer) SaveBest(path string) error {
	if path != "" && t.cfg.Validation == nil {
		return fmt.Errorf("train: save best network %s: Config.Validation is nil, want one", path)
	}
	t.best = path
	return nil
}

// score is what SaveBest compares.
func (s *Scores) score() float64 {
	if s.Attacked != nil {
		return *s.Attacked
	}
	return s.Clean
}

// saveBest saves the network if its scores are better than those of all epochs before.
func (t *Trainer) saveBest(s *Scores) error {
	if t.best == "" || s == nil {
		return nil
	}
	for _, m := range t.history {
		v := m.Validation
		if v != nil && (v.Attacked == nil) == (s.Attacked == nil) && v.score() >= s.score() {
			return nil
		}
	}
	_, err := t.ofFirst(func() ([]byte, error) {
		return nil, t.WithAverage(func() error { return t.model.Save(t.best) })
	})
	return err
}
