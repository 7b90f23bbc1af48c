//go:build mpi

package mpi

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// After a failure nobody waits for the messages that were under way. MPI may still write to their
// memory, so it stays, whatever the garbage collector does.
func TestAbandonedMessage(t *testing.T) {
	t.Setenv("PMI_RANK", "0") // as a launcher does
	w, err := Init()
	require.NoError(t, err)
	err = w.do(&task{what: "values", begin: func(c wire) error {
		_, err := c.receive(0, 100, make([]float32, 1<<10))
		return errors.Join(err, errors.New("nobody waits"))
	}})
	require.EqualError(t, err, "mpi: values: nobody waits")
	for range 3 {
		runtime.GC()
		time.Sleep(50 * time.Millisecond)
	}
	assert.NoError(t, w.Close(nil))
}
