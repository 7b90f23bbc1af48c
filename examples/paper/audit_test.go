package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// auditArgs are flags for an audit that takes no time.
func auditArgs(data, out string, more ...string) []string {
	return append([]string{"-exp", "audit", "-data", data, "-out", out, "-arch", "conv4 A | fc8 fc", "-scale", "tiny", "-T", "2", "-train", "32", "-test", "10",
		"-epochs", "1", "-batch", "16", "-width", "1", "-hire-steps", "0", "-rate-steps", "4", "-test-alpha", "0.05", "-test-steps", "2", "-radii", "8,32"}, more...)
}

// An audit trains every method, tgo-quiet being tgo's network without its noise. A second run and
// a part of it train nothing.
func TestAudit(t *testing.T) {
	if testing.Short() {
		t.Skip("runs of the program, which are slow under the race detector")
	}
	data, out := cifar(t), t.TempDir()
	stdout, stderr, code := clitest.Run(t, auditArgs(data, out, "-battery", "none", "-set", "tgo.noise=1.5")...)
	require.Zero(t, code, stderr)
	all := files(t, out)
	assert.Equal(t, stdout, all["audit.txt"])
	assert.Contains(t, all, "audit.png")
	assert.Contains(t, all["audit.svg"], "mppd-tv-l1")
	networks, err := filepath.Glob(filepath.Join(out, networksFolder, "*.safetensors"))
	require.NoError(t, err)
	assert.Len(t, networks, len(trainings)-1)
	var got struct {
		Results map[string]*auditOf
	}
	require.NoError(t, json.Unmarshal([]byte(all["audit.json"]), &got))
	methods := got.Results["conv4 A | fc8 fc, CIFAR-10"].Methods
	require.Len(t, methods, len(trainings))
	for i, m := range methods {
		assert.Equal(t, trainings[i].Name, m.Method)
		assert.Contains(t, stdout, "\n"+m.Method+" ")
		assert.LessOrEqual(t, m.Worst[1].Accuracy, min(m.Worst[0].Accuracy, m.PGD[1].Accuracy), m.Method)
		assert.InDelta(t, m.PGD[1].Accuracy-m.Worst[1].Accuracy, m.Gap[1].Difference, 1e-12)
		assert.Positive(t, m.FiringRate)
		assert.Positive(t, m.Milliseconds)
		assert.Nil(t, m.APGD)
		if m.Method == "conversion" { // 2 + 4 of the ReLU network, and its own
			assert.Equal(t, []int{4, 5}, []int{m.WeightPasses, m.ImagePasses})
		}
	}
	networkOf := func(name string) string {
		return methods[slices.IndexFunc(methods, func(m *audited) bool { return m.Method == name })].Networks[0].Network
	}
	noisy := strings.TrimSuffix(networkOf("tgo-quiet"), "-quiet")
	assert.Equal(t, noisy, networkOf("tgo"))
	m, _, err := zoo.Load(filepath.Join(out, networksFolder, noisy+".safetensors"))
	require.NoError(t, err)
	layers := 0
	for _, r := range m.Summary().Rows {
		if n, ok := r.Layer.(*snn.NoisyLIF); ok {
			assert.Equal(t, float32(1.5), n.Std)
			n.Std = 0
			layers++
		}
	}
	assert.Equal(t, 2, layers)
	d, err := sets.Open(t.Context(), data, nil)
	require.NoError(t, err)
	require.NoError(t, d.Limit(32, 10))
	report, err := attack.Evaluate(t.Context(), m, d.Test, nil, attack.DefaultConfig())
	require.NoError(t, err)
	predicted := func(network string) []int {
		paths, err := filepath.Glob(filepath.Join(out, evaluationsFolder, network+"-????????.json"))
		require.NoError(t, err)
		require.Len(t, paths, 1)
		var r record
		require.NoError(t, runs.ReadRecord(paths[0], &r, 1<<20))
		return r.find(trials.Clean).Predicted
	}
	assert.Equal(t, report.Clean.Predicted, predicted(noisy+"-quiet"))
	assert.NotEqual(t, report.Clean.Predicted, predicted(noisy), "else this test shows nothing")

	again, stderr, code := clitest.Run(t, auditArgs(data, out, "-battery", "none", "-set", "tgo.noise=1.5")...)
	require.Zero(t, code, stderr)
	assert.Equal(t, stdout, again)
	assert.Empty(t, stderr)
	_, stderr, code = clitest.Run(t, auditArgs(data, out, "-battery", "none", "-set", "tgo.noise=1.5", "-methods", "sqe,tgo-quiet,rat")...)
	require.Zero(t, code, stderr)
	assert.Empty(t, stderr)

	// Batteries: what their gradient attacks leave is what the report says. The checks of every
	// radius are in the results, and their faults in the text.
	args := auditArgs(data, out, "-battery", "quick", "-methods", "vanilla", "-test", "6", "-radii", "2,4")
	stdout, stderr, code = clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	require.NoError(t, json.Unmarshal([]byte(files(t, out)["audit.json"]), &got))
	a := got.Results["conv4 A | fc8 fc, CIFAR-10"].Methods[0]
	found := false
	for name, content := range files(t, out) {
		var r record
		if filepath.Dir(name) != evaluationsFolder || json.Unmarshal([]byte(content), &r) != nil || len(r.Batteries) == 0 {
			continue
		}
		found = true
		require.Len(t, r.Batteries, 2)
		b := r.Batteries[0].Report
		assert.True(t, strings.HasPrefix(b.Attacks[1].Name, "APGD") && !strings.HasPrefix(b.Attacks[2].Name, "APGD"))
		assert.InDelta(t, b.Attacks[1].Left, a.APGD[0].Accuracy, 1e-12)
		for _, b := range r.Batteries {
			require.NotEmpty(t, b.Report.Checks)
			assert.Equal(t, b.Report.Checks, checksOf(a.Networks[0], b.Trial))
		}
		assert.NotContains(t, stdout, "Faults")
		b.Checks[0].Status, b.Checks[1].Status = attack.Fault, attack.Fault // at the smaller radius
		require.NoError(t, runs.WriteRecord(filepath.Join(out, name), &r))
	}
	assert.True(t, found)
	stdout, stderr, code = clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "Faults that the battery's checks found: "+a.Networks[0].Network+" 2. See ")
}

// checksOf returns the checks of a battery in a summary.
func checksOf(s *summary, of trials.Trial) []attack.Check {
	for _, o := range s.Outcomes {
		if o.Trial == of {
			return o.Checks
		}
	}
	return nil
}

// Attacks of the battery by scores do not count for what gradients leave.
func TestByGradients(t *testing.T) {
	b := &trials.BatteryOutcome{Report: &attack.BatteryReport{Attacks: []attack.BatteryAttack{{Name: "APGD, a"}, {Name: "APGD, b"}, {Name: "search"}, {Name: "rounds"}}}}
	for _, by := range []int{attack.Misclassified, attack.Survived, 0, 1, 2, 3} {
		b.Report.Results = append(b.Report.Results, attack.ImageResult{BrokenBy: by})
	}
	assert.Equal(t, []bool{false, true, false, false, true, true}, byGradients(b))
}

// Each method trains as its publication says, see doc.go.
func TestTrainings(t *testing.T) {
	d, err := sets.Open(t.Context(), "fashion-mini", nil)
	require.NoError(t, err)
	require.NoError(t, d.Limit(100, 5))
	configure := func(args string, name string) (train.Config, *network, *snn.Model) {
		o, err := parse(strings.Fields("-exp audit -data fashion-mini -T 4 -rate-steps 4 "+args), io.Discard)
		require.NoError(t, err)
		n := o.newNetwork(subject{Data: d, arch: "conv4 A conv5 A | fc6 fc"}, trainingNamed(name).method)
		require.NoError(t, n.validate())
		m, err := n.build()
		require.NoError(t, err)
		return n.config(m), n, m
	}
	const eps = float32(2. / 255)
	pgd := func(alpha float32, steps int) *attack.Attack { return attack.PGD(eps, alpha, steps, snn.BPTT{}) }
	entropy := train.CrossEntropy{}
	fgsm := attack.FGSM(4./255, snn.BPTT{})
	fgsm.Start = attack.Gaussian{Std: 0.001}
	share := &attack.Attack{Objective: labelShare{}, Gradient: snn.BPTT{}, Norm: attack.LInf{}, Start: attack.AtImage{}, Eps: 0.01, Alpha: 0.01, Steps: 1}
	half := train.CleanMix{Share: 0.5, Loss: entropy}
	for _, c := range []struct {
		name      string
		adversary snn.Adversary
		loss      train.Loss
		penalty   train.Penalty
		projected bool
	}{
		{"vanilla", nil, entropy, nil, false},
		{"reg", nil, entropy, nil, true},
		{"mix", attack.RATMix(eps), entropy, nil, false},
		{"rat", attack.RATMix(eps), entropy, nil, true},
		{"at", pgd(eps/2, 4), entropy, nil, false},
		{"trades", attack.TRADES(eps, 0.375*eps, 4, snn.BPTT{}), train.TRADES{Beta: 5, Temperature: 2, PerStep: true}, nil, false},
		{"mart", pgd(eps/2, 4), train.MART{Lambda: 5}, nil, false},
		{"mart+reg", pgd(eps/2, 4), train.MART{Lambda: 5}, nil, true},
		{"mart+awp", pgd(eps/2, 4), train.MART{Lambda: 5}, nil, false},
		{"mart+ema", pgd(eps/2, 4), train.MART{Lambda: 5}, nil, false},
		{"mart+reg+mix", attack.RATMix(eps), train.MART{Lambda: 5}, nil, true},
		{"vanilla+awp+ema", nil, entropy, nil, false},
		{"relu", attack.TRADES(eps, 0.375*eps, 4, snn.CBA{}), train.TRADES{Beta: 5, Temperature: 1}, nil, false},
		{"conversion", attack.TRADES(eps, eps, 1, snn.BPTT{}), train.TRADES{Beta: 2, Temperature: 1}, nil, false},
		{"sr", share, train.GradientSparsity{Lambda: 0.008, Step: 0.01}, nil, false},
		{"mpd-sgr", attack.FGSM(eps, snn.BPTT{}), entropy, train.MPDPenalty{Weight: 0.1, Width: 1}, false},
		{"tgo", attack.RATMix(eps), entropy, train.ThresholdPenalty{Weight: 0.5 / 3, Margin: 0.5, Rising: true}, true},
		{"mppd-l2", fgsm, half, train.MPPDPenalty{Layer: "classifier.1", Weight: 1, Decay: 0.99}, false},
		{"mppd-tv-l1", fgsm, half, train.MPPDPenalty{Layer: "classifier.1", Weight: 2.5, Decay: 0.99, L1: true}, false},
		{"sqe", attack.RATMix(eps), entropy, nil, true},
		{"hire", nil, entropy, nil, false},
		{"rate", nil, entropy, nil, false},
	} {
		cfg, n, m := configure("", c.name)
		assert.Equal(t, c.adversary, cfg.Adversary, c.name)
		assert.Equal(t, c.loss, cfg.Loss, c.name)
		var penalties []train.Penalty
		if c.penalty != nil {
			penalties = []train.Penalty{c.penalty}
		}
		assert.Equal(t, penalties, cfg.Penalties, c.name)
		assert.Equal(t, c.projected, cfg.Regularizer != nil, c.name)
		decay := 5e-4
		if c.projected {
			decay = 0
		}
		assert.Equal(t, train.SGD{Momentum: 0.9, WeightDecay: decay}, cfg.Optimizer, c.name)
		assert.Equal(t, map[string]float32{"tgo": 0.2}[c.name], n.Network.Noise)
		assert.Equal(t, c.name == "sqe", m.Encoder == snn.StochasticQuantization{Levels: 2})
		assert.Equal(t, c.name == "hire", n.HIRE != nil)
		assert.Equal(t, strings.Contains(c.name, "+awp"), cfg.Recipe == train.Recipe(train.AWP{Gamma: 0.005}), c.name)
		assert.Equal(t, map[bool]float64{true: 0.995}[strings.Contains(c.name, "+ema")], cfg.EMA, c.name)
		assert.Equal(t, c.name == "relu", cfg.Gradient == snn.Gradient(snn.CBA{}), c.name)
		assert.Equal(t, c.name == "conversion", cfg.LR == 0.001, c.name)
		if c.name == "conversion" {
			require.NotNil(t, n.Start)
			assert.Equal(t, "relu", n.Start.Method.Name)
			assert.Equal(t, 2., n.Start.Eps)
		} else {
			assert.Nil(t, n.Start, c.name)
		}
	}
	_, before, _ := configure("", "at")
	cfg, after, _ := configure("-set at.steps=7 -set at.alpha=0.25 -set tgo.noise=0 -eps 4", "at")
	assert.Equal(t, attack.PGD(2*eps, eps/2, 7, snn.BPTT{}), cfg.Adversary)
	assert.NotEqual(t, before.name, after.name)
	_, feel, m := configure("-methods rat+feel -set feel.decay=0.75", "rat+feel")
	assert.Equal(t, snn.FrequencyEncoding{}, m.Encoder)
	assert.Equal(t, "plif", feel.Network.Neuron)
	assert.Equal(t, float32(0.75), feel.Network.Decay)
	assert.True(t, feel.Method.Mix)
	_, quiet, _ := configure("-set tgo.noise=0", "tgo")
	assert.Zero(t, quiet.Network.Noise)
}

// A conversion begins with the parameters of the ReLU network, and an average is what its network
// holds.
func TestStarts(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir()
	networkOf := func(methods string, args ...string) *snn.Model {
		_, stderr, code := clitest.Run(t, auditArgs(data, out, append([]string{"-battery", "none", "-methods", methods}, args...)...)...)
		require.Zero(t, code, stderr)
		var got struct {
			Results map[string]*auditOf
		}
		require.NoError(t, json.Unmarshal([]byte(files(t, out)["audit.json"]), &got))
		methodsOf := got.Results["conv4 A | fc8 fc, CIFAR-10"].Methods
		m, _, err := zoo.Load(filepath.Join(out, networksFolder, methodsOf[0].Networks[0].Network+".safetensors"))
		require.NoError(t, err)
		return m
	}
	values := func(m *snn.Model) [sha256.Size]byte {
		var all [][]float32
		for _, p := range m.Params() {
			all = append(all, p.Export())
		}
		return sha256.Sum256(fmt.Append(nil, all))
	}
	still := values(networkOf("conversion", "-set", "conversion.lr=1e-30"))
	assert.Equal(t, values(networkOf("relu")), still)
	assert.NotEqual(t, still, values(networkOf("conversion")))
	assert.NotEqual(t, still, values(networkOf("conversion", "-set", "relu.steps=1", "-set", "conversion.lr=1e-30")))

	last := values(networkOf("mart"))
	assert.Equal(t, last, values(networkOf("mart+ema", "-set", "ema.decay=0")))
	assert.NotEqual(t, last, values(networkOf("mart+ema")))
}

// A balanced ReLU network has the logits that it had, and the share of its currents that was asked
// for below the threshold.
func TestBalance(t *testing.T) {
	d, err := sets.Open(t.Context(), "fashion-mini", nil)
	require.NoError(t, err)
	require.NoError(t, d.Limit(40, 5))
	x, err := firstImages(d.Train, 40)
	require.NoError(t, err)
	for _, bn := range []bool{true, false} {
		cfg := zoo.Default("conv4 A conv5 A | fc6 fc").For(d.Train)
		cfg.BatchNorm = bn
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		for i, p := range m.Params() { // no bias, and no offset of batch norm, stays 0
			values := p.Export()
			for k := range values {
				values[k] += 0.02 * float32(i+1)
			}
			p.Import(values)
		}
		logits := func() []float32 {
			l, err := m.Logits(snn.Pass{Gradient: snn.CBA{}}, x)
			require.NoError(t, err)
			return l
		}
		before := logits()
		require.NoError(t, balance(m, d.Train, 0.9))
		for i, l := range logits() {
			assert.InEpsilon(t, before[i], l, 1e-4)
		}
		stages, _, err := stagesOf(m)
		require.NoError(t, err)
		require.Len(t, stages, 3)
		for _, s := range stages {
			require.NoError(t, onCurrents(m, s.layer, snn.CBA{}, x, func(d *tensor.Dense) {
				below, all := 0., 0.
				for _, v := range d.Unpack().Data {
					all++
					if v < 1-1e-5 {
						below++
					}
				}
				assert.InDelta(t, 0.9, below/all, 0.02, s.layer)
			}), bn)
		}
	}
}

// The step of sr raises the share of the label, along its gradient.
func TestLabelShare(t *testing.T) {
	value, grad := make([]float64, 2), make([]float32, 6)
	labelShare{}.Evaluate(value, grad, []float32{1, 3, 2, 0, -1, 5}, []int{1, 0}, nil)
	assert.InDeltaSlice(t, []float64{0.7310586, 0.0066929}, value, 1e-6) // e³/(e³ + e²), 1/(1 + e⁵)
	assert.Equal(t, []float32{0, 1, -1, 1, 0, -1}, grad)
}

// What cannot be done is an error that names it.
func TestBadAudit(t *testing.T) {
	data, out := cifar(t), filepath.Join(t.TempDir(), "out")
	for args, want := range map[string]string{
		"-methods vanilla,feel":                                   `invalid value "vanilla,feel" for flag -methods: method "feel": expected some of vanilla, reg, mix,`,
		"-methods rat,rat":                                        `method "rat" twice`,
		"-set at.lambda=1":                                        `setting "at.lambda": expected one of at.alpha, at.steps, awp.gamma, conversion.beta`,
		"-set at.steps":                                           "expected a method's setting and a finite number, such as at.steps=7",
		"-set at.steps=NaN":                                       "expected a method's setting and a finite number",
		"-methods at -set at.alpha=-1":                            "method at with map[alpha:-1 steps:4]: ",
		"-set at.steps=0":                                         "setting at.steps=0: expected a whole number of at least 1",
		"-set at.steps=3 -set at.steps=7":                         "for flag -set: setting at.steps twice: expected it once",
		"-methods mpd-sgr -set mpd-sgr.eta=-1":                    "MPDPenalty.Weight is -1",
		"-set sqe.levels=1.5":                                     "setting sqe.levels=1.5: expected a whole number of at least 1",
		"-methods relu -set relu.quantile=1.5":                    "quantile 1.5: expected a share in (0, 1]",
		"-methods conversion -set conversion.lr=0":                "Config.LR is 0",
		"-methods mart+ema -set ema.decay=1":                      "Config.EMA is 1",
		"-methods mart+awp -set awp.gamma=-1":                     "AWP.Gamma is -1",
		"-methods mart+awp -set ema.decay=0.9":                    "-set ema.decay: ema is not in -methods mart+awp",
		"-methods mart+awp+awp":                                   `method "mart+awp+awp": addition "awp": expected some of reg, mix, awp, ema, feel, each at most once`,
		"-methods mart+ema+awp,mart+awp+ema":                      `method "mart+awp+ema" twice`,
		"-methods mart+":                                          `method "mart+": addition ""`,
		"-methods mart@0":                                         `method "mart@0": ε "0": expected a number of 255ths in (0, 255]`,
		"-methods mart@4+ema":                                     `method "mart@4+ema": ε "4+ema": expected a number`,
		"-methods hire@2":                                         `method "hire@2": @2 on hire: expected a method that trains within -eps`,
		"-methods mart@4,mart@4.0":                                `method "mart@4" twice`,
		"-methods tgo+reg":                                        `method "tgo+reg": +reg on tgo: expected one without REG`,
		"-methods hire+awp":                                       `method "hire+awp": +awp on hire: expected a method that has additions`,
		"-methods tgo-quiet+ema":                                  `method "tgo-quiet+ema": +ema on tgo-quiet: expected a method that has additions`,
		"-methods rat+mix":                                        `method "rat+mix": +mix on rat: expected one that trains a spiking network by attacks of one ε`,
		"-methods relu+mix":                                       `method "relu+mix": +mix on relu: expected one that trains a spiking network`,
		"-methods conversion+feel":                                `+feel on conversion: expected one that begins with parameters of its own`,
		"-methods sqe+feel":                                       "frequency encoding and another one",
		"-methods rat+feel -set feel.decay=1":                     "neuron plif with decay 1",
		"-set mart.gamma=1":                                       `setting "mart.gamma": expected one of at.alpha`,
		"-methods conversion -arch wrn-16-4 -width 0.25":          "method relu with map[alpha:0.375 beta:5 quantile:0.997 steps:4]: 17 weights and 13 layers of neurons: expected one weight for each layer",
		"-methods tgo -set tgo.noise=-1":                          "noise of standard deviation -1",
		"-methods hire -hire-periods 3":                           "-hire-periods 3: expected a divisor of -T, 2",
		"-methods rat,tgo-quiet -set at.steps=7 -set tgo.noise=1": "-set at.steps: at is not in -methods rat,tgo-quiet",
		"-seeds ,": "for flag -seeds: expected a number of seeds in [1, 1000], or a list of different seeds such as 1,2,3",
		"-data " + filepath.Join(data, "nowhere"): "nowhere: no such file or directory: expected ",
	} {
		refused(t, out, []string{"paper: ", want}, auditArgs(data, out, append([]string{"-battery", "none"}, strings.Fields(args)...)...)...)
	}
	refused(t, out, []string{"-methods at: only audit and frontier have it"}, small("table1", data, out, "-methods", "at")...)
}

// The method mart is the recipe of train.Robust.
func TestRobustIsMART(t *testing.T) {
	mart := trainingNamed("mart")
	got := train.Default(3)
	mart.set(&got, 8./255, mart.settings, nil)
	assert.Equal(t, train.Robust(3, attack.PGD(8./255, 4./255, 4, snn.BPTT{})), got)
}

// Methods with an ε of their own are trained with it, and named with it. RAT networks are compared
// with each other once.
func TestOwnEps(t *testing.T) {
	if testing.Short() {
		t.Skip("runs of the program, which are slow under the race detector")
	}
	data, out := cifar(t), t.TempDir()
	stdout, stderr, code := clitest.Run(t, auditArgs(data, out, "-battery", "none", "-methods", "rat@8,rat,tgo-quiet@4,at@0.5,vanilla")...)
	require.Zero(t, code, stderr)
	all := files(t, out)
	var got struct {
		Results map[string]*auditOf
	}
	require.NoError(t, json.Unmarshal([]byte(all["audit.json"]), &got))
	a := got.Results["conv4 A | fc8 fc, CIFAR-10"]
	var labels []string
	for i, m := range a.Methods {
		labels = append(labels, m.label())
		assert.Contains(t, stdout, "\n"+m.label()+" ")
		assert.Contains(t, all["audit.svg"], m.label())
		m, _, err := zoo.Load(filepath.Join(out, networksFolder, strings.TrimSuffix(m.Networks[0].Network, "-quiet")+".safetensors"))
		require.NoError(t, err)
		var r recipe
		require.NoError(t, json.Unmarshal([]byte(m.Meta[recipeKey]), &r))
		assert.Equal(t, []float64{8, 2, 4, 0.5, 0}[i], r.Eps)
	}
	assert.Equal(t, []string{"rat, ε=8", "rat", "tgo-quiet, ε=4", "at, ε=0.5", "vanilla"}, labels)
	var pairs []string
	for _, p := range a.Comparisons {
		if p.Under == "worst ε=8" {
			pairs = append(pairs, p.Of+" - "+p.With)
		}
	}
	assert.Equal(t, []string{
		"rat - rat, ε=8", "tgo-quiet, ε=4 - rat, ε=8", "at, ε=0.5 - rat, ε=8", "tgo-quiet, ε=4 - rat", "at, ε=0.5 - rat",
		"rat, ε=8 - vanilla", "rat - vanilla", "tgo-quiet, ε=4 - vanilla", "at, ε=0.5 - vanilla",
	}, pairs)
}
