package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/nets"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/train"
)

// options are the flags. The results depend on those with a name in JSON.
type options struct {
	Exp         string  `json:"experiment"`
	Scale       string  `json:"scale"`
	Width       float64 `json:"width"`
	T           int     `json:"T"`
	Train       int     `json:"train_images"`
	Test        int     `json:"test_images"`
	Epochs      int     `json:"epochs"`
	Batch       int     `json:"batch"`
	LR          float64 `json:"lr"`
	Eps         float64 `json:"eps_255"`
	Beta        float64 `json:"beta"`
	RowShare    float64 `json:"row_share"`
	WeightDecay float64 `json:"weight_decay"`

	HIREPeriods int     `json:"hire_periods"`
	HIREEps     float64 `json:"hire_eps_255"`
	RateSteps   int     `json:"rate_steps"`

	TestEps   float64 `json:"test_eps_255"`
	TestAlpha float64 `json:"test_alpha"`
	TestSteps int     `json:"test_steps"`
	Battery   string  `json:"battery"` // a preset, or none
	Seed      uint64  `json:"seed"`

	data, archs list
	betas       numbers
	models      string // a folder of networks that are not to be trained; "" trains
	weights     string // file of a network to be judged in place of RAT's and vanilla
	source      string // file of the source of black-box attacks
	elsewhere   nets.StateDict
	out         string
	threads     int
	shard       attack.Shard
	merge       list              // folders of all shards
	given       map[string]bool   // the flags of the command line; others are of -scale, or defaults
	values      map[string]string // of all flags that evaluations depend on
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	if s == "" {
		return errors.New("expected no empty value")
	}
	*l = append(*l, s)
	return nil
}

// numbers is a flag of increasing steps β.
type numbers []float64

func (n *numbers) String() string {
	var texts []string
	for _, v := range *n {
		texts = append(texts, fmt.Sprint(v))
	}
	return strings.Join(texts, ",")
}

func (n *numbers) Set(s string) error {
	var list numbers
	last := 0.0
	for text := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || !(v > last && v <= 0.5) {
			return errors.New("expected increasing numbers in (0, 0.5] with commas between")
		}
		list, last = append(list, v), v
	}
	*n = list
	return nil
}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	paper := train.Default(200)
	fs := flag.NewFlagSet("paper", flag.ContinueOnError)
	fs.StringVar(&o.Exp, "exp", "", "`experiment`: "+experimentNames())
	fs.StringVar(&o.Scale, "scale", "full", "`name` of the defaults of the flags for size and training: "+scaleNames())
	fs.Var(&o.data, "data", "`set` of images: "+sets.Expected+"; several times for several sets")
	fs.Var(&o.archs, "arch", "`network`: a name ("+zoo.Names()+"), or one written out; several times for several (default the experiment's)")
	cli.Var(fs, &o.Width, "width", 1, "(0, 64]", "multiplier of the network's width")
	cli.Var(fs, &o.T, "T", 8, "[1, 1024]", "time steps")
	cli.Var(fs, &o.Train, "train", 0, "[0, ∞)", "training images, 0 for all")
	cli.Var(fs, &o.Test, "test", 0, "[0, ∞)", "test images, 0 for all")
	cli.Var(fs, &o.Epochs, "epochs", paper.Epochs, "[1, 1000000]", "epochs of training")
	cli.Var(fs, &o.Batch, "batch", paper.Loader.BatchSize, "[1, 65536]", "images in a mini-batch")
	cli.Var(fs, &o.LR, "lr", paper.LR, "(0, ∞)", "learning rate, falling along a cosine")
	cli.Var(fs, &o.Eps, "eps", 2, "[0, 255]", "perturbation radius ε in training, in 255ths")
	cli.Var(fs, &o.Beta, "beta", 0, "[0, 0.5]", "step β of the orthogonal projection, 0 for the paper's (0.004 for wide residual networks, else 0.001)")
	o.betas = numbers{0.0005, 0.001, 0.002, 0.004}
	fs.Var(&o.betas, "betas", "`list` of the steps β of figure2, increasing numbers in (0, 0.5] with commas between")
	cli.Var(fs, &o.RowShare, "row-share", 1, "(0, 1]", "share of the rows of large linear layers that an update projects (the authors' code: 0.3)")
	cli.Var(fs, &o.WeightDecay, "weight-decay", train.DefaultSGD().WeightDecay, "[0, 1]", "L2 weight decay of networks that are trained without the projection")
	cli.Var(fs, &o.TestEps, "test-eps", 8, "(0, 255]", "perturbation radius ε at test, in 255ths")
	cli.Var(fs, &o.TestAlpha, "test-alpha", 0.01, "(0, 1]", "step α of PGD and BIM at test")
	cli.Var(fs, &o.TestSteps, "test-steps", 7, "[1, 100000]", "steps of PGD and BIM at test")
	fs.StringVar(&o.Battery, "battery", "quick", "`preset` of the battery that white-box worst cases count, too: quick, standard or thorough; none leaves it out, which saves most of the time of evaluation")
	cli.Var(fs, &o.Seed, "seed", 1, "[0, ∞)", "seed of everything random")
	cli.Var(fs, &o.HIREPeriods, "hire-periods", 2, "[1, 1024]", "periods of T of HIRE-SNN, each with an update")
	cli.Var(fs, &o.HIREEps, "hire-eps", 2, "[0, 255]", "what HIRE-SNN moves pixels by between two periods, in 255ths")
	cli.Var(fs, &o.RateSteps, "rate-steps", 100, "[1, 1024]", "time steps of rate-coded networks")
	fs.StringVar(&o.weights, "weights", "", "`file` of a network trained elsewhere, for table2 to judge: one that this library saved, which describes itself, or a "+
		"state dict of the reference implementation (.pth or .safetensors), which -arch, -width, -T and the flags for state dicts describe")
	fs.StringVar(&o.source, "source", "", "`file`, as -weights, of the network that black-box attacks are made on, instead of one that is trained")
	o.elsewhere.Define(fs)
	fs.StringVar(&o.models, "models", "", "`folder` of trained networks, such as OUT/networks: use these and train none")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	fs.StringVar(&o.out, "out", filepath.Join("out", "paper"), "`folder` for networks, evaluations and results; experiments that share it share them")
	fs.TextVar(&o.shard, "shard", attack.Shard{}, "`i/n`: evaluate trained networks on the i-th of n ranges of the test images, and leave the results to -merge")
	fs.Var(&o.merge, "merge", "`folders` of all shards: make the results of their evaluations, with the flags that they were made with")
	if err := cli.Parse(fs, cli.Spread(args, "merge"), stdout); err != nil {
		return nil, err
	}
	o.given = cli.Given(fs)
	if _, err := o.experiment(); err != nil {
		return nil, err
	}
	if err := o.applyScale(fs); err != nil {
		return nil, err
	}
	if _, err := attack.Preset(o.Battery, attack.Threat{}); err != nil && o.Battery != noBattery {
		return nil, fmt.Errorf("-battery: %w, or %s", err, noBattery)
	}
	if len(o.data) == 0 {
		return nil, fmt.Errorf("-data is missing: expected %s", sets.Expected)
	}
	if o.out == "" {
		return nil, errors.New("-out is empty: expected a folder")
	}
	if o.weights != "" && o.Exp != table2.name {
		return nil, fmt.Errorf("-weights %s: expected -exp table2, not %q", o.weights, o.Exp)
	}
	if o.weights == "" && o.source == "" {
		if err := nets.Refuse(o.given, "expected -weights or -source beside it"); err != nil {
			return nil, err
		}
	}
	if err := o.elsewhere.Check(o.given); err != nil {
		return nil, err
	}
	if o.weights != "" && len(o.archs) > 1 {
		return nil, fmt.Errorf("-arch %v: expected one with -weights", &o.archs)
	}
	if err := o.refuseUnused(fs); err != nil {
		return nil, err
	}
	o.values = map[string]string{}
	fs.VisitAll(func(f *flag.Flag) {
		if !slices.Contains([]string{"out", "threads", "models", "shard", "merge"}, f.Name) {
			o.values[f.Name] = f.Value.String()
		}
	})
	if o.weights != "" {
		o.Train = 0 // nothing is trained
	}
	if o.Exp == table4.name && o.T%o.HIREPeriods != 0 {
		return nil, fmt.Errorf("-hire-periods %d: expected a divisor of -T, %d", o.HIREPeriods, o.T)
	}
	for _, l := range []list{o.data, o.archs} {
		for i, v := range l {
			if slices.Contains(l[:i], v) {
				return nil, fmt.Errorf("%q is given twice: expected different values", v)
			}
		}
	}
	return o, nil
}

// refuseUnused returns an error if the command line has a flag that this experiment ignores.
// Flags of size, training and attack that other experiments share are not refused.
func (o *options) refuseUnused(fs *flag.FlagSet) error {
	for _, f := range []struct {
		names  string
		used   bool
		reason string
	}{
		{"betas", o.Exp == figure2.name, "only figure2 has it"},
		{"hire-periods hire-eps rate-steps", o.Exp == table4.name, "only table4 has it"},
		{"source", o.Exp == table2.name || o.Exp == figure1.name, "only table2 and figure1 have black-box attacks"},
		{"test-eps", o.Exp != figure1.name, "figure1 has its own radii"},
		{"battery", o.Exp != timing.name, "timing has no worst case"},
		{"models", o.Exp != timing.name, "timing trains networks of its own"},
		{"shard merge", o.Exp != timing.name, "timing evaluates no network"},
		{"merge", o.shard.IsZero(), "a shard merges none"},
		{"train epochs batch lr eps beta row-share weight-decay models", o.weights == "", "no network is trained beside -weights"},
	} {
		for _, name := range strings.Fields(f.names) {
			if o.given[name] && !f.used {
				return fmt.Errorf("-%s %v: %s: expected no -%s with -exp %s", name, fs.Lookup(name).Value, f.reason, name, o.Exp)
			}
		}
	}
	return nil
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string { return "the same command goes on from what is done, in " + o.out }

func main() { cli.Main("paper", parse, run) }
