package smooth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Axis says along what windows lie. Every value of an example, at a step, a channel, a row and a
// column, has a coordinate on it.
type Axis string

// The axes of windows.
const (
	Time    Axis = "time"    // the coordinate is the step; needs examples of several frames
	Rows    Axis = "rows"    // the row
	Columns Axis = "columns" // the column
	// Lattice has the coordinate (row mod Block)·Block + (column mod Block): a window of one
	// coordinate sees every Block-th pixel in both directions.
	Lattice Axis = "lattice"
)

// Windows is smoothing by ablation without random numbers (after Levine, Feizi: (De)randomized
// smoothing for certifiable defense against patch attacks, NeurIPS 2020). The network classifies
// the example once for each window, with zeros for all values outside it. Each window votes for
// the class. A window in which all values are zero does not vote. The smoothed network's class has
// the most votes; of equal ones it is the one with the lowest number. It abstains if no window
// votes.
//
// A certificate counts edits. An edit adds or removes a spike at one step and pixel, or changes the
// value there to any other in [0,1]. A move of a spike of a pixel by at most MaxShift steps is one
// edit, too.
// The package comment has the theorem.
//
// A network reads windows well only if it was trained on them. Perturb makes images for that.
type Windows struct {
	Axis   Axis
	Block  int // of Lattice, at least 2; 0 for the other axes
	Size   int // coordinates of a window, at least 1
	Stride int // from the beginning of a window to that of the next, from 1 to Size
	// MaxShift is Δ ≥ 0, the largest number of steps by which an edit moves a spike. It matters
	// on Time alone: on the other axes a move does not change the coordinate. 0 is no moves.
	MaxShift int
}

// String returns the settings in one line.
func (w Windows) String() string {
	axis := string(w.Axis)
	if w.Axis == Lattice {
		axis = fmt.Sprintf("%d×%d lattice", w.Block, w.Block)
	}
	return fmt.Sprintf("windows of %d on the axis %q, stride %d, moves by at most %d", w.Size, axis, w.Stride, w.MaxShift)
}

// span is the coordinates lo to hi−1.
type span struct{ lo, hi int }

// layout is the windows for examples of one shape.
type layout struct {
	shape   tensor.Shape // of an example; N is 1
	n       int          // number of coordinates
	windows []span       // lo and hi both rise
	reach   int          // how far a move may change a coordinate
	at      []int        // [Steps][C][H][W], the coordinate of each value
}

func (w Windows) layout(s tensor.Shape) (l layout, err error) {
	block := max(w.Block, 1)
	switch w.Axis {
	case Time:
		if s.Steps < 2 {
			return l, errors.New("axis time and an image that is the same at all steps: expected examples of several frames")
		}
		l.n, l.reach = s.Steps, min(w.MaxShift, s.Steps)
	case Rows:
		l.n = s.H
	case Columns:
		l.n = s.W
	case Lattice:
		l.n = block * block
	default:
		return l, fmt.Errorf("axis %q: expected %q, %q, %q or %q", w.Axis, Time, Rows, Columns, Lattice)
	}
	switch {
	case w.Axis == Lattice && (w.Block < 2 || w.Block > min(s.H, s.W)):
		return l, fmt.Errorf("block %d: expected 2 to %d for images of %d×%d", w.Block, min(s.H, s.W), s.H, s.W)
	case w.Axis != Lattice && w.Block != 0:
		return l, fmt.Errorf("block %d: expected 0 for the axis %q", w.Block, w.Axis)
	case w.Size < 1 || w.Size > l.n:
		return l, fmt.Errorf("size %d: expected 1 to %d, the coordinates of the axis %q", w.Size, l.n, w.Axis)
	case w.Stride < 1 || w.Stride > w.Size:
		return l, fmt.Errorf("stride %d: expected 1 to the size, %d, so that every value is in a window", w.Stride, w.Size)
	case w.MaxShift < 0:
		return l, fmt.Errorf("maxShift %d: expected at least 0", w.MaxShift)
	}
	l.shape = s
	l.shape.N = 1
	for lo := 0; ; lo += w.Stride { // the last one may be shorter
		l.windows = append(l.windows, span{lo, min(lo+w.Size, l.n)})
		if lo+w.Size >= l.n {
			break
		}
	}
	for t := range s.Steps {
		for range s.C {
			for y := range s.H {
				for x := range s.W {
					l.at = append(l.at, map[Axis]int{Time: t, Rows: y, Columns: x, Lattice: y%block*block + x%block}[w.Axis])
				}
			}
		}
	}
	return l, nil
}

// ablate writes the values of src that window w sees to dst, and zeros for the others. It reports
// whether it has written any other value than zero.
func (l *layout) ablate(dst, src []float32, w span) (any bool) {
	for j, c := range l.at {
		dst[j] = 0
		if c >= w.lo && c < w.hi && src[j] != 0 {
			dst[j], any = src[j], true
		}
	}
	return any
}

// Certify implements [Method]. The radius of a certificate is a number of edits.
//
// A random encoder, or another random part of the network, draws from key and the number of the
// window. These numbers are the same for all images, so that the smoothed network is a fixed
// function, and the certificate holds for it without a probability of failure. ids have no effect.
//
// Certify returns an error that names a setting out of range. The other errors are those of
// [snn.Model.ValidateParams] and [snn.Model.Logits].
func (w Windows) Certify(ctx context.Context, m *snn.Model, x tensor.NCHW, ids []uint64, key rng.Key) ([]Certificate, error) {
	err := validate(m, x, ids)
	var l layout
	if err == nil {
		l, err = w.layout(x.Shape())
	}
	if err == nil && m.Classes() < 2 {
		err = errors.New("a network of 1 class: expected at least 2")
	}
	if err != nil {
		return nil, fmt.Errorf("smooth: %w", err)
	}
	list := make([]Certificate, x.N)
	for i := range list {
		votes, err := l.vote(ctx, m, x.Image(i), key)
		if err != nil {
			return nil, fmt.Errorf("smooth: image %d: %w", i, err)
		}
		list[i] = l.certificate(votes, m.Classes())
	}
	return list, nil
}

// vote returns the class of each window, or Abstain.
func (l *layout) vote(ctx context.Context, m *snn.Model, image []float32, key rng.Key) ([]int, error) {
	votes := make([]int, len(l.windows))
	shape := l.shape
	shape.N = len(votes)
	err := m.ForEachChunk(shape, snn.Pass{}, func(lo, hi int, p snn.Pass) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		shape := shape
		shape.N = hi - lo
		x := tensor.NewFrames(shape)
		p.Keys = make([]rng.Key, x.N)
		empty := make([]bool, x.N)
		for j := range p.Keys {
			p.Keys[j] = key.Derive("window", uint64(lo+j))
			empty[j] = !l.ablate(x.Image(j), image, l.windows[lo+j])
		}
		if err := classify(votes[lo:hi], m, p, x); err != nil {
			return err
		}
		for j, none := range empty {
			if none {
				votes[lo+j] = Abstain
			}
		}
		return nil
	})
	return votes, err
}

// certificate returns the class and the number of certified edits for the votes of the windows.
func (l *layout) certificate(votes []int, classes int) Certificate {
	c := Certificate{Votes: make([]int, classes)}
	for _, v := range votes {
		if v != Abstain {
			c.Votes[v]++
		}
	}
	c.Class = argmax(c.Votes)
	if c.Votes[c.Class] == 0 {
		c.Class = Abstain
		return c
	}
	edits := math.MaxInt
	gain := make([]int, len(votes)) // what the other class gains on c.Class from a changed window
	for other := range classes {
		if other == c.Class {
			continue
		}
		for j, v := range votes {
			switch v {
			case c.Class:
				gain[j] = 2
			case other:
				gain[j] = 0
			default:
				gain[j] = 1
			}
		}
		least := 0 // the least difference of votes at which c.Class wins
		if other < c.Class {
			least = 1
		}
		moves, points := l.damages(gain, l.reach), l.damages(gain, 0)
		at := func(d []int, k int) int { return d[min(k, len(d)-1)] }
		k := 0
		for c.Votes[c.Class]-c.Votes[other]-min(at(moves, k+1), at(points, 2*(k+1))) >= least {
			k++
		}
		edits = min(edits, k)
	}
	c.Radius = float64(edits)
	return c
}

// damages returns, for k = 0, 1, …, the largest sum of gain over the windows that k segments touch.
// A segment is the coordinates a to a + reach, or to the last one. The last element holds for all
// larger k too.
//
// With reach 0 that is what k changed values can touch, and k moves no more than 2·k. A move
// touches no window that its segment does not touch. If no window is shorter than reach, it
// touches exactly those.
//
// Segments are chosen in the order of their beginnings. A window that touches an earlier segment
// and the new one also touches every segment between them. What a new segment adds therefore
// depends on the one before it alone.
func (l *layout) damages(gain []int, reach int) []int {
	touches := func(a int, w span) bool { return w.lo <= a+reach && a < w.hi }
	adds := make([]int, (l.n+1)*l.n) // [before+1][a], before = −1 for none
	for before := -1; before < l.n; before++ {
		for a := range l.n {
			for j, w := range l.windows {
				if touches(a, w) && (before < 0 || !touches(before, w)) {
					adds[(before+1)*l.n+a] += gain[j]
				}
			}
		}
	}
	total := 0
	for _, g := range gain {
		total += g
	}
	best := make([]int, l.n) // of k segments, of which a is the last
	copy(best, adds)
	list := []int{0}
	for {
		most := 0
		for _, b := range best {
			most = max(most, b)
		}
		list = append(list, most)
		if most == total { // l.n segments touch all windows
			return list
		}
		next := make([]int, l.n)
		for a := range l.n {
			for before := range a + 1 {
				next[a] = max(next[a], best[before]+adds[(before+1)*l.n+a])
			}
		}
		best = next
	}
}

// Perturb implements [snn.Adversary], for training: it returns the images with zeros outside a
// window, which it draws for each image. Its perturbation has no bound. Its errors are those of
// Certify.
func (w Windows) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	err := cmp.Or(ctx.Err(), validate(m, x, ids))
	if err == nil && len(y) != x.N {
		err = fmt.Errorf("%d labels for %d images: expected one for each", len(y), x.N)
	}
	var l layout
	if err == nil {
		l, err = w.layout(x.Shape())
	}
	if err != nil {
		return tensor.NCHW{}, fmt.Errorf("smooth: %w", err)
	}
	ablated := x.Clone()
	for i := range x.N {
		j := imageKey(key, ids, i).Derive("window", 0).Rand().IntN(len(l.windows))
		l.ablate(ablated.Image(i), x.Image(i), l.windows[j])
	}
	return ablated, nil
}
