package certify

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// TestListStatic compares the listed trains with those of every float32 of a short interval, and of
// random ones of a long interval.
func TestListStatic(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for trial := range 300 {
		n := snn.NewIF()
		n.SoftReset = trial%2 == 0
		if trial%3 > 0 {
			n.Decay = 0.05 + 0.95*r.Float32()
		}
		if trial%5 == 0 {
			n.Start, n.DecayInput = r.Float32()-0.5, n.Decay < 1
			if !n.SoftReset {
				n.Reset = -r.Float32()
			}
		}
		op, err := neuronsOf(n, 1)
		require.NoError(t, err)
		const steps = 8
		run := func(x float32) (mask uint64) { // the definition, step by step
			m := n.Start
			for s := range steps {
				if n.DecayInput {
					m = float32(n.Decay*m) + float32((1-n.Decay)*x)
				} else {
					m = float32(n.Decay*m) + x
				}
				if m >= n.Threshold {
					mask |= 1 << s
					if n.SoftReset {
						m -= n.Threshold
					} else {
						m = n.Reset
					}
				}
			}
			return mask
		}
		x := potential{3*r.Float32() - 1, 0}
		x.hi = x.lo + 2*r.Float32()
		list := op.listStatic(0, steps, x)
		require.Equal(t, float64(x.lo), list[0].lo)
		require.Equal(t, float64(x.hi), list[len(list)-1].hi)
		for i, got := range list {
			lo, hi := float32(got.lo), float32(got.hi)
			require.LessOrEqual(t, lo, hi)
			if i > 0 { // no float32 is left out
				require.Equal(t, ordinal(float32(list[i-1].hi))+1, ordinal(lo))
			}
			for k := range 300 { // the ends of the interval, and some of it
				v := lo + r.Float32()*(hi-lo)
				if k < 50 {
					v = min(hi, fromOrdinal(ordinal(lo)+int64(k)))
				} else if k < 100 {
					v = max(lo, fromOrdinal(ordinal(hi)-int64(k-50)))
				}
				if mask := run(v); mask != got.mask {
					t.Fatalf("%+v, current %v: train %b, listed is %b", n, v, mask, got.mask)
				}
			}
		}
	}
}

// TestListed runs images of a ball, and looks for their spike trains and sums of currents in the
// lists of every neuron.
func TestListed(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	deep, multiple := 0, 0
	for round := range 4 {
		for _, n := range nets(t, r) {
			name, m := n.name, n.Model
			frames := 1
			if round == 3 {
				frames = m.Steps
			}
			net, err := compile(m, frames)
			require.NoError(t, err)
			x := tensor.NewFrames(tensor.Shape{N: 1, Steps: frames, C: m.Channels, H: m.Height, W: m.Width})
			for i := range x.Data {
				x.Data[i] = r.Float32()
			}
			b := ballOf(x.Data, []float64{0.001, 0.01, 0.05, 0.01}[round])
			a := newAnalysis(net, b)
			require.NoError(t, a.run(true))
			byName := map[string]*node{}
			for _, n := range net.nodes {
				if _, ok := n.op.(*neurons); ok {
					byName[n.name] = n
				}
			}
			near := inside(r, x, b, 40)
			_, err = m.Logits(snn.Pass{OnNeurons: func(_ *snn.Pass, l snn.Neuron, currents, output *autograd.Value) {
				n, x, s := byName[l.Name()], currents.Dense().Unpack(), output.Spikes()
				set := a.spikes[n.index]
				for k := range near.N {
					for i := range n.size() {
						var mask uint64
						sum := 0.0
						for step := range m.Steps {
							if s.At(k, step, i/(n.h*n.w), i/n.w%n.h, i%n.w) {
								mask |= 1 << step
							}
							if step < currents.Shape().Steps {
								sum += float64(x.Data[(k*currents.Shape().Steps+step)*n.size()+i])
							}
						}
						if set.must[i]&^mask != 0 || mask&^set.may[i] != 0 {
							t.Fatalf("%s, %s, neuron %d: train %b, expected at least %b and at most %b", name, n.name, i, mask, set.must[i], set.may[i])
						}
						list := set.trains(i)
						if set.must[i] == set.may[i] || list == nil {
							continue
						}
						at := slices.IndexFunc(list, func(t train) bool {
							return t.mask == mask && sum >= t.lo && sum <= t.hi
						})
						if at < 0 {
							t.Fatalf("%s, %s, neuron %d: train %b with sum %v is not in %v", name, n.name, i, mask, sum, list)
						}
						multiple++
						if !n.in[0].static {
							deep++
						}
					}
				}
			}}, near)
			require.NoError(t, err)
		}
	}
	require.Greater(t, multiple, 10000)
	require.Greater(t, deep, 5000)
}

// TestWalk runs neurons with currents at the ends of their intervals, and looks for the trains and the
// sums of the currents in the list of a walk.
func TestWalk(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for trial := range 200 {
		op := &neurons{decay: []float32{1}, gain: []float32{1}, threshold: []float32{1}, reset: []float32{0}, start: []float32{0.25}, soft: trial%2 == 0}
		if trial%4 > 1 {
			op.decay[0] = 0.5 + 0.5*r.Float32()
		}
		h := &history{op: op, x: make([]potential, 5), total: [2]float64{-100, 100}}
		for i := range h.x {
			h.x[i].lo = 1.4*r.Float32() - 0.2
			h.x[i].hi = h.x[i].lo + 0.2*r.Float32()
		}
		h.walk(0, 0, potential{op.start[0], op.start[0]}, 0)
		for corner := range 32 {
			m, mask, sum := op.start[0], uint64(0), 0.0
			for i, x := range h.x {
				cur := x.lo
				if corner>>i&1 == 1 {
					cur = x.hi
				}
				sum += float64(cur)
				if m = float32(op.decay[0]*m) + cur; m >= op.threshold[0] {
					mask |= 1 << i
					if m -= op.threshold[0]; !op.soft {
						m = op.reset[0]
					}
				}
			}
			at := slices.IndexFunc(h.list, func(t train) bool { return t.mask == mask && sum >= t.lo && sum <= t.hi })
			if at < 0 {
				t.Fatalf("%+v: train %b with sum %v is not in %v", op, mask, sum, h.list)
			}
		}
	}
}

// TestUnion lists the trains of a maximum.
func TestUnion(t *testing.T) {
	got := union([]train{{mask: 0b01}, {mask: 0b10}}, []train{{mask: 0b00}, {mask: 0b10}})
	require.Equal(t, []train{{mask: 0b01}, {mask: 0b10}, {mask: 0b11}}, got)
	require.Nil(t, union(nil, got), "trains that are not listed")
}
