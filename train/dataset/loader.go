package dataset

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Batch is a mini-batch. The receiver owns its memory.
type Batch struct {
	X  tensor.NCHW // images or frames, values in [0,1]
	Y  []int       // [X.N] labels
	ID []uint64    // [X.N] index of each image in the loader's set, a key for its random streams
}

// LoaderConfig says how a [Loader] makes batches.
type LoaderConfig struct {
	BatchSize int            // images in a batch, at least 1; the last batch of an epoch may have fewer
	DropLast  bool           // leave out a last batch of fewer images
	Shuffle   bool           // a new order for each epoch, instead of the order of the set
	Augment   []Augmentation // what changes every image, in this order
	Prefetch  int            // batches prepared while the caller works, in [1, 1024]
}

// DefaultTraining returns the configuration for training: shuffled batches of 64, two of
// them prefetched. It does not augment, because a flip changes what some images show, such
// as digits.
func DefaultTraining() LoaderConfig {
	return LoaderConfig{BatchSize: 64, Shuffle: true, Prefetch: 2}
}

// DefaultCIFARTraining returns [DefaultTraining] with the standard augmentation for CIFAR: a
// random crop of the image padded by 4, and a flip with probability 1/2.
func DefaultCIFARTraining() LoaderConfig {
	cfg := DefaultTraining()
	cfg.Augment = []Augmentation{Crop{Padding: 4}, Flip{}}
	return cfg
}

// DefaultEvaluation returns the configuration for evaluation: batches of 64 in the order of the
// set, without augmentation, two of them prefetched.
func DefaultEvaluation() LoaderConfig {
	return LoaderConfig{BatchSize: 64, Prefetch: 2}
}

// validate returns an error that names the first field that does not fit a set of shape s.
func (c LoaderConfig) validate(s tensor.Shape) error {
	switch {
	case s.N < 1 || s.Steps < 1 || s.C < 1 || s.H < 1 || s.W < 1:
		return fmt.Errorf("dataset: a data set of shape %v, want at least 1 in each extent", s)
	case c.BatchSize < 1:
		return fmt.Errorf("dataset: LoaderConfig.BatchSize is %d, want at least 1", c.BatchSize)
	case c.DropLast && c.BatchSize > s.N:
		return fmt.Errorf("dataset: LoaderConfig.BatchSize is %d, want at most %d, the number of images, with DropLast", c.BatchSize, s.N)
	case c.Prefetch < 1 || c.Prefetch > 1024:
		return fmt.Errorf("dataset: LoaderConfig.Prefetch is %d, want 1 to 1024", c.Prefetch)
	}
	for k, a := range c.Augment {
		if a == nil {
			return fmt.Errorf("dataset: LoaderConfig.Augment[%d] is nil", k)
		}
		if v, ok := a.(interface{ Validate(s tensor.Shape) error }); ok {
			if err := v.Validate(s); err != nil {
				return fmt.Errorf("dataset: LoaderConfig.Augment[%d]: %w", k, err)
			}
		}
	}
	return nil
}

// Loader splits a data set into mini-batches. It is safe for concurrent use.
type Loader struct {
	set   snn.Dataset
	shape tensor.Shape // of set
	cfg   LoaderConfig
	key   rng.Key
}

// NewLoader returns a loader of set. Shuffle and augmentation are functions of key.
// NewLoader returns an error that names the field of cfg that is out of range.
func NewLoader(set snn.Dataset, cfg LoaderConfig, key rng.Key) (*Loader, error) {
	shape := set.Shape()
	if err := cfg.validate(shape); err != nil {
		return nil, err
	}
	return &Loader{set, shape, cfg, key}, nil
}

// Batches returns the number of batches in an epoch.
func (l *Loader) Batches() int {
	if l.cfg.DropLast {
		return l.shape.N / l.cfg.BatchSize
	}
	return (l.shape.N-1)/l.cfg.BatchSize + 1
}

// Epoch returns the batches of an epoch, numbered from 0. The same number gives the same
// batches. A goroutine prepares batches ahead of the caller's loop. It has ended when the
// loop ends, also after a break, an error or a panic.
//
// If ctx is done, an image cannot be read, or a value is outside [0,1], the sequence ends with
// that error and an empty batch. A panic of the set's source reaches the caller's loop, and it is a
// panic if the source calls runtime.Goexit. Epoch panics if epoch is negative.
func (l *Loader) Epoch(ctx context.Context, epoch int) iter.Seq2[Batch, error] {
	return l.EpochFrom(ctx, epoch, 0)
}

// EpochFrom returns the batches of [Loader.Epoch] from number first on. It does not read
// the images of earlier batches. It panics if first is not in [0, l.Batches()].
func (l *Loader) EpochFrom(ctx context.Context, epoch, first int) iter.Seq2[Batch, error] {
	if epoch < 0 {
		panic(fmt.Sprintf("dataset: Loader.Epoch: epoch %d", epoch))
	}
	if first < 0 || first > l.Batches() {
		panic(fmt.Sprintf("dataset: Loader.EpochFrom: batch %d of %d", first, l.Batches()))
	}
	return func(yield func(Batch, error) bool) {
		type result struct {
			batch    Batch
			err      error
			panicked any // what the set's source panicked with
		}
		// The producer holds one batch when the channel is full.
		ready := make(chan result, l.cfg.Prefetch-1)
		quit := make(chan struct{})
		var producer sync.WaitGroup
		defer producer.Wait()
		defer close(quit)
		producer.Go(func() {
			defer close(ready)
			key := l.key.Derive("epoch", uint64(epoch))
			order := l.order(key)
			next := func(k int) (r result) {
				defer func() { r.panicked = recover() }()
				lo := k * l.cfg.BatchSize
				r.batch, r.err = l.batch(key, order[lo:min(lo+l.cfg.BatchSize, len(order))])
				return r
			}
			for k := first; k < l.Batches(); k++ {
				r := next(k)
				select {
				case ready <- r:
				case <-quit:
					return
				}
				if r.err != nil || r.panicked != nil {
					return
				}
			}
		})
		for k := first; k < l.Batches(); k++ {
			next, ok := <-ready
			if !ok {
				panic("dataset: Loader.Epoch: the set has ended its goroutine by runtime.Goexit")
			}
			if next.panicked != nil {
				panic(next.panicked)
			}
			if err := ctx.Err(); err != nil {
				next = result{err: err}
			}
			if next.err != nil {
				yield(Batch{}, fmt.Errorf("dataset: epoch %d, batch %d of %d: %w", epoch, k, l.Batches(), next.err))
				return
			}
			if !yield(next.batch, nil) {
				return
			}
		}
	}
}

// order returns the indices of the images, [N], in the order of the epoch with this key.
func (l *Loader) order(key rng.Key) []int {
	if l.cfg.Shuffle {
		return key.Derive("shuffle", 0).Rand().Perm(l.shape.N)
	}
	order := make([]int, l.shape.N)
	for i := range order {
		order[i] = i
	}
	return order
}

// batch makes the batch of the images with these indices, augmented as in the epoch
// with this key.
func (l *Loader) batch(key rng.Key, indices []int) (Batch, error) {
	shape := l.shape
	shape.N = len(indices)
	b := Batch{
		X:  tensor.NewFrames(shape),
		Y:  make([]int, len(indices)),
		ID: make([]uint64, len(indices)),
	}
	for k, i := range indices {
		b.Y[k], b.ID[k] = l.set.Label(i), uint64(i)
	}
	err := l.set.Fill(b.X, indices)
	if err == nil {
		err = checkRange(b.X, indices)
	}
	if err != nil || len(l.cfg.Augment) == 0 {
		return b, err
	}
	for k, i := range indices {
		r := key.Derive("augment", uint64(i)).Rand()
		for _, a := range l.cfg.Augment {
			a.Augment(b.X.Slice(k, k+1), r)
		}
	}
	if err := checkRange(b.X, indices); err != nil {
		return b, fmt.Errorf("after LoaderConfig.Augment: %w", err)
	}
	return b, nil
}

// checkRange returns an error that names the first value of x outside [0,1], and its image in
// the set.
func checkRange(x tensor.NCHW, indices []int) error {
	for k, i := range indices {
		for j, v := range x.Image(k) {
			if !(v >= 0 && v <= 1) {
				return fmt.Errorf("%s is %v, want a number in [0, 1]", x.Slice(k, k+1).Place(j, i), v)
			}
		}
	}
	return nil
}
