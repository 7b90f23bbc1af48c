package attack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// tinySpikes returns a network for frames of 1×3×3 pixels, and examples of spikes that it classifies as
// labelled.
func tinySpikes(t testing.TB, seed uint64, n, steps, levels int) (*snn.Model, set) {
	t.Helper()
	cfg := zoo.Default("conv4 A | fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 3, 3, 3, steps
	cfg.Mean, cfg.Std, cfg.Threshold = nil, nil, 0.4
	m, err := zoo.New(cfg, rng.New(seed))
	require.NoError(t, err)
	return m, spikesFor(t, m, seed, n, levels)
}

// spikesFor returns examples of spikes that m classifies as labelled.
func spikesFor(t testing.TB, m *snn.Model, seed uint64, n, levels int) set {
	t.Helper()
	r := rng.New(seed).Derive("spikes", 0).Rand()
	x := tensor.NewFrames(tensor.Shape{N: n, Steps: m.Steps, C: m.Channels, H: m.Height, W: m.Width})
	for i := range x.Data {
		if r.IntN(3) == 0 {
			x.Data[i] = float32(1+r.IntN(levels)) / float32(levels)
		}
	}
	return set{x: x, y: classes(t, m, x)}
}

// classes returns the classes that m predicts.
func classes(t testing.TB, m *snn.Model, x tensor.NCHW) (y []int) {
	t.Helper()
	z, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	for i := range x.N {
		top := 0
		for k, v := range z[i*m.Classes():][:m.Classes()] {
			if v > z[i*m.Classes()+top] {
				top = k
			}
		}
		y = append(y, top)
	}
	return y
}

// spikeNorms returns the norms of spikes for examples of so many frames.
func spikeNorms(steps, levels int) []attack.Norm {
	return []attack.Norm{
		attack.Flips{Levels: levels}, attack.Flips{Levels: levels, NoDeletions: true}, attack.Flips{Levels: levels, NoInsertions: true},
		attack.Retiming{Levels: levels, Steps: steps},
	}
}

// counts returns the levels of x.
func counts(x []float32, levels int) (k []int) {
	for _, v := range x {
		k = append(k, int(float64(v)*float64(levels)+0.5))
	}
	return k
}

// distanceOf computes distances in another way than the library: in Flips from integers, and in
// Retiming as the smallest Δ for which a maximum matching of the spikes of each pixel, found by
// augmenting paths, is complete.
func distanceOf(n attack.Norm, x, y []float32) float64 {
	switch n := n.(type) {
	case attack.Flips:
		a, b, sum := counts(x, n.Levels), counts(y, n.Levels), 0
		for i := range a {
			if a[i] > b[i] && n.NoInsertions || a[i] < b[i] && n.NoDeletions {
				return math.Inf(1)
			}
			sum += max(a[i]-b[i], b[i]-a[i])
		}
		return float64(sum)
	case attack.Retiming:
		for delta := range n.Steps {
			if matches(n, x, y, delta) {
				return float64(delta)
			}
		}
	}
	return math.Inf(1)
}

func matches(n attack.Retiming, x, y []float32, delta int) bool {
	size := len(x) / n.Steps
	for p := range size {
		var a, b []int
		for i := p; i < len(x); i += size {
			for range counts(x[i:i+1], n.Levels)[0] {
				a = append(a, i/size)
			}
			for range counts(y[i:i+1], n.Levels)[0] {
				b = append(b, i/size)
			}
		}
		partner := make([]int, len(b))
		for j := range partner {
			partner[j] = -1
		}
		var augment func(i int, seen []bool) bool
		augment = func(i int, seen []bool) bool {
			for j, at := range b {
				if seen[j] || max(at-a[i], a[i]-at) > delta {
					continue
				}
				seen[j] = true
				if partner[j] < 0 || augment(partner[j], seen) {
					partner[j] = i
					return true
				}
			}
			return false
		}
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if !augment(i, make([]bool, len(b))) {
				return false
			}
		}
	}
	return true
}

// everyFrame returns all frames of n values of so many levels.
func everyFrame(n, levels int) (all [][]float32) {
	all = [][]float32{nil}
	for range n {
		var longer [][]float32
		for _, x := range all {
			for k := range levels + 1 {
				longer = append(longer, append(slices.Clone(x), float32(k)/float32(levels)))
			}
		}
		all = longer
	}
	return all
}

// Distances are those of an independent computation, and 0 between equal frames. Project moves a point
// to one of those at the smallest L2 distance among all points of the ball, and Step to one of those
// with the largest rise.
func TestSpikeNormsAgainstEnumeration(t *testing.T) {
	racetest.Costly(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ steps, pixels, levels int }{{3, 3, 1}, {6, 1, 1}, {3, 1, 3}, {2, 2, 2}} {
		all := everyFrame(c.steps*c.pixels, c.levels)
		for _, n := range spikeNorms(c.steps, c.levels) {
			finite := 0
			for range 25 {
				center := all[r.IntN(len(all))]
				for _, x := range all {
					require.Equal(t, distanceOf(n, x, center), n.Distance(x, center), "%v: %v from %v", n, x, center)
					if n.Distance(x, center) < math.Inf(1) {
						finite++
					}
				}
				assert.Zero(t, n.Distance(center, center))
				eps := float32(r.IntN(4))
				point, g := make([]float32, len(center)), make([]float32, len(center))
				for i := range point {
					point[i], g[i] = 2*r.Float32()-0.5, 2*r.Float32()-1
				}
				near, top := math.Inf(1), math.Inf(-1)
				for _, x := range all {
					if distanceOf(n, x, center) <= float64(eps) {
						near, top = min(near, (attack.L2{}).Distance(x, point)), max(top, dot(g, x))
					}
				}
				projected := slices.Clone(point)
				n.Project(projected, center, eps)
				require.LessOrEqual(t, distanceOf(n, projected, center), float64(eps), "%v: %v around %v", n, point, center)
				require.InDelta(t, near, (attack.L2{}).Distance(projected, point), 1e-6, "%v: %v around %v", n, point, center)
				again := slices.Clone(projected)
				n.Project(again, center, eps)
				require.Equal(t, projected, again, "%v", n)
				stepped := slices.Clone(center)
				n.Step(stepped, g, eps)
				require.LessOrEqual(t, distanceOf(n, stepped, center), float64(eps), "%v", n)
				require.InDelta(t, top, dot(g, stepped), 1e-6, "%v: %v along %v by %v", n, center, g, eps)
				n.Step(stepped, make([]float32, len(g)), eps)
				require.InDelta(t, top, dot(g, stepped), 1e-6, "%v: a gradient of zero", n)
				start := slices.Clone(center)
				attack.InBall{}.Initialize(start, n, eps, r)
				require.LessOrEqual(t, distanceOf(n, start, center), float64(eps), "%v", n)
			}
			assert.Greater(t, finite, 25, "%v", n)
		}
	}
}

func dot(a, b []float32) (sum float64) {
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// fewestOf returns the fewest changes with which an example can be misclassified, up to most, or −1: it
// enumerates the ball.
func fewestOf(t *testing.T, m *snn.Model, n attack.Norm, x tensor.NCHW, label, levels, most int) int {
	t.Helper()
	near := [][]float32{x.Data}
	seen := map[string]bool{fmt.Sprint(x.Data): true}
	for k := range most {
		var next [][]float32
		for _, from := range near {
			for i := range from {
				for _, by := range []int{-1, 1} {
					y := slices.Clone(from)
					level := counts(y[i:i+1], levels)[0] + by
					if y[i] = float32(level) / float32(levels); level < 0 || level > levels || seen[fmt.Sprint(y)] || distanceOf(n, y, x.Data) > float64(k+1) {
						continue
					}
					seen[fmt.Sprint(y)] = true
					next = append(next, y)
				}
			}
		}
		if len(next) == 0 {
			return -1
		}
		batch := tensor.NewFrames(tensor.Shape{N: len(next), Steps: x.Steps, C: x.C, H: x.H, W: x.W})
		for i, y := range next {
			copy(batch.Image(i), y)
		}
		for _, class := range classes(t, m, batch) {
			if class != label {
				return k + 1
			}
		}
		near = next
	}
	return -1
}

// With one change allowed, a greedy attack and a search by scores find an example that is misclassified
// exactly if enumeration does. With two, they find no more than enumeration, and on these networks no
// less.
func TestSpikesAgainstEnumeration(t *testing.T) {
	racetest.Costly(t)
	for _, levels := range []int{1, 2} {
		m, data := tinySpikes(t, 4, 8, 3, levels)
		for _, n := range spikeNorms(3, levels)[:3] {
			exist := make([]int, data.x.N)
			for i := range exist {
				exist[i] = fewestOf(t, m, n, data.x.Slice(i, i+1), data.y[i], levels, 2)
			}
			for k := 1; k <= 2; k++ {
				both := attack.Rounds{N: 1, Attacks: []attack.Searcher{
					attack.GreedySpikes(n, float32(k), 8, snn.BPTT{}),
					attack.SpikeSearch{Norm: n, Eps: float32(k), Passes: 800, FromBest: true, Reduce: true},
				}}
				report, err := attack.Evaluate(ctx, m, data, []attack.Named{{Name: "both", Attack: both}}, attack.DefaultConfig())
				require.NoError(t, err)
				fewest, err := report.Fewest()
				require.NoError(t, err)
				broken := 0
				for i, v := range fewest {
					exists := exist[i] > 0 && exist[i] <= k
					assert.Equal(t, exists, v > 0, "%v, image %d, %d changes", n, i, k)
					assert.False(t, v > 0 && v < exist[i], "%v, image %d: the attack claims %d changes, at least %d are needed", n, i, v, exist[i])
					if exists {
						broken++
					}
				}
				assert.Positive(t, broken, "%v, %d changes", n, k)
				assert.Less(t, broken, len(fewest), "%v, %d changes", n, k)
			}
		}
	}
}

// A step of any length makes all changes with a gain.
func TestLongStepsOfSpikes(t *testing.T) {
	for _, alpha := range []float32{4, 1e30, math.MaxFloat32} {
		for _, n := range []attack.Norm{attack.Flips{Levels: 1}, attack.Retiming{Levels: 1, Steps: 4}} {
			x := []float32{1, 0, 0, 1}
			n.Step(x, []float32{-1, 2, 3, -4}, alpha)
			assert.Equal(t, []float32{0, 1, 1, 0}, x, "%v, %v", n, alpha)
		}
	}
}

// A search by scores alone, and one in the order of gradients, find each example that one change breaks.
func TestSpikeSearchFindsSingleChanges(t *testing.T) {
	m, data := tinySpikes(t, 4, 16, 3, 1)
	flips := attack.Flips{Levels: 1}
	for _, g := range []snn.Gradient{nil, snn.BPTT{}} {
		adv := perturb(t, attack.SpikeSearch{Norm: flips, Eps: 1, Passes: 40, Gradient: g}, m, data.x, data.y, nil)
		for i, class := range classes(t, m, adv) {
			exists := fewestOf(t, m, flips, data.x.Slice(i, i+1), data.y[i], 1, 1) == 1
			assert.Equal(t, exists, class != data.y[i], "image %d, order of %v", i, g)
		}
	}
}

// asking is a searcher that asks about one point for each image.
type asking struct {
	threat attack.Threat
	points [][]float32
}

func (a asking) Threat() (attack.Threat, bool) { return a.threat, true }

func (a asking) Search(o *attack.Oracle) error { _, err := o.Logits(a.points[o.ID]); return err }

func (a asking) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	return attack.PerturbEach(ctx, a, m, x, y, ids, key)
}

// A search that begins at the best point of an attack with a larger Eps finds the single changes.
func TestSpikeSearchWithinItsOwnEps(t *testing.T) {
	racetest.Costly(t)
	m, data := tinySpikes(t, 4, 16, 3, 1)
	flips := attack.Flips{Levels: 1}
	r := rand.New(rand.NewPCG(5, 6))
	far := asking{threat: attack.Threat{Norm: flips, Eps: 6}} // points of 6 changes that break no image
	for i, label := range data.y {
		x := data.x.Slice(i, i+1)
		clean := margins(t, m, x, []int{label})[0]
		point := slices.Clone(x.Data)
		for range 2000 {
			y := x.Clone()
			for _, k := range r.Perm(len(y.Data))[:6] {
				y.Data[k] = 1 - y.Data[k]
			}
			if d := margins(t, m, y, []int{label})[0]; d > 0 && d < clean {
				clean, point = d, y.Data
			}
		}
		far.points = append(far.points, point)
	}
	b := attack.Battery{Threat: far.threat, Attacks: []attack.Named{
		{Name: "far", Attack: far}, {Name: "search", Attack: attack.SpikeSearch{Norm: flips, Eps: 1, Passes: 28, FromBest: true}},
	}}
	cfg := attack.DefaultBatteryConfig()
	cfg.Unchecked = true
	report, err := b.Evaluate(ctx, m, data, cfg)
	require.NoError(t, err)
	broken := 0
	for _, i := range report.Results {
		exists := fewestOf(t, m, flips, data.x.Slice(i.Index, i.Index+1), i.Label, 1, 1) == 1
		assert.Equal(t, exists, i.BrokenBy == 1, "image %d: %+v", i.Index, i)
		if exists {
			broken++
		}
	}
	assert.Positive(t, broken)
}

// A search that finds nothing makes no more passes than it may, wherever they end.
func TestSpikeSearchKeepsToItsPasses(t *testing.T) {
	m, data := tinySpikes(t, 4, 4, 3, 1)
	flips := attack.Flips{Levels: 1}
	for _, g := range []snn.Gradient{nil, snn.BPTT{}} {
		for passes := 1; passes < 64; passes++ {
			b := attack.Battery{Threat: attack.Threat{Norm: flips, Eps: 1}, Attacks: []attack.Named{
				{Name: "search", Attack: attack.SpikeSearch{Norm: flips, Eps: 1, Passes: passes, Gradient: g}},
			}}
			cfg := attack.DefaultBatteryConfig()
			cfg.Unchecked = true
			r, err := b.Evaluate(ctx, m, data, cfg)
			require.NoError(t, err)
			for _, i := range r.Results {
				if i.BrokenBy == attack.Survived {
					assert.LessOrEqual(t, i.Trials[0].Passes, passes, "image %d, order of %v", i.Index, g)
				}
			}
		}
	}
}

// Every step of Greedy ends within the ball, and makes as many changes as it may.
func TestGreedyStepsStayInTheBall(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, levels := range []int{1, 2} {
		for _, n := range spikeNorms(4, levels) {
			center := make([]float32, 24)
			for i := range center {
				center[i] = float32(r.IntN(levels+1)) / float32(levels)
			}
			for eps := float32(0); eps < 4; eps++ {
				x := slices.Clone(center)
				steps := attack.Greedy{Changes: 2}.Begin(attack.Ball{Norm: n, Eps: eps, Center: center}, 0, 9)
				for range 9 {
					g := make([]float32, len(x))
					for i := range g {
						g[i] = float32(r.NormFloat64())
					}
					steps.Step(x, g, 0)
					require.LessOrEqual(t, distanceOf(n, x, center), float64(eps), "%v", n)
				}
				if _, ok := n.(attack.Flips); ok {
					require.Equal(t, float64(eps), distanceOf(n, x, center), "%v", n)
				}
			}
		}
	}
}

// against is a surrogate of the wrong sign: gradients through one layer of neurons point the wrong way.
type against struct{}

func (against) String() string { return "against" }

func (against) Derivative(dst, u []float32) {
	snn.Arctan{Alpha: 2}.Derivative(dst, u)
	for i, v := range u {
		if v != 0 { // where it must be positive
			dst[i] = -dst[i]
		}
	}
}

// A search whose gradient orders the changes badly still comes to all of them.
func TestSpikeSearchSeesPastItsGradient(t *testing.T) {
	cfg := zoo.Default("conv4 A | fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 6, 6, 3, 4
	cfg.Mean, cfg.Std, cfg.Threshold = nil, nil, 0.4
	m, err := zoo.New(cfg, rng.New(2))
	require.NoError(t, err)
	data := spikesFor(t, m, 2, 24, 1)
	flips := attack.Flips{Levels: 1}
	search := attack.SpikeSearch{Norm: flips, Eps: 1, Passes: 900, Gradient: snn.BPTT{Surrogate: against{}}}
	broken := 0
	for i, class := range classes(t, m, perturb(t, search, m, data.x, data.y, nil)) {
		exists := fewestOf(t, m, flips, data.x.Slice(i, i+1), data.y[i], 1, 1) == 1
		assert.Equal(t, exists, class != data.y[i], "image %d", i)
		if exists {
			broken++
		}
	}
	assert.Positive(t, broken)
	assert.Less(t, broken, data.x.N)
}

// Retiming finds no more than enumeration of all frames with the same spikes, and here no less. Each
// shift that is left is needed.
func TestRetimingAgainstEnumeration(t *testing.T) {
	m, data := tinySpikes(t, 3, 12, 3, 1)
	all := everyFrame(9, 1)
	n := attack.Retiming{Levels: 1, Steps: 3}
	found := 0
	for delta := 1; delta <= 2; delta++ {
		both := attack.Rounds{N: 1, Attacks: []attack.Searcher{
			attack.GreedySpikes(n, float32(delta), 8, snn.BPTT{}),
			attack.SpikeSearch{Norm: n, Eps: float32(delta), Passes: 800, FromBest: true, Reduce: true},
		}}
		adv := perturb(t, both, m, data.x, data.y, nil)
		got := classes(t, m, adv)
		for i := range data.x.N {
			x := data.x.Image(i)
			require.LessOrEqual(t, distanceOf(n, adv.Image(i), x), float64(delta))
			// Each pixel has up to three spikes: the orders of 3 steps, independent between pixels.
			exists := retimed(t, m, n, data.x.Slice(i, i+1), data.y[i], delta, all)
			assert.Equal(t, exists, got[i] != data.y[i], "image %d, Δ = %d", i, delta)
			if got[i] != data.y[i] {
				found++
				needed(t, m, n, adv.Slice(i, i+1), data.x.Slice(i, i+1), data.y[i])
			}
		}
	}
	assert.Greater(t, found, 2)
	assert.Less(t, found, 2*data.x.N)
}

// retimed reports whether an example with spikes at other steps is misclassified. It tries up to 3000
// of them, in order.
func retimed(t *testing.T, m *snn.Model, n attack.Retiming, x tensor.NCHW, label, delta int, all [][]float32) bool {
	t.Helper()
	options := make([][][]float32, 9) // of each pixel, its values at the steps
	for p := range options {
		from := []float32{x.Data[p], x.Data[9+p], x.Data[18+p]}
		for _, to := range everyFrame(3, 1) {
			if distanceOf(attack.Retiming{Levels: 1, Steps: 3}, to, from) <= float64(delta) {
				options[p] = append(options[p], to)
			}
		}
	}
	var points [][]float32
	var fill func(y []float32, p int)
	fill = func(y []float32, p int) {
		if p == 9 {
			points = append(points, slices.Clone(y))
			return
		}
		for _, o := range options[p] {
			y[p], y[9+p], y[18+p] = o[0], o[1], o[2]
			fill(y, p+1)
		}
	}
	fill(make([]float32, 27), 0)
	for part := range slices.Chunk(points, 4096) {
		batch := tensor.NewFrames(tensor.Shape{N: len(part), Steps: 3, C: 1, H: 3, W: 3})
		for i, y := range part {
			copy(batch.Image(i), y)
		}
		if slices.ContainsFunc(classes(t, m, batch), func(class int) bool { return class != label }) {
			return true
		}
	}
	return false
}

// needed asserts that no change of adv, an example that is misclassified, can be taken back alone. In
// Retiming a change moves the k-th spike of a pixel, and can be taken back if there is room.
func needed(t *testing.T, m *snn.Model, n attack.Norm, adv, x tensor.NCHW, label int) {
	t.Helper()
	var back []tensor.NCHW
	if r, ok := n.(attack.Retiming); ok {
		eachMove(r, adv.Data, x.Data, func(at, from int) {
			if y := adv.Clone(); y.Data[from] < 1 {
				y.Data[at] = float32(counts(y.Data[at:at+1], r.Levels)[0]-1) / float32(r.Levels)
				y.Data[from] = float32(counts(y.Data[from:from+1], r.Levels)[0]+1) / float32(r.Levels)
				if before, after := movesOf(r, adv.Data, x.Data), movesOf(r, y.Data, x.Data); after < before {
					back = append(back, y)
				}
			}
		})
	} else {
		for i, v := range adv.Data {
			if v != x.Data[i] {
				y := adv.Clone()
				levels := n.(attack.Flips).Levels
				k := counts(y.Data[i:i+1], levels)[0] - 1
				if v < x.Data[i] {
					k += 2
				}
				y.Data[i] = float32(k) / float32(levels)
				back = append(back, y)
			}
		}
	}
	if len(back) == 0 {
		return
	}
	all := tensor.NewFrames(tensor.Shape{N: len(back), Steps: x.Steps, C: x.C, H: x.H, W: x.W})
	for i, y := range back {
		copy(all.Image(i), y.Data)
	}
	for _, class := range classes(t, m, all) {
		assert.Equal(t, label, class, "%v: a change is not needed", n)
	}
}

// eachMove calls fn for each spike that sorted matching moves, with its present and its earlier place.
func eachMove(n attack.Retiming, x, y []float32, fn func(at, from int)) {
	size := len(x) / n.Steps
	for p := range size {
		var a, b []int
		for i := p; i < len(x); i += size {
			for range counts(x[i:i+1], n.Levels)[0] {
				a = append(a, i)
			}
			for range counts(y[i:i+1], n.Levels)[0] {
				b = append(b, i)
			}
		}
		for i := range a {
			if a[i] != b[i] {
				fn(a[i], b[i])
			}
		}
	}
}

// movesOf counts the spikes that sorted matching moves.
func movesOf(n attack.Retiming, x, y []float32) (moved int) {
	eachMove(n, x, y, func(int, int) { moved++ })
	return moved
}

// Attacks on spikes stay within their budgets on larger examples, keep only changes that are needed, do
// not depend on the batch or the threads, and report the changes that they made.
func TestSpikeAttacks(t *testing.T) {
	m := model(t, small, false)
	for _, levels := range []int{1, 3} {
		if levels > 1 && testing.Short() {
			break
		}
		data := spikesFor(t, m, 8, 4, levels)
		clean := data.x.Clone()
		for _, n := range spikeNorms(m.Steps, levels) {
			eps := float32(12)
			if _, ok := n.(attack.Retiming); ok {
				eps = 2
			}
			greedy := attack.GreedySpikes(n, eps, 15, snn.BPTT{})
			many := *greedy
			many.Rule, many.Start, many.Starts = attack.Greedy{Changes: 4}, attack.InBall{}, 2
			apgd := *greedy
			apgd.Rule = attack.APGD{}
			fgsm := attack.FGSM(eps, snn.BPTR{})
			fgsm.Norm = n
			pgd := attack.PGD(eps, 3, 5, snn.BPTT{})
			pgd.Norm = n
			broke := 0
			for name, a := range map[string]snn.Adversary{
				"greedy": greedy, "many": &many, "APGD": &apgd, "FGSM": fgsm, "PGD": pgd,
				"search":  attack.SpikeSearch{Norm: n, Eps: eps, Passes: 80, Reduce: true},
				"ordered": attack.SpikeSearch{Norm: n, Eps: eps, Passes: 80, Gradient: snn.BPTT{}},
				"noise":   attack.RandomNoise{Norm: n, Eps: eps, Points: 20},
			} {
				name := fmt.Sprint(name, ", ", n)
				m.Threads = 1
				adv := perturb(t, a, m, data.x, data.y, nil)
				require.Equal(t, clean, data.x, name)
				got := classes(t, m, adv)
				for i := range adv.N {
					require.LessOrEqual(t, distanceOf(n, adv.Image(i), clean.Image(i)), float64(eps), name)
					require.Equal(t, distanceOf(n, adv.Image(i), clean.Image(i)), n.Distance(adv.Image(i), clean.Image(i)))
					if got[i] != data.y[i] {
						broke++
						if s := attack.Describe(a); s.Reduce {
							needed(t, m, n, adv.Slice(i, i+1), clean.Slice(i, i+1), data.y[i])
						}
					}
				}
				m.Threads = 2
				require.Equal(t, adv.Data, perturb(t, a, m, data.x, data.y, nil).Data, name)
				require.Equal(t, adv.Image(3), perturb(t, a, m, data.x.Slice(3, 4), data.y[3:4], []uint64{3}).Data, name)
				report, err := attack.Evaluate(ctx, m, data, []attack.Named{{Name: "a", Attack: a}}, attack.DefaultConfig())
				require.NoError(t, err, name)
				for i, k := range report.Attacks[0].Changes {
					// Other random numbers than above, so the bound alone is known.
					if _, ok := n.(attack.Flips); ok {
						require.LessOrEqual(t, k, int(eps), name)
					}
					require.False(t, k == 0 && report.Attacks[0].Predicted[i] != data.y[i], name)
				}
				require.Len(t, report.Attacks[0].Changes, data.x.N, name)
			}
			assert.Greater(t, broke, 0, "%v", n)
		}
	}
	m.Threads = 0
}

// careless is an adversary that claims a threat model and returns what change makes of an example.
type careless struct {
	attack.Threat
	change func(x []float32)
}

func (w careless) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	for i := range x.N {
		w.change(x.Image(i))
	}
	return x, nil
}

// claiming is a careless that states its threat model.
type claiming struct{ careless }

func (b claiming) Threat() (attack.Threat, bool) { return b.careless.Threat, true }

// Evaluations refuse examples outside the threat model and say why. They take those at its border.
func TestSpikeBudgetIsChecked(t *testing.T) {
	m, data := tinySpikes(t, 4, 1, 3, 1)
	copy(data.x.Data, make([]float32, 27))
	data.x.Data[0], data.x.Data[13] = 1, 1 // pixel 0 at step 0, and pixel 4 at step 1
	data.y = classes(t, m, data.x)
	swap := func(x []float32, i, j int) { x[i], x[j] = x[j], x[i] }
	flips, insert, remove := attack.Flips{Levels: 1}, attack.Flips{Levels: 1, NoDeletions: true}, attack.Flips{Levels: 1, NoInsertions: true}
	retime := attack.Retiming{Levels: 1, Steps: 3}
	for _, c := range []struct {
		norm   attack.Norm
		eps    float32
		change func(x []float32)
		err    string
	}{
		{flips, 2, func(x []float32) { x[1], x[0] = 1, 0 }, ""},
		{flips, 2, func(x []float32) { x[1], x[2], x[0] = 1, 1, 0 }, "spike flips distance 3 from the original: expected at most eps 2"},
		{flips, 2, func(x []float32) { x[1] = 0.5 }, "value 1 is 0.5: expected a multiple of 1/1"},
		{flips, 2, func(x []float32) { x[1] = float32(math.NaN()) }, "value 1 is NaN"},
		{insert, 2, func(x []float32) { x[1], x[2] = 1, 1 }, ""},
		{insert, 2, func(x []float32) { x[0] = 0 }, "value 0 fell from 1 to 0: expected insertions alone"},
		{remove, 2, func(x []float32) { x[0], x[13] = 0, 0 }, ""},
		{remove, 2, func(x []float32) { x[5] = 1 }, "value 5 rose from 0 to 1: expected deletions alone"},
		{retime, 1, func(x []float32) { swap(x, 0, 9); swap(x, 13, 22) }, ""},
		{retime, 1, func(x []float32) { swap(x, 0, 18) }, "spike retiming distance 2 from the original: expected at most eps 1"},
		{retime, 2, func(x []float32) { swap(x, 0, 18) }, ""},
		{retime, 2, func(x []float32) { swap(x, 0, 1) }, "0 spikes at value 0 of all frames: expected 1"},
		{retime, 2, func(x []float32) { x[9] = 1 }, "2 spikes at value 0 of all frames: expected 1"},
	} {
		a := claiming{careless{attack.Threat{Norm: c.norm, Eps: c.eps}, c.change}}
		_, err := attack.Evaluate(ctx, m, data, []attack.Named{{Name: "a", Attack: a}}, attack.DefaultConfig())
		b := attack.Battery{Threat: a.careless.Threat, Attacks: []attack.Named{{Name: "a", Attack: a}}}
		cfg := attack.DefaultBatteryConfig()
		cfg.Unchecked = true
		_, batteryErr := b.Evaluate(ctx, m, data, cfg)
		if c.err == "" {
			assert.NoError(t, err, "%v", c.norm)
			assert.NoError(t, batteryErr, "%v", c.norm)
			continue
		}
		assert.ErrorContains(t, err, c.err)
		assert.ErrorContains(t, err, "image 0")
		assert.ErrorContains(t, batteryErr, c.err)
	}
}

// Settings out of range, and examples that are no frames of spikes, are errors that name them.
func TestSpikeErrors(t *testing.T) {
	m, data := tinySpikes(t, 4, 3, 3, 1)
	flips := attack.Flips{Levels: 1}
	greedy := func(n attack.Norm, eps float32) *attack.Attack { return attack.GreedySpikes(n, eps, 3, snn.BPTT{}) }
	edit := func(change func(a *attack.Attack)) *attack.Attack {
		a := greedy(flips, 2)
		change(a)
		return a
	}
	for _, c := range []struct {
		attack snn.Adversary
		err    string
	}{
		{greedy(flips, -1), "eps -1"},
		{greedy(flips, 1.5), "eps 1.5 of spike flips: expected a whole number"},
		{greedy(flips, float32(math.NaN())), "eps NaN"},
		{greedy(attack.Flips{}, 2), "Levels 0: expected 1 to 255"},
		{greedy(attack.Flips{Levels: 256}, 2), "Levels 256: expected 1 to 255"},
		{greedy(attack.Flips{Levels: 1, NoDeletions: true, NoInsertions: true}, 2), "NoInsertions and NoDeletions"},
		{greedy(attack.Retiming{Levels: 1, Steps: 3}, -2), "eps -2"},
		{greedy(attack.Retiming{Levels: 1}, 1), "Steps 0: expected the frames of an example"},
		{greedy(attack.Retiming{Levels: 1, Steps: 4}, 1), "Steps 4: expected 3, the frames of an example"},
		{edit(func(a *attack.Attack) { a.Rule = attack.Greedy{} }), "0 changes in a step"},
		{edit(func(a *attack.Attack) { a.Norm = attack.LInf{} }), "L∞ with Greedy or Reduce"},
		{edit(func(a *attack.Attack) { a.Norm, a.Rule = attack.L2{}, attack.APGD{} }), "L2 with Greedy or Reduce"},
		{edit(func(a *attack.Attack) { a.KeepBest = false }), "Reduce without KeepBest"},
		{edit(func(a *attack.Attack) { a.Rule, a.Reduce, a.Alpha = nil, false, 0.5 }), "alpha 0.5 in spike flips: expected at least 1"},
		{edit(func(a *attack.Attack) { a.Rule, a.Alpha = attack.Momentum{Decay: 1}, 0.01 }), "alpha 0.01 in spike flips: expected at least 1"},
		{edit(func(a *attack.Attack) { a.SharedFrames = true }), "SharedFrames in spike flips"},
		{attack.SpikeSearch{Norm: attack.LInf{}, Eps: 1, Passes: 1}, "Norm L∞: expected a norm of spikes"},
		{attack.SpikeSearch{Eps: 1, Passes: 1}, "expected a norm of spikes"},
		{attack.SpikeSearch{Norm: flips, Eps: -3, Passes: 1}, "eps -3"},
		{attack.SpikeSearch{Norm: flips, Eps: 1}, "Passes 0"},
		{attack.RandomNoise{Norm: flips, Eps: 0.5, Points: 1}, "eps 0.5"},
		{attack.DVSFrame(0), "Levels 0"},
		{attack.Pattern{}, "empty Pattern"},
	} {
		_, err := c.attack.Perturb(ctx, m, data.x, data.y, nil, rng.New(1))
		assert.ErrorContains(t, err, c.err)
	}
	bad := data.x.Clone()
	bad.Data[30] = 0.25
	for _, a := range []snn.Adversary{greedy(flips, 2), greedy(flips, 0), attack.SpikeSearch{Norm: flips, Eps: 1, Passes: 1}, attack.DVSDash(1), attack.RandomNoise{Norm: flips, Eps: 1, Points: 1}} {
		_, err := a.Perturb(ctx, m, bad, data.y, nil, rng.New(1))
		assert.ErrorContains(t, err, "0.25: expected a multiple of 1/1", "%v", attack.Describe(a))
	}
	foreign := claiming{careless{attack.Threat{Norm: flips, Eps: 1}, func([]float32) {}}}
	_, err := attack.Evaluate(ctx, m, set{x: bad, y: data.y}, []attack.Named{{Name: "a", Attack: foreign}}, attack.DefaultConfig())
	assert.ErrorContains(t, err, "image 1")
	assert.ErrorContains(t, err, "0.25: expected a multiple of 1/1")
	quick := attack.Quick(attack.Threat{Norm: flips, Eps: 1})
	_, err = quick.Evaluate(ctx, m, set{x: bad, y: data.y}, attack.DefaultBatteryConfig())
	assert.ErrorContains(t, err, "0.25: expected a multiple of 1/1")
	quick.Threat.PerFrame = true
	_, err = quick.Evaluate(ctx, m, data, attack.DefaultBatteryConfig())
	assert.ErrorContains(t, err, "spike flips with PerFrame")
	bad.Data[30] = float32(math.NaN())
	_, err = greedy(flips, 2).Perturb(ctx, m, bad, data.y, nil, rng.New(1))
	assert.ErrorContains(t, err, "NaN")
}

// The patterns of the DVS literature insert spikes alone, the frame those of the border. Their changes are
// counted, and the worst case does not count them.
func TestPatterns(t *testing.T) {
	m := model(t, small, false)
	data := spikesFor(t, m, 8, 4, 1)
	asked := map[string][][]float32{}
	for name, p := range map[string]attack.Pattern{"frame": attack.DVSFrame(1), "corner": attack.DVSCorner(1), "dash": attack.DVSDash(1)} {
		adv := perturb(t, p, m, data.x, data.y, nil)
		inserted := attack.Flips{Levels: 1, NoDeletions: true}
		for i := range adv.N {
			assert.False(t, math.IsInf(inserted.Distance(adv.Image(i), data.x.Image(i)), 0), name)
			asked[name] = append(asked[name], adv.Image(i))
		}
		report, err := attack.Evaluate(ctx, m, data, []attack.Named{{Name: name, Attack: p}}, attack.DefaultConfig())
		require.NoError(t, err)
		o := report.Attacks[0]
		assert.False(t, o.InWorstCase)
		assert.Equal(t, "none", o.Norm)
		for i, k := range o.Changes {
			want := 0
			for j, v := range adv.Image(i) {
				if v != data.x.Image(i)[j] {
					want++
				}
			}
			assert.Equal(t, want, k, name)
		}
	}
	for i, x := range asked["frame"] {
		for j, v := range x {
			if row, column := j/6%6, j%6; row == 0 || row == 5 || column == 0 || column == 5 {
				assert.Equal(t, float32(1), v)
			} else {
				assert.Equal(t, data.x.Image(i)[j], v)
			}
		}
	}
}

// The presets run in all norms of spikes, with the twelve checks. Reports survive JSON, shards merge to
// the same report, and Fewest agrees with the results of the images.
func TestSpikeBatteries(t *testing.T) {
	racetest.Costly(t)
	m, data := tinySpikes(t, 4, 6, 3, 1)
	for k, n := range spikeNorms(3, 1) {
		eps := float32(2)
		if _, ok := n.(attack.Retiming); ok {
			eps = 1
		}
		presets := []string{"quick", "standard"}
		if k != 1 {
			presets = presets[:1]
		}
		for _, name := range presets {
			b, err := attack.Preset(name, attack.Threat{Norm: n, Eps: eps})
			require.NoError(t, err)
			cfg := attack.DefaultBatteryConfig()
			report, err := b.Evaluate(ctx, m, data, cfg)
			require.NoError(t, err)
			require.Len(t, report.Checks, 12)
			for _, c := range report.Checks {
				assert.NotContains(t, c.Text, "check itself failed")
				assert.NotContains(t, c.Advice, "check itself failed")
			}
			assert.Equal(t, n.String(), report.Norm)
			text, err := json.Marshal(report)
			require.NoError(t, err)
			var read attack.BatteryReport
			require.NoError(t, json.Unmarshal(text, &read))
			fewest, err := read.Report().Fewest()
			require.NoError(t, err)
			for i, r := range report.Results {
				if r.BrokenBy == attack.Survived {
					assert.Equal(t, -1, fewest[i])
				} else {
					assert.Equal(t, r.Changes, fewest[i])
					assert.Positive(t, r.Changes)
				}
			}
			var shards []*attack.BatteryReport
			for i := 0; i < 2 && name == "quick"; i++ {
				part := cfg
				part.Shard = attack.Shard{Index: i + 1, Count: 2}
				r, err := b.Evaluate(ctx, m, data, part)
				require.NoError(t, err)
				shards = append(shards, r)
			}
			if name == "quick" {
				merged, err := b.Merge(ctx, m, data, cfg, shards...)
				require.NoError(t, err)
				assert.Equal(t, report, merged)
			}
			if f, ok := n.(attack.Flips); ok && name == "standard" {
				for i, r := range report.Results {
					exists := fewestOf(t, m, f, data.x.Slice(i, i+1), data.y[i], 1, 2) > 0
					assert.Equal(t, exists, r.BrokenBy != attack.Survived, "%v, image %d", n, i)
				}
			}
		}
	}
}

// A report of attacks on spikes survives JSON and sharding, and its accuracy by changes is that of its
// images.
func TestSpikeReports(t *testing.T) {
	m, data := tinySpikes(t, 4, 12, 3, 1)
	data.y[3] = (data.y[3] + 1) % 3 // misclassified
	flips := attack.Flips{Levels: 1}
	attacks := []attack.Named{
		{Name: "greedy", Attack: attack.GreedySpikes(flips, 4, 12, snn.BPTT{})},
		{Name: "search", Attack: attack.SpikeSearch{Norm: flips, Eps: 4, Passes: 60, Reduce: true}},
		{Name: "frame", Attack: attack.DVSFrame(1)},
		{Name: "noise", Attack: attack.GaussianNoise{Std: 0.1}},
	}
	report, err := attack.Evaluate(ctx, m, data, attacks, attack.DefaultConfig())
	require.NoError(t, err)
	assert.Nil(t, report.Attacks[3].Changes)
	text, err := json.Marshal(report)
	require.NoError(t, err)
	var read attack.Report
	require.NoError(t, json.Unmarshal(text, &read))
	assert.Equal(t, *report, read)
	var shards []*attack.Report
	for i := range 3 {
		cfg := attack.DefaultConfig()
		cfg.Shard = attack.Shard{Index: i + 1, Count: 3}
		r, err := attack.Evaluate(ctx, m, data, attacks, cfg)
		require.NoError(t, err)
		shards = append(shards, r)
	}
	merged, err := attack.Merge(shards...)
	require.NoError(t, err)
	assert.Equal(t, report, merged)

	fewest, err := report.Fewest()
	require.NoError(t, err)
	assert.Equal(t, 0, fewest[3])
	assert.InDelta(t, report.Clean.Accuracy, attack.AccuracyWithin(fewest, 0), 1e-12)
	assert.InDelta(t, report.WorstCase, attack.AccuracyWithin(fewest, 4), 1e-12)
	for k := range 4 {
		assert.GreaterOrEqual(t, attack.AccuracyWithin(fewest, k), attack.AccuracyWithin(fewest, k+1))
	}
	other, err := attack.Evaluate(ctx, m, data, []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})}}, attack.DefaultConfig())
	require.NoError(t, err)
	_, err = other.Fewest()
	assert.ErrorContains(t, err, "FGSM has not counted")
	read.Attacks[0].Changes = read.Attacks[0].Changes[:3]
	text, err = json.Marshal(read)
	require.NoError(t, err)
	assert.ErrorContains(t, json.Unmarshal(text, &read), "changes of 3 images")
}
