package attack

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Pattern is an attack that inserts spikes at all steps in some pixels, in all channels. [DVSFrame],
// [DVSCorner] and [DVSDash] return one. It tries sets of pixels in a fixed order until the network is
// fooled, and returns the point of the smallest margin if none of them fools it.
//
// A Pattern states no bound, so the worst case of a report does not count it. [Outcome].Changes has the
// number of its changes.
type Pattern struct {
	name   string
	levels int
	// sets calls ask for sets of pixels, in order, until it returns an error.
	sets func(h, w int, ask func(in func(y, x int) bool) error) error
}

// DVSFrame returns the frame attack of Marchisio et al.: DVS-Attacks, 2021. The pixels are those at the
// border of the image. levels is that of [Flips].
func DVSFrame(levels int) Pattern {
	return Pattern{"frame of a DVS attack", levels, func(h, w int, ask func(func(y, x int) bool) error) error {
		return ask(func(y, x int) bool { return y == 0 || x == 0 || y == h-1 || x == w-1 })
	}}
}

// DVSCorner returns the corner attack of Marchisio et al. 2021. The pixels are a bar, a part of a row that
// begins with two pixels at a corner. The attack tries all four corners, and then bars that are longer by
// a pixel, up to half of the row. After that it begins anew in the next row towards the middle, in an
// eighth of the rows at the top and at the bottom each.
func DVSCorner(levels int) Pattern {
	return Pattern{"corner of a DVS attack", levels, func(h, w int, ask func(func(y, x int) bool) error) error {
		return bars(h, w, ask, func(at, length int) bool { return at < length })
	}}
}

// DVSDash returns the dash attack of Marchisio et al. 2021. It is [DVSCorner] with the last two pixels of
// each bar.
func DVSDash(levels int) Pattern {
	return Pattern{"dash of a DVS attack", levels, func(h, w int, ask func(func(y, x int) bool) error) error {
		return bars(h, w, ask, func(at, length int) bool { return at == length-1 || at == length-2 })
	}}
}

// bars asks about parts of rows, from the corners on. in tells whether a pixel is one of a bar of a
// length, by its distance from the side.
func bars(h, w int, ask func(func(y, x int) bool) error, in func(at, length int) bool) error {
	for inset := 0; inset == 0 || 8*inset < h && 2*inset < h-1; inset++ {
		for length := min(2, w); length == min(2, w) || length <= w/2; length++ {
			for corner := range 4 {
				row, right := inset, corner > 1
				if corner%2 == 1 {
					row = h - 1 - inset
				}
				err := ask(func(y, x int) bool {
					if right {
						x = w - 1 - x
					}
					return y == row && in(x, length)
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Validate returns an error if p is not that of a function of this package, or if its levels are out of
// range.
func (p Pattern) Validate() error {
	if p.sets == nil {
		return errors.New("attack: an empty Pattern: expected one such as DVSFrame(1)")
	}
	if err := validateLevels(p.counted().(Flips), p.levels); err != nil {
		return fmt.Errorf("attack: %s: %w", p.name, err)
	}
	return nil
}

// Search implements [Searcher].
func (p Pattern) Search(o *Oracle) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if err := gridError(o.Clean, p.levels); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	h, w := o.Shape.H, o.Shape.W
	return p.sets(h, w, func(in func(y, x int) bool) error {
		x := slices.Clone(o.Clean)
		for i := range x {
			if in(i/w%h, i%w) {
				x[i] = 1
			}
		}
		_, err := o.Logits(x)
		return err
	})
}

// Threat implements [Bounded]. It returns the zero Threat: the number of changes has no bound.
func (Pattern) Threat() (Threat, bool) { return Threat{}, true }

// counted implements counter.
func (p Pattern) counted() spikeNorm { return Flips{Levels: p.levels, NoDeletions: true} }

// Perturb implements [snn.Adversary].
func (p Pattern) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	if err := p.Validate(); err != nil {
		return tensor.NCHW{}, err
	}
	return PerturbEach(ctx, p, m, x, y, ids, key)
}

// Describe implements [Describer].
func (p Pattern) Describe() Settings { return Settings{Kind: p.name} }
