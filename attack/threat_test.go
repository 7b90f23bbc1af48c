package attack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/version"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// whole is the threat model of an adversary that may change every pixel to any value.
var whole = attack.Threat{Norm: attack.LInf{}, Eps: 1}

// wrapped is an adversary around another one, which tells all that it tells.
type wrapped struct{ snn.Adversary }

func (w wrapped) PerturbDetail(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, attack.Detail, error) {
	return attack.PerturbDetail(ctx, w.Adversary, m, x, y, ids, key)
}
func (w wrapped) Threat() (attack.Threat, bool) { return attack.ThreatOf(w.Adversary) }
func (w wrapped) Describe() attack.Settings     { return attack.Describe(w.Adversary) }

// opaque tells nothing.
type opaque struct{ a snn.Adversary }

func (o opaque) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	return o.a.Perturb(ctx, m, x, y, ids, key)
}

// A target is asked for once an image. What counts as a success is the class that the
// attack aimed at, also if another call would get another class, and within a wrapper or
// a Mix.
func TestTargetIsAskedOnce(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 60, 0, 1)
	for name, wrap := range map[string]func(a *attack.Attack) snn.Adversary{
		"plain":   func(a *attack.Attack) snn.Adversary { return a },
		"wrapped": func(a *attack.Attack) snn.Adversary { return wrapped{a} },
		"mix":     func(a *attack.Attack) snn.Adversary { return attack.Mix{wrapped{attack.Mix{a}}} },
	} {
		r, aimed, calls := rand.New(rand.NewPCG(1, 2)), map[uint64]int{}, 0
		a := attack.PGD(1, 0.2, 8, snn.BPTT{})
		a.Target = func(id uint64, label int) int {
			calls++
			aimed[id] = (label + 1 + r.IntN(2)) % 3
			return aimed[id]
		}
		cfg := attack.DefaultConfig()
		cfg.Batch = 25
		rep, err := attack.Evaluate(ctx, m, set{x: x, y: y}, []attack.Named{{Name: "targeted", Attack: wrap(a)}}, cfg)
		require.NoError(t, err)
		assert.Equal(t, 60, calls, name)
		o, hits := rep.Attacks[0], 0
		for i, p := range o.Predicted {
			require.Equal(t, aimed[uint64(i)], o.Target[i], name)
			require.Equal(t, p == aimed[uint64(i)], o.Success[i], "%s: image %d", name, i)
			if o.Success[i] {
				hits++
			}
		}
		assert.True(t, hits > 0 && hits < 60, "%s: %d: else this test shows little", name, hits)
	}
}

// What attacks tell of zero gradients gets through wrappers and a Mix to the report.
func TestZeroGradientInWrapper(t *testing.T) {
	m := brightest(t)
	m.Params()[0].Import([]float32{0, 0, 0, 0, 0, 1e-30, 0, 0, 1e-30})
	a := attack.FGSM(0.25, snn.CBA{})
	a.Objective = onlyLast{}
	cfg := attack.DefaultConfig()
	cfg.Batch, cfg.Threat = 3, whole
	r, err := attack.Evaluate(ctx, m, set{x: pixels(0, 1, 2, 0), y: []int{0, 1, 2, 0}}, []attack.Named{
		{Name: "mix", Attack: attack.Mix{wrapped{a}}}, {Name: "opaque", Attack: opaque{a}},
	}, cfg)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1, 3}, r.Attacks[0].ZeroGradient)
	assert.Nil(t, r.Attacks[0].Target)
	assert.Nil(t, r.Attacks[1].ZeroGradient)
}

// An adversary that leaves its ball, or that of the evaluation, is an error, whatever it
// says of itself; so is one whose ball nobody knows.
func TestThreatIsChecked(t *testing.T) {
	m := brightest(t)
	data := set{x: pixels(0, 1, 2), y: []int{0, 1, 2}}
	moved := pixels(0, 1, 2)
	moved.Image(2)[0] = 0.5 // L∞ and L2 distance 0.5
	linf := func(eps float32) attack.Threat { return attack.Threat{Norm: attack.LInf{}, Eps: eps} }
	for _, c := range []struct {
		a      snn.Adversary
		threat attack.Threat
		want   string // "" for no error
	}{
		{made{moved}, linf(0.5), ""},
		{made{moved}, attack.Threat{Norm: attack.L2{}, Eps: 0.5}, ""},
		{made{moved}, linf(0.49), "attack: evaluate: images 2 to 2: a: image 2: L∞ distance 0.5 from the original: expected at most eps 0.49"},
		{made{moved}, attack.Threat{Norm: attack.L2{}, Eps: 0.49}, "images 2 to 2: a: image 2: L2 distance 0.5 from the original: expected at most eps 0.49"},
		{made{moved}, attack.Threat{}, "attack: evaluate: attack a states no threat model: expected Config.Threat, or an adversary that is Bounded"},
		{claims{made{moved}, linf(0.25)}, attack.Threat{}, "a: image 2: L∞ distance 0.5 from the original: expected at most eps 0.25"},
		{claims{made{moved}, linf(0.25)}, linf(1), "a: image 2: L∞ distance 0.5 from the original: expected at most eps 0.25"},
		{claims{made{moved}, linf(0.75)}, linf(0.25), ""}, // reported, not counted
		{claims{made{moved}, attack.Threat{Norm: blind{}, Eps: 0.1}}, linf(0.25), "a: image 2: L∞ distance 0.5 from the original: expected at most eps 0.25"},
		{claims{made{moved}, attack.Threat{}}, linf(0.25), ""}, // no bound: reported, not counted
		{claims{made{moved}, attack.Threat{Eps: 0.1}}, linf(1), "attack a: eps 0.1 without a norm"},
		{attack.FGSM(-1, snn.BPTT{}), linf(1), "attack: evaluate: attack a: eps -1: expected a number of at least 0"},
		{made{moved}, linf(-1), "attack: evaluate: threat model: eps -1: expected a number of at least 0"},
		{inPlace{}, linf(1), ""},
		{inPlace{}, linf(0.5), "image 0: L∞ distance 1 from the original: expected at most eps 0.5"},
		{attack.Mix{attack.FGSM(0.1, snn.BPTT{}), opaque{attack.FGSM(0.1, snn.BPTT{})}}, attack.Threat{}, "attack a states no threat model"},
		{attack.Mix{attack.FGSM(0.1, snn.BPTT{}), l2(attack.FGSM(0.1, snn.BPTT{}))}, attack.Threat{}, "attack a states no threat model"},
		{tells{attack.Detail{Target: []int{1}}}, linf(1), "images 0 to 1: a: 1 targets and 0 statements on gradients for 2 images"},
		{tells{attack.Detail{ZeroGradient: []bool{true}}}, linf(1), "0 targets and 1 statements on gradients for 2 images"},
		{tells{attack.Detail{Target: []int{-1, 3}}}, linf(1), "a: image 1: target 3: expected −1 to 2"},
	} {
		cfg := attack.DefaultConfig()
		cfg.Batch, cfg.Threat = 2, c.threat
		attacks := []attack.Named{{Name: "a", Attack: c.a}}
		if c.threat.Norm != nil && !(c.threat.Eps < 0) {
			attacks = append(attacks, attack.Named{Name: "counted", Attack: claims{fixed{}, c.threat}})
		}
		r, err := attack.Evaluate(ctx, m, data, attacks, cfg)
		if c.want == "" {
			require.NoError(t, err)
			assert.Equal(t, data.y, r.Labels)
			continue
		}
		assert.ErrorContains(t, err, c.want, "%T, %v", c.a, c.threat)
		assert.Nil(t, r)
	}
	_, err := attack.Evaluate(ctx, m, data, []attack.Named{
		{Name: "a", Attack: attack.FGSM(0.1, snn.BPTT{})}, {Name: "b", Attack: l2(attack.FGSM(0.1, snn.BPTT{}))},
	}, attack.DefaultConfig())
	assert.ErrorContains(t, err, "attacks bounded in L∞ and in L2: expected Config.Threat")
	cfg := attack.DefaultConfig()
	cfg.Threat = linf(0.05)
	_, err = attack.Evaluate(ctx, m, data, []attack.Named{
		{Name: "a", Attack: attack.FGSM(0.1, snn.BPTT{})}, {Name: "b", Attack: attack.GaussianNoise{Std: 0.01}},
	}, cfg)
	assert.ErrorContains(t, err, "attack: evaluate: no attack is bounded in L∞ with an eps of at most 0.05: expected one that the worst case of Config.Threat counts")
}

// The threat model of a Mix is the largest of its attacks'.
func TestThreatOfMix(t *testing.T) {
	got, known := attack.ThreatOf(attack.Mix{attack.FGSM(0.1, snn.BPTT{}), wrapped{attack.RATMix(0.3)}, attack.FGSM(0.2, snn.BPTT{})})
	assert.True(t, known)
	assert.Equal(t, attack.Threat{Norm: attack.LInf{}, Eps: 0.3}, got)
	for _, unknown := range []snn.Adversary{attack.Mix{}, attack.Mix{nil}, opaque{attack.FGSM(0.1, snn.BPTT{})}} {
		_, known = attack.ThreatOf(unknown)
		assert.False(t, known)
	}
}

// claims is an adversary that states a threat model.
type claims struct {
	snn.Adversary
	threat attack.Threat
}

func (c claims) Threat() (attack.Threat, bool) { return c.threat, true }

// blind is a norm of a known name that sees no distance.
type blind struct{ attack.LInf }

func (blind) Distance(_, _ []float32) float64 { return 0 }

// inPlace inverts the images that it is given, instead of copies, and the labels.
type inPlace struct{}

func (inPlace) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, y []int, ids []uint64, _ rng.Key) (tensor.NCHW, error) {
	for i, v := range x.Data {
		x.Data[i] = 1 - v
	}
	clear(y)
	clear(ids)
	return x, nil
}

// tells is an adversary that tells what it was made with.
type tells struct{ detail attack.Detail }

func (tells) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	return x, nil
}

func (a tells) PerturbDetail(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, attack.Detail, error) {
	return x, a.detail, nil
}

// The worst case counts attacks within the evaluation's threat model and no others: no
// larger radius, no other norm, no noise.
func TestWorstCaseIsWithinTheThreatModel(t *testing.T) {
	m := brightest(t)
	data := set{x: pixels(0, 1, 2, 0), y: []int{0, 1, 2, 0}}
	linf := func(eps float32) attack.Threat { return attack.Threat{Norm: attack.LInf{}, Eps: eps} }
	attacks := []attack.Named{
		{Name: "small", Attack: claims{made{pixels(0, 1, 2, 0)}, linf(0.25)}},
		{Name: "within", Attack: claims{made{pixels(1, 1, 2, 0)}, linf(1)}},
		{Name: "larger", Attack: claims{made{pixels(0, 2, 2, 0)}, linf(1.5)}},
		{Name: "L2", Attack: claims{made{pixels(0, 1, 0, 0)}, attack.Threat{Norm: attack.L2{}, Eps: 2}}},
		{Name: "noise", Attack: claims{made{pixels(0, 1, 2, 1)}, attack.Threat{}}},
	}
	cfg := attack.DefaultConfig()
	cfg.Threat = whole
	run := func() *attack.Report {
		r, err := attack.Evaluate(ctx, m, data, attacks, cfg)
		require.NoError(t, err)
		return r
	}
	r := run()
	assert.Equal(t, []bool{false, true, true, true}, r.Survived)
	assert.Equal(t, 0.75, r.WorstCase)
	counted := map[string]bool{}
	for _, o := range r.Attacks {
		counted[fmt.Sprintf("%s %s %v", o.Name, o.Norm, o.Eps)] = o.InWorstCase
	}
	assert.Equal(t, map[string]bool{
		"small L∞ 0.25": true, "within L∞ 1": true, "larger L∞ 1.5": false, "L2 L2 2": false, "noise none 0": false,
	}, counted)
	cfg.Threat = attack.Threat{Norm: attack.L2{}, Eps: 2}
	assert.Equal(t, []bool{true, true, false, true}, run().Survived)

	// Without one of its own the evaluation has that of its attacks.
	cfg.Threat = attack.Threat{}
	attacks = append(attacks[:3:3], attacks[4])
	r = run()
	assert.Equal(t, []bool{false, false, true, true}, r.Survived)
	assert.Equal(t, "L∞", r.Norm)
	assert.Equal(t, float32(1.5), r.Eps)
	attacks = attacks[3:]
	r = run()
	assert.Equal(t, 1.0, r.WorstCase, "noise is no attack")
	assert.Equal(t, "none", r.Norm)
}

// A report's JSON says what was done.
func TestReportSettings(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 2, 0, 1)
	pgd := nextClass(attack.PGD(0.1, 0.04, 3, snn.BPTT{Surrogate: snn.Arctan{Alpha: 2}}), 3)
	own := attack.FGSM(0.1, snn.BPTR{})
	own.Objective, own.Start = noted{attack.CrossEntropy{}, new([][]float32)}, attack.RandomStep{Length: 0.05}
	cfg := attack.DefaultConfig()
	cfg.Source, cfg.Threat, cfg.Key = model(t, small, false), attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, rng.Key{1, 2}
	r, err := attack.Evaluate(ctx, m, set{x: x, y: y}, []attack.Named{
		{Name: "PGD", Attack: wrapped{pgd}}, {Name: "mix", Attack: attack.Mix{own}},
		{Name: "noise", Attack: attack.GaussianNoise{Std: 0.25}}, {Name: "foreign", Attack: fixed{}},
	}, cfg)
	require.NoError(t, err)
	b, err := json.Marshal(r)
	require.NoError(t, err)
	var got struct {
		Norm     string
		Eps      float64
		BlackBox bool `json:"black_box"`
		Key      string
		Library  string
		Attacks  []struct {
			Norm     string
			Eps      float64
			Target   []int
			Settings map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(b, &got))
	assert.Equal(t, []any{"L∞", 0.1, true, "0102" + strings.Repeat("00", 30), version.String()}, []any{got.Norm, got.Eps, got.BlackBox, got.Key, got.Library})
	assert.Equal(t, map[string]any{
		"kind": "gradient attack", "objective": "cross-entropy", "gradient": "BPTT(arctan 2)", "start": "uniform in the ball",
		"steps": 3., "alpha": 0.04, "targeted": true,
	}, got.Attacks[0].Settings)
	assert.Equal(t, []int{(y[0] + 1) % 3, (y[1] + 1) % 3}, got.Attacks[0].Target)
	assert.Equal(t, map[string]any{"kind": "mix", "mix": []any{map[string]any{
		"kind": "gradient attack", "objective": "attack_test.noted", "gradient": "BPTR", "start": "a random step of length 0.05",
		"steps": 1., "alpha": 0.1,
	}}}, got.Attacks[1].Settings)
	assert.Equal(t, map[string]any{"kind": "Gaussian noise", "std": 0.25}, got.Attacks[2].Settings)
	assert.Equal(t, map[string]any{"kind": "attack_test.fixed"}, got.Attacks[3].Settings)
	assert.Equal(t, []any{"none", 0.}, []any{got.Attacks[2].Norm, got.Attacks[2].Eps})
	var back attack.Report
	require.NoError(t, json.Unmarshal(b, &back))
	assert.Equal(t, *r, back)
}

// fixed returns the images as they are.
type fixed struct{}

func (fixed) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	return x, nil
}

// sorted is a set that knows its classes.
type sorted struct {
	set
	n     int
	names []string
}

func (s sorted) NumClasses() int      { return s.n }
func (s sorted) ClassNames() []string { return s.names }

// A data set of other classes, by number or by name, is refused for every network that it
// is shown to and for the source.
func TestOtherClasses(t *testing.T) {
	m, unnamed := brightest(t), brightest(t)
	m.Config.ClassNames = []string{"cat", "deer", "dog"}
	data := set{x: pixels(0, 1), y: []int{0, 1}}
	folder := func(classes ...string) snn.Dataset {
		s, err := dataset.New("folder", dataset.NewMemory(1, 1, 3, []uint8{255, 0, 0}), []int{0}, classes)
		require.NoError(t, err)
		return s
	}
	for _, c := range []struct {
		data snn.Dataset
		want string
	}{
		{sorted{data, 0, nil}, ""},
		{sorted{data, 3, nil}, ""},
		{sorted{data, 3, []string{"cat", "dog", "frog"}}, `attack: evaluate: snn: class 1 is "dog" in the data set and "deer" in the network`},
		{folder("cat", "deer", "dog"), ""},
		{folder("images"), "attack: evaluate: snn: a data set of 1 classes: the network has 3"},
		{sorted{data, 2, nil}, "attack: evaluate: snn: a data set of 2 classes: the network has 3"},
		{sorted{data, 0, []string{"a", "b", "c", "d"}}, "attack: evaluate: snn: a data set of 4 classes: the network has 3"},
	} {
		source := attack.DefaultConfig()
		source.Source = m
		for _, run := range []func() ([]*attack.Report, error){
			func() ([]*attack.Report, error) {
				return attack.EvaluateAll(ctx, []*snn.Model{unnamed, m}, c.data, nil, attack.DefaultConfig())
			},
			func() ([]*attack.Report, error) {
				return attack.EvaluateAll(ctx, []*snn.Model{unnamed}, c.data, nil, source)
			},
		} {
			if _, err := run(); c.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.want)
			}
		}
	}
}
