package quant

import (
	"sync"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
)

// Frames that a network runs at a time. Many of them share what it costs to read weights; few of
// them stay in a cache. Networks with more than manyWeights weights run manyFrames frames.
const (
	fewFrames, manyFrames = 16, 128
	manyWeights           = 4 << 20
)

// buffers lends slices, and keeps those that were put back.
type buffers[T any] struct{ idle [][]T }

// get returns a slice of n elements of any content.
func (b *buffers[T]) get(n int) []T {
	best := -1
	for i, v := range b.idle {
		if cap(v) >= n && (best < 0 || cap(v) < cap(b.idle[best])) {
			best = i
		}
	}
	if best < 0 {
		return make([]T, n)
	}
	v, last := b.idle[best][:n], len(b.idle)-1
	b.idle[best] = b.idle[last]
	b.idle = b.idle[:last]
	return v
}

func (b *buffers[T]) put(v []T) {
	if v != nil {
		b.idle = append(b.idle, v)
	}
}

// runner holds what a call of Logits needs besides the network: the values of the layers, and
// memory for them.
type runner struct {
	values   []data
	bytes    buffers[uint8]
	spikes   buffers[uint16]
	currents buffers[int32]
}

// runners keeps the runners that are not in use.
type runners struct {
	mu   sync.Mutex
	idle []*runner
}

func (r *runners) get(values int) *runner {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := len(r.idle) - 1; last >= 0 {
		run := r.idle[last]
		r.idle = r.idle[:last]
		return run
	}
	return &runner{values: make([]data, values)}
}

func (r *runners) put(run *runner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = append(r.idle, run)
}

// run writes the logits of all images. The chunks of a small network run side by side.
func (n *Network) run(p *plan, x tensor.NCHW, logits []int32) {
	frames, workers, threads := fewFrames, parallel.Threads(n.Threads), 1
	if p.weights > manyWeights {
		frames, workers, threads = manyFrames, 1, workers
	}
	images := max(1, frames/n.Steps)
	chunks := (x.N + images - 1) / images
	threads *= max(1, workers/chunks)
	type args struct {
		n               *Network
		p               *plan
		x               tensor.NCHW
		logits          []int32
		images, threads int
	}
	parallel.With(workers, chunks, args{n, p, x, logits, images, threads}, func(k args, i int) {
		lo, hi, classes := i*k.images, min((i+1)*k.images, k.x.N), len(k.n.Bias)
		r := k.p.runners.get(len(k.p.values))
		k.n.chunk(k.p, r, k.x.Slice(lo, hi), k.logits[lo*classes:hi*classes], k.threads)
		k.p.runners.put(r)
	})
}

// chunk writes the logits of some images.
func (n *Network) chunk(p *plan, r *runner, x tensor.NCHW, logits []int32, threads int) {
	r.values[0] = data{bytes: r.bytes.get((x.C + lanes - 1) / lanes * x.N * max(1, x.Steps) * x.H * x.W * lanes), steps: max(1, x.Steps)}
	packPixels(r.values[0].bytes, x, threads)
	for i := range p.steps {
		if !p.steps[i].done {
			n.layer(p, r, i, x.N, threads)
		}
		for j := range r.values[:i+1] {
			if p.values[j].last == i {
				r.release(j)
			}
		}
	}
	n.sum(&p.values[len(n.Layers)], r.values[len(n.Layers)], logits, x.N)
	for j := range r.values {
		r.release(j)
	}
}

func (r *runner) release(j int) {
	r.put(r.values[j])
	r.values[j] = data{}
}

func (r *runner) put(d data) {
	r.bytes.put(d.bytes)
	r.spikes.put(d.spikes)
	r.currents.put(d.currents)
}

// layer computes the output of layer i. A convolution runs the neurons that read it, too.
func (n *Network) layer(p *plan, r *runner, i, images, threads int) {
	s := &p.steps[i]
	in, out := r.values[s.in], &r.values[i+1]
	blocks := func(c int) int { return (c + lanes - 1) / lanes }
	shape, made := &p.values[s.in], &p.values[i+1]
	switch l := s.layer.(type) {
	case *Conv:
		out.steps = in.steps
		o := kernel.IntOutput{Images: images, Steps: n.Steps, Gain: s.gain}
		if s.add >= 0 {
			add := r.values[s.add]
			out.steps = max(in.steps, add.steps)
			if in.steps != out.steps {
				in = r.repeat(in, blocks(shape.c)*images, out.steps)
				defer r.put(in)
			}
			o.Add, o.AddSteps = add.currents, add.steps
		}
		values := blocks(made.c) * images * made.h * made.w
		if s.neurons < 0 || s.keep {
			out.currents = r.currents.get(values * out.steps * lanes)
			o.Currents = out.currents
		}
		if s.neurons >= 0 {
			fired := &r.values[s.neurons+1]
			fired.steps, fired.spikes = n.Steps, r.spikes.get(values*n.Steps)
			o.Spikes, o.Neurons = fired.spikes, &p.steps[s.neurons].fire
		}
		if in.spikes != nil {
			s.conv.Spikes(o, in.spikes, out.steps, threads)
		} else {
			s.conv.Bytes(o, in.bytes, l.Border, out.steps, threads)
		}
	case *Neurons:
		sc := kernel.Scan{Units: blocks(made.c) * images, Images: images, Pixels: made.h * made.w, Steps: n.Steps, CurrentSteps: in.steps}
		out.steps, out.spikes = n.Steps, r.spikes.get(sc.Units*sc.Steps*sc.Pixels)
		s.fire.Forward(out.spikes, in.currents, sc, threads)
	case *SumPool:
		geom := s.pool
		geom.Planes = blocks(shape.c) * images * in.steps
		out.steps, out.bytes = in.steps, r.bytes.get(geom.Planes*geom.Hout*geom.Wout*lanes)
		if in.spikes != nil {
			kernel.SumPoolSpikes(out.bytes, in.spikes, geom, threads)
		} else {
			kernel.SumPoolBytes(out.bytes, in.bytes, geom, threads)
		}
	default: // *MaxPool
		geom := s.pool
		geom.Planes = blocks(shape.c) * images * in.steps
		out.steps, out.spikes = in.steps, r.spikes.get(geom.Planes*geom.Hout*geom.Wout)
		kernel.MaxPoolSpikes(out.spikes, in.spikes, geom, threads)
	}
}

// packPixels writes the pixels of x, [⌈C/16⌉][frames][H][W][16].
func packPixels(dst []uint8, x tensor.NCHW, threads int) {
	type args struct {
		dst []uint8
		x   tensor.NCHW
	}
	sh := x.Shape()
	parallel.With(threads, sh.Blocks()*sh.Frames(), args{dst, x}, func(k args, u int) {
		x, px := &k.x, k.x.H*k.x.W
		sh := x.Shape()
		b, f := u/sh.Frames(), u%sh.Frames()
		dst := k.dst[u*px*lanes:][:px*lanes]
		clear(dst)
		for c := b * lanes; c < min((b+1)*lanes, x.C); c++ {
			for i, v := range x.Data[(f*x.C+c)*px:][:px] {
				dst[i*lanes+c%lanes] = Pixel(v)
			}
		}
	})
}

// fuse sets which neurons a convolution runs, and whether other layers read its currents.
func (p *plan) fuse() {
	for i := range p.steps {
		s := &p.steps[i]
		s.neurons = -1
		l, ok := s.layer.(*Conv)
		if !ok {
			continue
		}
		p.weights += len(l.Weight)
		s.keep = i+1 == len(p.steps)
		for j := i + 1; j < len(p.steps); j++ {
			reader := &p.steps[j]
			_, fires := reader.layer.(*Neurons)
			switch {
			case reader.in == i+1 && fires && s.neurons < 0:
				s.neurons, reader.done = j, true
			case reader.in == i+1 || reader.add == i+1:
				s.keep = true
			}
		}
	}
}
