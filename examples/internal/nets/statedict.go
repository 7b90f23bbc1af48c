// Package nets reads networks that were trained elsewhere.
package nets

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/snn/zoo/pretrained"
	"github.com/org/snnrat/train/dataset"
)

// StateDict are the flags that describe a state dict, which says no more of its network
// than the parameters.
type StateDict struct {
	Mean, Std    channels
	Decay, Theta float64
	Reset        string
	Surrogate    string
	Param        float64
}

// names are the names of the flags.
var names = []string{"mean", "std", "decay", "theta", "reset", "surrogate", "surrogate-param"}

// Define defines the flags. Their defaults are the settings of the reference implementation.
func (e *StateDict) Define(fs *flag.FlagSet) {
	const dict = " of the network of a state dict"
	fs.Var(&e.Mean, "mean", "`list` of the channels' means by which images are normalized, with commas between,"+dict+" (default the data set's)")
	fs.Var(&e.Std, "std", "`list` of the channels' standard deviations, as -mean")
	cli.Var(fs, &e.Decay, "decay", 1, "(0, 1]", "decay λ of the membrane potential"+dict+"; 1 is no leak")
	cli.Var(fs, &e.Theta, "theta", 1, "(0, ∞)", "firing threshold θ"+dict)
	fs.StringVar(&e.Reset, "reset", "hard", "`kind` of reset after a spike"+dict+": hard (to 0) or soft (by -θ)")
	fs.StringVar(&e.Surrogate, "surrogate", "triangle", "`name` of the surrogate gradient"+dict+": triangle, rectangle, sigmoid, arctan, fast_sigmoid, exponential, dampened_exponential or straight_through")
	cli.Var(fs, &e.Param, "surrogate-param", 1, "(0, ∞)", "width, α or slope of the surrogate"+dict)
}

// Check returns an error that names a flag whose value is wrong. given has the flags of the
// command line.
func (e *StateDict) Check(given map[string]bool) error {
	if e.Reset != "hard" && e.Reset != "soft" {
		return fmt.Errorf("-reset %q: expected hard or soft", e.Reset)
	}
	if _, err := snn.NewSurrogate(e.Surrogate, float32(e.Param)); err != nil {
		return fmt.Errorf("-surrogate %s, -surrogate-param %v: %w", e.Surrogate, e.Param, err)
	}
	if given["mean"] != given["std"] {
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

// Refuse returns an error with a reason if the command line has one of the flags, or of more.
func Refuse(given map[string]bool, reason string, more ...string) error {
	for _, name := range append(names, more...) {
		if given[name] {
			return fmt.Errorf("-%s is for networks of state dicts: %s", name, reason)
		}
	}
	return nil
}

// describe completes the description of a state dict's network.
func (e *StateDict) describe(cfg *zoo.Config) error {
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

// Network is a network that was read from a file.
type Network struct {
	*snn.Model
	Config zoo.Config // its description
	// StateDict says whether the file is a state dict, which the flags describe.
	StateDict bool
	Notes     []string // what of a state dict was converted or passed over
}

// Pretrained begins the name of a network of package pretrained, which is given in place of a file.
const Pretrained = "pretrained:"

// Open opens the file of a network, or what package pretrained embeds in its place.
func Open(file string) (io.ReadCloser, error) {
	name, ok := strings.CutPrefix(file, Pretrained)
	if !ok {
		return os.Open(file)
	}
	b, err := pretrained.File(name)
	return io.NopCloser(bytes.NewReader(b)), err
}

// Read reads a network from a file, or a pretrained one. A network that this library saved describes
// itself. cfg and the flags describe that of a state dict.
func (e *StateDict) Read(file string, cfg zoo.Config) (*Network, error) {
	if name, ok := strings.CutPrefix(file, Pretrained); ok {
		m, described, err := pretrained.Load(name)
		return &Network{m, described, false, nil}, err
	}
	m, described, err := zoo.Load(file)
	n := &Network{m, described, false, nil}
	if errors.Is(err, zoo.ErrNoDescription) || err != nil && strings.HasPrefix(filepath.Ext(file), ".pt") {
		n.StateDict = true
		if err := e.describe(&cfg); err != nil {
			return nil, err
		}
		n.Config = cfg
		note := func(s string) { n.Notes = append(n.Notes, file+": "+s) }
		if n.Model, err = zoo.LoadTorchWith(file, cfg, snn.LoadOptions{Note: note}); err != nil {
			return nil, fmt.Errorf("%w (read as a state dict of -arch %s and -width %v)", err, cfg.Arch, cfg.WidthMultiplier)
		}
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

// Fits returns an error that names the file if a network does not fit the images of -data.
func Fits(file string, m *snn.Model, s *dataset.Set) error {
	if m.Channels != s.C || m.Height != s.H || m.Width != s.W || m.Classes() != s.Classes {
		return fmt.Errorf("%s: a network for images of %d×%d×%d in %d classes: expected one for the images of -data, %d×%d×%d in %d classes",
			file, m.Channels, m.Height, m.Width, m.Classes(), s.C, s.H, s.W, s.Classes)
	}
	if err := m.ValidateDataset(s); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
