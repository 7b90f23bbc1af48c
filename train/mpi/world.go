package mpi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/org/snnrat/train"
)

// wire is MPI, as much of it as World needs. All calls come from one thread.
type wire interface {
	rank() int
	size() int
	// send and receive begin to move p, one of []byte and []float32.
	send(to, tag int, p any) (request, error)
	receive(from, tag int, p any) (request, error)
	// probe returns the bytes and the sender of a message of that tag that has come from a
	// rank, or from any if from is negative. ok is false if there is none.
	probe(from, tag int) (rank, bytes int, ok bool, err error)
	close() error
}

// request is a message on its way.
type request interface {
	// test reports whether the message has been sent or received.
	test() (bool, error)
}

// The tags of messages. Those of transfers are even numbers from tagScatter and odd ones from
// tagCollect, below the smallest bound that MPI allows.
const (
	tagShare = iota
	tagAlive
	tagLeave
	tagScatter = 16
	tagCollect = 17
	tagBound   = 32767
)

// Times between signs of life, and without one until a rank counts as lost.
const (
	beat    = 3 * time.Second
	silence = 20 * time.Second
)

// World is all processes of an MPI job. Its methods may be called from one goroutine at a time.
type World struct {
	number, ranks int
	hosts         []string // of the ranks
	tasks         chan *task
	sent          atomic.Int64

	// Of MPI's thread:
	err  error  // after which no task works any more
	left []bool // the ranks that have called Close with a failure
}

// World connects the ranks of a training.
var _ train.Ranks = (*World)(nil)

// task is work for the thread that calls MPI.
type task struct {
	begin func(w wire) error
	step  func(w wire) (bool, error) // whether it is done; called until it is
	what  string
	last  bool // it is begun even after an error
	bulk  bool // it moves much data
	done  chan struct{}
	err   error
}

// start connects the ranks by what connect returns. connect and all calls of MPI run on one
// thread.
func start(connect func() (wire, error)) (*World, error) {
	w := &World{tasks: make(chan *task)}
	connected := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		c, err := connect()
		if err == nil {
			w.number, w.ranks = c.rank(), c.size()
			w.hosts, w.left = make([]string, w.ranks), make([]bool, w.ranks)
		}
		connected <- err
		if err == nil {
			w.run(c)
		}
	}()
	if err := <-connected; err != nil {
		return nil, fmt.Errorf("mpi: %w", err)
	}
	host, err := os.Hostname()
	all, err := w.Share([]byte(host), err)
	if err != nil {
		return nil, err
	}
	for r, h := range all {
		w.hosts[r] = string(h)
	}
	return w, nil
}

// Rank implements [train.Ranks].
func (w *World) Rank() int { return w.number }

// Size implements [train.Ranks].
func (w *World) Size() int { return w.ranks }

// Hosts returns the host name of each rank.
func (w *World) Hosts() []string { return slices.Clone(w.hosts) }

// Sent returns the number of bytes that this rank has sent.
func (w *World) Sent() int64 { return w.sent.Load() }

// name names a rank in errors.
func (w *World) name(rank int) string { return fmt.Sprintf("rank %d on %s", rank, w.hosts[rank]) }

// The first byte of a message of Share.
const (
	fine = iota
	failed
	canceled
	timedOut
)

// rankError is the failure of another rank.
type rankError struct {
	text string
	is   error // context.Canceled, context.DeadlineExceeded or nil
}

func (e rankError) Error() string { return e.text }
func (e rankError) Unwrap() error { return e.is }

// encode returns a message of Share.
func encode(message []byte, failure error) []byte {
	switch {
	case failure == nil:
		return append([]byte{fine}, message...)
	case errors.Is(failure, context.Canceled):
		return append([]byte{canceled}, failure.Error()...)
	case errors.Is(failure, context.DeadlineExceeded):
		return append([]byte{timedOut}, failure.Error()...)
	}
	return append([]byte{failed}, failure.Error()...)
}

// decode returns the content of a message, or the failure that it tells of.
func (w *World) decode(from int, m []byte) ([]byte, error) {
	if m[0] == fine {
		return m[1:], nil
	}
	is := map[byte]error{canceled: context.Canceled, timedOut: context.DeadlineExceeded}[m[0]]
	return nil, rankError{w.name(from) + ": " + string(m[1:]), is}
}

// Share implements [train.Ranks].
func (w *World) Share(message []byte, failure error) ([][]byte, error) {
	out := encode(message, failure)
	all := make([][]byte, w.ranks)
	all[w.number] = out
	var sends []request
	err := w.do(&task{
		what: "messages",
		begin: func(c wire) error {
			for r := range w.others {
				req, err := w.sendTo(c, r, tagShare, out, len(out))
				if err != nil {
					return err
				}
				sends = append(sends, req)
			}
			return nil
		},
		step: func(c wire) (bool, error) {
			waiting := false
			for r := range w.others {
				if all[r] != nil {
					continue
				}
				_, m, err := w.take(c, r, tagShare)
				if err != nil {
					return false, err
				}
				all[r] = m
				waiting = waiting || m == nil
			}
			if waiting {
				return false, nil
			}
			return testAll(&sends)
		},
	})
	if err != nil {
		return nil, err
	}
	var first error
	for r, m := range all {
		content, err := w.decode(r, m)
		if err != nil && first == nil {
			first = err
		}
		all[r] = content
	}
	if first != nil {
		return nil, first
	}
	return all, nil
}

// take receives a message that has come from a rank, or from any if from is negative. It
// returns nil if none has. A rank that dies may have sent the beginning of one alone.
func (w *World) take(c wire, from, tag int) (rank int, m []byte, err error) {
	rank, n, ok, err := c.probe(from, tag)
	if err != nil || !ok {
		return rank, nil, err
	}
	m = make([]byte, n)
	req, err := c.receive(rank, tag, m)
	began := time.Now()
	for done, tries := false, 0; err == nil && !done; tries++ {
		time.Sleep(min(time.Duration(tries-1000)*time.Microsecond, time.Millisecond)) // at first not at all
		if done, err = req.test(); err == nil && !done && time.Since(began) > silence {
			err = fmt.Errorf("%s has sent only a part of a message for %v: its process or its machine is down, or the network between", w.name(rank), silence)
		}
	}
	return rank, m, err
}

// others yields every other rank, the next ones first, so that not all begin with the same.
func (w *World) others(yield func(r int) bool) {
	for i := 1; i < w.ranks; i++ {
		if !yield((w.number + i) % w.ranks) {
			return
		}
	}
}

func (w *World) sendTo(c wire, to, tag int, p any, bytes int) (request, error) {
	w.sent.Add(int64(bytes))
	return c.send(to, tag, p)
}

// testAll drops the requests that are done, and reports whether all are.
func testAll(rs *[]request) (bool, error) {
	for len(*rs) > 0 {
		done, err := (*rs)[0].test()
		if err != nil || !done {
			return false, err
		}
		*rs = (*rs)[1:]
	}
	return true, nil
}

// Scatter implements [train.Ranks].
func (w *World) Scatter(tag int, v []float32, cuts []int, parts [][]float32) train.Transfer {
	return w.transfer("gradients", tagScatter+2*tag%(tagBound-tagCollect), func(r int) (out, in []float32) {
		return v[cuts[r]:cuts[r+1]], parts[r]
	})
}

// Collect implements [train.Ranks].
func (w *World) Collect(tag int, v []float32, cuts []int) train.Transfer {
	return w.transfer("weights", tagCollect+2*tag%(tagBound-tagCollect), func(r int) (out, in []float32) {
		return v[cuts[w.number]:cuts[w.number+1]], v[cuts[r]:cuts[r+1]]
	})
}

// transfer begins to send and to receive what data returns for each other rank.
func (w *World) transfer(what string, tag int, data func(r int) (out, in []float32)) train.Transfer {
	var open []request
	return &transfer{w.put(&task{
		what: what,
		bulk: true,
		begin: func(c wire) error {
			for r := range w.others {
				out, in := data(r)
				if len(in) > 0 {
					req, err := c.receive(r, tag, in)
					if err != nil {
						return err
					}
					open = append(open, req)
				}
				if len(out) > 0 {
					req, err := w.sendTo(c, r, tag, out, 4*len(out))
					if err != nil {
						return err
					}
					open = append(open, req)
				}
			}
			return nil
		},
		step: func(wire) (bool, error) { return testAll(&open) },
	})}
}

type transfer struct{ t *task }

// Done implements [train.Transfer].
func (t *transfer) Done() bool {
	select {
	case <-t.t.done:
		return true
	default:
		return false
	}
}

// Wait implements [train.Transfer].
func (t *transfer) Wait() error {
	<-t.t.done
	return t.t.err
}

// put hands a task to MPI's thread.
func (w *World) put(t *task) *task {
	t.done = make(chan struct{})
	w.tasks <- t
	return t
}

// do is put, and waits until the task is done.
func (w *World) do(t *task) error {
	<-w.put(t).done
	return t.err
}

// Close ends the job on this rank. Without a failure, it waits for all ranks to call it.
// Otherwise, it makes all operations of the other ranks return an error that names this rank
// and the failure, and returns the failure. Only the exit of the process may follow: if a rank
// is lost, MPI is left as it is, since it would wait for that rank.
func (w *World) Close(failure error) error {
	if failure == nil {
		_, failure = w.Share(nil, nil)
	}
	var sends []request
	var deadline time.Time
	err := w.do(&task{
		what: "the end of the job",
		last: true,
		begin: func(c wire) error {
			deadline = time.Now().Add(beat)
			if failure == nil {
				return nil
			}
			for r := range w.others {
				req, err := c.send(r, tagLeave, encode(nil, failure))
				if err != nil {
					return err
				}
				sends = append(sends, req)
			}
			return nil
		},
		step: func(c wire) (bool, error) {
			if failure == nil {
				return true, c.close()
			}
			if time.Now().After(deadline) {
				return true, nil
			}
			if sent, err := testAll(&sends); err != nil || !sent {
				return false, err
			}
			for r := range w.others {
				if !w.left[r] {
					return false, nil
				}
			}
			return true, c.close()
		},
	})
	if failure != nil {
		return failure
	}
	return err
}
