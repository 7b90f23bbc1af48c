package attack

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// No worker may take so many images that others have none to do.
func TestShares(t *testing.T) {
	for _, c := range []struct{ n, images, workers, some, slots int }{
		{1, 8, 2, 1, 1},
		{8, 8, 2, 1, 8},
		{10, 8, 2, 2, 5},
		{16, 4, 2, 2, 8}, // 12 of 16 would be one worker's
		{64, 8, 2, 2, 24},
		{1000, 8, 2, 2, 24},
		{1000, 16, 1, 1, 16},
		{5, 16, 1, 1, 5},
	} {
		some, slots := shares(c.n, c.images, c.workers)
		assert.Equal(t, []int{c.some, c.slots}, []int{some, slots}, "%+v", c)
	}
}
