package attack

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// LocalSearch asks for logits alone and moves along the vertices of an L∞ ball (after Moon et al.
// 2019). It is for networks whose logits are piecewise constant, where gradients lead close to
// a misclassified image but not to it.
//
// It sweeps over the image in blocks of pixels, in random order. The values of a block go to the
// end of the ball that they are further from. A change stays unless the margin rises. The first
// sweep has blocks of 2 pixels a side, or larger ones if it would take more than 1/7 of the passes.
// Each further sweep has blocks of half the side, down to a pixel. Then the sweeps are repeated.
// Three of four such rounds visit only the 40 % of the blocks whose last change raised the margin
// least. Each channel has blocks of its own. For an example with several frames, sweeps over the
// blocks of single frames follow those over the same blocks of all frames.
type LocalSearch struct {
	Eps    float32 // the radius in L∞
	Passes int     // ≥ 1, that of the start included; all draws of a random network count as one
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
	if err := (Threat{Norm: LInf{}, Eps: s.Eps}).validate(); err != nil {
		return fmt.Errorf("attack: local search: %w", err)
	}
	return nil
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
	r := o.Rand("local search", 0)
	grids := c.grids(s.Passes / 7)
	left := s.Passes - 1
	for round := 0; left > 0; round++ {
		before := left
		for _, grid := range grids {
			r.Shuffle(len(grid), func(i, j int) { grid[i], grid[j] = grid[j], grid[i] })
			visit := grid
			if round%4 > 0 {
				slices.SortStableFunc(grid, func(a, b block) int { return cmp.Compare(a.change, b.change) })
				visit = grid[:(2*len(grid)+4)/5]
			}
			for i := range visit {
				if left == 0 {
					return nil
				}
				asked, err := c.flip(&visit[i], r)
				if err != nil {
					return err
				}
				if asked {
					left--
				}
			}
		}
		if left == before && round%4 == 0 {
			return nil // the ball is a point
		}
	}
	return nil
}

// block is an area of one channel.
type block struct {
	area
	channel int
	change  float32 // by which its last flip changed the margin, or would when taken back
}

// grids returns the blocks of each sweep. Those of a sweep cover all pixels. Blocks are as small
// as 2 pixels a side in the first sweep, if there are at most most of them.
func (c *climber) grids(most int) (grids [][]block) {
	side := 2
	for side < max(c.h, c.w) && c.channels*((c.h+side-1)/side)*((c.w+side-1)/side) > most {
		side *= 2
	}
	for ; side > 0; side /= 2 {
		grids = append(grids, c.grid(side, c.frames))
		if c.frames > 1 {
			grids = append(grids, c.grid(side, 1))
		}
	}
	return grids
}

// grid returns blocks of so many frames.
func (c *climber) grid(side, frames int) (bs []block) {
	for t := 0; t < c.frames; t += frames {
		for ch := range c.channels {
			for y := 0; y < c.h; y += side {
				for x := 0; x < c.w; x += side {
					bs = append(bs, block{area: area{t, t + frames, y, x, side}, channel: ch})
				}
			}
		}
	}
	return bs
}

// flip moves the values of a block to the end of the ball that they are further from in sum, and
// takes that back if the margin rises. It asks about no point if no value changes.
func (c *climber) flip(b *block, r *rand.Rand) (asked bool, err error) {
	var sum float32
	for _, i := range c.indices(nil, b.area, b.channel) {
		sum += (c.point[i] - c.low[i]) - (c.high[i] - c.point[i])
	}
	up := sum < 0
	if sum == 0 {
		up = r.IntN(2) == 0
	}
	b.change = float32(math.Inf(1))
	if !c.toEnd(b.area, b.channel, up) {
		return false, nil
	}
	change, err := c.keepUnlessWorse()
	b.change = max(change, -change)
	return true, err
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
	d := Settings{Kind: "local search", Start: AtImage{}.String(), Passes: s.Passes, SharedFrames: s.SharedFrames}
	if s.FromBest {
		d.Start = AtBest{}.String()
	}
	return d
}
