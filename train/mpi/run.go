package mpi

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// run is the thread that calls MPI. It goes on with all tasks until they are done, so that
// messages move while the others compute.
func (w *World) run(c wire) {
	var open []*task
	finish := func(t *task, err error) {
		if err != nil {
			err = fmt.Errorf("mpi: %s: %w", t.what, err)
		}
		t.err = err
		close(t.done)
	}
	over := false
	begin := func(t *task) {
		err := w.err
		if err == nil || t.last {
			if err = t.begin(c); err == nil {
				open = append(open, t)
				return
			}
		}
		over = over || t.last
		finish(t, err)
	}
	life := life{w: w, heard: make([]time.Time, w.ranks)}
	for idle := 0; ; idle++ { // rounds without progress
		before := len(open)
		open = slices.DeleteFunc(open, func(t *task) bool {
			done, err := t.step(c)
			if !done && err == nil {
				return false
			}
			over = over || t.last
			finish(t, err)
			return true
		})
		if over {
			break
		}
		if len(open) < before {
			idle = 0
		}
		if err := life.round(c); err != nil && w.err == nil {
			w.err = err
			open = slices.DeleteFunc(open, func(t *task) bool {
				if !t.last {
					finish(t, err)
				}
				return !t.last
			})
		}
		// The longest pause comes after half a second without progress.
		longest := time.Millisecond
		if slices.ContainsFunc(open, func(t *task) bool { return t.bulk }) {
			longest = 100 * time.Microsecond // MPI moves data when it is called
		}
		pause := min(time.Duration(idle)*time.Microsecond, longest)
		switch {
		case len(open) == 0:
			pause = poll
		case idle < 100:
			pause = 0
			runtime.Gosched()
		}
		select {
		case t := <-w.tasks:
			begin(t)
			idle = 0
		case <-time.After(pause):
		}
	}
	for t := range w.tasks {
		finish(t, errors.New("World.Close was called before"))
	}
}

// poll is the time between two looks for signs of life.
const poll = 100 * time.Millisecond

// life sends signs of life, and notices ranks that send none.
type life struct {
	w            *World
	heard        []time.Time // from each rank
	looked, said time.Time
	sends        []request
}

// round returns an error if a rank has failed, or has been silent for too long.
func (l *life) round(c wire) error {
	now := time.Now()
	if now.Sub(l.looked) < poll {
		return nil
	}
	if now.Sub(l.looked) > beat { // at the start, or this process was stopped for a while
		for r := range l.heard {
			l.heard[r] = now
		}
	}
	l.looked = now
	if now.Sub(l.said) >= beat {
		l.said = now
		for r := range l.w.others {
			req, err := c.send(r, tagAlive, []byte{1})
			if err != nil {
				return err
			}
			l.sends = append(l.sends, req)
		}
	}
	l.sends = slices.DeleteFunc(l.sends, func(r request) bool {
		done, err := r.test()
		return done || err != nil
	})
	for {
		from, m, err := l.w.take(c, -1, tagAlive)
		if err != nil {
			return err
		}
		if m == nil {
			break
		}
		l.heard[from] = now
	}
	from, m, err := l.w.take(c, -1, tagLeave)
	if err != nil {
		return err
	}
	if m != nil {
		l.w.left[from] = true
		_, err := l.w.decode(from, m)
		return err
	}
	for r := range l.w.others {
		if quiet := now.Sub(l.heard[r]); quiet > silence && !l.w.left[r] {
			return fmt.Errorf("%s has given no sign of life for %v: its process or its machine is down, or the network between", l.w.name(r), quiet.Round(time.Second))
		}
	}
	return nil
}
