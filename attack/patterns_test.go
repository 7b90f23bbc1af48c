package attack

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The pixels of the patterns on 16 rows of 8 pixels, as the code of Marchisio et al. has them. Rows 0 and
// 15, and then 1 and 14, are the eighths at the top and at the bottom.
func TestPixelsOfPatterns(t *testing.T) {
	const h, w = 16, 8
	list := func(p Pattern) (sets [][]int) {
		assert.NoError(t, p.sets(h, w, func(in func(y, x int) bool) error {
			var pixels []int
			for i := range h * w {
				if in(i/w, i%w) {
					pixels = append(pixels, i)
				}
			}
			sets = append(sets, pixels)
			return nil
		}))
		return sets
	}
	frame := list(DVSFrame(1))
	assert.Len(t, frame, 1)
	assert.Len(t, frame[0], 2*h+2*w-4)

	var bars, dashes [][]int
	for _, rows := range [][2]int{{0, 15}, {1, 14}} {
		for length := 2; length <= 4; length++ {
			for _, right := range []bool{false, true} {
				for _, row := range rows {
					var bar []int
					for at := range length {
						if right {
							at = w - 1 - at
						}
						bar = append(bar, row*w+at)
					}
					dash := slices.Sorted(slices.Values(bar[length-2:]))
					bars, dashes = append(bars, slices.Sorted(slices.Values(bar))), append(dashes, dash)
				}
			}
		}
	}
	assert.Equal(t, bars, list(DVSCorner(1)))
	assert.Equal(t, dashes, list(DVSDash(1)))

	stop := errors.New("stop")
	asked := 0
	assert.Equal(t, stop, DVSCorner(1).sets(h, w, func(func(y, x int) bool) error {
		asked++
		if asked == 3 {
			return stop
		}
		return nil
	}))
	assert.Equal(t, 3, asked)
	for _, size := range [][2]int{{1, 1}, {1, 5}, {2, 3}, {3, 2}} { // images that are too small for the rule
		assert.NoError(t, DVSCorner(1).sets(size[0], size[1], func(func(y, x int) bool) error { return nil }))
	}
}
