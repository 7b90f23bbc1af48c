//go:build mpi

package mpi

/*
#cgo pkg-config: mpi-c
#include <stdlib.h>
#include <mpi.h>

// What MPI may define as macros.
static MPI_Comm world(void) { return MPI_COMM_WORLD; }
static int any_source(void) { return MPI_ANY_SOURCE; }
static int set_errors_return(void) { return MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN); }
static int isend(void *p, int n, int floats, int to, int tag, MPI_Request *r) {
	return MPI_Isend(p, n, floats ? MPI_FLOAT : MPI_BYTE, to, tag, MPI_COMM_WORLD, r);
}
static int irecv(void *p, int n, int floats, int from, int tag, MPI_Request *r) {
	return MPI_Irecv(p, n, floats ? MPI_FLOAT : MPI_BYTE, from, tag, MPI_COMM_WORLD, r);
}
static int test(MPI_Request *r, int *done) { return MPI_Test(r, done, MPI_STATUS_IGNORE); }
static int probe(int from, int tag, int *ok, int *source, int *bytes) {
	MPI_Status s;
	int e = MPI_Iprobe(from, tag, MPI_COMM_WORLD, ok, &s);
	if (e != MPI_SUCCESS || !*ok) {
		return e;
	}
	*source = s.MPI_SOURCE;
	return MPI_Get_count(&s, MPI_BYTE, bytes);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"
)

// Init connects the processes that mpirun or srun has started. It returns an error if they were
// not, or if the program was built without the tag mpi.
//
// A program calls Init once. All ranks call it.
func Init() (*World, error) {
	if !launched() {
		return nil, errors.New("mpi: this process is no rank of an MPI job: start it with mpirun -np 4, or srun --mpi=pmix")
	}
	return start(func() (wire, error) {
		var began C.int
		if C.MPI_Initialized(&began); began != 0 {
			return nil, errors.New("MPI_Init_thread: MPI is initialized already, want one call of Init")
		}
		var level C.int
		if err := check("MPI_Init_thread", C.MPI_Init_thread(nil, nil, C.MPI_THREAD_FUNNELED, &level)); err != nil {
			return nil, err
		}
		if level < C.MPI_THREAD_FUNNELED {
			return nil, fmt.Errorf("MPI_Init_thread: this MPI supports threads at level %d, want MPI_THREAD_FUNNELED, %d", level, C.MPI_THREAD_FUNNELED)
		}
		if err := check("MPI_Comm_set_errhandler", C.set_errors_return()); err != nil {
			return nil, err
		}
		var c comm
		var rank, size C.int
		if err := check("MPI_Comm_rank", C.MPI_Comm_rank(C.world(), &rank)); err != nil {
			return nil, err
		}
		if err := check("MPI_Comm_size", C.MPI_Comm_size(C.world(), &size)); err != nil {
			return nil, err
		}
		c.number, c.ranks = int(rank), int(size)
		if name, want := launchedSize(); want > 0 && want != c.ranks {
			return nil, fmt.Errorf("the launcher has started %d processes by %s, but MPI connects %d: want the mpirun of the MPI that the program was built with, or srun's --mpi for it", want, name, c.ranks)
		}
		return &c, nil
	})
}

// launched reports whether a launcher of MPI jobs has started this process, by the variables
// that it sets: those of Open MPI, of PMI (MPICH, Slurm) and of PMIx. Without one, MPI_Init
// would make a job of a single process: four of them would overwrite each other's files.
func launched() bool {
	for _, name := range []string{"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "PMI_FD", "PMI_PORT"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// launchedSize returns the number of processes that the launcher has started, and the variable
// that says so, or 0 if none does. With the launcher of another MPI, each of them is a job of its
// own.
func launchedSize() (name string, n int) {
	for _, name := range []string{"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"} {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return name, n
		}
	}
	return "", 0
}

// check returns an error of a call that did not succeed.
func check(call string, code C.int) error {
	if code == C.MPI_SUCCESS {
		return nil
	}
	text := (*C.char)(C.malloc(C.MPI_MAX_ERROR_STRING))
	defer C.free(unsafe.Pointer(text))
	var n C.int
	C.MPI_Error_string(code, text, &n)
	return fmt.Errorf("%s: %s", call, C.GoStringN(text, n))
}

// comm is MPI_COMM_WORLD.
type comm struct{ number, ranks int }

func (c *comm) rank() int { return c.number }
func (c *comm) size() int { return c.ranks }

// underWay holds the requests that are not done. MPI may still write to the memory of one that
// nobody waits for any more, after the failure of another rank. Only MPI's thread uses it.
var underWay = map[*pending]bool{}

// pending is a request of MPI. Its memory is pinned until it is done.
type pending struct {
	call string
	r    *C.MPI_Request
	pin  runtime.Pinner
}

// move begins a message.
func (c *comm) move(call string, fn func(p unsafe.Pointer, n, floats C.int, r *C.MPI_Request) C.int, v any) (request, error) {
	var p unsafe.Pointer
	var n int
	var floats C.int
	switch v := v.(type) {
	case []byte:
		p, n = unsafe.Pointer(unsafe.SliceData(v)), len(v)
	case []float32:
		p, n, floats = unsafe.Pointer(unsafe.SliceData(v)), len(v), 1
	}
	if n > 1<<31-1 {
		return nil, fmt.Errorf("%s: a message of %d values, want at most 2³¹ − 1", call, n)
	}
	q := &pending{call: call, r: (*C.MPI_Request)(C.malloc(C.sizeof_MPI_Request))}
	if n > 0 {
		q.pin.Pin(p)
	}
	if err := check(call, fn(p, C.int(n), floats, q.r)); err != nil {
		q.free()
		return nil, err
	}
	underWay[q] = true
	return q, nil
}

func (c *comm) send(to, tag int, v any) (request, error) {
	return c.move("MPI_Isend", func(p unsafe.Pointer, n, floats C.int, r *C.MPI_Request) C.int {
		return C.isend(p, n, floats, C.int(to), C.int(tag), r)
	}, v)
}

func (c *comm) receive(from, tag int, v any) (request, error) {
	return c.move("MPI_Irecv", func(p unsafe.Pointer, n, floats C.int, r *C.MPI_Request) C.int {
		return C.irecv(p, n, floats, C.int(from), C.int(tag), r)
	}, v)
}

func (q *pending) test() (bool, error) {
	var done C.int
	if err := check(q.call, C.test(q.r, &done)); err != nil {
		return false, err
	}
	if done != 0 {
		q.free()
	}
	return done != 0, nil
}

func (q *pending) free() {
	delete(underWay, q)
	q.pin.Unpin()
	C.free(unsafe.Pointer(q.r))
}

func (c *comm) probe(from, tag int) (rank, bytes int, ok bool, err error) {
	source := C.int(from)
	if from < 0 {
		source = C.any_source()
	}
	var found, sender, n C.int
	err = check("MPI_Iprobe", C.probe(source, C.int(tag), &found, &sender, &n))
	return int(sender), int(n), found != 0, err
}

func (c *comm) close() error { return check("MPI_Finalize", C.MPI_Finalize()) }
