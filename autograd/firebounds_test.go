package autograd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// boundCase are neurons with currents in intervals, multiples of 1/8, so that all is exact.
type boundCase struct {
	d      autograd.Dynamics
	sh     tensor.Shape // of the currents
	steps  int
	lo, hi array
}

func boundCases() (cases []boundCase) {
	for i, d := range []autograd.Dynamics{
		{Decay: 1, Threshold: 1}, {Decay: 0.5, Threshold: 1}, {Decay: 1, Threshold: 1, SoftReset: true}, {Decay: 0.5, Threshold: 1.5, SoftReset: true},
	} {
		for _, sh := range []tensor.Shape{{N: 2, Steps: 5, C: 17, H: 3, W: 2}, {N: 3, Steps: 1, C: 15, H: 1, W: 1}} {
			r := rand.New(rand.NewPCG(uint64(i), 5))
			c := boundCase{d: d, sh: sh, steps: 5}
			c.lo = elementwise(sh, func(_, _, _, _, _ int) float64 { return float64(r.IntN(20)-8) / 8 })
			c.hi = elementwise(sh, func(n, t, ch, y, x int) float64 { return c.lo.at(n, t, ch, y, x) + float64(r.IntN(6))/8 })
			cases = append(cases, c)
		}
	}
	return cases
}

func (c boundCase) String() string { return fmt.Sprintf("%+v %v", c.d, c.sh) }

// fire returns the spikes of a bound, and the gradients of the currents for the seed dy, if it is
// not nil.
func (c boundCase) fire(of autograd.Bound, dy *tensor.Dense, threads int) (spikes array, dlo, dhi *tensor.Dense) {
	t := &autograd.Tape{Threads: threads}
	used := t.NewSpikes(c.sh.WithSteps(c.steps), false)
	for i := range t.Words(used) { // memory that the bounds get next
		t.Words(used)[i] = 0xffff
	}
	t.Reset()
	lo, hi := t.Input(c.lo.dense(), true), t.Input(c.hi.dense(), true)
	y := autograd.FireBound(t, lo, hi, c.d, c.steps, snn.Triangle{Width: 1}, of)
	spikes = ofDense(y.Spikes().Dense())
	if dy != nil {
		t.BackwardFrom(y, dy)
	}
	return spikes, lo.Grad(), hi.Grad()
}

// Every neuron with currents between the bounds has the spikes of the lower bound and none that
// the upper bound lacks.
func TestFireBoundHolds(t *testing.T) {
	for _, c := range boundCases() {
		t.Run(c.String(), func(t *testing.T) {
			least, _, _ := c.fire(autograd.Lower, nil, 1)
			most, _, _ := c.fire(autograd.Upper, nil, 1)
			r := rand.New(rand.NewPCG(9, 9))
			for trial := range 50 {
				x := elementwise(c.sh, func(n, t, ch, y, z int) float64 {
					lo, hi := c.lo.at(n, t, ch, y, z), c.hi.at(n, t, ch, y, z)
					switch trial {
					case 0:
						return lo
					case 1:
						return hi
					}
					return lo + float64(r.IntN(1+int((hi-lo)*8)))/8
				})
				tape := &autograd.Tape{}
				s := ofDense(autograd.FireThroughTime(tape, tape.Input(x.dense(), false), c.d, c.steps, nil, false).Spikes().Dense())
				for i, v := range s.v {
					require.LessOrEqual(t, least.v[i], v)
					require.LessOrEqual(t, v, most.v[i])
				}
			}
			assert.Contains(t, least.v, 1.0, "some neurons surely fire")
			assert.Contains(t, most.v, 0.0, "some surely do not")
			assert.NotEqual(t, least.v, most.v)
		})
	}
}

// The bounds and gradients are those of the equations, written out for one neuron and one pair of
// steps at a time: a current moves the potential of a later step by Decay^(steps between), unless
// a reset on the way has set it to a constant.
func TestFireBoundAgainstEquations(t *testing.T) {
	for _, c := range boundCases() {
		t.Run(c.String(), func(t *testing.T) {
			out := c.sh.WithSteps(c.steps)
			seed := seedOf(rand.New(rand.NewPCG(4, 4)), c.steps)(out)
			dy := ofDense(seed)
			for _, of := range []autograd.Bound{autograd.Lower, autograd.Upper} {
				want, grad := array{out, make([]float64, len(dy.v))}, array{c.sh, make([]float64, len(c.lo.v))}
				each(out.WithSteps(1), func(n, _, ch, y, x int) {
					u, cut := make([]float64, c.steps), make([]bool, c.steps) // after step t
					var a, b float64
					theta, decay := float64(c.d.Threshold), float64(c.d.Decay)
					for t := range c.steps {
						a, b = decay*a+c.lo.at(n, t, ch, y, x), decay*b+c.hi.at(n, t, ch, y, x)
						before := []float64{a, b}[of]
						u[t] = before - theta
						if before >= theta {
							want.v[want.index(n, t, ch, y, x)] = 1
						}
						surely, perhaps := a >= theta, a < theta && b >= theta
						if surely && c.d.SoftReset {
							a, b = a-theta, b-theta
						} else if surely {
							a, b, cut[t] = 0, 0, true
						}
						if perhaps {
							top := theta
							if c.d.SoftReset {
								top = max(theta, b-theta)
							}
							cut[t] = of == autograd.Lower && a > 0 || of == autograd.Upper && top == theta
							a, b = min(a, 0), top
						}
					}
					for from := range c.steps {
						factor := 1.0
						for to := from; to < c.steps; to++ {
							surrogate := max(0, 1-math.Abs(u[to]))
							at := grad.index(n, min(from, c.sh.Steps-1), ch, y, x)
							grad.v[at] += dy.at(n, to, ch, y, x) * surrogate * factor
							if factor *= decay; cut[to] {
								break
							}
						}
					}
				})
				got, dlo, dhi := c.fire(of, seed, 1)
				require.Equal(t, want.v, got.v)
				dx, other := dlo, dhi
				if of == autograd.Upper {
					dx, other = dhi, dlo
				}
				assert.Nil(t, other)
				assert.Less(t, difference(ofDense(dx).v, grad.v), 1e-6)
				requirePaddingZero(t, dx)
				again, lo2, hi2 := c.fire(of, seed, 3)
				assert.Equal(t, got, again)
				assert.Equal(t, []*tensor.Dense{dlo, dhi}, []*tensor.Dense{lo2, hi2})
			}
		})
	}
}

func TestFireBoundRefuses(t *testing.T) {
	tape := &autograd.Tape{}
	x, y := tape.Leaf(tensor.NewNCHW(2, 3, 1, 1), false), tape.Leaf(tensor.NewNCHW(1, 3, 1, 1), false)
	assert.PanicsWithValue(t, "autograd: FireBound: currents from 2×1×3×1×1 to 1×1×3×1×1", func() {
		autograd.FireBound(tape, x, y, autograd.Dynamics{Decay: 1, Threshold: 1}, 2, snn.Triangle{Width: 1}, autograd.Lower)
	})
}
