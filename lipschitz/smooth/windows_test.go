package smooth

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Every example of a small grid is certified, and every example that the certified number of edits
// makes of it is classified: none has another class. The edits are enumerated as the package defines
// them for spikes, by breadth-first search. The networks have the number of classes, levels and
// random weights that make votes close, so that some certificates cannot be increased by one.
func TestWindowsAgainstEnumeration(t *testing.T) {
	frames, long := tensor.Shape{Steps: 4, C: 1, H: 1, W: 2}, tensor.Shape{Steps: 8, C: 1, H: 1, W: 1}
	image := tensor.Shape{Steps: 1, C: 1, H: 3, W: 3}
	for _, c := range []struct {
		w       Windows
		shape   tensor.Shape
		levels  int
		encoder snn.Encoder
	}{
		{Windows{Axis: Time, Size: 1, Stride: 1}, frames, 1, nil},
		{Windows{Axis: Time, Size: 1, Stride: 1, MaxShift: 1}, frames, 1, nil},
		{Windows{Axis: Time, Size: 1, Stride: 1, MaxShift: 3}, frames, 1, nil},
		{Windows{Axis: Time, Size: 2, Stride: 1}, long, 1, nil},
		{Windows{Axis: Time, Size: 2, Stride: 1, MaxShift: 1}, long, 1, nil},
		{Windows{Axis: Time, Size: 2, Stride: 2, MaxShift: 2}, long, 1, nil},
		{Windows{Axis: Time, Size: 1, Stride: 1, MaxShift: 2}, tensor.Shape{Steps: 5, C: 1, H: 1, W: 1}, 2, nil},
		{Windows{Axis: Time, Size: 1, Stride: 1, MaxShift: 1}, tensor.Shape{Steps: 5, C: 1, H: 1, W: 1}, 2, snn.Poisson{}},
		{Windows{Axis: Columns, Size: 1, Stride: 1, MaxShift: 2}, tensor.Shape{Steps: 2, C: 1, H: 1, W: 4}, 1, nil},
		{Windows{Axis: Rows, Size: 2, Stride: 1}, tensor.Shape{Steps: 1, C: 1, H: 7, W: 1}, 1, nil},
		{Windows{Axis: Lattice, Block: 2, Size: 1, Stride: 1}, image, 1, nil},
		{Windows{Axis: Lattice, Block: 3, Size: 1, Stride: 1}, image, 1, nil},
	} {
		t.Run(fmt.Sprint(c.w), func(t *testing.T) {
			all := every(c.shape, c.levels)
			next := neighbours(all, c.levels, c.w.MaxShift)
			pairs, certified, sharp, broken := 0, 0, 0, 0
			for seed := range uint64(2) {
				steps := max(3, c.shape.Steps)
				if c.shape.Steps > 1 {
					steps = c.shape.Steps
				}
				m := tiny(t, seed, c.shape, steps, 2+int(seed), c.encoder)
				list, err := c.w.Certify(context.Background(), m, all, nil, rng.New(seed))
				require.NoError(t, err)
				for i, got := range list {
					if got.Class == Abstain {
						continue
					}
					certified++
					reached := within(next, i, int(got.Radius))
					for j := range reached {
						pairs++
						if list[j].Class != got.Class {
							broken++
						}
					}
					for j := range within(next, i, int(got.Radius)+1) {
						if list[j].Class != got.Class {
							sharp++
							break
						}
					}
				}
			}
			require.Zero(t, broken, "of %d pairs", pairs)
			t.Logf("%d certificates, %d pairs, %d cannot be larger", certified, pairs, sharp)
			require.Greater(t, pairs, certified) // more than each example itself
			require.Positive(t, sharp)
		})
	}
}

// neighbours returns, for every example of all, those that one edit makes of it: a spike more or
// less at a step and pixel, or a spike of a pixel moved by at most shift steps.
func neighbours(all tensor.NCHW, levels, shift int) [][]int {
	s := all.Shape()
	frame := s.Neurons()
	digit := []int{1} // what one level of a value counts in the number of an example
	for range all.Pixels() {
		digit = append(digit, digit[len(digit)-1]*(levels+1))
	}
	list := make([][]int, all.N)
	for i := range list {
		level := func(j int) int { return i / digit[j] % (levels + 1) }
		for j := range all.Pixels() {
			if level(j) < levels {
				list[i] = append(list[i], i+digit[j])
			}
			if level(j) == 0 {
				continue
			}
			list[i] = append(list[i], i-digit[j])
			for to := j % frame; to < all.Pixels(); to += frame {
				if d := (to - j) / frame; d != 0 && d <= shift && -d <= shift && level(to) < levels {
					list[i] = append(list[i], i-digit[j]+digit[to])
				}
			}
		}
	}
	return list
}

// within returns the examples that at most k edits make of example i.
func within(next [][]int, i, k int) map[int]bool {
	reached, last := map[int]bool{i: true}, []int{i}
	for range k {
		var now []int
		for _, from := range last {
			for _, to := range next[from] {
				if !reached[to] {
					reached[to] = true
					now = append(now, to)
				}
			}
		}
		last = now
	}
	return reached
}

// The votes are those of the base network on examples that the test ablates itself.
func TestWindowsVotes(t *testing.T) {
	s := tensor.Shape{N: 20, Steps: 4, C: 2, H: 2, W: 3}
	m := tiny(t, 1, s, 4, 3, nil)
	x := tensor.NewFrames(s)
	r := rng.New(1).Rand()
	for i := range x.Data {
		if r.IntN(4) == 0 && i >= 24 { // the first frames of image 0 are empty
			x.Data[i] = 1
		}
	}
	for _, c := range []struct {
		w       Windows
		windows int
		sees    func(window, t, y, x int) bool
	}{
		{Windows{Axis: Time, Size: 2, Stride: 1}, 3, func(w, t, y, x int) bool { return t == w || t == w+1 }},
		{Windows{Axis: Time, Size: 3, Stride: 3}, 2, func(w, t, y, x int) bool { return t/3 == w }},
		{Windows{Axis: Rows, Size: 1, Stride: 1}, 2, func(w, t, y, x int) bool { return y == w }},
		{Windows{Axis: Columns, Size: 2, Stride: 2}, 2, func(w, t, y, x int) bool { return x/2 == w }},
		{Windows{Axis: Lattice, Block: 2, Size: 1, Stride: 1}, 4, func(w, t, y, x int) bool { return y%2 == w/2 && x%2 == w%2 }},
	} {
		votes := make([][]int, x.N)
		for i := range votes {
			votes[i] = make([]int, 3)
		}
		for w := range c.windows {
			seen := x.Clone()
			for i := range seen.Data {
				if !c.sees(w, i/12%4, i/3%2, i%3) {
					seen.Data[i] = 0
				}
			}
			logits, err := m.Logits(snn.Pass{}, seen)
			require.NoError(t, err)
			for i := range votes {
				if !assert.ObjectsAreEqual(make([]float32, 48), seen.Image(i)) {
					votes[i][argmax(logits[3*i:3*i+3])]++
				}
			}
		}
		for _, threads := range []int{1, 3} {
			m.Threads = threads
			got, err := c.w.Certify(context.Background(), m, x, nil, rng.New(1))
			require.NoError(t, err)
			for i := range votes {
				require.Equal(t, votes[i], got[i].Votes, "%v, image %d", c.w, i)
				require.Equal(t, argmax(votes[i]), got[i].Class)
			}
		}
	}
	empty := tensor.NewFrames(tensor.Shape{N: 1, Steps: 4, C: 2, H: 2, W: 3})
	got, err := Windows{Axis: Time, Size: 2, Stride: 1}.Certify(context.Background(), m, empty, nil, rng.New(1))
	require.NoError(t, err)
	assert.Equal(t, []Certificate{{Class: Abstain, Votes: []int{0, 0, 0}}}, got)
}

// With Poisson coding a window draws the same numbers for every example, so that a change elsewhere
// leaves its class as it is.
func TestWindowsOfPoisson(t *testing.T) {
	s := tensor.Shape{N: 50, Steps: 4, C: 1, H: 2, W: 2}
	m := tiny(t, 1, s, 4, 6, snn.Poisson{})
	l, err := Windows{Axis: Time, Size: 1, Stride: 1}.layout(s)
	require.NoError(t, err)
	x := tensor.NewFrames(s)
	r := rng.New(1).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	for i := range x.N {
		before, err := l.vote(context.Background(), m, x.Image(i), rng.New(2))
		require.NoError(t, err)
		copy(x.Image(i)[4:8], []float32{0.9, 0.1, 0, 1}) // step 1
		after, err := l.vote(context.Background(), m, x.Image(i), rng.New(2))
		require.NoError(t, err)
		before[1] = after[1]
		require.Equal(t, before, after, "image %d", i)
	}
}

// damages is the maximum over all choices of k pairs of coordinates that are at most reach apart,
// if no window is shorter than reach, and never less.
func TestDamages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "n")
		size := rapid.IntRange(1, n).Draw(t, "size")
		w := Windows{
			Axis: Time, Size: size, Stride: rapid.IntRange(1, size).Draw(t, "stride"),
			MaxShift: rapid.IntRange(0, 3).Draw(t, "shift"),
		}
		l, err := w.layout(tensor.Shape{N: 1, Steps: n + 1, C: 1, H: 1, W: 1})
		require.NoError(t, err)
		shortest := n
		gain := make([]int, len(l.windows))
		for j, w := range l.windows {
			gain[j] = rapid.IntRange(0, 2).Draw(t, "gain")
			shortest = min(shortest, w.hi-w.lo)
		}
		moves, points := l.damages(gain, l.reach), l.damages(gain, 0)
		at := func(d []int, k int) int { return d[min(k, len(d)-1)] }
		for k := range 4 {
			got := min(at(moves, k), at(points, 2*k))
			want := mostTouched(l, gain, k)
			if shortest >= l.reach {
				require.Equal(t, want, got, "k = %d", k)
			}
			require.GreaterOrEqual(t, got, want, "k = %d", k)
		}
	})
}

// mostTouched is the largest sum of gain over the windows that k pairs touch, by enumeration.
func mostTouched(l layout, gain []int, k int) int {
	most := 0
	for set := range touched(l, k) {
		sum := 0
		for j, g := range gain {
			if set>>j&1 == 1 {
				sum += g
			}
		}
		most = max(most, sum)
	}
	return most
}

// touched returns all sets of windows that k pairs of coordinates touch, bit j for window j.
func touched(l layout, k int) map[uint]bool {
	var sets []uint // of windows that one pair touches
	for a := range l.n {
		for b := a; b < l.n && b <= a+l.reach; b++ {
			set := uint(0)
			for j, w := range l.windows {
				if a >= w.lo && a < w.hi || b >= w.lo && b < w.hi {
					set |= 1 << j
				}
			}
			sets = append(sets, set)
		}
	}
	unions := map[uint]bool{0: true}
	for range k {
		for u := range maps.Clone(unions) {
			for _, s := range sets {
				unions[u|s] = true
			}
		}
	}
	return unions
}

// For random votes, every choice of touched windows and every vote of them is enumerated. None makes
// another class with the certified number of edits. With one edit more there is one that does, if no
// window is shorter than a move.
func TestCertificateAgainstVotes(t *testing.T) {
	r := rng.New(1).Rand()
	positive := 0
	for range 1500 {
		n, classes := 1+r.IntN(6), 2+r.IntN(2)
		size := 1 + r.IntN(n)
		w := Windows{Axis: Time, Size: size, Stride: 1 + r.IntN(size), MaxShift: r.IntN(3)}
		l, err := w.layout(tensor.Shape{N: 1, Steps: n + 1, C: 1, H: 1, W: 1})
		require.NoError(t, err)
		votes, shortest := make([]int, len(l.windows)), n
		favourite := r.IntN(classes)
		for j, w := range l.windows {
			votes[j] = r.IntN(classes+1) - 1 // Abstain is −1
			if r.IntN(2) == 0 {
				votes[j] = favourite
			}
			shortest = min(shortest, w.hi-w.lo)
		}
		got := l.certificate(votes, classes)
		if got.Class == Abstain {
			continue
		}
		if got.Radius > 0 {
			positive++
		}
		k := int(got.Radius)
		if changes(l, votes, got.Class, classes, k) {
			t.Fatalf("%v: %d edits change the class of the votes %v", w, k, votes)
		}
		if shortest >= l.reach && !changes(l, votes, got.Class, classes, k+1) {
			t.Fatalf("%v: %d edits do not change the class of the votes %v", w, k+1, votes)
		}
	}
	require.Greater(t, positive, 100)
}

// changes reports whether k edits can make the votes of touched windows such that another class wins.
func changes(l layout, votes []int, class, classes, k int) bool {
	for set := range touched(l, k) {
		now := slices.Clone(votes)
		var try func(j int) bool
		try = func(j int) bool {
			if j == len(now) {
				return l.certificate(now, classes).Class != class
			}
			if set>>j&1 == 0 {
				return try(j + 1)
			}
			for v := Abstain; v < classes; v++ {
				now[j] = v
				if try(j + 1) {
					return true
				}
			}
			now[j] = votes[j]
			return false
		}
		if try(0) {
			return true
		}
	}
	return false
}

// Nine of ten windows of one step vote for one class: it keeps more votes than a lower class after
// 3 edits, and after 4 it has 5 of 10 and loses the tie. A higher class loses the tie. A move touches
// two windows.
func TestWindowsByHand(t *testing.T) {
	for _, c := range []struct {
		class, shift, want int
	}{{1, 0, 3}, {0, 0, 4}, {1, 1, 1}, {0, 1, 2}} {
		l, err := Windows{Axis: Time, Size: 1, Stride: 1, MaxShift: c.shift}.layout(tensor.Shape{N: 1, Steps: 10, C: 1, H: 1, W: 1})
		require.NoError(t, err)
		votes := make([]int, 10)
		for j := range votes {
			votes[j] = c.class
		}
		votes[4] = 1 - c.class
		assert.Equal(t, float64(c.want), l.certificate(votes, 2).Radius, "class %d, shift %d", c.class, c.shift)
	}
}

// Perturb returns what one window sees, each window in turn, and the same for an image in any batch.
func TestWindowsPerturb(t *testing.T) {
	ctx, s := context.Background(), tensor.Shape{N: 200, Steps: 3, C: 1, H: 1, W: 1}
	m := tiny(t, 1, s, 3, 2, nil)
	x := tensor.NewFrames(s)
	for i := range x.Data {
		x.Data[i] = 1
	}
	w := Windows{Axis: Time, Size: 2, Stride: 1}
	got, err := w.Perturb(ctx, m, x, make([]int, x.N), nil, rng.New(1))
	require.NoError(t, err)
	first := 0
	for i := range x.N {
		if got.Image(i)[0] == 1 {
			require.Equal(t, []float32{1, 1, 0}, got.Image(i))
			first++
		} else {
			require.Equal(t, []float32{0, 1, 1}, got.Image(i))
		}
	}
	assert.InDelta(t, 100, first, 40)
	alone, err := w.Perturb(ctx, m, x.Slice(5, 6), []int{0}, []uint64{5}, rng.New(1))
	require.NoError(t, err)
	assert.Equal(t, got.Image(5), alone.Image(0))
	_, err = w.Perturb(ctx, m, x, []int{0}, nil, rng.New(1))
	assert.ErrorContains(t, err, "smooth: 1 labels for 200 images")
}

func TestWindowsRefuses(t *testing.T) {
	ctx, s := context.Background(), tensor.Shape{N: 1, Steps: 4, C: 1, H: 3, W: 3}
	m := tiny(t, 1, s, 4, 2, nil)
	x := tensor.NewFrames(s)
	for want, w := range map[string]Windows{
		`axis "depth": expected "time", "rows", "columns" or "lattice"`: {Axis: "depth", Size: 1, Stride: 1},
		"size 0: expected 1 to 4":             {Axis: Time, Stride: 1},
		"size 5: expected 1 to 4":             {Axis: Time, Size: 5, Stride: 1},
		"size 4: expected 1 to 3":             {Axis: Rows, Size: 4, Stride: 1},
		"stride 0: expected 1 to the size, 2": {Axis: Time, Size: 2},
		"stride 3: expected 1 to the size, 2": {Axis: Time, Size: 2, Stride: 3},
		"maxShift -1":                         {Axis: Time, Size: 2, Stride: 1, MaxShift: -1},
		`block 2: expected 0 for the axis`:    {Axis: Time, Block: 2, Size: 2, Stride: 1},
		"block 0: expected 2 to 3":            {Axis: Lattice, Size: 1, Stride: 1},
		"block 4: expected 2 to 3":            {Axis: Lattice, Block: 4, Size: 1, Stride: 1},
	} {
		_, err := w.Certify(ctx, m, x, nil, rng.New(1))
		assert.ErrorContains(t, err, "smooth: "+want)
		_, err = w.Perturb(ctx, m, x, []int{0}, nil, rng.New(1))
		assert.ErrorContains(t, err, "smooth: "+want)
	}
	_, err := Windows{Axis: Time, Size: 1, Stride: 1}.Certify(ctx, m, tensor.NewNCHW(1, 1, 3, 3), nil, rng.New(1))
	assert.ErrorContains(t, err, "expected examples of several frames")
	one := tiny(t, 1, s, 4, 1, nil)
	_, err = Windows{Axis: Time, Size: 1, Stride: 1}.Certify(ctx, one, x, nil, rng.New(1))
	assert.ErrorContains(t, err, "1 class")
	stopped, stop := context.WithCancel(ctx)
	stop()
	_, err = Windows{Axis: Time, Size: 1, Stride: 1}.Certify(stopped, m, x, nil, rng.New(1))
	assert.ErrorIs(t, err, context.Canceled)
	m.Params()[0].Import(notFinite(m.Params()[0].Len()))
	_, err = Windows{Axis: Time, Size: 1, Stride: 1}.Certify(ctx, m, x, nil, rng.New(1))
	assert.ErrorContains(t, err, "expected a finite number")
}
