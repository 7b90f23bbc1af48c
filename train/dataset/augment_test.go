package dataset

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestRender writes views of an image of two channels of 2×3 over old values.
func TestRender(t *testing.T) {
	src := []uint8{
		10, 20, 30,
		40, 50, 60,

		110, 120, 130,
		140, 150, 160,
	}
	for v, want := range map[view][]uint8{
		{}:                          src,
		{flip: true}:                {30, 20, 10, 60, 50, 40, 130, 120, 110, 160, 150, 140},
		{dy: 1}:                     {40, 50, 60, 0, 0, 0, 140, 150, 160, 0, 0, 0},
		{dy: -1}:                    {0, 0, 0, 10, 20, 30, 0, 0, 0, 110, 120, 130},
		{dx: 2}:                     {30, 0, 0, 60, 0, 0, 130, 0, 0, 160, 0, 0},
		{dx: -1}:                    {0, 10, 20, 0, 40, 50, 0, 110, 120, 0, 140, 150},
		{dy: 1, dx: -1, flip: true}: {50, 40, 0, 0, 0, 0, 150, 140, 0, 0, 0, 0},
	} {
		got := make([]float32, len(src))
		for i := range got {
			got[i] = 7
		}
		v.render(got, src, 2, 3)
		for i, b := range want {
			assert.Equal(t, float32(b)/255, got[i], "%+v, value %d", v, i)
		}
	}
}
