// Package mpi trains on several processes, on one machine or on many, that mpirun or Slurm's
// srun has started:
//
//	world, err := mpi.Init()
//	if err != nil {
//		return err
//	}
//	cfg.MicroShards, cfg.Ranks = 8, world
//	err = run(cfg) // makes a train.Trainer, and trains
//	return world.Close(err)
//
// [World] is a [github.com/org/snnrat/train.Ranks]. The results are the same bits at 1, 2, 4
// and 8 ranks.
//
// # Building
//
// The package uses MPI by cgo, in programs that are built with the tag mpi. On Debian:
//
//	apt-get install libopenmpi-dev openmpi-bin
//	go build -tags mpi ./examples/cluster
//	mpirun -np 4 ./cluster
//
// It was tested with Open MPI 4.1.4 and MPICH 4.0.2. pkg-config finds MPI under the name mpi-c.
// Where no such file is, or it is another MPI's, copy ompi-c.pc or mpich.pc to mpi-c.pc in a folder
// of PKG_CONFIG_PATH. After a change of MPI, build with -a, since Go's cache does not notice it.
// Without the tag, Init returns an error, and there is no cgo.
//
// # Failures
//
// Ranks exchange a sign of life every 3 seconds. A rank that gives none for 20 seconds is lost. All
// operations of the other ranks then return an error that names it and its host. When a process
// has died, mpirun and srun notice sooner, and end the others.
package mpi
