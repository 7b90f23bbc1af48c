package attack_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var ctx = context.Background()

// model returns an untrained network for images of 2×6×6 in 3 classes.
func model(t testing.TB, arch string, poisson bool) *snn.Model {
	t.Helper()
	cfg := zoo.Default(arch)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 2, 6, 6, 3, 4
	cfg.Mean, cfg.Std, cfg.Threshold, cfg.Poisson = nil, nil, 0.3, poisson
	m, err := zoo.New(cfg, rng.New(7))
	require.NoError(t, err)
	return m
}

const small = "conv6 A conv8 | fc"

// images returns n images with values in [lo, hi), labels, and the images' ids.
func images(m *snn.Model, n int, lo, hi float32) (tensor.NCHW, []int, []uint64) {
	r := rng.New(3).Rand()
	x := tensor.NewNCHW(n, m.Channels, m.Height, m.Width)
	for i := range x.Data {
		x.Data[i] = lo + (hi-lo)*r.Float32()
	}
	y, ids := make([]int, n), make([]uint64, n)
	for i := range y {
		y[i], ids[i] = r.IntN(m.Classes()), r.Uint64()
	}
	return x, y, ids
}

func gradients() []snn.Gradient { return []snn.Gradient{snn.BPTT{}, snn.BPTR{}, snn.CBA{}} }

// sized is CBA that notes the numbers of images of its passes.
type sized struct {
	snn.CBA
	mu     sync.Mutex
	images []int
}

func (s *sized) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images = append(s.images, x.Shape().N)
	return s.CBA.Encode(p, e, x)
}

// Passes by CBA have more images than others, since each is one frame: up to 32, where T = 4 leaves 8.
// An image of several frames counts as these. The result does not depend on threads and on the images
// beside.
func TestPassesWithoutTime(t *testing.T) {
	m := model(t, small, false)
	for _, c := range []struct{ steps, threads, most int }{{1, 1, 32}, {1, 2, 19}, {4, 1, 8}, {4, 2, 8}} {
		m.Threads = c.threads
		x, y, ids := images(m, 38, 0, 1)
		if c.steps > 1 {
			x, y, ids = frames(m, 38, 0, 1)
		}
		g := new(sized)
		got, err := attack.FGSM(0.05, g).Perturb(ctx, m, x, y, ids, rng.New(1))
		require.NoError(t, err)
		assert.Equal(t, c.most, slices.Max(g.images), "%+v: %v", c, g.images)
		for i := range x.N {
			alone, err := attack.FGSM(0.05, snn.CBA{}).Perturb(ctx, m, x.Slice(i, i+1), y[i:i+1], ids[i:i+1], rng.New(1))
			require.NoError(t, err)
			require.Equal(t, alone.Data, got.Image(i), "%+v, image %d", c, i)
		}
	}
}

// l2 makes an attack one in the Euclidean norm.
func l2(a *attack.Attack) *attack.Attack {
	a.Norm = attack.L2{}
	return a
}

// nextClass makes an attack targeted.
func nextClass(a *attack.Attack, classes int) *attack.Attack {
	a.Target = func(_ uint64, label int) int { return (label + 1) % classes }
	return a
}

// all returns every attack with every gradient approximation, in both norms and
// targeted, for a network of 3 classes.
func all() map[string]snn.Adversary {
	m := map[string]snn.Adversary{
		"noise": attack.GaussianNoise{Std: 0.1},
		"mix":   attack.RATMix(0.1),
	}
	for _, g := range gradients() {
		for norm, in := range map[string]func(*attack.Attack) *attack.Attack{
			"L∞": func(a *attack.Attack) *attack.Attack { return a }, "L2": l2,
		} {
			name := func(s string) string { return fmt.Sprintf("%s %s %v", s, norm, g) }
			m[name("FGSM")] = in(attack.FGSM(0.1, g))
			m[name("RFGSM")] = in(attack.RFGSM(0.1, g))
			m[name("PGD")] = in(attack.PGD(0.1, 0.04, 3, g))
			m[name("BIM")] = in(attack.BIM(0.1, 0.04, 3, g))
			m[name("TRADES")] = in(attack.TRADES(0.1, 0.04, 3, g))
			m[name("targeted PGD")] = nextClass(in(attack.PGD(0.1, 0.04, 3, g)), 3)
		}
	}
	return m
}

func perturb(t testing.TB, a snn.Adversary, m *snn.Model, x tensor.NCHW, y []int, ids []uint64) tensor.NCHW {
	t.Helper()
	adv, err := a.Perturb(ctx, m, x, y, ids, rng.New(1))
	require.NoError(t, err)
	return adv
}

func losses(t testing.TB, m *snn.Model, x tensor.NCHW, y []int) []float64 {
	t.Helper()
	z, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	l := make([]float64, len(y))
	autograd.CrossEntropy(l, nil, z, y, 0)
	return l
}

func mean(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s / float64(len(v))
}

// FGSM as PyTorch's autograd has it, on a network with three layers of neurons.
func TestFGSMGolden(t *testing.T) {
	f, err := golden.Read("testdata/vgg_tiny.safetensors")
	require.NoError(t, err)
	x4 := f.Tensors["x"]
	x := tensor.NCHW{N: x4.Shape[0], C: x4.Shape[1], H: x4.Shape[2], W: x4.Shape[3], Data: x4.Floats}
	m, err := zoo.New(zoo.Config{
		Arch: f.Meta["arch"], WidthMultiplier: 1, Channels: x.C, Height: x.H, Width: x.W, Classes: 5,
		Steps: 4, Decay: 1, Threshold: 1, Surrogate: f.Meta["surrogate"], SurrogateParam: 1, BatchNorm: true,
		Mean: f.Tensors["param.mean"].Floats, Std: f.Tensors["param.std"].Floats,
	}, rng.New(0))
	require.NoError(t, err)
	for _, p := range m.State() {
		p.Import(f.Tensors["param."+p.Name].Floats)
	}
	for name, g := range map[string]snn.Gradient{"bptt": snn.BPTT{}, "bptr": snn.BPTR{}, "cba": snn.CBA{}} {
		t.Run(name, func(t *testing.T) {
			adv := perturb(t, attack.FGSM(8./255, g), m, x, f.Tensors["y"].Ints, nil)
			grad, want := f.Tensors["eval."+name+".grad_x"].Floats, f.Tensors["eval."+name+".fgsm"].Floats
			top := 0.0
			for _, v := range grad {
				top = max(top, math.Abs(float64(v)))
			}
			compared := 0
			for i, v := range grad {
				// Within rounding of zero a gradient's sign is no statement.
				if math.Abs(float64(v)) > 1e-6*top {
					compared++
					require.InDelta(t, want[i], adv.Data[i], 1e-6, "value %d", i)
				}
			}
			assert.Greater(t, compared, len(grad)/4)
		})
	}
}

// Every attack's images are in [0,1], in the ball, and another array than x.
func TestBallAndRange(t *testing.T) {
	racetest.Costly(t)
	m := model(t, small, false)
	x, y, ids := images(m, 4, 0, 1)
	before := x.Clone()
	for name, p := range all() {
		adv := perturb(t, p, m, x, y, ids)
		assert.NoError(t, adv.ValidateRange(0, 1), name)
		assert.Equal(t, before.Data, x.Data, name)
		assert.NotEqual(t, x.Data, adv.Data, name)
		if a, ok := p.(*attack.Attack); ok {
			for i := range x.N {
				assert.LessOrEqual(t, a.Norm.Distance(x.Image(i), adv.Image(i)), float64(a.Eps), name)
			}
		}
	}
}

// Project never leaves the ball, keeps what is inside, and goes to its border, for
// any float32 and any radius.
func TestProject(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		center := rapid.SliceOfN(rapid.Float32Range(0, 1), n, n).Draw(t, "center")
		from := rapid.SliceOfN(rapid.Float32Range(-3, 3), n, n).Draw(t, "x")
		eps := rapid.Float32Range(0, 2).Draw(t, "eps")
		norm := rapid.SampledFrom([]attack.Norm{attack.LInf{}, attack.L2{}}).Draw(t, "norm")

		x := slices.Clone(from)
		norm.Project(x, center, eps)
		d := norm.Distance(x, center)
		if !(d <= float64(eps)) {
			t.Fatalf("%v: distance %v of eps %v", norm, d, eps)
		}
		if norm.Distance(from, center) <= float64(eps) {
			if !slices.Equal(x, from) {
				t.Fatalf("%v: moved a point inside: %v to %v", norm, from, x)
			}
		} else if slack := 2e-7 * (3 + math.Sqrt(float64(n))); d < float64(eps)-slack {
			t.Fatalf("%v: distance %v, expected the border at %v", norm, d, eps)
		}
		for i, v := range x {
			if (v-center[i])*(from[i]-center[i]) < 0 {
				t.Fatalf("%v: value %d crossed the centre", norm, i)
			}
		}
		if float32(d) > eps { // also in float32
			t.Fatalf("distance %v as float32 of eps %v", d, eps)
		}
	})
}

func TestStep(t *testing.T) {
	x := []float32{0.5, 0.5, 0.5}
	attack.LInf{}.Step(x, []float32{1e-30, 0, -7}, 0.25)
	assert.Equal(t, []float32{0.75, 0.5, 0.25}, x)
	x = []float32{0.5, 0.5, 0.5}
	attack.L2{}.Step(x, []float32{3e-30, 0, -4e-30}, 0.5)
	assert.InDeltaSlice(t, []float32{0.8, 0.5, 0.1}, x, 1e-7)
	attack.L2{}.Step(x, []float32{0, 0, 0}, 0.5)
	assert.InDeltaSlice(t, []float32{0.8, 0.5, 0.1}, x, 1e-7)
}

// Uniform fills the ball, on all sides of zero: of the volume below radius ρε there is a
// share of ρ^dim in L2, and the mean of |u|/ε is 1/2 in L∞; that of u/ε is 0, with a
// variance of 1/5 in three dimensions and of 1/3.
func TestUniform(t *testing.T) {
	r := rng.New(5).Rand()
	const n, dim, eps = 4000, 3, 0.5
	p, zero := make([]float32, dim), make([]float32, dim)
	inner, sum, signed2, signed := 0, 0.0, 0.0, 0.0
	for range n {
		attack.L2{}.Uniform(p, eps, r)
		d := attack.L2{}.Distance(p, zero)
		require.LessOrEqual(t, d, eps*(1+1e-6))
		if d < eps*0.8 {
			inner++
		}
		for _, v := range p {
			signed2 += float64(v) / eps
		}
		attack.LInf{}.Uniform(p, eps, r)
		require.LessOrEqual(t, attack.LInf{}.Distance(p, zero), eps)
		for _, v := range p {
			sum += math.Abs(float64(v)) / eps
			signed += float64(v) / eps
		}
	}
	assert.InDelta(t, 0.512, float64(inner)/n, 4*math.Sqrt(0.25/n))
	assert.InDelta(t, 0.5, sum/(n*dim), 4*math.Sqrt(1./12/(n*dim)))
	assert.InDelta(t, 0, signed2/(n*dim), 4*math.Sqrt(1./5/(n*dim)))
	assert.InDelta(t, 0, signed/(n*dim), 4*math.Sqrt(1./3/(n*dim)))
}

// On a linear network of two classes, d the difference of their weights, the
// strongest attack lowers the margin by ε·‖d‖₁ in L∞ and by ε·‖d‖₂ in L2. FGSM and
// BIM must reach it; PGD and RFGSM, which start elsewhere, cannot surpass it.
func TestLinearOptimum(t *testing.T) {
	cfg := zoo.Default("| fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps, cfg.Mean, cfg.Std = 1, 4, 4, 2, 2, nil, nil
	m, err := zoo.New(cfg, rng.New(2))
	require.NoError(t, err)
	w := m.Params()[0].Export()
	l1, sq := 0.0, 0.0
	for i := range 16 {
		d := float64(w[i]) - float64(w[16+i])
		l1, sq = l1+math.Abs(d), sq+d*d
	}
	x, y, ids := images(m, 5, 0.3, 0.7) // the ball stays clear of 0 and 1
	margins := func(x tensor.NCHW) []float64 {
		z, err := m.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		v := make([]float64, x.N)
		for i := range v {
			v[i] = float64(z[2*i+y[i]]) - float64(z[2*i+1-y[i]])
		}
		return v
	}
	const eps = 0.25
	g := snn.BPTT{}
	for _, c := range []struct {
		name    string
		attack  *attack.Attack
		want    float64
		reaches bool
	}{
		{"FGSM L∞", attack.FGSM(eps, g), eps * l1, true},
		{"BIM L∞", attack.BIM(eps, 0.06, 5, g), eps * l1, true},
		{"PGD L∞", attack.PGD(eps, 0.1, 5, g), eps * l1, true},
		{"RFGSM L∞", attack.RFGSM(eps, g), eps * l1, false},
		{"FGSM L2", l2(attack.FGSM(eps, g)), eps * math.Sqrt(sq), true},
		{"BIM L2", l2(attack.BIM(eps, 0.06, 5, g)), eps * math.Sqrt(sq), true},
		{"RFGSM L2", l2(attack.RFGSM(eps, g)), eps * math.Sqrt(sq), false},
		{"targeted FGSM", nextClass(attack.FGSM(eps, g), 2), eps * l1, true},
	} {
		before, after := margins(x), margins(perturb(t, c.attack, m, x, y, ids))
		for i := range before {
			fall := before[i] - after[i]
			if c.reaches {
				assert.InDelta(t, c.want, fall, 1e-5, c.name)
			} else {
				assert.Less(t, fall, c.want-1e-3, c.name)
				assert.Greater(t, fall, 0., c.name)
			}
		}
	}
}

// A gradient that is the probability of the other classes, or the softmax over these, points
// the same way; and an image that a network is sure of has one.
func TestCrossEntropyOfConfidentImages(t *testing.T) {
	r := rng.New(4).Rand()
	for _, gap := range []float64{0, 3, 13, 14, 20, 30, 100, 1000, 1e30} {
		logits, y := []float32{float32(r.NormFloat64()), float32(r.NormFloat64() + gap), float32(r.NormFloat64()), float32(r.NormFloat64())}, []int{1}
		grad := make([]float32, 4)
		attack.CrossEntropy{}.Evaluate(make([]float64, 64), grad, logits, y, nil)
		var sum, want float64
		for k, z := range logits {
			if k != 1 {
				sum += math.Exp(float64(z))
				assert.Positive(t, grad[k], "gap %v", gap)
			}
		}
		for k, z := range logits {
			if k != 1 {
				want = math.Exp(float64(z)) / sum
				assert.InEpsilon(t, want, float64(-grad[k]/grad[1]), 1e-6, "gap %v", gap)
			}
		}
		if gap < 13 {
			plain := make([]float32, 4)
			autograd.CrossEntropy(nil, plain, logits, y, 0)
			assert.Equal(t, plain, grad)
		}
		target := make([]float32, 4)
		attack.CrossEntropy{}.Evaluate(make([]float64, 64), target, logits, []int{0}, y) // aims at what it is
		for k := range grad {
			assert.Equal(t, -grad[k], target[k])
		}
	}

	m := brightest(t)
	m.Params()[0].Import([]float32{1e4, 0, 0, 0, 1e4, 0, 0, 0, 1e4})
	adv := perturb(t, attack.FGSM(0.25, snn.CBA{}), m, pixels(0, 1), []int{0, 1}, nil)
	assert.Equal(t, []float32{0.75, 0.25, 0.25, 0.25, 0.75, 0.25}, adv.Data)
}

// In its random half RFGSM moves every value by ε/2, in its other half by ε/2 more or
// back: the result is at distance 0 or ε.
func TestRFGSM(t *testing.T) {
	m := model(t, "| fc", false) // all gradients are non-zero
	x, y, ids := images(m, 3, 0.3, 0.7)
	adv := perturb(t, attack.RFGSM(0.25, snn.BPTT{}), m, x, y, ids)
	far := 0
	for i, v := range adv.Data {
		d := math.Abs(float64(v) - float64(x.Data[i]))
		if d > 0.125 {
			far++
			d -= 0.25
		}
		assert.InDelta(t, 0, d, 1e-7)
	}
	n := float64(len(adv.Data))
	assert.InDelta(t, n/2, float64(far), 4*math.Sqrt(n/4))
}

// trained returns a network of 2 classes (left half bright, right half bright) that
// classifies its training images, and these.
func trained(t testing.TB) (*snn.Model, tensor.NCHW, []int, []uint64) {
	cfg := zoo.Default(small)
	cfg.Steps, cfg.Mean, cfg.Std = 4, nil, nil
	return trainedAs(t, cfg)
}

// trainedAs is trained for a configuration of a network.
func trainedAs(t testing.TB, cfg zoo.Config) (*snn.Model, tensor.NCHW, []int, []uint64) {
	t.Helper()
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes = 1, 8, 8, 2
	m, err := zoo.New(cfg, rng.New(4))
	require.NoError(t, err)
	x, y, ids := images(m, 64, 0.2, 0.6)
	for i := range x.N {
		for j, p := 0, x.Image(i); j < len(p); j++ {
			if (j%8 >= 4) == (y[i] == 1) {
				p[j] += 0.15
			}
		}
	}
	for range 30 {
		for _, p := range m.Params() {
			p.ClearGrad()
		}
		require.NoError(t, m.ParamGradients(snn.Pass{Train: true}, x, func(z []float32) []float32 {
			d := make([]float32, len(z))
			autograd.CrossEntropy(nil, d, z, y, 0)
			return d
		}))
		for _, p := range m.Params() {
			w, g := p.Export(), p.ExportGrad()
			for i := range w {
				w[i] -= 0.2 / 64 * g[i]
			}
			p.Import(w)
		}
	}
	return m, x, y, ids
}

// On a trained network the attacks raise the mean loss, and the more the larger ε;
// and with the gradient through time the iterated ones raise it further than the
// single step. (With the others this network is as good as linear.)
func TestStrengthOnTrainedNetwork(t *testing.T) {
	racetest.Costly(t)
	m, x, y, ids := trained(t)
	clean := mean(losses(t, m, x, y))
	require.Less(t, clean, 0.3, "not trained")
	for _, g := range gradients() {
		raised := func(a snn.Adversary) float64 { return mean(losses(t, m, perturb(t, a, m, x, y, ids), y)) }
		noise := raised(attack.GaussianNoise{Std: 0.06})
		fgsm := raised(attack.FGSM(0.06, g))
		bim := raised(attack.BIM(0.06, 0.015, 10, g))
		pgd := raised(attack.PGD(0.06, 0.015, 10, g))
		half := raised(attack.PGD(0.03, 0.01, 10, g))
		t.Logf("%v: clean %.3f, noise %.3f, FGSM %.3f, PGD at half ε %.3f, BIM %.3f, PGD %.3f", g, clean, noise, fgsm, half, bim, pgd)
		assert.Greater(t, fgsm, clean+0.1)
		assert.Greater(t, fgsm, noise)
		if g == (snn.BPTT{}) {
			assert.Greater(t, bim, fgsm)
			assert.Greater(t, pgd, fgsm)
		}
		assert.Greater(t, pgd, half)
		assert.Greater(t, half, clean)
	}
}

// The attacks go through the Poisson encoder of a rate-coded network, whose images are
// normalized or not.
func TestStrengthOnRateCodedNetwork(t *testing.T) {
	racetest.Costly(t)
	for _, normalized := range []bool{false, true} {
		cfg := zoo.RateCoded(small)
		cfg.Steps = 10
		if normalized {
			cfg.Mean, cfg.Std = []float32{0.475}, []float32{0.13}
		}
		m, x, y, ids := trainedAs(t, cfg)
		clean := mean(losses(t, m, x, y))
		require.Less(t, clean, 0.5, "not trained")
		for _, g := range gradients() {
			raised := func(a snn.Adversary) float64 { return mean(losses(t, m, perturb(t, a, m, x, y, ids), y)) }
			noise := raised(attack.GaussianNoise{Std: 0.06})
			fgsm := raised(attack.FGSM(0.06, g))
			pgd := raised(attack.PGD(0.06, 0.02, 5, g))
			t.Logf("normalized %v, %v: clean %.3f, noise %.3f, FGSM %.3f, PGD %.3f", normalized, g, clean, noise, fgsm, pgd)
			assert.Greater(t, fgsm, clean+0.1)
			assert.Greater(t, fgsm, noise)
			assert.Greater(t, pgd, noise)
		}
	}
}

// A targeted attack raises the target's logit over the label's, and the target is
// asked for by the image's id.
func TestTargeted(t *testing.T) {
	m := model(t, "| fc", false)
	x, y, ids := images(m, 6, 0.3, 0.7)
	want := map[uint64]int{}
	for i, id := range ids {
		want[id] = (y[i] + 1 + i%2) % 3
	}
	a := attack.BIM(0.1, 0.03, 5, snn.BPTT{})
	a.Target = func(id uint64, _ int) int { return want[id] }
	adv := perturb(t, a, m, x, y, ids)
	before, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	after, err := m.Logits(snn.Pass{}, adv)
	require.NoError(t, err)
	for i, id := range ids {
		gain := func(class int) float32 { return after[3*i+class] - before[3*i+class] }
		for class := range 3 {
			if class != want[id] {
				assert.Greater(t, gain(want[id]), gain(class))
			}
		}
	}
}

// What is returned for an image has the same bits alone, in a batch, in another
// order, with a Poisson encoder, and at any GOMAXPROCS.
func TestIndependence(t *testing.T) {
	for _, poisson := range []bool{false, true} {
		m := model(t, small, poisson)
		x, y, ids := images(m, 21, 0, 1) // three parts
		for name, a := range all() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
			if testing.Short() { // the race detector needs no other run
				perturb(t, a, m, x.Slice(0, 12), y[:12], ids[:12])
				continue
			}
			runtime.GOMAXPROCS(1)
			whole := perturb(t, a, m, x, y, ids)
			runtime.GOMAXPROCS(2)
			require.Equal(t, whole.Data, perturb(t, a, m, x, y, ids).Data, name)
			for i := range x.N {
				one := perturb(t, a, m, x.Slice(i, i+1), y[i:i+1], ids[i:i+1])
				require.Equal(t, whole.Image(i), one.Data, "%s: image %d alone", name, i)
			}
		}
		// Other ids, other random numbers.
		a, other := attack.PGD(0.1, 0.04, 3, snn.BPTT{}), slices.Clone(ids)
		other[2]++
		u, v := perturb(t, a, m, x, y, ids), perturb(t, a, m, x, y, other)
		assert.Equal(t, u.Image(1), v.Image(1))
		assert.NotEqual(t, u.Image(2), v.Image(2))
	}
}

// Nil ids are the places in the batch.
func TestNilIDs(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 3, 0, 1)
	a := attack.RFGSM(0.1, snn.BPTR{})
	assert.Equal(t, perturb(t, a, m, x, y, []uint64{0, 1, 2}).Data, perturb(t, a, m, x, y, nil).Data)
}

func TestZeroEps(t *testing.T) {
	m := model(t, small, false)
	x, y, ids := images(m, 3, 0, 1)
	for _, a := range []snn.Adversary{
		attack.FGSM(0, snn.BPTT{}), attack.RFGSM(0, snn.BPTT{}), attack.PGD(0, 0.01, 2, snn.BPTT{}),
		l2(attack.BIM(0, 0.01, 2, snn.BPTT{})), attack.GaussianNoise{},
	} {
		assert.Equal(t, x.Data, perturb(t, a, m, x, y, ids).Data)
	}
}

// Noise has the standard deviation that is asked for, where it is not clipped.
func TestGaussianNoise(t *testing.T) {
	m := model(t, small, false)
	x, y, ids := images(m, 40, 0.4, 0.6)
	adv := perturb(t, attack.GaussianNoise{Std: 0.05}, m, x, y, ids)
	sum, sq := 0.0, 0.0
	for i, v := range adv.Data {
		d := float64(v) - float64(x.Data[i])
		sum, sq = sum+d, sq+d*d
	}
	n := float64(len(adv.Data))
	assert.InDelta(t, 0, sum/n, 4*0.05/math.Sqrt(n))
	assert.InDelta(t, 0.05, math.Sqrt(sq/n), 4*0.05/math.Sqrt(2*n))
}

// A Mix picks each of its attacks as often, by the key.
func TestMix(t *testing.T) {
	const calls = 400
	var count [4]int
	var mix attack.Mix
	for i := range count {
		mix = append(mix, adversaryFunc(func() { count[i]++ }))
	}
	for i := range calls {
		_, err := mix.Perturb(ctx, nil, tensor.NCHW{}, nil, nil, rng.New(uint64(i)))
		require.NoError(t, err)
	}
	for _, c := range count {
		assert.InDelta(t, calls/4, c, 4*math.Sqrt(calls*3./16))
	}
}

type adversaryFunc func()

func (f adversaryFunc) Perturb(context.Context, *snn.Model, tensor.NCHW, []int, []uint64, rng.Key) (tensor.NCHW, error) {
	f()
	return tensor.NCHW{}, nil
}

func TestRATMix(t *testing.T) {
	var kinds []string
	for _, p := range attack.RATMix(2. / 255) {
		a := p.(*attack.Attack)
		require.NoError(t, a.Validate())
		kinds = append(kinds, fmt.Sprintf("%T %v", a.Start, a.Gradient))
	}
	assert.ElementsMatch(t, []string{
		"attack.AtImage BPTT", "attack.AtImage BPTR", "attack.RandomStep BPTT", "attack.RandomStep BPTR",
	}, kinds)
}

// loose is a norm that does not project, and wild one that makes no numbers: the
// check at the end must catch both.
type loose struct{ attack.LInf }

func (loose) Project([]float32, []float32, float32) {}

type wild struct{ attack.LInf }

func (wild) Step(x, _ []float32, _ float32) { x[1] = float32(math.NaN()) }

// wildAt is wild about images that begin with value.
type wildAt struct {
	attack.LInf
	value float32
}

func (w wildAt) Step(x, _ []float32, _ float32) {
	if x[0] == w.value {
		x[1] = float32(math.NaN())
	}
}

// nowhere is an objective whose gradient is no number for images of class 2.
type nowhere struct{}

func (nowhere) Evaluate(_ []float64, grad, _ []float32, y, _ []int) {
	for i, label := range y {
		if label == 2 {
			grad[i*len(grad)/len(y)] = float32(math.Inf(1))
		}
	}
}

func TestErrors(t *testing.T) {
	m := model(t, "| fc", false)
	x, y, ids := images(m, 3, 0, 1)
	nan := float32(math.NaN())
	fgsm := func(f func(a *attack.Attack)) *attack.Attack {
		a := attack.FGSM(0.1, snn.BPTT{})
		f(a)
		return a
	}
	run := func(a snn.Adversary, x tensor.NCHW, y []int, ids []uint64) error {
		adv, err := a.Perturb(ctx, m, x, y, ids, rng.New(1))
		assert.Nil(t, adv.Data)
		return err
	}
	bad := x.Clone()
	bad.Data[72+5] = nan
	good := attack.FGSM(0.1, snn.BPTT{})
	for _, c := range []struct {
		err  error
		want string
	}{
		{run(attack.FGSM(-0.1, snn.BPTT{}), x, y, ids), "attack: eps -0.1: expected a number of at least 0"},
		{run(attack.FGSM(nan, snn.BPTT{}), x, y, ids), "attack: eps NaN: expected a number of at least 0"},
		{run(attack.Square{Norm: attack.L2{}, Eps: -1, Queries: 1, P: 1}, x, y, ids), "attack: square: eps -1: expected a number of at least 0"},
		{run(attack.LocalSearch{Eps: nan, Passes: 1}, x, y, ids), "attack: local search: eps NaN: expected a number of at least 0"},
		{run(attack.RandomNoise{Norm: attack.L2{}, Eps: -1, Points: 1}, x, y, ids), "attack: random noise: eps -1: expected a number of at least 0"},
		{run(attack.PGD(0.1, 0, 3, snn.BPTT{}), x, y, ids), "attack: alpha 0: expected a positive number"},
		{run(fgsm(func(a *attack.Attack) { a.Rule, a.Alpha = attack.Momentum{Decay: 1}, 0 }), x, y, ids), "attack: alpha 0: expected a positive number"},
		{run(attack.PGD(0.1, nan, 3, snn.BPTT{}), x, y, ids), "attack: alpha NaN: expected a positive number"},
		{run(attack.PGD(0.1, 0.1, 0, snn.BPTT{}), x, y, ids), "attack: 0 steps: expected at least 1"},
		{run(attack.FGSM(0.1, nil), x, y, ids), "attack: no gradient approximation: expected one such as snn.BPTT{}"},
		{run(fgsm(func(a *attack.Attack) { a.Norm = nil }), x, y, ids), "attack: no norm: expected one such as LInf{}"},
		{run(fgsm(func(a *attack.Attack) { a.Start = nil }), x, y, ids), "attack: no start: expected one such as AtImage{}"},
		{run(fgsm(func(a *attack.Attack) { a.Objective = nil }), x, y, ids), "attack: no objective: expected one such as CrossEntropy{}"},
		{run(attack.GaussianNoise{Std: -1}, x, y, ids), "attack: standard deviation -1: expected a number of at least 0"},
		{run(attack.Mix{}, x, y, ids), "attack: a mix of no attacks: expected at least one"},
		{run(attack.Mix{good, nil}, x, y, ids), "attack: attack 1 of a mix is nil"},
		{run(good, x, y[:2], ids), "attack: 2 labels for 3 images: expected one each"},
		{run(good, x, y, ids[:1]), "attack: 1 ids for 3 images: expected one each"},
		{run(nextClass(attack.FGSM(0.1, snn.BPTT{}), 3), x, y, ids[:1]), "attack: 1 ids for 3 images: expected one each"},
		{run(nextClass(attack.FGSM(0.1, snn.BPTT{}), 3), x, append(y, 0), ids), "attack: 4 labels for 3 images: expected one each"},
		{run(nextClass(attack.FGSM(0.1, snn.BPTT{}), 4), x, []int{0, 3, 1}, ids), "attack: image 1: label 3: expected 0 to 2"},
		{run(good, x, []int{0, 3, 1}, ids), "attack: image 1: label 3: expected 0 to 2"},
		{run(attack.GaussianNoise{}, x, []int{0, 2, -1}, ids), "attack: image 2: label -1: expected 0 to 2"},
		{run(good, bad, y, ids), "attack: snn: image 1, value 5: NaN not a number; expected a value in [0, 1]"},
		{run(good, tensor.NewNCHW(3, 1, 6, 6), y, ids), "attack: snn: images 3×1×6×6: expected N×2×6×6 with N ≥ 1"},
		{run(fgsm(func(a *attack.Attack) { a.Target = func(uint64, int) int { return 3 } }), x, []int{1, 1, 1}, ids),
			"attack: image 0: target 3: expected a class from 0 to 2 other than the label 1"},
		{run(fgsm(func(a *attack.Attack) { a.Target = func(_ uint64, y int) int { return y } }), x, []int{1, 1, 1}, ids),
			"attack: image 0: target 1: expected a class from 0 to 2 other than the label 1"},
		{run(fgsm(func(a *attack.Attack) { a.Norm, a.Alpha = loose{}, 0.2 }), x, y, ids), "expected at most eps 0.1"},
		{run(fgsm(func(a *attack.Attack) { a.Norm = wild{} }), x, y, ids), "attack: image 0: L∞ distance NaN from the original"},
		{run(fgsm(func(a *attack.Attack) { a.Objective = nowhere{} }), x, []int{0, 2, 1}, ids), "attack: image 1: step 1: value 0: the gradient is "},
	} {
		assert.ErrorContains(t, c.err, c.want)
	}

	_, err := attack.FGSM(0.1, snn.BPTT{Surrogate: snn.Triangle{}}).Perturb(ctx, model(t, "conv3 | fc", false), x, y, ids, rng.New(1))
	assert.ErrorContains(t, err, "snn: BPTT: surrogate triangle 0: expected a positive number")

	stopped, cancel := context.WithCancel(ctx)
	cancel()
	for name, a := range all() {
		_, err := a.Perturb(stopped, m, x, y, ids, rng.New(1))
		assert.ErrorIs(t, err, context.Canceled, name)
	}

	// An image is named by its place among all, whichever part it is in.
	many, labels, _ := images(m, 30, 0, 1)
	assert.ErrorContains(t, run(fgsm(func(a *attack.Attack) { a.Norm = wildAt{value: many.Image(29)[0]} }), many, labels, nil), "attack: image 29: L∞ distance NaN")
	labels = make([]int, 30)
	labels[29] = 2
	assert.ErrorContains(t, run(fgsm(func(a *attack.Attack) { a.Objective = nowhere{} }), many, labels, nil), "attack: image 29: step 1: value 0: the gradient is ")

	w := m.Params()[0]
	w.Import(append(w.Export()[:len(w.Export())-1], nan))
	assert.ErrorContains(t, run(good, x, y, ids), "attack: image 0: step 1: snn: image 0: logit 2 is NaN: expected a finite number")
}

// Starts are what they say: PGD's first images fill the ball, BIM's are the originals.
func TestStart(t *testing.T) {
	x := []float32{0.5, 0.5, 0.5, 0.5}
	r := rand.New(rand.NewPCG(1, 2))
	at := slices.Clone(x)
	attack.AtImage{}.Initialize(at, attack.LInf{}, 0.1, r)
	assert.Equal(t, x, at)
	attack.RandomStep{Length: 0.25}.Initialize(at, attack.LInf{}, 1, r)
	for _, v := range at {
		assert.Contains(t, []float32{0.25, 0.75}, v)
	}
	at = slices.Clone(x)
	attack.RandomStep{Length: 0.25}.Initialize(at, attack.L2{}, 1, r)
	assert.InDelta(t, 0.25, attack.L2{}.Distance(at, x), 1e-7)

	// Of 1000 values drawn uniformly from ±0.1 the largest is within 1 % of it, and the
	// mean 0 with a standard deviation of 0.1/√3000.
	x = slices.Repeat([]float32{0.5}, 1000)
	at = slices.Clone(x)
	attack.InBall{}.Initialize(at, attack.LInf{}, 0.1, r)
	d, sum := attack.LInf{}.Distance(at, x), 0.0
	assert.True(t, d > 0.099 && d <= 0.1+1e-7, "distance %v", d)
	for i, v := range at {
		sum += float64(v) - float64(x[i])
	}
	assert.InDelta(t, 0, sum/1000, 4*0.1/math.Sqrt(3000))
	// In the Euclidean norm nearly all of a ball of 1000 dimensions is near its border.
	at = slices.Clone(x)
	attack.InBall{}.Initialize(at, attack.L2{}, 0.1, r)
	d = attack.L2{}.Distance(at, x)
	assert.True(t, d > 0.098 && d <= 0.1+1e-6, "distance %v", d)
}

// away is a start that is far out of the ball and of [0,1].
type away struct{}

func (away) Initialize(x []float32, _ attack.Norm, _ float32, _ *rand.Rand) {
	for i := range x {
		x[i] += float32(3 - 6*(i%2))
	}
}

// watched is a norm that notes the images it makes steps from.
type watched struct {
	attack.Norm
	from *[][]float32
}

func (w watched) Step(x, g []float32, alpha float32) {
	*w.from = append(*w.from, slices.Clone(x))
	w.Norm.Step(x, g, alpha)
}

// The first step begins at what the start chose, projected on the ball and clipped.
func TestStartIsProjectedAndClipped(t *testing.T) {
	m := model(t, small, false)
	x, y, ids := images(m, 2, 0, 1)
	for _, norm := range []attack.Norm{attack.LInf{}, attack.L2{}} {
		var from [][]float32
		a := attack.PGD(0.3, 0.1, 1, snn.BPTT{})
		a.Norm, a.Start = watched{norm, &from}, away{}
		perturb(t, a, m, x, y, ids)
		require.Len(t, from, x.N)
		for i, image := range from {
			want := slices.Clone(x.Image(i))
			away{}.Initialize(want, nil, 0, nil)
			norm.Project(want, x.Image(i), 0.3)
			for k, v := range want {
				want[k] = min(max(v, 0), 1)
			}
			assert.Equal(t, want, image, "%v: image %d", norm, i)
		}
	}
}

// noted is an objective that notes the logits it is shown.
type noted struct {
	attack.Objective
	logits *[][]float32
}

func (n noted) Evaluate(value []float64, grad, logits []float32, y, target []int) {
	*n.logits = append(*n.logits, slices.Clone(logits))
	n.Objective.Evaluate(value, grad, logits, y, target)
}

// Every step draws anew what is random about the network: its spikes differ where the
// images do not, since a step is less than a rounding.
func TestStepsDrawAnew(t *testing.T) {
	m := model(t, small, true)
	x, y, ids := images(m, 1, 0.1, 1)
	var logits [][]float32
	a := attack.BIM(0.1, 1e-20, 3, snn.BPTT{})
	a.Objective = noted{a.Objective, &logits}
	require.Equal(t, x.Data, perturb(t, a, m, x, y, ids).Data)
	require.Len(t, logits, 3)
	for i := range 3 {
		assert.NotEqual(t, logits[i], logits[(i+1)%3])
	}
}
