package attack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"sync"

	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// An engine runs searches for many images side by side. A search is a coroutine, which stops
// wherever it asks for a pass. Each worker of the engine has some searches on their way, answers
// many of their requests by one pass, and takes a new image as soon as a search has ended. What a
// search does depends on its own answers alone, so results depend neither on the number of
// workers nor on which images share a pass.
type engine struct {
	model    *snn.Model
	n        int                              // images
	shape    tensor.Shape                     // of an image
	gradient snn.Gradient                     // of the passes; nil if it is not known
	run      func(ask asker, image int) error // searches around an image
}

// asker sends a request and returns when it is answered. It returns false if the engine stops.
type asker = func(*request) bool

// search is a search on its way.
type search struct {
	image int
	next  func() (*request, bool)
	stop  func()
	ask   *request
	err   error
}

// searchesPerSlot is the number of searches that one of several workers has on their way, for each
// image of a pass. With more than one, passes stay full although searches ask for different kinds
// of them. A worker on its own has one: the network is large, and so are the searches' memories.
const searchesPerSlot = 3

// do searches around all images. If some searches fail, it returns the error of the first of
// these images.
func (e *engine) do(ctx context.Context) error {
	pass := snn.Pass{Gradient: e.gradient}
	images, workers, err := e.model.Chunks(&pass, e.shape)
	if err != nil {
		return fmt.Errorf("attack: %w", err)
	}
	q := &queue{n: e.n}
	some, slots := shares(e.n, images, workers)
	pass.Threads *= max(1, workers/max(1, some)) // threads without images of their own
	workers = some
	parallel.For(workers, workers, func(int) { e.work(ctx, q, pass, slots) })
	if err := ctx.Err(); err != nil && q.err == nil {
		return err
	}
	return q.err
}

// shares returns how many of the workers get n images, whose passes have up to so many images, and
// how many searches at most each has on its way.
func shares(n, images, workers int) (some, slots int) {
	some = min(workers, (n+images-1)/images)
	share := (n + some - 1) / max(some, 1)
	if slots = images; some > 1 {
		slots *= searchesPerSlot
	}
	return some, min(slots, share) // more would leave too few for the others
}

// queue hands out images and collects errors.
type queue struct {
	mu      sync.Mutex
	n, next int
	err     error // that of the first image with an error
	at      int   // that image
}

func (q *queue) take() (image int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == q.n || q.err != nil {
		return 0, false
	}
	q.next++
	return q.next - 1, true
}

func (q *queue) fail(image int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil || image < q.at {
		q.err, q.at = err, image
	}
}

// past reports whether an error of an earlier image makes the search around an image useless.
func (q *queue) past(image int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err != nil && image > q.at
}

// work is a worker. It has up to so many searches on their way.
func (e *engine) work(ctx context.Context, q *queue, pass snn.Pass, slots int) {
	var active []*search
	ended := false
	defer func() {
		if !ended { // a caller's code panics: no other worker begins with a further image
			q.fail(-1, errors.New("panic"))
		}
		for _, s := range active {
			defer s.stop() // also if another one panics
		}
	}()
	// advance lets s go on to its next request. It reports whether there is one.
	advance := func(s *search) bool {
		var more bool
		if s.ask, more = s.next(); more {
			return true
		}
		if s.err != nil && !errors.Is(s.err, ErrFound) && !errors.Is(s.err, errStopped) {
			q.fail(s.image, fmt.Errorf("image %d: %w", s.image, s.err))
		}
		return false
	}
	for ctx.Err() == nil {
		for len(active) < slots {
			image, ok := q.take()
			if !ok {
				break
			}
			if s := e.start(image); advance(s) {
				active = append(active, s)
			}
		}
		active = slices.DeleteFunc(active, func(s *search) bool {
			past := q.past(s.image)
			if past {
				s.stop()
			}
			return past
		})
		if len(active) == 0 {
			break
		}
		group := largestGroup(active)
		group = group[:answer(pass, group)]
		for _, s := range group {
			if !advance(s) {
				active = slices.Delete(active, slices.Index(active, s), slices.Index(active, s)+1)
			}
		}
	}
	ended = true
}

// start starts the search around an image. If the engine stops, the search's next request gets
// no answer, and a further one ends the search, so that a search that ignores errors ends too.
func (e *engine) start(image int) *search {
	s := &search{image: image}
	s.next, s.stop = iter.Pull(func(yield func(*request) bool) {
		defer func() {
			if v := recover(); v != nil && v != errStopped {
				panic(v)
			}
		}()
		stopped := false
		s.err = e.run(func(r *request) bool {
			if stopped {
				panic(errStopped)
			}
			stopped = !yield(r)
			return !stopped
		}, image)
	})
	return s
}

// largestGroup returns the most searches whose requests are of one kind.
func largestGroup(active []*search) []*search {
	var groups [][]*search
	for _, s := range active {
		i := slices.IndexFunc(groups, func(g []*search) bool { return g[0].ask.fits(s.ask) })
		if i < 0 {
			i = len(groups)
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], s)
	}
	return slices.MaxFunc(groups, func(a, b []*search) int { return cmp.Compare(len(a), len(b)) })
}

// fits reports whether one pass can answer r and q.
func (r *request) fits(q *request) bool {
	return r.model == q.model && (r.objective == nil) == (q.objective == nil) &&
		sameGradient(r.gradient, q.gradient)
}

// sameGradient reports whether a and b are known to be equal.
func sameGradient(a, b snn.Gradient) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.ValueOf(a).Comparable() && a == b
}

// answer answers the requests of the first searches of a group, as many as the images of a pass, by
// passes over all their draws. It returns their number.
func answer(pass snn.Pass, group []*search) int {
	first, threads := group[0].ask, pass.Threads
	pass.Gradient, pass.Steps = first.gradient, 0 // the steps of a Transfer's source may be others
	images, _, err := first.model.Chunks(&pass, first.shape)
	pass.Threads = threads
	requests := make([]*request, min(len(group), max(1, images)))
	for i := range requests {
		requests[i] = group[i].ask
	}
	if err == nil {
		err = answerTogether(pass, requests, images)
	}
	if err == nil || len(requests) == 1 {
		first.err = err
		return len(requests)
	}
	for _, r := range requests { // to find whose error it is
		r.err = answerTogether(pass, []*request{r}, images)
	}
	return len(requests)
}

// answerTogether answers requests by passes of up to so many images.
func answerTogether(pass snn.Pass, requests []*request, images int) error {
	type draw struct {
		r *request
		k int
	}
	var draws []draw
	for _, r := range requests {
		classes := r.model.Classes()
		r.logits, r.value, r.grad = make([]float32, classes), 0, nil
		for k := range r.keys {
			draws = append(draws, draw{r, k})
		}
	}
	for part := range slices.Chunk(draws, images) {
		points := make([][]float32, len(part))
		pass.Keys, pass.Memory = make([]rng.Key, len(part)), nil
		for i, d := range part {
			points[i], pass.Keys[i] = d.r.x, d.r.keys[d.k]
			if d.r.memory != nil {
				pass.Memory = append(pass.Memory, d.r.memory[d.k])
			}
		}
		first := part[0].r
		m := first.model
		var logits []float32
		add := func(i int, z []float32) {
			for k, v := range z {
				part[i].r.logits[k] += v / float32(len(part[i].r.keys))
			}
		}
		x := batchOf(first.shape, points)
		if first.objective == nil {
			var err error
			if logits, err = m.Logits(pass, x); err != nil {
				return err
			}
			for i := range part {
				add(i, logits[i*m.Classes():][:m.Classes()])
			}
			continue
		}
		grad, err := m.InputGradient(pass, x, func(logits []float32) []float32 {
			seed := make([]float32, len(logits)) // [N, classes]
			for i, d := range part {
				z := logits[i*m.Classes():][:m.Classes()]
				add(i, z)
				var value [1]float64
				d.r.objective.Evaluate(value[:], seed[i*m.Classes():][:m.Classes()], z, d.r.label, d.r.target)
				d.r.value += value[0] / float64(len(d.r.keys))
			}
			return seed
		})
		if err != nil {
			return err
		}
		for i, d := range part {
			if v := d.r.value; v-v != 0 {
				return fmt.Errorf("the objective is %v: expected a finite number", v)
			}
			g := grad.Image(i)
			if k := slices.IndexFunc(g, func(v float32) bool { return v-v != 0 }); k >= 0 {
				return fmt.Errorf("value %d: the gradient is %v: expected a finite number", k, g[k])
			}
			switch {
			case len(d.r.keys) == 1:
				d.r.grad = slices.Clone(g)
			case d.r.grad == nil:
				d.r.grad = make([]float32, len(g))
				fallthrough
			default:
				for k, v := range g {
					d.r.grad[k] += v / float32(len(d.r.keys))
				}
			}
		}
	}
	return nil
}

// batchOf returns images of the given shape as a batch.
func batchOf(sh tensor.Shape, images [][]float32) tensor.NCHW {
	x := tensor.NCHW{N: len(images), Steps: sh.Steps, C: sh.C, H: sh.H, W: sh.W}
	if len(images) == 1 {
		x.Data = images[0]
		return x
	}
	x.Data = slices.Concat(images...)
	return x
}
