package dataset

import (
	"fmt"
	"math/rand/v2"

	"github.com/org/snnrat/tensor"
)

// Augmentation changes an example at random, each time that an epoch shows it.
//
// An Augmentation may also have a method Validate(s tensor.Shape) error. NewLoader calls it
// with the shape of the set, and returns its error.
type Augmentation interface {
	// Augment changes x in place. x is one example, in [0,1] before and after the call. All
	// random numbers come from r. Augment must be safe for concurrent use.
	Augment(x tensor.NCHW, r *rand.Rand)
}

// Crop returns a crop of the example's size, at a random place in the example padded with
// zeros. All frames and channels get the same crop.
type Crop struct {
	Padding int // zeros on each side, in [1, min(H, W))
}

// Validate returns an error if Padding is out of range for examples of shape s. It returns
// one if they have a single row or column.
func (c Crop) Validate(s tensor.Shape) error {
	if min(s.H, s.W) < 2 {
		return fmt.Errorf("Crop of images of %d×%d, want at least two rows and two columns", s.H, s.W)
	}
	if c.Padding < 1 || c.Padding >= min(s.H, s.W) {
		return fmt.Errorf("Crop.Padding is %d, want 1 to %d for images of %d×%d", c.Padding, min(s.H, s.W)-1, s.H, s.W)
	}
	return nil
}

// Augment implements [Augmentation].
func (c Crop) Augment(x tensor.NCHW, r *rand.Rand) {
	dy := r.IntN(2*c.Padding+1) - c.Padding
	dx := r.IntN(2*c.Padding+1) - c.Padding
	for planes := x.Data; len(planes) > 0; planes = planes[x.H*x.W:] {
		move(planes[:x.H*x.W], dy*x.W)
	}
	for rows := x.Data; dx != 0 && len(rows) > 0; rows = rows[x.W:] {
		move(rows[:x.W], dx)
	}
}

// move moves the values of v to the front by n, or to the back by −n, and fills the rest
// with zeros.
func move(v []float32, n int) {
	if n >= 0 {
		clear(v[copy(v, v[n:]):])
	} else {
		copy(v[-n:], v)
		clear(v[:-n])
	}
}

// Flip mirrors the example left to right with probability 1/2, all frames or none.
type Flip struct{}

// Augment implements [Augmentation].
func (Flip) Augment(x tensor.NCHW, r *rand.Rand) {
	if r.IntN(2) == 0 {
		return
	}
	for rows := x.Data; len(rows) > 0; rows = rows[x.W:] {
		for i, j := 0, x.W-1; i < j; i, j = i+1, j-1 {
			rows[i], rows[j] = rows[j], rows[i]
		}
	}
}
