package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// Accuracy returns the share, in [0,1], of the set's images that the model classifies as
// labelled. The model runs in evaluation mode, on batches of the given size, which does
// not affect the result. Among equal logits, the first one counts as the largest.
//
// Accuracy checks ctx before every batch and returns ctx.Err(), wrapped, once ctx is done.
// It also returns an error if batch < 1, or if [snn.Model.ValidateDataset] refuses the set.
// The same holds if an image cannot be read, or if a parameter or a logit
// is not a finite number.
func Accuracy(ctx context.Context, model *snn.Model, set snn.Dataset, batch int) (float64, error) {
	a, err := accuracy(ctx, model, set, batch, nil, rng.Key{}, alone{})
	if err != nil {
		return 0, fmt.Errorf("train: %w", err)
	}
	return a, nil
}

// accuracy is Accuracy on the images of an adversary, with random numbers from key, or on
// those of the set if it is nil. The ranks share the batches.
func accuracy(ctx context.Context, model *snn.Model, set snn.Dataset, batch int, adversary snn.Adversary, key rng.Key, ranks Ranks) (float64, error) {
	correct, err := countCorrect(ctx, model, set, batch, adversary, key, ranks)
	all, err := share(ranks, binary.LittleEndian.AppendUint64(nil, uint64(correct)), err)
	if err != nil {
		return 0, err
	}
	correct = 0
	for _, text := range all {
		correct += int(binary.LittleEndian.Uint64(text))
	}
	return float64(correct) / float64(set.Shape().N), nil
}

// countCorrect returns the number of images of this rank that the model classifies as labelled.
func countCorrect(ctx context.Context, model *snn.Model, set snn.Dataset, batch int, adversary snn.Adversary, key rng.Key, ranks Ranks) (correct int, err error) {
	if err := model.ValidateDataset(set); err != nil {
		return 0, err
	}
	if err := model.ValidateParams(); err != nil {
		return 0, fmt.Errorf("accuracy: %w", err)
	}
	cfg := dataset.DefaultEvaluation()
	cfg.BatchSize = batch
	loader, err := dataset.NewLoader(set, cfg, rng.Key{})
	if err != nil {
		return 0, fmt.Errorf("accuracy: %w", err)
	}
	number := -1 // of the batch
	var keys []rng.Key
	classes := model.Classes()
	for b, err := range loader.Epoch(ctx, 0) {
		if err != nil {
			return 0, fmt.Errorf("accuracy: %w", err)
		}
		if number++; number%ranks.Size() != ranks.Rank() {
			continue
		}
		x := b.X
		if adversary != nil {
			if x, err = adversary.Perturb(ctx, model, b.X, slices.Clone(b.Y), slices.Clone(b.ID), key); err != nil {
				return 0, fmt.Errorf("accuracy: images %d to %d: adversary: %w", b.ID[0], b.ID[len(b.ID)-1], err)
			}
			if x.Shape() != b.X.Shape() {
				return 0, fmt.Errorf("accuracy: adversary: %v images for a batch of %v", x, b.X)
			}
		}
		keys = imageKeys(keys[:0], rng.New(0), b.ID)
		logits, err := model.Logits(snn.Pass{Keys: keys}, x)
		if err != nil {
			return 0, fmt.Errorf("accuracy: images %d to %d: %w", b.ID[0], b.ID[len(b.ID)-1], err)
		}
		for i, y := range b.Y {
			if argmax(logits[i*classes:][:classes]) == y {
				correct++
			}
		}
	}
	return correct, nil
}

// argmax returns the index of the first of the largest values.
func argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}
