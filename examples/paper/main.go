package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
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
	HIRESteps   int     `json:"hire_steps"`
	HIREEps     float64 `json:"hire_eps_255"`
	RateSteps   int     `json:"rate_steps"`

	TestEps   float64 `json:"test_eps_255"`
	TestAlpha float64 `json:"test_alpha"`
	TestSteps int     `json:"test_steps"`
	Battery   string  `json:"battery"` // a preset, or none
	Seed      uint64  `json:"seed"`
	BatchNorm bool    `json:"batch_norm"`

	Seeds []uint64 `json:"seeds,omitempty"` // of tables, ablation, audit and frontier; the first is Seed
	// Of ablation, audit and frontier.
	Radii      numbers    `json:"radii_255,omitempty"`
	TrainRadii numbers    `json:"train_radii_255,omitempty"`
	Methods    methodList `json:"methods,omitempty"`
	Set        overrides  `json:"set,omitempty"`

	seeds       seedList
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

// numbers is a flag of increasing positive numbers.
type numbers []float64

func (n *numbers) String() string {
	var texts []string
	for _, v := range *n {
		texts = append(texts, fmt.Sprint(v))
	}
	return strings.Join(texts, ",")
}

// atMost returns the flag with a largest value.
func (n *numbers) atMost(most float64) flag.Value { return &numbersAtMost{n, most} }

type numbersAtMost struct {
	*numbers
	most float64
}

func (n *numbersAtMost) String() string {
	if n.numbers == nil { // package flag asks a zero value
		return ""
	}
	return n.numbers.String()
}

func (n *numbersAtMost) Set(s string) error {
	var list numbers
	last := 0.0
	for text := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || !(v > last && v <= n.most) {
			return fmt.Errorf("expected increasing numbers in (0, %v] with commas between", n.most)
		}
		list, last = append(list, v), v
	}
	*n.numbers = list
	return nil
}

// seedList is a flag of seeds: their number, or a list of them.
type seedList struct {
	n    int
	list []uint64
}

func (l *seedList) String() string {
	if l.n > 0 {
		return fmt.Sprint(l.n)
	}
	return joined(l.list)
}

// joined returns seeds with commas between.
func joined(seeds []uint64) string {
	var texts []string
	for _, s := range seeds {
		texts = append(texts, fmt.Sprint(s))
	}
	return strings.Join(texts, ",")
}

// maxSeeds is the largest number of seeds.
const maxSeeds = 1000

func (l *seedList) Set(s string) error {
	wrong := fmt.Errorf("expected a number of seeds in [1, %d], or a list of different seeds such as 1,2,3", maxSeeds)
	*l = seedList{}
	if !strings.Contains(s, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxSeeds {
			return wrong
		}
		l.n = n
		return nil
	}
	for text := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil || slices.Contains(l.list, v) || len(l.list) == maxSeeds {
			return wrong
		}
		l.list = append(l.list, v)
	}
	return nil
}

// resolveSeeds sets Seeds and Seed.
func (o *options) resolveSeeds() error {
	if o.seeds.list != nil && o.given["seed"] {
		return fmt.Errorf("-seed %d: -seeds %v lists the seeds: expected one of the two flags", o.Seed, &o.seeds)
	}
	if most := math.MaxUint64 - uint64(max(o.seeds.n, 1)-1); o.Seed > most {
		return fmt.Errorf("-seed %d: expected at most %d with -seeds %d", o.Seed, most, o.seeds.n)
	}
	o.Seeds = o.seeds.list
	for i := range o.seeds.n {
		o.Seeds = append(o.Seeds, o.Seed+uint64(i))
	}
	if o.Seeds == nil {
		o.Seeds = []uint64{o.Seed}
	}
	o.Seed = o.Seeds[0]
	return nil
}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	paper := train.Default(200)
	fs := flag.NewFlagSet("paper", flag.ContinueOnError)
	fs.StringVar(&o.Exp, "exp", "", "`experiment`: "+experimentNames()+"; all but timing go on from what a stopped run has done")
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
	fs.Var(o.betas.atMost(0.5), "betas", "`list` of the steps β of figure2 and ablation, increasing numbers in (0, 0.5] with commas between (default of ablation 0.001,0.004)")
	cli.Var(fs, &o.RowShare, "row-share", 1, "(0, 1]", "share of the rows of large linear layers that an update projects (the authors' code: 0.3)")
	cli.Var(fs, &o.WeightDecay, "weight-decay", train.DefaultSGD().WeightDecay, "[0, 1]", "L2 weight decay of networks that are trained without the projection")
	cli.Var(fs, &o.TestEps, "test-eps", 8, "(0, 255]", "perturbation radius ε at test, in 255ths")
	cli.Var(fs, &o.TestAlpha, "test-alpha", 0.01, "(0, 1]", "step α of PGD and BIM at test")
	cli.Var(fs, &o.TestSteps, "test-steps", 7, "[1, 100000]", "steps of PGD and BIM at test")
	fs.StringVar(&o.Battery, "battery", "quick", "`preset` of the battery that white-box worst cases count, too: quick, standard or thorough; none leaves it out, which saves most of the time of evaluation")
	cli.Var(fs, &o.Seed, "seed", 1, "[0, ∞)", "seed of everything random")
	fs.Var(&o.seeds, "seeds", "`seeds` of tables, ablation, audit and frontier, one after the other: their number, the first being -seed, or a list such as 1,2,3 (default -seed alone)")
	fs.BoolVar(&o.BatchNorm, "bn", true, "batch norm in the networks (default of ablation: networks with and without)")
	o.Radii = numbers{2, 4, 8}
	fs.Var(o.Radii.atMost(255), "radii", "`list` of the radii ε at test of ablation, audit and frontier in 255ths, increasing, with commas between")
	o.TrainRadii = numbers{2, 3, 4, 6, 8}
	fs.Var(o.TrainRadii.atMost(255), "train-radii", "`list` of the radii ε in training of frontier in 255ths, increasing, with commas between")
	fs.Var(&o.Methods, "methods", "`list` of the methods of audit (default all) and frontier (default rat and mart), with commas between, each with additions such as mart+awp+ema or not, and with an ε in training of its own such as mart@4 or not: "+trainingNames())
	fs.Var(&o.Set, "set", "`setting` of a method of audit, such as at.steps=7; several times for several")
	cli.Var(fs, &o.HIREPeriods, "hire-periods", 2, "[1, 1024]", "periods of the time steps of HIRE-SNN, each with an update")
	cli.Var(fs, &o.HIRESteps, "hire-steps", 0, "[0, 1024]", "time steps of HIRE-SNN, 0 for -T")
	cli.Var(fs, &o.HIREEps, "hire-eps", 2, "[0, 255]", "what HIRE-SNN moves pixels by between two periods, in 255ths")
	cli.Var(fs, &o.RateSteps, "rate-steps", 100, "[1, 1024]", "time steps of rate-coded networks")
	fs.StringVar(&o.weights, "weights", "", "`file` of a network trained elsewhere, for table2 to judge: one that this library saved, which describes itself, or a "+
		"state dict of the reference implementation (.pth or .safetensors), which -arch, -width, -T and the flags for state dicts describe")
	fs.StringVar(&o.source, "source", "", "`file`, as -weights, of the network that black-box attacks are made on, instead of one that is trained")
	o.elsewhere.Define(fs)
	fs.StringVar(&o.models, "models", "", "`folder` of trained networks, such as OUT/networks: use these and train none")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Out(fs, &o.out, "`folder` for networks, evaluations and results; experiments that share it share them")
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
	if err := o.resolveSeeds(); err != nil {
		return nil, err
	}
	if o.Exp == ablation.name && !o.given["betas"] {
		o.betas = numbers{0.001, 0.004}
	}
	if _, err := attack.Preset(o.Battery, attack.Threat{}); err != nil && o.Battery != noBattery {
		return nil, fmt.Errorf("-battery: %w, or %s", err, noBattery)
	}
	if len(o.data) == 0 {
		return nil, fmt.Errorf("-data is missing: expected %s", sets.Expected)
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
	if o.Exp == audit.name && o.Methods == nil {
		for _, t := range trainings {
			o.Methods = append(o.Methods, t.Name)
		}
	}
	if o.Exp == frontier.name {
		if o.Methods == nil {
			o.Methods = methodList{rat.Name, "mart"}
		}
		if !o.audits(rat) {
			return nil, fmt.Errorf("-methods %v: expected rat among them, which frontier compares the others with", &o.Methods)
		}
	}
	if err := o.refuseUnused(fs); err != nil {
		return nil, err
	}
	if !o.compares() {
		o.Radii = nil // nothing is judged at them
	}
	if o.Exp != frontier.name {
		o.TrainRadii = nil
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
	name := "-hire-steps"
	if o.HIRESteps == 0 {
		name, o.HIRESteps = "-T", o.T
	}
	if (o.Exp == table4.name || o.audits(hire)) && o.HIRESteps%o.HIREPeriods != 0 {
		return nil, fmt.Errorf("-hire-periods %d: expected a divisor of %s, %d", o.HIREPeriods, name, o.HIRESteps)
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

// compares reports whether the experiment compares networks of several seeds at several radii.
func (o *options) compares() bool {
	return o.Exp == ablation.name || o.Exp == audit.name || o.Exp == frontier.name
}

// severalSeeds reports whether the experiment can have several seeds.
func (o *options) severalSeeds() bool {
	return (o.compares() || strings.HasPrefix(o.Exp, "table")) && o.weights == ""
}

// audits reports whether -methods needs networks of m.
func (o *options) audits(m method) bool {
	return slices.ContainsFunc(o.Methods, func(name string) bool {
		t := trainingNamed(name)
		return t.Name == m.Name || t.quietOf == m.Name
	})
}

// refuseUnused returns an error if the command line has a flag that this experiment ignores.
// Flags of size, training and attack that other experiments share are not refused.
func (o *options) refuseUnused(fs *flag.FlagSet) error {
	for _, f := range []struct {
		names  string
		used   bool
		reason string
	}{
		{"betas", o.Exp == figure2.name || o.Exp == ablation.name, "only figure2 and ablation have it"},
		{"seeds", o.severalSeeds(), "only tables, ablation, audit and frontier have several seeds"},
		{"radii", o.compares(), "only ablation, audit and frontier have it"},
		{"train-radii", o.Exp == frontier.name, "only frontier has it"},
		{"eps", o.Exp != frontier.name, "frontier has -train-radii"},
		{"methods set", o.Exp == audit.name || o.Exp == frontier.name, "only audit and frontier have it"},
		{"hire-periods hire-steps hire-eps rate-steps", o.Exp == table4.name || o.Methods != nil, "only table4, audit and frontier have it"},
		{"source", o.Exp == table2.name || o.Exp == figure1.name, "only table2 and figure1 have black-box attacks"},
		{"test-eps", o.Exp != figure1.name && !o.compares(), o.Exp + " has its own radii"},
		{"battery", o.Exp != timing.name, "timing has no worst case"},
		{"models", o.Exp != timing.name, "timing trains networks of its own"},
		{"shard merge", o.Exp != timing.name, "timing evaluates no network"},
		{"merge", o.shard.IsZero(), "a shard merges none"},
		{"train epochs batch lr eps beta row-share weight-decay bn models", o.weights == "", "no network is trained beside -weights"},
	} {
		for _, name := range strings.Fields(f.names) {
			if o.given[name] && !f.used {
				return fmt.Errorf("-%s %v: %s: expected no -%s with -exp %s", name, fs.Lookup(name).Value, f.reason, name, o.Exp)
			}
		}
	}
	for _, setting := range slices.Sorted(maps.Keys(o.Set)) {
		if !slices.ContainsFunc(o.Methods, func(name string) bool { return trainingNamed(name).has(setting) }) {
			name, _, _ := strings.Cut(setting, ".")
			return fmt.Errorf("-set %s: %s is not in -methods %v: expected a setting of one of these", setting, name, &o.Methods)
		}
	}
	return nil
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string {
	if o.Exp == timing.name {
		return "timing keeps nothing until it is complete: the same command begins anew"
	}
	return "the same command goes on from what is done, in " + o.out
}

func main() { cli.Main("paper", parse, run) }
