package attack

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Square asks for logits alone (Andriushchenko et al. 2020). It changes the values of a square at
// a random place, and keeps the change unless the margin rises.
//
// In L∞ a square's values move to ±ε from the original, with a random sign for each channel. If
// that changes none, those of one channel get the other sign. In L2 a square gets the perturbation
// of another one, the part of ε that is unused, and two pyramids of opposite signs. A square has
// the share P of an image's pixels, which halves after 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of
// the queries. A square of an example with several frames covers the same place in all frames and
// in one of them by turns.
type Square struct {
	Norm    Norm // LInf{} or L2{}
	Eps     float32
	Queries int     // ≥ 1, that of the start included
	P       float64 // in (0,1]; the paper's is 0.8 in L∞ and 0.1 in L2
	// FromBest begins at the best point of the attacks before, in a [Battery]. Otherwise Square
	// begins at stripes of ±ε (L∞) or at a grid of pyramids of length ε (L2).
	FromBest bool
	// SharedFrames makes one perturbation for all frames of an example, as in [Attack].
	SharedFrames bool
}

// Threat implements [Bounded].
func (s Square) Threat() (Threat, bool) { return Threat{s.Norm, s.Eps, s.SharedFrames}, true }

// Validate returns an error that names a field that is out of range.
func (s Square) Validate() error {
	if s.Norm != (LInf{}) && s.Norm != (L2{}) {
		return fmt.Errorf("attack: square: norm %v: expected LInf{} or L2{}", s.Norm)
	}
	if s.Queries < 1 {
		return fmt.Errorf("attack: square: Queries %d: expected at least 1", s.Queries)
	}
	if !(s.P > 0 && s.P <= 1) {
		return fmt.Errorf("attack: square: P %v: expected a share of an image's pixels in (0,1]", s.P)
	}
	if err := (Threat{Norm: s.Norm, Eps: s.Eps}).validate(); err != nil {
		return fmt.Errorf("attack: square: %w", err)
	}
	return nil
}

// Search implements [Searcher].
func (s Square) Search(o *Oracle) error {
	if err := s.Validate(); err != nil {
		return err
	}
	c := newClimber(o, s.FromBest, s.SharedFrames)
	r := o.Rand("square", 0)
	if !s.FromBest {
		s.begin(c, r)
	}
	if err := c.start(); err != nil {
		return err
	}
	for q := 1; q < s.Queries; q++ {
		side := s.side(float64(q)/float64(s.Queries), c)
		from, to := 0, c.frames
		if q%2 == 0 {
			from = r.IntN(c.frames)
			to = from + 1
		}
		a := area{from, to, r.IntN(c.h - side + 1), r.IntN(c.w - side + 1), side}
		if s.Norm == (LInf{}) {
			changed := false
			for ch := range c.channels {
				changed = c.toEnd(a, ch, r.IntN(2) == 0) || changed
			}
			if !changed { // the values were there: one channel goes to its other end
				ch := r.IntN(c.channels)
				_ = c.toEnd(a, ch, true) || c.toEnd(a, ch, false)
			}
		} else {
			b := a
			b.y, b.x = r.IntN(c.h-side+1), r.IntN(c.w-side+1)
			s.exchange(c, a, b, r)
		}
		if _, err := c.keepUnlessWorse(); err != nil {
			return err
		}
	}
	return nil
}

// side returns the side of a square after a share of the queries.
func (s Square) side(done float64, c *climber) int {
	p := s.P
	for _, at := range []float64{0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8} {
		if done > at {
			p /= 2
		}
	}
	side := max(1, int(math.Round(math.Sqrt(p*float64(c.h*c.w)))))
	if s.Norm == (L2{}) {
		side = max(3, side|1) // pyramids need a middle
	}
	return min(side, c.h, c.w)
}

// begin moves the point to the stripes (L∞) or to the grid of pyramids (L2) of the paper. All
// frames get the same ones.
func (s Square) begin(c *climber, r *rand.Rand) {
	if s.Norm == (LInf{}) {
		for ch := range c.channels {
			for x := range c.w {
				up := r.IntN(2) == 0
				for y := range c.h {
					c.toEnd(area{0, c.frames, y, x, 1}, ch, up)
				}
			}
		}
		return
	}
	side := max(1, min(c.h, c.w)/5)
	tile := pyramid(side, side)
	delta := make([]float32, len(c.point))
	for ch := range c.channels {
		for y := 0; y+side <= c.h; y += side {
			for x := 0; x+side <= c.w; x += side {
				sign := float32(1 - 2*r.IntN(2))
				for k, i := range c.indices(nil, area{0, c.frames, y, x, side}, ch) {
					delta[i] = sign * tile[k%len(tile)]
				}
			}
		}
	}
	L2{}.Step(c.point, delta, s.Eps)
	c.ball.Project(c.point)
}

// exchange moves the perturbation of b to a, in all channels.
func (s Square) exchange(c *climber, a, b area, r *rand.Rand) {
	center := c.ball.Center
	at := func(i int) float64 { return float64(c.point[i]) - float64(center[i]) }
	unused := float64(s.Eps) * float64(s.Eps)
	for i := range c.point {
		unused -= float64(at(i) * at(i))
	}
	share := max(0, unused) / float64(c.channels*(a.to-a.from))
	shape := bump(a.side, r.IntN(2) == 0)
	var in, out []int
	for t := a.from; t < a.to; t++ {
		for ch := range c.channels {
			in = c.indices(in[:0], area{t, t + 1, a.y, a.x, a.side}, ch)
			out = c.indices(out[:0], area{t, t + 1, b.y, b.x, b.side}, ch)
			var inside, both, length float64
			for _, i := range in {
				inside += float64(at(i) * at(i))
			}
			both = inside
			for _, i := range out {
				if !a.covers((i/c.w)%c.h, i%c.w) {
					both += float64(at(i) * at(i))
				}
			}
			sign := float64(1 - 2*r.IntN(2))
			d := make([]float64, len(in))
			for k, i := range in {
				d[k] = float64(sign * shape[k])
				if inside > 0 {
					d[k] += at(i) / math.Sqrt(inside)
				}
				length += float64(d[k] * d[k])
			}
			for _, i := range out {
				c.point[i] = center[i]
			}
			for k, i := range in {
				if c.point[i] = center[i]; length > 0 {
					c.point[i] += float32(d[k] * math.Sqrt((both+share)/length))
				}
			}
		}
	}
	c.ball.Project(c.point)
}

// pyramid returns the values of the paper's η⁽ʰʷ⁾, [h][w].
func pyramid(h, w int) []float32 {
	p := make([]float32, 0, h*w)
	n := h / 2
	for y := range h {
		for x := range w {
			var v float64
			for k := range n - max(abs(y-h/2), abs(x-w/2)) + 1 {
				v += 1 / float64((n+1-k)*(n+1-k))
			}
			p = append(p, float32(v))
		}
	}
	return p
}

// bump returns two pyramids of opposite signs side by side, or one above the other, with the
// Euclidean norm 1, [side][side].
func bump(side int, upright bool) []float64 {
	left := side / 2
	p, q := pyramid(side, left), pyramid(side, side-left)
	b := make([]float64, side*side)
	var sum float64
	for y := range side {
		for x := range side {
			var v float64
			if x < left {
				v = float64(p[y*left+x])
			} else {
				v = -float64(q[y*(side-left)+x-left])
			}
			sum += float64(v * v)
			if upright {
				b[x*side+y] = v
			} else {
				b[y*side+x] = v
			}
		}
	}
	for i := range b {
		b[i] /= math.Sqrt(sum)
	}
	return b
}

func abs(x int) int { return max(x, -x) }

// Perturb implements [snn.Adversary].
func (s Square) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	if err := s.Validate(); err != nil {
		return tensor.NCHW{}, err
	}
	return PerturbEach(ctx, s, m, x, y, ids, key)
}

// Describe implements [Describer].
func (s Square) Describe() Settings {
	d := Settings{Kind: "Square", Start: "stripes", Passes: s.Queries, P: s.P, SharedFrames: s.SharedFrames}
	if s.Norm == (L2{}) {
		d.Start = "a grid of pyramids"
	}
	if s.FromBest {
		d.Start = AtBest{}.String()
	}
	return d
}
