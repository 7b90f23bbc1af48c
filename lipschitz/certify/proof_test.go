package certify_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/tensor"
)

// methods are the bounds to test.
var methods = []certify.Method{certify.Intervals{}, certify.Trains{}, certify.Linear{}}

// TestEnumerated certifies all images of grids, and enumerates the images of the grid in each
// ball. A certified image may not be broken, and a broken one comes with an image that breaks
// it. Most parameters are such that many sums equal a threshold.
func TestEnumerated(t *testing.T) {
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	var c counts
	t.Run("networks", func(t *testing.T) {
		for kind, k := range kinds {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				for seed := range seeds * onGrids {
					n := newTiny(t, kind, seed, style(seed%onGrids))
					x := grid(kind)
					y := n.classes(t, x)
					for _, eps := range []float64{0, 1 / float64(k.levels), 1.5 / float64(k.levels)} {
						c.holdAgainst(t, n, kind, x, y, y, eps, methods...)
					}
					// Labels that the network does not give to every image.
					other := slices.Repeat([]int{seed % n.m.Classes()}, x.N)
					c.holdAgainst(t, n, kind, x, y, other, 1/float64(k.levels), methods...)
				}
			})
		}
	})
	t.Logf("%d pairs of an image and ε: %d broken on the grid; of the others, %d are certified by the method that they were given to",
		c.pairs.Load(), c.broken.Load(), c.certified.Load())
	if !testing.Short() {
		require.Greater(t, c.pairs.Load(), int64(100_000))
	}
	require.Greater(t, c.broken.Load(), c.pairs.Load()/10)
	require.Greater(t, float64(c.certified.Load()), 0.7*float64(c.pairs.Load()-c.broken.Load()), "certificates that say too little to be tested")
}

// counts are the pairs of an image and ε so far.
type counts struct{ pairs, broken, certified atomic.Int64 }

// TestCountsEnumerated is TestEnumerated for Counts, on networks of IF neurons with soft reset. It
// also completes some of the proofs.
func TestCountsEnumerated(t *testing.T) {
	var c counts
	t.Run("networks", func(t *testing.T) {
		for kind, k := range kinds {
			if k.name == "max pool" {
				continue
			}
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				for seed := range onGrids {
					n := newTiny(t, kind, 200+seed, style(seed))
					n.integrate()
					x := grid(kind)
					y := n.classes(t, x)
					for _, eps := range []float64{1 / float64(k.levels), 2.5 / float64(k.levels)} {
						c.holdAgainst(t, n, kind, x, y, y, eps, certify.Counts{})
					}
					b := broken(kind, x, y, y, 1/float64(k.levels))
					for i := seed; i < x.N; i += 41 {
						r, err := certify.Complete(t.Context(), n.m, x.Slice(i, i+1), y[i:i+1],
							certify.Config{Epsilon: 1 / float64(k.levels), Method: certify.Counts{}}, certify.Effort{Nodes: 50})
						require.NoError(t, err, "%v", n)
						require.False(t, b[i] && r[0].Verdict == certify.Certified, "%v: image %d is certified, but an image of the grid breaks it", n, i)
					}
				}
			})
		}
	})
	t.Logf("%d pairs of an image and ε: %d broken on the grid, %d certified", c.pairs.Load(), c.broken.Load(), c.certified.Load())
	require.Greater(t, c.broken.Load(), c.pairs.Load()/20)
	require.Greater(t, float64(c.certified.Load()), 0.7*float64(c.pairs.Load()-c.broken.Load()), "certificates that say too little to be tested")
}

// holdAgainst checks the certificates of all images of a grid with labels y, whose classes are
// class. An image that is broken on the grid is given to every method, and another one to one of
// them.
func (c *counts) holdAgainst(t *testing.T, n *tiny, kind int, x tensor.NCHW, class, y []int, eps float64, methods ...certify.Method) {
	b := broken(kind, x, class, y, eps)
	c.pairs.Add(int64(x.N))
	for k, method := range methods {
		some := images(kind, x.N)
		var at, labels []int
		for i := range x.N {
			if b[i] || i%len(methods) == k {
				copy(some.Image(len(at)), x.Image(i))
				at, labels = append(at, i), append(labels, y[i])
			}
		}
		results, err := certify.Certify(context.Background(), n.m, some.Slice(0, len(at)), labels, certify.Config{Epsilon: eps, Method: method})
		require.NoError(t, err, "%v", n)
		require.Len(t, results, len(at))
		for j, r := range results {
			switch i := at[j]; r.Verdict {
			case certify.Certified:
				c.certified.Add(1)
				if b[i] {
					t.Fatalf("%v, %v, ε = %v: image %d of class %d is certified, but an image of the grid breaks it", n, method, eps, i, y[i])
				}
			case certify.Broken:
				if class[i] == y[i] || i%8 == 0 {
					breaks(t, n, kind, x.Image(i), y[i], eps, r)
				}
			}
		}
	}
	for _, b := range b {
		if b {
			c.broken.Add(1)
		}
	}
}

// breaks checks that the counterexample of r is in the ball and has another class than y.
func breaks(t *testing.T, n *tiny, kind int, x []float32, y int, eps float64, r certify.Result) {
	require.Len(t, r.Counterexample, len(x))
	adv := images(kind, 1)
	copy(adv.Data, r.Counterexample)
	for p, v := range adv.Data {
		require.LessOrEqual(t, math.Abs(float64(v)-float64(x[p])), max(eps, float64(float32(eps)))*(1+1e-12), "%v", n)
		require.True(t, v >= 0 && v <= 1, "%v: %v", n, v)
	}
	require.NotEqual(t, y, n.classes(t, adv)[0], "%v: the counterexample has the class of the image", n)
}

// TestLastNumber changes one parameter of a network, up to two neighbouring float32: with one of
// them, no corner of a ball is misclassified, with the other one is. A certificate for the
// latter is wrong by the rounding of one sum. In a small ball all other neurons are decided, so
// that bounds which do not count every rounding would certify it.
func TestLastNumber(t *testing.T) {
	trials := 20
	if testing.Short() {
		trials = 6
	}
	var tight, at [2]atomic.Int64
	t.Run("networks", func(t *testing.T) {
		for kind, k := range kinds {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				for trial := range (trials + trials/4) * int(styles) {
					n := newTiny(t, kind, 1000+trial, style(trial%int(styles)))
					methods := methods
					if trial >= trials*int(styles) && k.name != "max pool" {
						n.integrate()
						methods = append(slices.Clone(methods), certify.Counts{})
					}
					x := images(kind, 1)
					for i := range x.Data {
						x.Data[i] = n.r.Float32()
						if n.r.IntN(4) == 0 {
							x.Data[i] = float32(n.r.IntN(5)) / 4
						}
					}
					eps := math.Ldexp(1+n.r.Float64(), -1-n.r.IntN(18))
					y := n.classes(t, x)
					points := corners(kind, x.Data, eps)
					points = points.Slice(0, points.N/2).Clone()
					points.Data = append(points.Data, x.Data...)
					points.N++
					var set func(float32)
					anyBroken := func(v float32) bool {
						set(v)
						return slices.ContainsFunc(n.classes(t, points), func(c int) bool { return c != y[0] })
					}
					var from, to float32
					found := false
					for range 12 {
						set, from, to = n.parameter()
						before := anyBroken(from)
						if after := anyBroken(to); before != after {
							found = true
							if before {
								from, to = to, from
							}
							break
						}
						set(from)
					}
					if !found {
						continue
					}
					good, bad := bisect(from, to, anyBroken)
					for i, v := range []float32{bad, good} {
						set(v)
						for _, method := range methods {
							cfg := certify.Config{Epsilon: eps}
							cfg.Method = method
							results, err := certify.Certify(context.Background(), n.m, x, y, cfg)
							require.NoError(t, err, "%v", n)
							at[i].Add(1)
							if results[0].Verdict != certify.Certified {
								continue
							}
							tight[i].Add(1)
							if i == 0 {
								t.Fatalf("%v, trial %d, %v, ε = %v: certified, but a corner has another class (parameter %v; not with %v)", n, trial, method, eps, bad, good)
							}
						}
					}
				}
			})
		}
	})
	t.Logf("%d cases; with the neighbouring number, %d of %d are certified", at[0].Load(), tight[1].Load(), at[1].Load())
	require.Greater(t, at[0].Load(), int64(8*trials*len(methods)))
}

// parameter returns a parameter to change, its value and another value. It is a threshold, a parameter
// of the last layer, or any one.
func (n *tiny) parameter() (set func(float32), from, to float32) {
	some := n.params
	choice := n.r.IntN(3)
	if n.m.Steps > 5 || n.m.Steps == 1 {
		choice = 1 // rounding errors of long sums over the steps, and of logits alone
	}
	switch choice {
	case 0:
		l := n.lif[n.r.IntN(len(n.lif))]
		to := max(l.Threshold*(0.25+2*n.r.Float32()), l.Reset+0.01*n.unit())
		return func(v float32) { l.Threshold = v }, l.Threshold, to
	case 1:
		some = n.params[len(n.params)-2:]
	}
	p := some[n.r.IntN(len(some))]
	values := p.Export()
	i := n.r.IntN(len(values))
	return func(v float32) { values[i] = v; p.Import(values) }, values[i], values[i] + float32(n.r.NormFloat64())*max(4*n.unit(), values[i], -values[i])
}

// bisect returns two neighbouring numbers between from and to. bad has the property, good
// has not. to has it, from has not.
func bisect(from, to float32, property func(float32) bool) (good, bad float32) {
	a, b := ordinal(from), ordinal(to)
	for d := b - a; d != 1 && d != -1; d = b - a {
		mid := a + d/2
		if property(number(mid)) {
			b = mid
		} else {
			a = mid
		}
	}
	return number(a), number(b)
}

// ordinal numbers the float32 in ascending order. Zero has the number 0.
func ordinal(v float32) int64 {
	if v < 0 {
		return -int64(math.Float32bits(-v))
	}
	return int64(math.Float32bits(v))
}

// number is the inverse of ordinal.
func number(i int64) float32 {
	if i < 0 {
		return -math.Float32frombits(uint32(-i))
	}
	return math.Float32frombits(uint32(i))
}

func TestBisect(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		at, from, to := float32(r.NormFloat64()), float32(-10), float32(10)
		good, bad := bisect(from, to, func(v float32) bool { return v >= at })
		require.Equal(t, at, bad)
		require.Equal(t, math.Nextafter32(at, -10), good)
		good, bad = bisect(to, from, func(v float32) bool { return v <= at })
		require.Equal(t, at, bad)
		require.Equal(t, math.Nextafter32(at, 10), good)
	}
}
