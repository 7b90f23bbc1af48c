package main

import (
	"encoding/json"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/figures"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An ablation has a network for each treatment, batch norm and seed, with its decay and its β.
// Its figures are those of the evaluations. A part of it needs nothing new.
func TestAblation(t *testing.T) {
	if testing.Short() {
		t.Skip("runs of the program, which are slow under the race detector")
	}
	data, out := cifar(t), t.TempDir()
	run := func(exp string, more ...string) []string {
		few := []string{"-arch", "conv4 A | fc", "-scale", "tiny", "-T", "1", "-train", "32", "-test", "10", "-epochs", "1", "-batch", "16",
			"-width", "1", "-battery", "none", "-test-alpha", "0.05", "-test-steps", "2"}
		return append(append([]string{"-exp", exp, "-data", data, "-out", out}, few...), more...)
	}
	args := func(more ...string) []string {
		return append(run("ablation", "-radii", "8,32", "-betas", "0.002", "-beta", "0.003", "-seeds"), more...)
	}
	stdout, stderr, code := clitest.Run(t, args("3,5")...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "; seeds 3,5")
	all := files(t, out)
	assert.Equal(t, stdout, all["ablation.txt"])
	for _, name := range []string{"ablation-accuracy.svg", "ablation-distance-own.png", "ablation-distance-noise.svg"} {
		assert.Contains(t, all, name)
	}
	var got struct{ Results map[string]*ablated }
	require.NoError(t, json.Unmarshal([]byte(all["ablation.json"]), &got))
	a := got.Results["conv4 A | fc, CIFAR-10"]
	require.NotNil(t, a)
	want := map[string]struct {
		beta  float32
		decay float64
	}{"L2": {0, 5e-4}, "none": {}, "REG β=0.002": {0.002, 0}, "REG β=0.003 + L2": {0.003, 5e-4}, "scale β=0.003": {0.003, 0}}
	require.Len(t, a.Treatments, 2*len(want))
	_, test, err := dataset.ReadCIFAR10(data)
	require.NoError(t, err)
	test, err = test.First(10)
	require.NoError(t, err)
	bns := map[bool]int{}
	for _, tr := range a.Treatments {
		bns[tr.BatchNorm]++
		require.Len(t, tr.Networks, 2)
		var clean, worst float64
		d2 := make([]float64, 2)
		for i, sum := range tr.Networks {
			m, cfg, err := zoo.Load(filepath.Join(out, networksFolder, sum.Network+".safetensors"))
			require.NoError(t, err)
			var r recipe
			require.NoError(t, json.Unmarshal([]byte(m.Meta[recipeKey]), &r))
			w := want[tr.Name]
			assert.Equal(t, w.beta, r.Beta, tr.Name)
			assert.Equal(t, w.decay, r.Decay, tr.Name)
			assert.Equal(t, []uint64{3, 5}[i], r.Seed)
			assert.Equal(t, tr.BatchNorm, cfg.BatchNorm)
			assert.Equal(t, tr.BatchNorm, slices.ContainsFunc(m.State(), func(p *autograd.Param) bool { return strings.HasSuffix(p.Name, "running_mean") }))
			// The evaluation, made anew.
			key := archive{seed: r.Seed}.key()
			right := make([]bool, test.N)
			for k, eps := range []float64{8, 32} {
				pgd := pgdAt(&options{TestAlpha: 0.05, TestSteps: 2}, eps)
				named := attack.Named{Name: pgd.String(), Attack: pgd.Adversary()}
				c := attack.DefaultConfig()
				c.Key = key
				report, err := attack.Evaluate(t.Context(), m, test, []attack.Named{named}, c)
				require.NoError(t, err)
				for j := range right {
					right[j] = (k == 0 || right[j]) && report.Survived[j]
				}
				if k == 1 {
					clean += report.Clean.Accuracy / 2
				}
			}
			for _, ok := range right {
				if ok {
					worst += 0.5 / float64(test.N)
				}
			}
			noise := trials.Noise(32)
			d, err := figures.Measure(t.Context(), m, test, attack.Named{Name: noise.String(), Attack: noise.Adversary()}, noiseKey)
			require.NoError(t, err)
			for k, v := range d.D2 {
				d2[k] += v / 2
			}
		}
		assert.InDelta(t, clean, tr.Clean, 1e-12, tr.label())
		assert.InDelta(t, worst, tr.Worst[1], 1e-12, tr.label())
		assert.InDeltaSlice(t, d2[:len(tr.Noise[1].D2)], tr.Noise[1].D2, 1e-12, tr.label())
		assert.Len(t, tr.SD, 5)
	}
	assert.Equal(t, map[bool]int{true: 5, false: 5}, bns)
	assert.Len(t, a.Comparisons, 3*(2*(1+2+2*3)+4)) // clean and two radii; none with L2, scale with both, REG with the three, four interactions
	for _, p := range a.Comparisons {
		assert.InDelta(t, (p.PerSeed[0]+p.PerSeed[1])/2, p.Difference, 1e-12)
		assert.LessOrEqual(t, p.Low, p.High)
	}

	// Parts: one batch norm, one seed, and table3's networks.
	for _, c := range []struct{ name, seeds, bn string }{{"ablation-nobn", "5,3", "-bn=false"}, {"ablation-bn", "3,5", "-bn"}} {
		part, stderr, code := clitest.Run(t, args(c.seeds, c.bn)...)
		require.Zero(t, code, stderr)
		assert.Empty(t, stderr)
		assert.Equal(t, files(t, out)[c.name+".txt"], part)
	}
	_, stderr, code = clitest.Run(t, run("table3", "-seed", "5", "-beta", "0.002")...)
	require.Zero(t, code, stderr)
	assert.Equal(t, 2, strings.Count(stderr, ": epoch 1 of 1"), "mix and rat: %s", stderr)
}

// Networks that were trained before stay those of their recipes.
func TestRecipeDigests(t *testing.T) {
	o, err := parse(append(strings.Fields("-exp table4 -data fashion-mini -scale tiny -T 2 -train 100 -epochs 1 -hire-steps 2 -rate-steps 4"), "-arch", "conv8 A | fc"), io.Discard)
	require.NoError(t, err)
	d, err := sets.Open(t.Context(), "fashion-mini", nil)
	require.NoError(t, err)
	require.NoError(t, d.Limit(100, 5))
	digest, err := d.Train.Fingerprint()
	require.NoError(t, err)
	var names []string
	for m := range defences {
		names = append(names, o.newNetwork(subject{Data: d, digest: digest, arch: "conv8 A | fc"}, m).name)
	}
	assert.ElementsMatch(t, []string{
		"conv8_a___fc-vanilla-4c746228ae91", "conv8_a___fc-rat-d55a716586e8", "conv8_a___fc-rate-f855e88d4729", "conv8_a___fc-hire-919d5b6620a5",
	}, names)
}

// Weight decay and the projection are there or not, as the method says.
func TestMethodsOfAblation(t *testing.T) {
	o, err := parse(strings.Fields("-exp ablation -data fashion-mini"), io.Discard)
	require.NoError(t, err)
	d, err := sets.Open(t.Context(), "fashion-mini", nil)
	require.NoError(t, err)
	for _, c := range []struct {
		m         method
		decay     float64
		projected bool
	}{{vanilla, 5e-4, false}, {none, 0, false}, {reg, 0, true}, {regL2, 5e-4, true}, {scaled, 0, true}} {
		cfg := o.newNetwork(subject{Data: d, arch: "small"}, c.m).config(nil)
		assert.Equal(t, train.SGD{Momentum: 0.9, WeightDecay: c.decay}, cfg.Optimizer, c.m.Name)
		assert.Equal(t, c.projected, cfg.Regularizer != nil, c.m.Name)
		assert.Equal(t, c.projected, cfg.Simplex != nil, c.m.Name)
		assert.Nil(t, cfg.Adversary)
	}
}

// Scaling brings the mean of the squared singular values to 1 and keeps their ratios.
func TestScaling(t *testing.T) {
	w := autograd.NewParam(3, 2)
	w.Name = "fc.weight"
	w.Import([]float32{3, 0, 0, 1, 0, 0}) // singular values 3 and 1: s² = 5
	require.NoError(t, scaling{0.125}.Apply(w, rng.Key{}, 0))
	assert.Equal(t, []float32{1.5, 0, 0, 0.5, 0, 0}, w.Export())
	for range 200 {
		require.NoError(t, scaling{0.125}.Apply(w, rng.Key{}, 0))
	}
	s := float32(math.Sqrt(2.0 / 10)) // 9s² + s² = 2
	assert.InDeltaSlice(t, []float32{3 * s, 0, 0, s, 0, 0}, w.Export(), 1e-5)
	assert.True(t, w.PaddingIsZero())

	// With equal singular values it is REG.
	q, r := autograd.NewParam(2, 2), autograd.NewParam(2, 2)
	q.Import([]float32{1.2, 1.6, -1.6, 1.2})
	r.Import(q.Export())
	require.NoError(t, scaling{0.05}.Apply(q, rng.Key{}, 0))
	require.NoError(t, regularize.Orthogonal{Beta: 0.05, RowShare: 1}.Apply(r, rng.Key{}, 0))
	assert.InDeltaSlice(t, r.Export(), q.Export(), 1e-6)

	// s² = 1 + 1/β would make all weights 0, and more would change their signs.
	for _, v := range []float32{3, 4, float32(math.Inf(1)), float32(math.NaN())} {
		w.Import([]float32{v, 0, 0, v, 0, 0})
		before := w.Export()
		assert.ErrorContains(t, scaling{0.125}.Apply(w, rng.Key{}, 0), "method scaled: fc.weight[3 2]: its sum of squares is ")
		if v == v {
			assert.Equal(t, before, w.Export())
		}
	}
}

// pairsOf returns two kinds of networks of so many seeds. The first is right on wins images of
// each seed on which the second is wrong, and wrong on losses.
func pairsOf(images int, wins, losses []int) (a, b correct) {
	for s := range wins {
		of, with := make([]bool, images), make([]bool, images)
		for i := range images {
			of[i] = i < wins[s]
			with[i] = i >= wins[s] && i < wins[s]+losses[s]
		}
		a, b = append(a, of), append(b, with)
	}
	return a, b
}

func TestComparePairs(t *testing.T) {
	// McNemar's test, by binomial coefficients.
	a, b := pairsOf(50, []int{7}, []int{2})
	sum := big.NewInt(0)
	for k := range int64(3) {
		sum.Add(sum, new(big.Int).Binomial(9, k))
	}
	p := comparePairs(a, b)
	assert.Equal(t, []int{7, 2}, []int{p.OnlyOf, p.OnlyWith})
	assert.InDelta(t, 2*float64(sum.Int64())/512, *p.P, 1e-12)
	assert.InDelta(t, 0.1, p.Difference, 1e-12)

	// With one seed, the interval is that of a mean.
	r := rand.New(rand.NewPCG(1, 2))
	d := [][]float64{make([]float64, 500)}
	for i := range d[0] {
		d[0][i] = float64(r.IntN(3) - 1)
	}
	mean, sd := meanSD(d[0])
	p = bootstrapped(d)
	half := 1.96 * sd / math.Sqrt(500)
	assert.InDelta(t, mean-half, p.Low, 0.1*half)
	assert.InDelta(t, mean+half, p.High, 0.1*half)
	assert.Nil(t, p.P)

	for _, c := range []struct {
		wins, losses []int
		want         string
	}{
		{[]int{60, 60}, []int{10, 10}, "higher"},
		{[]int{10, 10}, []int{60, 60}, "lower"},
		{[]int{60, 10}, []int{10, 10}, "undecided"}, // one seed alone, although McNemar's p is small
		{[]int{12, 12}, []int{10, 10}, "undecided"},
	} {
		p := comparePairs(pairsOf(200, c.wins, c.losses))
		assert.Equal(t, c.want, p.Verdict, "%+v", p)
		for s, v := range p.PerSeed {
			assert.InDelta(t, float64(c.wins[s]-c.losses[s])/200, v, 1e-12)
		}
	}
	assert.Less(t, *comparePairs(pairsOf(200, []int{60, 10}, []int{10, 10})).P, 1e-4)
}

func TestSeeds(t *testing.T) {
	for args, want := range map[string][]uint64{
		"": {1}, "-seed 4": {4}, "-seeds 3": {1, 2, 3}, "-seeds 2 -seed 7": {7, 8}, "-seeds 9,4": {9, 4}, "-seeds 0,5": {0, 5},
		"-seed 18446744073709551614 -seeds 2": {math.MaxUint64 - 1, math.MaxUint64}, "-seed 18446744073709551615": {math.MaxUint64},
	} {
		o, err := parse(strings.Fields("-exp ablation -data nowhere "+args), io.Discard)
		require.NoError(t, err)
		assert.Equal(t, want, o.Seeds, args)
		assert.Equal(t, want[0], o.Seed, args)
		assert.Equal(t, numbers{0.001, 0.004}, o.betas)
	}
	for _, list := range []string{"", ",", "0", "-1", "1001", "1,", "1,,2", "1,1", "1,x", "a"} {
		_, err := parse([]string{"-exp", "ablation", "-data", "nowhere", "-seeds", list}, io.Discard)
		assert.ErrorContains(t, err, `for flag -seeds: expected a number of seeds in [1, 1000], or a list of different seeds such as 1,2,3`, list)
	}
	_, err := parse(strings.Fields("-exp ablation -data nowhere -seed 1 -seeds 1,2"), io.Discard)
	assert.EqualError(t, err, "-seed 1: -seeds 1,2 lists the seeds: expected one of the two flags")
	_, err = parse(strings.Fields("-exp ablation -data nowhere -seed 18446744073709551615 -seeds 2"), io.Discard)
	assert.EqualError(t, err, "-seed 18446744073709551615: expected at most 18446744073709551614 with -seeds 2")
	for args, want := range map[string]string{
		"-exp figure1 -seeds 2":           "-seeds 2: only tables, ablation, audit and frontier have several seeds",
		"-exp table2 -weights x -seeds 2": "-seeds 2: only tables, ablation, audit and frontier have several seeds",
		"-exp table1 -radii 2":            "-radii 2: only ablation, audit and frontier have it",
		"-exp ablation -radii 4,2":        `invalid value "4,2" for flag -radii: expected increasing numbers in (0, 255]`,
		"-exp ablation -test-eps 2":       "-test-eps 2: ablation has its own radii",
		"-exp table2 -weights x -bn=true": "-bn true: no network is trained beside -weights",
	} {
		_, err := parse(strings.Fields("-data nowhere "+args), io.Discard)
		assert.ErrorContains(t, err, want)
	}
}

// A worst case at a radius counts clean images and the attacks at smaller radii.
func TestRight(t *testing.T) {
	r := &record{Network: "conv", Labels: []int{0, 0, 0, 0, 0}}
	n := need{}
	predicted := map[trials.Trial][]int{trials.Clean: {1, 0, 0, 0, 0}, trials.Noise(2): {0, 1, 0, 0, 0}}
	for i, eps := range []float64{2, 4, 8} {
		pgd := pgdAt(&options{TestAlpha: 0.01, TestSteps: 7}, eps)
		predicted[pgd] = make([]int, 5)
		predicted[pgd][2+i] = 1
		n.trials = append(n.trials, pgd, trials.Noise(eps))
	}
	for tr, classes := range predicted {
		r.Outcomes = append(r.Outcomes, trials.Outcome{Trial: tr, Predicted: classes})
	}
	for eps, want := range map[float64][]bool{
		2: {false, true, false, true, true}, 4: {false, true, false, false, true}, 8: {false, true, false, false, false},
	} {
		right, err := r.right(upTo(n, eps)...)
		require.NoError(t, err)
		assert.Equal(t, want, right)
	}
	_, err := r.right(trials.Clean, trials.Noise(3))
	assert.EqualError(t, err, "conv: no outcome of noise  ε=3/255: expected that the file stays")
}

// Without batch norm, the currents of every layer begin with the root mean square 1.
func TestScaleCurrents(t *testing.T) {
	d, err := sets.Open(t.Context(), "fashion-mini", nil)
	require.NoError(t, err)
	cfg := zoo.Default("vgg11").For(d.Train)
	cfg.WidthMultiplier, cfg.Steps, cfg.BatchNorm = 0.125, 2, false
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	rootMeanSquares := func() (list []float64) {
		x := tensor.NewNCHW(64, 1, 28, 28)
		indices := make([]int, 64)
		for i := range indices {
			indices[i] = i
		}
		require.NoError(t, d.Train.Fill(x, indices))
		_, err := m.Logits(snn.Pass{OnNeurons: func(_ *snn.Pass, _ snn.Neuron, c, _ *autograd.Value) {
			sum, values := 0.0, c.Dense().Unpack().Data
			for _, v := range values {
				sum += float64(v) * float64(v) / float64(len(values))
			}
			list = append(list, math.Sqrt(sum))
		}}, x)
		require.NoError(t, err)
		return list
	}
	assert.Less(t, slices.Min(rootMeanSquares()), 0.1)
	require.NoError(t, scaleCurrents(m, d.Train))
	for _, rms := range rootMeanSquares() {
		assert.InDelta(t, 1, rms, 1e-3)
	}
}

// Ratios of distances are over the layers in which something fires.
func TestDistanceTables(t *testing.T) {
	l := &lab{options: &options{Radii: numbers{8}}}
	of := func(name string, v ...float64) *treatment {
		d := []*figures.Distances{{Layers: []string{"a", "b"}, PerNeuron: v, PerSpike: v}}
		return &treatment{Name: name, Own: d, Noise: d}
	}
	text := l.distanceTables([]*treatment{of("L2", 0.1, 0.2), of("none", 0.2, 0.1), of("REG", 0, 0.6), of("silent", 0, 0)})
	for name, want := range map[string]string{"L2": "1.00", "none": "1.00", "REG": "3.00", "silent": "–"} {
		assert.Equal(t, 4, len(regexp.MustCompile(`(?m)^`+name+`, no BN .* `+want+`$`).FindAllString(text, -1)), "%s: %s", name, text)
	}
}

// A recipe says how the weights begin. Those of a residual network are not scaled.
func TestInit(t *testing.T) {
	d, err := sets.Open(t.Context(), "fashion-mini", nil)
	require.NoError(t, err)
	for _, c := range []struct{ arch, flags, want string }{
		{"vgg11", "", ""}, {"vgg11", "-bn=false", unitCurrents}, {"conv4 A | fc", "-bn=false", unitCurrents},
		{"wrn-16-4", "-bn=false", ""}, {"WRN widths 8,16,32,64, 1 blocks a group, strides 1,2,2", "-bn=false", ""},
	} {
		o, err := parse(strings.Fields("-exp table1 -data fashion-mini -width 0.125 "+c.flags), io.Discard)
		require.NoError(t, err)
		n := o.newNetwork(subject{Data: d, arch: c.arch}, vanilla)
		assert.Equal(t, c.want, n.Init, c.arch)
		m, err := n.build()
		require.NoError(t, err)
		if residual(c.arch) {
			assert.ErrorContains(t, scaleCurrents(m, d.Train), "layers of neurons: expected one weight for each layer")
		}
	}
}
