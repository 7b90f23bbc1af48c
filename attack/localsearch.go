package attack

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// LocalSearch asks for logits alone and moves along the vertices of an L∞ ball (after Moon et al.
// 2019). It is for networks whose logits are piecewise constant, where gradients lead close to
// a misclassified image but not to it.
//
// It sweeps over the image in blocks of pixels, in random order. The values of a block go to the
// end of the ball that most of them are far from. A change stays unless the margin rises. Sweeps
// have blocks of 4, 2 and 1 pixels a side, or larger ones first for images of more than 56
// pixels, and begin anew with another grid. Each channel has blocks of its own. For an example
// with several frames, sweeps move the same block of all frames and blocks of single frames by
// turns.
type LocalSearch struct {
	Eps    float32 // the radius in L∞
	Passes int     // ≥ 1, those of the start included
	// FromBest begins at the best point of the attacks before, in a [Battery]. Otherwise
	// LocalSearch begins at the original.
	FromBest bool
	// SharedFrames makes one perturbation for all frames of an example, as in [Attack].
	SharedFrames bool
}

// Threat implements [Bounded].
func (s LocalSearch) Threat() (Threat, bool) { return Threat{LInf{}, s.Eps, s.SharedFrames}, true }

// Validate returns an error that names a field that is out of range.
func (s LocalSearch) Validate() error {
	if s.Passes < 1 {
		return fmt.Errorf("attack: local search: Passes %d: expected at least 1", s.Passes)
	}
	return Threat{Norm: LInf{}, Eps: s.Eps}.validate()
}

// Search implements [Searcher].
func (s LocalSearch) Search(o *Oracle) error {
	if err := s.Validate(); err != nil {
		return err
	}
	c := newClimber(o, s.FromBest, s.SharedFrames)
	if err := c.start(); err != nil {
		return err
	}
	largest := 1
	for largest*14 <= max(c.h, c.w) {
		largest *= 2
	}
	r := o.Rand("local search", 0)
	left := s.Passes - 1
	for round := 0; left > 0; round++ {
		tried := false
		for side := largest; side > 0; side /= 2 {
			for _, b := range c.blocks(side, round, r) {
				if left == 0 {
					return nil
				}
				if !c.flip(b, r) {
					continue
				}
				tried = true
				left--
				if _, err := c.keepIfBetter(); err != nil {
					return err
				}
			}
		}
		if !tried {
			return nil // the ball is a point
		}
	}
	return nil
}

// block is an area of one channel.
type block struct {
	area
	channel int
}

// blocks returns the blocks of a sweep in random order. They make a grid, which covers all
// pixels.
func (c *climber) blocks(side, round int, r *rand.Rand) (bs []block) {
	var shiftY, shiftX int
	if round > 0 {
		shiftY, shiftX = r.IntN(side), r.IntN(side)
	}
	span := c.frames
	if round%2 == 1 {
		span = 1
	}
	for t := 0; t < c.frames; t += span {
		for ch := range c.channels {
			for y := -shiftY; y < c.h; y += side {
				for x := -shiftX; x < c.w; x += side {
					bs = append(bs, block{area{t, t + span, y, x, side}, ch})
				}
			}
		}
	}
	r.Shuffle(len(bs), func(i, j int) { bs[i], bs[j] = bs[j], bs[i] })
	return bs
}

// flip moves the values of a block to the end of the ball that they are further from in sum. It
// reports whether that changes one.
func (c *climber) flip(b block, r *rand.Rand) bool {
	var sum float32
	for _, i := range c.indices(nil, b.area, b.channel) {
		sum += (c.point[i] - c.low[i]) - (c.high[i] - c.point[i])
	}
	up := sum < 0
	if sum == 0 {
		up = r.IntN(2) == 0
	}
	return c.toEnd(b.area, b.channel, up)
}

// Perturb implements [snn.Adversary].
func (s LocalSearch) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	if err := s.Validate(); err != nil {
		return tensor.NCHW{}, err
	}
	return PerturbEach(ctx, s, m, x, y, ids, key)
}

// Describe implements [Describer].
func (s LocalSearch) Describe() Settings {
	d := Settings{Kind: "local search", Start: AtImage{}.String(), Steps: s.Passes, SharedFrames: s.SharedFrames}
	if s.FromBest {
		d.Start = AtBest{}.String()
	}
	return d
}
