package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// lane is the pass over a micro-shard. The lanes of a rank take turns: each runs until it asks
// for something of all micro-shards.
type lane struct {
	part
	first  bool // of the rank
	next   func() (*request, bool)
	stop   func()
	yield  func(*request) bool
	tapes  []*autograd.Tape // of its passes
	images tensor.NCHW      // their gradient
	err    error
}

// request is what a lane asks for: to merge v, or that the forward passes of all are done.
type request struct {
	v     []float64
	merge func(a, b []float64)
	err   error // the answer
}

// First implements [autograd.Parts].
func (l *lane) First() bool { return l.first }

// Merge implements [autograd.Parts].
func (l *lane) Merge(t *autograd.Tape, v []float64, merge func(a, b []float64)) error {
	if !slices.Contains(l.tapes, t) {
		l.tapes = append(l.tapes, t)
	}
	return l.ask(&request{v: v, merge: merge})
}

func (l *lane) ask(r *request) error {
	if !l.yield(r) {
		return errors.New("another micro-shard has failed")
	}
	return r.err
}

// uses reports whether an operation of the lane's passes still reads p or adds to its gradient.
func (l *lane) uses(p *autograd.Param) bool {
	return slices.ContainsFunc(l.tapes, func(t *autograd.Tape) bool { return t.Uses(p) })
}

// record is what a lane's forward pass adds to the metrics.
type record struct {
	Losses  []float64
	Sum     tally
	Penalty float64
}

// microGradient is gradient for a batch of micro-shards. All that is summed over images is
// first summed over each micro-shard, as if it were alone, and then by a binary tree over
// the micro-shards.
func (s *Step) microGradient(p StepPass, draws rng.Key, fused bool) (images tensor.NCHW, err error) {
	t := s.t
	lanes := make([]*lane, t.cfg.MicroShards/t.ranks.Size())
	base := t.ranks.Rank() * len(lanes)
	first := t.cfg.bound(base, s.images)
	for i := range lanes {
		l := &lane{first: i == 0}
		l.lo, l.hi = t.cfg.bound(base+i, s.images)-first, t.cfg.bound(base+i+1, s.images)-first
		l.join = l
		l.forward = func() error { return l.ask(&request{}) }
		l.next, l.stop = iter.Pull(func(yield func(*request) bool) {
			l.yield = yield
			if l.images, l.err = s.run(p, draws, &l.part); l.err != nil {
				l.err = fmt.Errorf("micro-shard %d of %d: %w", base+i, t.cfg.MicroShards, l.err)
			}
		})
		defer l.stop()
		lanes[i] = l
	}
	t.sums.begin(t, lanes, s.lr, fused)
	defer t.sums.end()
	var failed error // on all ranks, so that none asks the others any more
	passed := false  // the forward passes of all ranks are done
	for {
		var asked []*request
		for i, l := range lanes {
			t.sums.enter(i)
			r, more := l.next()
			if err := t.sums.leave(i, !more); err != nil && l.err == nil {
				l.err = err
			}
			if more {
				asked = append(asked, r)
			}
		}
		if len(asked) == 0 && (passed || failed != nil) {
			break
		}
		if failed == nil {
			failed = s.answer(lanes, asked)
			passed = failed == nil && asked[0].v == nil || passed
		}
		for _, r := range asked {
			r.err = failed
		}
	}
	for _, l := range lanes {
		if failed == nil {
			failed = l.err
		}
		if p.Images && l.err == nil {
			images.Data = append(images.Data, l.images.Data...)
			images.N, images.C, images.H, images.W, images.Steps = images.N+l.images.N, l.images.C, l.images.H, l.images.W, l.images.Steps
		}
	}
	if passed {
		failed = t.sums.finish(failed)
	}
	if failed != nil {
		return tensor.NCHW{}, failed
	}
	return images, nil
}

// answer does what all micro-shards ask for. It returns an error on all ranks if those of one
// do not ask for the same. The error of a lane is one.
func (s *Step) answer(lanes []*lane, asked []*request) error {
	var failure error
	for _, l := range lanes {
		if failure == nil {
			failure = l.err
		}
	}
	other := func(r *request) bool { return len(r.v) != len(asked[0].v) }
	if failure == nil && (len(asked) < len(lanes) || slices.ContainsFunc(asked, other)) {
		failure = errors.New("the micro-shards of a batch run different operations, want the same for all images")
	}
	if failure != nil {
		s.t.agree(failure)
		return failure
	}
	if asked[0].v == nil {
		return s.shareRecords(lanes)
	}
	v := make([][]float64, len(asked))
	for i, r := range asked {
		v[i] = r.v
	}
	return s.t.mergeAll(v, asked[0].merge)
}

// shareRecords gathers the losses and the counts of all micro-shards, in their order.
func (s *Step) shareRecords(lanes []*lane) error {
	t := s.t
	records := make([]record, len(lanes))
	for i, l := range lanes {
		records[i] = record{t.losses[l.lo:l.hi], l.sum, l.penalty}
	}
	text, err := json.Marshal(records)
	all, err := t.share(text, err)
	if err != nil {
		return err
	}
	s.pass, s.loss = tally{}, 0
	var losses []float64
	for r, text := range all {
		var records []record // whose losses are in memory of their own
		if err := json.Unmarshal(text, &records); err != nil {
			return fmt.Errorf("the losses of rank %d: %w", r, err)
		}
		for _, k := range records {
			losses = append(losses, k.Losses...)
			s.pass.count(k.Sum)
			s.loss += float64(k.Penalty * float64(len(k.Losses)) / float64(s.images))
		}
	}
	t.losses = losses
	s.loss += mean(losses)
	return nil
}
