package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/train"
)

// training is a published defence of audit: a method with its settings. The settings that the
// sources do not say, and our choices for them, are in doc.go.
type training struct {
	method
	// settings are all numbers of the method but ε. -set changes them. A network's recipe has them.
	settings map[string]float64
	// additions are on top of the method, in the order of the list of all. Name has theirs.
	additions []addition
	eps       bool // trains on adversarial examples within -eps, by set
	// at, if not 0, is ε in training in 255ths instead of -eps and -train-radii, as in mart@4.
	at float64
	// set changes the configuration that the method's Mix and Reg make. eps is ε, for pixels in
	// [0,1]. layers are the names of the layers of neurons.
	set func(cfg *train.Config, eps float32, s map[string]float64, layers []string)
	// network, if not nil, changes the network.
	network func(cfg *zoo.Config, s map[string]float64)
	// balanced is set for a ReLU network, which balance makes a spiking one after the training.
	balanced bool
	// start, if not empty, names the training whose networks this one begins with.
	start string
	// quietOf is a training whose networks are judged here without their noise; no others are
	// trained.
	quietOf string
	// forward and gradients are the passes over an image beside the one that the update is from:
	// other passes forward and back to the weights, and gradients of the image.
	forward, gradients int
}

// pgdIn returns the attack of adversarial training: the steps have the share alpha of ε.
func pgdIn(eps float32, s map[string]float64) *attack.Attack {
	return attack.PGD(eps, eps*float32(s["alpha"]), int(s["steps"]), snn.BPTT{})
}

// trainings are the methods that audit compares, in the order of its table.
var trainings = []training{
	{method: vanilla},
	{method: reg},
	{method: mix, gradients: 1},
	{method: rat, gradients: 1},
	{
		method: method{Name: "at"}, eps: true, gradients: 4,
		settings: map[string]float64{"steps": 4, "alpha": 0.5},
		set: func(cfg *train.Config, eps float32, s map[string]float64, _ []string) {
			cfg.Adversary = pgdIn(eps, s)
		},
	},
	{
		method: method{Name: "trades"}, eps: true, forward: 1, gradients: 4,
		settings: map[string]float64{"steps": 4, "alpha": 0.375, "beta": 5, "temperature": 2},
		set: func(cfg *train.Config, eps float32, s map[string]float64, _ []string) {
			cfg.Adversary = attack.TRADES(eps, eps*float32(s["alpha"]), int(s["steps"]), snn.BPTT{})
			cfg.Loss = train.TRADES{Beta: s["beta"], Temperature: s["temperature"], PerStep: true}
		},
	},
	{
		method: method{Name: "mart"}, eps: true, forward: 1, gradients: 4,
		settings: map[string]float64{"steps": 4, "alpha": 0.5, "lambda": 5},
		set: func(cfg *train.Config, eps float32, s map[string]float64, _ []string) {
			cfg.Adversary, cfg.Loss = pgdIn(eps, s), train.MART{Lambda: s["lambda"]}
		},
	},
	{
		method: method{Name: "relu"}, eps: true, balanced: true, forward: 1, gradients: 4,
		settings: map[string]float64{"steps": 4, "alpha": 0.375, "beta": 5, "quantile": 0.997},
		set: func(cfg *train.Config, eps float32, s map[string]float64, _ []string) {
			cfg.Gradient = snn.CBA{}
			cfg.Adversary = attack.TRADES(eps, eps*float32(s["alpha"]), int(s["steps"]), snn.CBA{})
			cfg.Loss = train.TRADES{Beta: s["beta"], Temperature: 1}
		},
	},
	{
		method: method{Name: "conversion"}, eps: true, start: "relu", forward: 1, gradients: 1,
		settings: map[string]float64{"lr": 0.001, "beta": 2},
		set: func(cfg *train.Config, eps float32, s map[string]float64, _ []string) {
			cfg.LR = s["lr"]
			cfg.Adversary = attack.TRADES(eps, eps, 1, snn.BPTT{})
			cfg.Loss = train.TRADES{Beta: s["beta"], Temperature: 1}
		},
	},
	{
		method: method{Name: "sr"}, forward: 1, gradients: 1,
		settings: map[string]float64{"lambda": 0.008, "h": 0.01},
		set: func(cfg *train.Config, _ float32, s map[string]float64, _ []string) {
			h := float32(s["h"])
			cfg.Adversary = &attack.Attack{Objective: labelShare{}, Gradient: snn.BPTT{}, Norm: attack.LInf{}, Start: attack.AtImage{}, Eps: h, Alpha: h, Steps: 1}
			cfg.Loss = train.GradientSparsity{Lambda: s["lambda"], Step: s["h"]}
		},
	},
	{
		method: method{Name: "mpd-sgr"}, eps: true, gradients: 1,
		settings: map[string]float64{"eta": 0.1, "gamma": 1},
		set: func(cfg *train.Config, eps float32, s map[string]float64, _ []string) {
			cfg.Adversary = attack.FGSM(eps, snn.BPTT{})
			cfg.Penalties = []train.Penalty{train.MPDPenalty{Weight: s["eta"], Width: s["gamma"]}}
		},
	},
	{
		method: method{Name: "tgo", Mix: true, Reg: true}, gradients: 1,
		settings: map[string]float64{"lambda": 0.5, "delta": 0.5, "noise": 0.2},
		network:  func(cfg *zoo.Config, s map[string]float64) { cfg.Noise = float32(s["noise"]) },
		set: func(cfg *train.Config, _ float32, s map[string]float64, layers []string) {
			weight := s["lambda"] / float64(len(layers))
			cfg.Penalties = []train.Penalty{train.ThresholdPenalty{Weight: weight, Margin: s["delta"], Rising: true}}
		},
	},
	{method: method{Name: "tgo-quiet"}, quietOf: "tgo", gradients: 1},
	{
		method: method{Name: "mppd-l2"}, forward: 1, gradients: 1,
		settings: map[string]float64{"eps_255": 4, "start": 0.001, "alpha": 1, "tau": 0.99},
		set:      mppd(false),
	},
	{
		method: method{Name: "mppd-tv-l1"}, forward: 1, gradients: 1,
		settings: map[string]float64{"eps_255": 4, "start": 0.001, "alpha": 2.5, "tau": 0.99},
		set:      mppd(true),
	},
	{
		method: method{Name: "sqe", Mix: true, Reg: true}, gradients: 1,
		settings: map[string]float64{"levels": 2},
		network:  func(cfg *zoo.Config, s map[string]float64) { cfg.Levels = int(s["levels"]) },
	},
	{method: hire},
	{method: rate},
}

// addition is what a method can have on top, as reg in mart+reg.
type addition struct {
	name string
	// settings are its numbers. -set and a network's recipe have them with the name before: awp.gamma.
	settings map[string]float64
	// to, if not nil, changes the training. It returns what the training should be instead, or "" if
	// the addition fits.
	to func(t *training) (expected string)
	// set and network, if not nil, change the configuration and the network, as those of a training
	// do. s has the names of the recipe.
	set     func(cfg *train.Config, eps float32, s map[string]float64)
	network func(cfg *zoo.Config, s map[string]float64)
}

var additions = []addition{
	{
		name: reg.Name,
		to: func(t *training) string {
			if t.Reg {
				return "one without REG"
			}
			t.Reg = true
			return ""
		},
	},
	{
		name: mix.Name,
		to: func(t *training) string {
			if !t.eps || t.balanced {
				return "one that trains a spiking network by attacks of one ε"
			}
			t.gradients = 1
			return ""
		},
		set: func(cfg *train.Config, eps float32, _ map[string]float64) { cfg.Adversary = attack.RATMix(eps) },
	},
	{
		name: "awp", settings: map[string]float64{"gamma": 0.005},
		to: func(t *training) string {
			t.forward = 2*t.forward + 1 // each step makes the passes to the weights twice
			return ""
		},
		set: func(cfg *train.Config, _ float32, s map[string]float64) {
			cfg.Recipe = train.AWP{Gamma: s["awp.gamma"]}
		},
	},
	{
		name: "ema", settings: map[string]float64{"decay": 0.995},
		set: func(cfg *train.Config, _ float32, s map[string]float64) { cfg.EMA = s["ema.decay"] },
	},
	{
		name: "feel", settings: map[string]float64{"decay": 0.5},
		to: func(t *training) string {
			if t.start != "" {
				return "one that begins with parameters of its own"
			}
			return ""
		},
		network: func(cfg *zoo.Config, s map[string]float64) {
			cfg.Frequencies, cfg.Neuron, cfg.Decay = true, "plif", float32(s["feel.decay"])
		},
	},
}

// additionNames returns the names of all additions.
func additionNames() string {
	var names []string
	for _, a := range additions {
		names = append(names, a.name)
	}
	return strings.Join(names, ", ")
}

// parseTraining returns the training of a name: a method, or one with additions, such as
// mart+awp+ema, and with an ε of its own, such as mart+ema@4.
func parseTraining(name string) (training, error) {
	all, radius, own := strings.Cut(name, "@")
	parts := strings.Split(all, "+")
	i := slices.IndexFunc(trainings, func(t training) bool { return t.Name == parts[0] })
	if i < 0 {
		return training{}, fmt.Errorf("method %q: expected some of %s, with commas between", parts[0], trainingNames())
	}
	t, left := trainings[i], parts[1:]
	for _, a := range additions {
		k := slices.Index(left, a.name)
		if k < 0 {
			continue
		}
		left = slices.Delete(slices.Clone(left), k, k+1)
		expected := ""
		switch {
		case t.quietOf != "" || t.method == hire || t.method == rate:
			expected = "a method that has additions"
		case a.to != nil:
			expected = a.to(&t)
		}
		if expected != "" {
			return training{}, fmt.Errorf("method %q: +%s on %s: expected %s", name, a.name, t.Name, expected)
		}
		t.additions = append(t.additions, a)
		t.method.Name += "+" + a.name
	}
	if len(left) > 0 {
		return training{}, fmt.Errorf("method %q: addition %q: expected some of %s, each at most once", name, left[0], additionNames())
	}
	if own {
		eps, err := strconv.ParseFloat(radius, 64)
		if err != nil || !(eps > 0 && eps <= 255) {
			return training{}, fmt.Errorf("method %q: ε %q: expected a number of 255ths in (0, 255]", name, radius)
		}
		if !t.hasEps() {
			return training{}, fmt.Errorf("method %q: @%s on %s: expected a method that trains within -eps", name, radius, t.Name)
		}
		t.at = eps
	}
	return t, nil
}

// hasEps reports whether the training depends on -eps.
func (t training) hasEps() bool {
	if t.quietOf != "" {
		return trainingNamed(t.quietOf).hasEps()
	}
	return t.Mix || t.eps
}

// mppd returns the training with a penalty of the last layer of neurons.
func mppd(l1 bool) func(cfg *train.Config, eps float32, s map[string]float64, layers []string) {
	return func(cfg *train.Config, _ float32, s map[string]float64, layers []string) {
		eps := float32(s["eps_255"] / 255)
		a := attack.FGSM(eps, snn.BPTT{})
		a.Start = attack.Gaussian{Std: float32(s["start"])}
		cfg.Adversary = a
		cfg.Loss = train.CleanMix{Share: 0.5, Loss: train.CrossEntropy{}}
		cfg.Penalties = []train.Penalty{train.MPPDPenalty{Layer: layers[len(layers)-1], Weight: s["alpha"], Decay: s["tau"], L1: l1}}
	}
}

// trainingNamed returns the training of a name, which there is.
func trainingNamed(name string) training {
	t, _ := parseTraining(name)
	return t
}

// need returns the networks of a training and how they are judged.
func (t training) need() need {
	if t.quietOf != "" {
		return need{method: trainingNamed(t.quietOf).method, eps: t.at, quiet: true}
	}
	return need{method: t.method, eps: t.at}
}

// training returns the training of a need of audit or frontier.
func (n need) training() training {
	t := trainingOf(n.method)
	if n.quiet {
		return trainings[slices.IndexFunc(trainings, func(q training) bool { return q.quietOf == t.Name })]
	}
	return t
}

// trainingOf returns the training of a method; an empty one if the method is no defence of audit.
func trainingOf(m method) training {
	if t, err := parseTraining(m.Name); err == nil && t.method == m {
		return t
	}
	return training{method: m}
}

func trainingNames() string {
	var names []string
	for _, t := range trainings {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

// methodList is a flag of names of trainings.
type methodList []string

func (l *methodList) String() string { return strings.Join(*l, ",") }

func (l *methodList) Set(s string) error {
	var list methodList
	for name := range strings.SplitSeq(s, ",") {
		t, err := parseTraining(name)
		if err != nil {
			return err
		}
		name = t.Name
		if t.at != 0 {
			name = fmt.Sprintf("%s@%v", t.Name, t.at)
		}
		if slices.Contains(list, name) {
			return fmt.Errorf("method %q twice: expected it once", name)
		}
		list = append(list, name)
	}
	*l = list
	return nil
}

// overrides is a flag of settings of trainings, such as at.steps=7, by their names.
type overrides map[string]float64

func (o *overrides) String() string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(*o)) {
		texts = append(texts, fmt.Sprintf("%s=%v", name, (*o)[name]))
	}
	return strings.Join(texts, ",")
}

func (o *overrides) Set(s string) error {
	name, text, ok := strings.Cut(s, "=")
	v, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("expected a method's setting and a finite number, such as at.steps=7")
	}
	var known []string
	for _, t := range trainings {
		known = slices.AppendSeq(known, maps.Keys(t.flags()))
	}
	for _, a := range additions {
		known = slices.AppendSeq(known, maps.Keys(a.flags()))
	}
	if !slices.Contains(known, name) {
		slices.Sort(known)
		return fmt.Errorf("setting %q: expected one of %s", name, strings.Join(known, ", "))
	}
	if count := strings.HasSuffix(name, ".steps") || strings.HasSuffix(name, ".levels"); count && (v < 1 || v != math.Trunc(v)) {
		return fmt.Errorf("setting %s=%v: expected a whole number of at least 1", name, v)
	}
	if _, twice := (*o)[name]; twice {
		return fmt.Errorf("setting %s twice: expected it once", name)
	}
	if *o == nil {
		*o = overrides{}
	}
	(*o)[name] = v
	return nil
}

// flags returns the settings of an addition by their names in -set and in a recipe.
func (a addition) flags() map[string]float64 {
	all := map[string]float64{}
	for key, v := range a.settings {
		all[a.name+"."+key] = v
	}
	return all
}

// flags returns the names in -set of the settings of a training and of its additions, with the
// names that a recipe has.
func (t training) flags() map[string]string {
	base, _, _ := strings.Cut(t.Name, "+")
	all := map[string]string{}
	for key := range t.settings {
		all[base+"."+key] = key
	}
	for _, a := range t.additions {
		for key := range a.flags() {
			all[key] = key
		}
	}
	return all
}

// has reports whether a name in -set is that of a setting of a training, or of the training whose
// networks it judges or begins with.
func (t training) has(setting string) bool {
	if _, ok := t.flags()[setting]; ok {
		return true
	}
	for _, other := range []string{t.quietOf, t.start} {
		if other != "" && trainingNamed(other).has(setting) {
			return true
		}
	}
	return false
}

// settingsOf returns the settings of a training, with those of -set.
func (o *options) settingsOf(t training) map[string]float64 {
	s := maps.Clone(t.settings)
	for _, a := range t.additions {
		if s == nil {
			s = map[string]float64{}
		}
		maps.Copy(s, a.flags())
	}
	for flag, key := range t.flags() {
		if v, ok := o.Set[flag]; ok {
			s[key] = v
		}
	}
	return s
}

// labelShare is the objective e^{z_y} / (e^{z_y} + max_{j≠y} e^{z_j}) of the label's logit and the
// largest other one. A step that raises it is that of [train.GradientSparsity].
type labelShare struct{}

// String returns "share of the label".
func (labelShare) String() string { return "share of the label" }

// Evaluate implements [attack.Objective].
func (labelShare) Evaluate(value []float64, grad, logits []float32, y, _ []int) {
	classes := len(logits) / len(y)
	for i, label := range y {
		z, g := logits[i*classes:][:classes], grad[i*classes:][:classes]
		other := label
		for k, v := range z {
			if k != label && (other == label || v > z[other]) {
				other = k
			}
		}
		value[i] = 1 / (1 + math.Exp(float64(z[other])-float64(z[label])))
		// Both derivatives have the factor value·(1 − value), which the sign of a step ignores. It
		// would be 0 for confident images.
		g[label]++
		g[other]--
	}
}
