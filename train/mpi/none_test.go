//go:build !mpi

package mpi

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestInitWithoutMPI(t *testing.T) {
	_, err := Init()
	assert.EqualError(t, err, "mpi: this program was built without MPI: install libopenmpi-dev and build it with -tags mpi")
}
