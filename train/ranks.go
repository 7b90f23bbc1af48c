package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/org/snnrat/internal/kernel"
)

// Ranks connects the processes that train a network together, its ranks. Package mpi has one
// over MPI. Every rank runs the same program and makes the same calls in the same order.
type Ranks interface {
	// Rank returns the number of this process, from 0, and Size the number of all.
	Rank() int
	Size() int
	// Share sends a message to all ranks, and returns those of all, by rank. If a rank gives a
	// failure, Share returns an error on every rank, which names the first rank that did, and
	// its host. It wraps context.Canceled and context.DeadlineExceeded if the failure does.
	Share(message []byte, failure error) ([][]byte, error)
	// Scatter begins to send v[cuts[r]:cuts[r+1]] to every rank r. It receives the part of v
	// that is this rank's from every other rank r, into parts[r]. Scatters and Collects of one
	// tag are matched in their order, and those of different tags in any order.
	Scatter(tag int, v []float32, cuts []int, parts [][]float32) Transfer
	// Collect begins to send v[cuts[r]:cuts[r+1]], r being this rank, to all others, and
	// receives theirs in v.
	Collect(tag int, v []float32, cuts []int) Transfer
}

// Transfer is a transfer of data between ranks that is under way. Its memory must not change
// until it is done.
type Transfer interface {
	// Done reports whether the transfer is done or has failed.
	Done() bool
	// Wait waits until the transfer is done. The error names the rank that does not answer.
	Wait() error
}

// alone is the Ranks of one process.
type alone struct{}

func (alone) Rank() int { return 0 }
func (alone) Size() int { return 1 }
func (alone) Share(message []byte, failure error) ([][]byte, error) {
	return [][]byte{message}, failure
}
func (alone) Scatter(int, []float32, []int, [][]float32) Transfer { return done{} }
func (alone) Collect(int, []float32, []int) Transfer              { return done{} }

type done struct{}

func (done) Done() bool  { return true }
func (done) Wait() error { return nil }

// validateRanks returns an error if the micro-shards do not fit the ranks or the batches of a
// set of n images.
func (c Config) validateRanks(n int) error {
	size := 1
	if c.Ranks != nil {
		size = c.Ranks.Size()
	}
	switch {
	case c.MicroShards < 0 || c.MicroShards&(c.MicroShards-1) != 0:
		return fmt.Errorf("train: Config.MicroShards is %d, want a power of two, or 0 for none", c.MicroShards)
	case c.MicroShards == 0 && size > 1:
		return fmt.Errorf("train: Config.MicroShards is 0, want a power of two that the %d ranks divide", size)
	case c.MicroShards == 0 || c.Loader.BatchSize < 1:
		return nil
	case c.MicroShards%size != 0:
		return fmt.Errorf("train: Config.MicroShards is %d, want a power of two that the %d ranks divide", c.MicroShards, size)
	}
	if smallest := c.smallestBatch(n); smallest < c.MicroShards {
		return fmt.Errorf("train: Config.MicroShards is %d, want at most %d, the images of the smallest batch: "+
			"set Config.Loader.DropLast or another BatchSize", c.MicroShards, smallest)
	}
	return nil
}

// smallestBatch returns the number of images of the smallest batch of a set of n images.
func (c Config) smallestBatch(n int) int {
	if c.Loader.DropLast {
		return c.Loader.BatchSize
	}
	return min((n-1)%c.Loader.BatchSize+1, c.Loader.BatchSize)
}

// bound returns the first image of micro-shard k of a batch of n images.
func (c Config) bound(k, n int) int {
	if c.MicroShards == 0 {
		return k * n // of the one part
	}
	return k * n / c.MicroShards
}

// meet returns an error on every rank if failure is not nil on one, or if the ranks are not
// those of one training.
func (t *Trainer) meet(failure error) error {
	var mine []byte
	if failure == nil {
		var id identity
		if id, failure = t.identify(); failure == nil {
			mine, failure = json.Marshal(id)
		}
	}
	all, err := t.share(mine, failure)
	if err != nil {
		return err
	}
	var first identity
	for r, text := range all {
		var id identity
		if err := json.Unmarshal(text, &id); err != nil {
			return fmt.Errorf("train: rank %d: %w", r, err)
		}
		if r == 0 {
			first = id
		}
		for _, d := range []struct {
			of, is, want string
			mixed        bool // whether Config.MixedRanks allows it
		}{
			{"program", id.Program, first.Program, true},
			{"kernel level", id.Kernels, first.Kernels, true},
			{"model", id.Model, first.Model, false},
		} {
			if d.is == d.want || d.mixed && t.cfg.MixedRanks {
				continue
			}
			hint := ""
			if d.mixed {
				hint = "; results may differ between them, so want the same, or Config.MixedRanks"
			}
			return fmt.Errorf("train: the %s of rank %d on %s is %s, but that of rank 0 on %s is %s%s", d.of, r, id.Host, d.is, first.Host, d.want, hint)
		}
		if err := compare(first.Origin, id.Origin, "rank 0"); err != nil {
			return fmt.Errorf("train: rank %d on %s is not the training of rank 0 on %s: %w", r, id.Host, first.Host, err)
		}
	}
	return nil
}

// identity is what the ranks of a training must have in common, and where a rank is.
type identity struct {
	Host    string
	Program string // digest of the executable
	Kernels string // level of the kernels
	Model   string // digest of the tensors of a checkpoint
	Origin  []trait
}

func (t *Trainer) identify() (id identity, err error) {
	if id.Origin, err = t.origin(); err != nil {
		return id, err
	}
	together, err := t.onRanks()
	if err != nil {
		return id, err
	}
	for _, own := range together { // in place of the same names, which say nothing in a checkpoint
		i := slices.IndexFunc(id.Origin, func(o trait) bool { return o.Name == own.Name })
		id.Origin[i] = own
	}
	id.Host, _ = os.Hostname() // for messages
	id.Kernels = kernel.CurrentLevel().String()
	path, err := os.Executable()
	if err != nil {
		return id, err
	}
	file, err := os.Open(path)
	if err != nil {
		return id, err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return id, err
	}
	id.Program = hex.EncodeToString(h.Sum(nil)[:8])
	id.Model = "parameters of digest " + t.digest("")[:16]
	return id, nil
}

// share is Ranks.Share, but a rank that gives a failure gets it back as the error.
func share(ranks Ranks, message []byte, failure error) ([][]byte, error) {
	all, err := ranks.Share(message, failure)
	if failure != nil {
		err = failure
	}
	return all, err
}

// share is share between the trainer's ranks. It notes that all ranks know of a failure.
func (t *Trainer) share(message []byte, failure error) ([][]byte, error) {
	all, err := share(t.ranks, message, failure)
	t.told = t.told || err != nil
	return all, err
}

// agree returns an error on every rank if err is not nil on one. The rank that has it keeps
// its own.
func (t *Trainer) agree(err error) error {
	_, err = t.share(nil, err)
	return err
}

// ofFirst returns what fn returns on rank 0, on every rank. An error of fn is one on every rank.
func (t *Trainer) ofFirst(fn func() ([]byte, error)) ([]byte, error) {
	var mine []byte
	var err error
	if t.ranks.Rank() == 0 {
		mine, err = fn()
	}
	all, err := t.share(mine, err)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// tree merges b into a for all elements of v by a binary tree: neighbours first. The result is
// in v[0]. len(v) is a power of two. The tree over a part of v that is aligned to its size is a
// part of the tree over v, whoever computes it.
func tree[E any](v []E, merge func(a, b E)) {
	for step := 1; step < len(v); step *= 2 {
		for i := 0; i < len(v); i += 2 * step {
			merge(v[i], v[i+step])
		}
	}
}

// mergeAll merges vectors of all ranks' micro-shards. Those of this rank are v, and all of them
// get the result.
func (t *Trainer) mergeAll(v [][]float64, merge func(a, b []float64)) error {
	tree(v, merge)
	mine, err := binary.Append(nil, binary.LittleEndian, v[0])
	all, err := t.share(mine, err)
	if err != nil {
		return err
	}
	sums := make([][]float64, len(all))
	for r, message := range all {
		if len(message) != len(all[0]) {
			return fmt.Errorf("statistics of %d bytes from rank %d, but %d from rank 0: the ranks do not run the same operations", len(message), r, len(all[0]))
		}
		sums[r] = make([]float64, len(message)/8)
		if _, err := binary.Decode(message, binary.LittleEndian, sums[r]); err != nil {
			return fmt.Errorf("statistics of rank %d: %w", r, err)
		}
	}
	tree(sums, merge)
	for _, dst := range v {
		copy(dst, sums[0])
	}
	return nil
}

// sameOnAll returns an error if a message differs between ranks.
func sameOnAll(all [][]byte, what string) error {
	for r, m := range all {
		if !bytes.Equal(m, all[0]) {
			return fmt.Errorf("%s of rank %d differ from those of rank 0", what, r)
		}
	}
	return nil
}
