//go:build !mpi

package mpi

import "errors"

// Init connects the processes that mpirun or srun has started. It returns an error if they were
// not, or if the program was built without the tag mpi.
func Init() (*World, error) {
	return nil, errors.New("mpi: this program was built without MPI: install libopenmpi-dev and build it with -tags mpi")
}
