package mpi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// net is a wire between ranks of one process. A message arrives some time after it was sent.
type net struct {
	mu    sync.Mutex
	boxes map[[3]int][]*parcel // by sender, receiver and tag, in the order of their sending
	dead  []bool               // ranks that send and receive nothing any more
}

type parcel struct {
	at     time.Time
	bytes  []byte
	floats []float32
	cut    bool // its end never comes
}

// plug is a rank's end of it.
type plug struct {
	*net
	number int
	closed bool
	lost   error // of every message that is to be sent
	cut    bool  // of every message, only the beginning is sent
}

func (p *plug) rank() int    { return p.number }
func (p *plug) size() int    { return len(p.dead) }
func (p *plug) close() error { p.closed = true; return nil }

type arrived func() (bool, error)

func (a arrived) test() (bool, error) { return a() }

func (p *plug) send(to, tag int, v any) (request, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost != nil {
		return nil, p.lost
	}
	m := &parcel{at: time.Now().Add(time.Millisecond), cut: p.cut}
	switch v := v.(type) {
	case []byte:
		m.bytes = slices.Clone(v)
	case []float32:
		m.floats = slices.Clone(v)
	}
	if !p.dead[p.number] {
		key := [3]int{p.number, to, tag}
		p.boxes[key] = append(p.boxes[key], m)
	}
	return arrived(func() (bool, error) { return !p.dead[to], nil }), nil
}

// next returns the first message that has come, and takes it away if asked to.
func (p *plug) next(from, tag int, away bool) *parcel {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := [3]int{from, p.number, tag}
	if len(p.boxes[key]) == 0 || p.boxes[key][0].at.After(time.Now()) || p.dead[p.number] {
		return nil
	}
	m := p.boxes[key][0]
	if away {
		p.boxes[key] = p.boxes[key][1:]
	}
	return m
}

func (p *plug) receive(from, tag int, v any) (request, error) {
	var m *parcel
	return arrived(func() (bool, error) {
		if m == nil {
			m = p.next(from, tag, true)
		}
		switch {
		case m == nil:
			return false, nil
		case m.cut && time.Since(m.at) > time.Minute: // for World not to wait for ever
			return false, errors.New("nobody has given up the message")
		case m.cut:
			return false, nil
		}
		switch v := v.(type) {
		case []byte:
			copy(v, m.bytes)
		case []float32:
			if len(v) != len(m.floats) {
				return false, fmt.Errorf("%d values, want %d", len(m.floats), len(v))
			}
			copy(v, m.floats)
		}
		return true, nil
	}), nil
}

func (p *plug) probe(from, tag int) (rank, bytes int, ok bool, err error) {
	for r := range p.dead {
		if from >= 0 && r != from {
			continue
		}
		if m := p.next(r, tag, false); m != nil {
			return r, len(m.bytes), true, nil
		}
	}
	return 0, 0, false, nil
}

// onWorlds calls fn on n ranks, in a time that passes when all wait.
func onWorlds(t *testing.T, n int, fn func(w *World, p *plug)) {
	synctest.Test(t, func(t *testing.T) {
		shared := &net{boxes: map[[3]int][]*parcel{}, dead: make([]bool, n)}
		var all sync.WaitGroup
		for r := range n {
			all.Go(func() {
				p := &plug{net: shared, number: r}
				w, err := start(func() (wire, error) { return p, nil })
				if assert.NoError(t, err) {
					fn(w, p)
					close(w.tasks)
				}
			})
		}
		all.Wait()
	})
}

func TestWorld(t *testing.T) {
	onWorlds(t, 3, func(w *World, p *plug) {
		r := w.Rank()
		assert.Equal(t, 3, w.Size())
		assert.Len(t, w.Hosts(), 3)
		for round := range 3 {
			all, err := w.Share([]byte(fmt.Sprint(round, r)), nil)
			assert.NoError(t, err)
			assert.Equal(t, []string{fmt.Sprint(round, 0), fmt.Sprint(round, 1), fmt.Sprint(round, 2)},
				[]string{string(all[0]), string(all[1]), string(all[2])})
		}
		// Two transfers at a time, begun in different orders.
		cuts := []int{0, 2, 2, 5}
		v := [][]float32{{0, 1, 2, 3, 4}, {5, 6, 7, 8, 9}}
		for i := range v {
			for k := range v[i] {
				v[i][k] += 100 * float32(r)
			}
		}
		parts := [2][][]float32{}
		for i := range parts {
			for range 3 {
				parts[i] = append(parts[i], make([]float32, cuts[r+1]-cuts[r]))
			}
		}
		var transfers []interface{ Wait() error }
		for k := range 2 {
			i := (k + r) % 2
			transfers = append(transfers, w.Scatter(i, v[i], cuts, parts[i]))
		}
		for _, tr := range transfers {
			assert.NoError(t, tr.Wait())
		}
		for i := range 2 {
			for q := range 3 {
				for k, got := range parts[i][q] {
					if q != r {
						assert.Equal(t, float32(100*q+5*i+cuts[r]+k), got)
					}
				}
			}
			assert.NoError(t, w.Collect(i, v[i], cuts).Wait())
			assert.Equal(t, []float32{float32(5 * i), float32(5*i + 1), float32(5*i + 202), float32(5*i + 203), float32(5*i + 204)}, v[i])
		}
		assert.NoError(t, w.Close(nil))
		assert.True(t, p.closed)
	})
}

// A failure of one rank is an error on all, and Share works again after it.
func TestShareFailure(t *testing.T) {
	onWorlds(t, 2, func(w *World, _ *plug) {
		for _, failure := range []error{errors.New("bad data"), fmt.Errorf("step 3: %w", context.Canceled), context.DeadlineExceeded} {
			mine := failure
			if w.Rank() == 0 {
				mine = nil
			}
			_, err := w.Share(nil, mine)
			assert.EqualError(t, err, "rank 1 on "+w.Hosts()[1]+": "+failure.Error())
			for _, is := range []error{context.Canceled, context.DeadlineExceeded} {
				assert.Equal(t, errors.Is(failure, is), errors.Is(err, is))
			}
		}
		assert.NoError(t, w.Close(nil))
	})
}

// A rank that closes with a failure makes what the others wait for fail, and what they begin.
func TestCloseWithFailure(t *testing.T) {
	onWorlds(t, 3, func(w *World, p *plug) {
		if w.Rank() == 1 {
			assert.EqualError(t, w.Close(errors.New("no images")), "no images")
			assert.True(t, p.closed)
			return
		}
		want := "rank 1 on " + w.Hosts()[1] + ": no images"
		began := time.Now()
		_, err := w.Share(nil, nil)
		assert.EqualError(t, err, "mpi: messages: "+want)
		assert.Less(t, time.Since(began), time.Second)
		v := make([]float32, 3)
		assert.EqualError(t, w.Collect(0, v, []int{0, 1, 2, 3}).Wait(), "mpi: weights: "+want)
		assert.Equal(t, err, w.Close(err))
		assert.True(t, p.closed)
	})
}

// A rank that gives no sign of life is named. Close does not wait for it.
func TestSilentRank(t *testing.T) {
	onWorlds(t, 3, func(w *World, p *plug) {
		time.Sleep(2 * time.Minute) // in which nobody asks for anything
		if w.Rank() == 2 {
			p.mu.Lock()
			p.dead[2] = true
			p.mu.Unlock()
			time.Sleep(time.Minute)
			assert.Error(t, w.Close(nil))
			return
		}
		began := time.Now()
		_, err := w.Share(nil, nil)
		require.ErrorContains(t, err, "mpi: messages: rank 2 on "+w.Hosts()[2]+" has given no sign of life for 2")
		assert.Less(t, time.Since(began), 30*time.Second)
		assert.Equal(t, err, w.Close(err))
		assert.False(t, p.closed)
		assert.Less(t, time.Since(began), 35*time.Second)
	})
}

// A rank that dies while it sends a message is named.
func TestPartOfAMessage(t *testing.T) {
	onWorlds(t, 2, func(w *World, p *plug) {
		time.Sleep(time.Second) // until both have begun
		if w.Rank() == 1 {
			p.mu.Lock()
			p.cut = true
			p.mu.Unlock()
			_, err := w.Share(nil, nil)
			assert.NoError(t, err)
			p.mu.Lock()
			p.dead[1] = true
			p.mu.Unlock()
			assert.Error(t, w.Close(errors.New("out of memory")))
			return
		}
		began := time.Now()
		_, err := w.Share(nil, nil)
		require.EqualError(t, err, "mpi: messages: rank 1 on "+w.Hosts()[1]+" has sent only a part of a message for 20s: its process or its machine is down, or the network between")
		assert.Less(t, time.Since(began), 25*time.Second)
		assert.Equal(t, err, w.Close(err))
		assert.False(t, p.closed)
		assert.Less(t, time.Since(began), 30*time.Second)
	})
}

// A message that cannot be sent is an error.
func TestSendFails(t *testing.T) {
	onWorlds(t, 2, func(w *World, p *plug) {
		time.Sleep(time.Second) // until both have begun
		p.mu.Lock()
		p.lost = errors.New("no route to host")
		p.mu.Unlock()
		time.Sleep(10 * time.Second) // signs of life go out
		_, err := w.Share(nil, nil)
		assert.EqualError(t, err, "mpi: messages: no route to host")
		assert.Equal(t, err, w.Close(err))
	})
}
