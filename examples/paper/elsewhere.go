package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
)

// elsewhere are the flags that describe a state dict, which says no more of its network
// than the parameters. The zero value has the settings of the reference implementation.
type elsewhere struct {
	Mean, Std    channels
	Decay, Theta float64
	Reset        string
	Surrogate    string
	Param        float64
}

// stateDictFlags are the names of the flags.
var stateDictFlags = []string{"mean", "std", "decay", "theta", "reset", "surrogate", "surrogate-param"}

// define defines the flags.
func (e *elsewhere) define(fs *flag.FlagSet) {
	const dict = " of the network of a state dict"
	fs.Var(&e.Mean, "mean", "`list` of the channels' means by which images are normalized, with commas between,"+dict+" (default the data set's)")
	fs.Var(&e.Std, "std", "`list` of the channels' standard deviations, as -mean")
	cli.Var(fs, &e.Decay, "decay", 1, "(0, 1]", "decay λ of the membrane potential"+dict+"; 1 is no leak")
	cli.Var(fs, &e.Theta, "theta", 1, "(0, ∞)", "firing threshold θ"+dict)
	fs.StringVar(&e.Reset, "reset", "hard", "`kind` of reset after a spike"+dict+": hard (to 0) or soft (by -θ)")
	fs.StringVar(&e.Surrogate, "surrogate", "triangle", "`name` of the surrogate gradient"+dict+": triangle, rectangle, sigmoid, arctan, fast_sigmoid, exponential, dampened_exponential or straight_through")
	cli.Var(fs, &e.Param, "surrogate-param", 1, "(0, ∞)", "width, α or slope of the surrogate"+dict)
}

// check returns an error that names a flag whose value is wrong or that has no use.
func (e *elsewhere) check(o *options) error {
	if o.weights == "" && o.source == "" {
		return e.refuse(o, "expected -weights or -source beside it")
	}
	if e.Reset != "hard" && e.Reset != "soft" {
		return fmt.Errorf("-reset %q: expected hard or soft", e.Reset)
	}
	if _, err := snn.NewSurrogate(e.Surrogate, float32(e.Param)); err != nil {
		return fmt.Errorf("-surrogate %s, -surrogate-param %v: %w", e.Surrogate, e.Param, err)
	}
	if o.given["mean"] != o.given["std"] {
		return errors.New("-mean and -std: expected both or neither")
	}
	if len(e.Mean) != len(e.Std) {
		return fmt.Errorf("-mean %v, -std %v: expected as many standard deviations as means", &e.Mean, &e.Std)
	}
	for _, v := range e.Std {
		if v <= 0 {
			return fmt.Errorf("-std %v: expected positive numbers", &e.Std)
		}
	}
	return nil
}

// refuse returns an error if the command line has one of the flags.
func (e *elsewhere) refuse(o *options, reason string) error {
	for _, name := range stateDictFlags {
		if o.given[name] {
			return fmt.Errorf("-%s is for networks of state dicts: %s", name, reason)
		}
	}
	return nil
}

// describe completes the description of a state dict's network.
func (e *elsewhere) describe(cfg *zoo.Config) error {
	if e.Mean != nil {
		if len(e.Mean) != cfg.Channels {
			return fmt.Errorf("-mean %v: expected %d numbers, one a channel", &e.Mean, cfg.Channels)
		}
		cfg.Mean, cfg.Std = e.Mean, e.Std
	}
	cfg.Decay, cfg.Threshold, cfg.SoftReset = float32(e.Decay), float32(e.Theta), e.Reset == "soft"
	cfg.Surrogate, cfg.SurrogateParam = e.Surrogate, float32(e.Param)
	return nil
}

// channels is a flag of a number for each channel of the images.
type channels []float32

func (c *channels) String() string {
	var texts []string
	for _, v := range *c {
		texts = append(texts, fmt.Sprint(v))
	}
	return strings.Join(texts, ",")
}

func (c *channels) Set(s string) error {
	var list channels
	for text := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseFloat(text, 32)
		if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return errors.New("expected numbers with commas between")
		}
		list = append(list, float32(v))
	}
	*c = list
	return nil
}

// read returns a network that was trained elsewhere, and its description. A network that
// this library saved describes itself. The flags describe that of a state dict. read notes
// what of a state dict was converted or passed over.
func (l *lab) read(n *network) (*snn.Model, zoo.Config, error) {
	m, cfg, err := zoo.Load(n.file)
	if errors.Is(err, zoo.ErrNoDescription) || err != nil && strings.HasPrefix(filepath.Ext(n.file), ".pt") {
		l.stateDicts = true
		cfg = n.Network
		if err := l.elsewhere.describe(&cfg); err != nil {
			return nil, cfg, err
		}
		note := func(s string) { l.fileNotes = append(l.fileNotes, n.file+": "+s) }
		m, err = zoo.LoadTorchWith(n.file, cfg, snn.LoadOptions{Note: note})
	}
	return m, cfg, err
}

// open loads a network that was trained elsewhere, once. It returns an error if the network
// does not fit the data set's images.
func (l *lab) open(n *network) error {
	if l.loaded[n.name] == nil {
		m, _, err := l.read(n)
		if err != nil {
			return err
		}
		l.loaded[n.name] = newJudged(n.name, m)
	}
	m := l.loaded[n.name].model
	if s := n.on.Test; m.Channels != s.C || m.Height != s.H || m.Width != s.W || m.Classes() != s.Classes {
		return fmt.Errorf("%s: a network for images of %d×%d×%d in %d classes: expected one for the images of -data, %d×%d×%d in %d classes",
			n.file, m.Channels, m.Height, m.Width, m.Classes(), s.C, s.H, s.W, s.Classes)
	}
	if err := m.ValidateDataset(n.on.Test); err != nil {
		return fmt.Errorf("%s: %w", n.file, err)
	}
	return nil
}

// describe loads the network of -weights, if there is one. Its description replaces the
// flags, which must not contradict it.
func (l *lab) describe(on *sets.Data) error {
	if l.weights == "" {
		return nil
	}
	l.archs = l.archs[:1] // of the experiment's, if no flag says which
	n := l.newNetwork(subject{Data: on, arch: l.archs[0]}, given)
	m, cfg, err := l.read(n)
	if err != nil {
		return fmt.Errorf("-weights: %w", err)
	}
	for _, f := range []struct {
		name     string
		flag, is any
		same     bool
	}{
		{"arch", l.archs[0], cfg.Arch, written(l.archs[0]) == written(cfg.Arch)},
		{"width", l.Width, cfg.WidthMultiplier, l.Width == cfg.WidthMultiplier},
		{"T", l.T, cfg.Steps, l.T == cfg.Steps},
	} {
		if l.given[f.name] && !f.same {
			return fmt.Errorf("-%s %v: the network of -weights %s has %v: expected the same, or no -%s", f.name, f.flag, l.weights, f.is, f.name)
		}
	}
	l.archs, l.Width, l.T = list{cfg.Arch}, cfg.WidthMultiplier, cfg.Steps
	l.described = cfg
	l.loaded[n.name] = newJudged(n.name, m)
	return nil
}

// written returns an architecture written out in one way, whether it has a name or not.
func written(arch string) string {
	if a, ok := zoo.Architectures[strings.ToLower(arch)]; ok {
		arch = a
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(arch, "|", " | ")), " ")
}

// settings returns the settings for the results' JSON: the flags, or for a network that was
// trained elsewhere its description and the flags of its evaluation.
func (l *lab) settings() any {
	if l.weights == "" {
		return l.options
	}
	s := map[string]any{
		"experiment": l.Exp, "weights": l.weights, "network": l.described, "width": l.Width, "T": l.T, "test_images": l.Test,
		"test_eps_255": l.TestEps, "test_alpha": l.TestAlpha, "test_steps": l.TestSteps, "battery": l.Battery, "seed": l.Seed,
	}
	if l.source != "" {
		s["source"] = l.source
	}
	return s
}
