// Lipschitz analyses how much the layers of a spiking network amplify a perturbation (Sec. 4
// of Ding et al. 2022). It prints measured values beside proven bounds.
//
//	go run ./examples/lipschitz                        # trains two small networks first
//	go run ./examples/lipschitz -model FILE            # a network that another command saved
//	go run ./examples/lipschitz -model A -model B      # two of them
//
// Without -model it trains two small networks on the embedded Fashion-MNIST images: a plain
// one, and one with the orthogonal projection of its weights (REG). It prints spectral norms
// and orthogonality defects after every epoch.
//
// It prints four tables for every network.
//
// The first table describes the weights as matrices C_out × C_in·k·k: bounds of the spiking
// Lipschitz constant Λ, the spectral norm σ_max, γ, γ of Eq. 15, and ‖W·Wᵀ − I‖.
//
// The second table describes the maps between layers of neurons. They are the weights with
// average pooling, the scale of batch norm and the weights of residual blocks folded in. The
// columns are bounds of Λ, the spectral norm of the matrix, bounds of the norm of the map of
// images, γ, and R, the range of the membrane potentials.
//
// The third table is measured under PGD at ε = 2, 4 and 8/255: the ratio of the output distance
// D₂ to the input distance, the share of spikes that differ, and the bound of that share. The
// input of the first layer is the image. Its distance counts the pixels at all steps.
//
// The fourth table has γ and Γ of Eq. 15 as printed, the right-hand side of Eq. 13, and the
// bound of the third table. The last two are divided by N·T, the number of spikes that N neurons
// can fire in T steps. A value of 1 or more says nothing.
//
// It writes these files to a folder:
//
//	results.json                everything, and the singular values of every weight
//	distances.svg, .png         Figure 2(c): distances of spikes against depth
//	singular.svg, .png          Figure 2(d): the distribution of singular values
//	plain.safetensors, regularized.safetensors, training.svg, .png
//	                            the trained networks, and their norms by epoch
//
// Ctrl-C or SIGTERM stops it. It keeps the networks that it has trained, for -model.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn/zoo"
)

// options are the flags.
type options struct {
	Models []string `json:"models,omitempty"`
	Data   string   `json:"data"`
	Images int      `json:"images"`
	Starts int      `json:"starts"`
	Nodes  int      `json:"nodes"`
	Grid   int      `json:"grid"`

	// Options of the training, all 0 with -model.
	Arch       string  `json:"arch,omitempty"`
	Width      float64 `json:"width,omitempty"`
	T          int     `json:"T,omitempty"`
	Theta      float64 `json:"theta,omitempty"`
	Decay      float64 `json:"decay,omitempty"`
	Epochs     int     `json:"epochs,omitempty"`
	Beta       float64 `json:"beta,omitempty"`
	LR         float64 `json:"lr,omitempty"`
	TrainCount int     `json:"train_images,omitempty"`
	Seed       uint64  `json:"seed"`

	// The results do not depend on these.
	threads int
	out     string
	atMost  bool // Images is the default; a smaller data set is allowed
}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	search := lipschitz.DefaultLambdaSearch()
	fs := flag.NewFlagSet("lipschitz", flag.ContinueOnError)
	fs.Func("model", "a network's `file`; repeat it for several, leave it out to train a pair", func(s string) error {
		o.Models = append(o.Models, s)
		return nil
	})
	fs.StringVar(&o.Data, "data", "fashion-mini", "`data set` to train on and to attack: "+sets.Expected)
	cli.Var(fs, &o.Images, "images", 50, "[1, 1000000]", "test images to attack; of a smaller set the default takes all")
	cli.Var(fs, &o.Starts, "starts", search.Starts, "[1, 1000000]", "local searches for Λ's lower end")
	cli.Var(fs, &o.Nodes, "nodes", 2_000_000, "[0, ∞)", "nodes of branch and bound for Λ, for weights of up to 96 columns")
	cli.Var(fs, &o.Grid, "grid", lipschitz.DefaultConvSearch().Grid, "[0, 4096]", "frequencies in either direction for convolutions' norms, 0 for none")
	cli.Var(fs, &o.Epochs, "epochs", 5, "[1, 1000000]", "training: epochs")
	fs.StringVar(&o.Arch, "arch", "small", "training: a `network`'s name ("+zoo.Names()+"), or one written out")
	cli.Var(fs, &o.Width, "width", 1, "(0, 64]", "training: multiplier of the network's width")
	cli.Var(fs, &o.T, "T", 4, "[1, 1024]", "training: time steps")
	cli.Var(fs, &o.Theta, "theta", 1, "(0, ∞)", "training: firing threshold θ")
	cli.Var(fs, &o.Decay, "decay", 1, "(0, 1]", "training: decay λ of the membrane potential; 1 is no leak")
	cli.Var(fs, &o.Beta, "beta", 0.004, "[0, 1]", "training: step β of the orthogonal projection")
	cli.Var(fs, &o.LR, "lr", 0.1, "(0, ∞)", "training: learning rate, falling along a cosine")
	cli.Var(fs, &o.TrainCount, "train", 0, "[0, ∞)", "training: images, 0 for all")
	cli.Var(fs, &o.Seed, "seed", 1, "[0, ∞)", "seed of everything random")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Out(fs, &o.out, "`folder` to write to")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	given := cli.Given(fs)
	o.atMost = !given["images"]
	if o.Models != nil {
		for _, name := range []string{"arch", "width", "T", "theta", "decay", "epochs", "beta", "lr", "train"} {
			if given[name] {
				return nil, fmt.Errorf("-%s %v: expected no -%s with -model, which trains no network", name, fs.Lookup(name).Value, name)
			}
		}
		o.Arch, o.Width, o.T, o.Theta, o.Decay, o.Epochs, o.Beta, o.LR, o.TrainCount = "", 0, 0, 0, 0, 0, 0, 0, 0
	}
	return o, nil
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string {
	return "networks that were trained are in " + o.out + ", for -model"
}

func main() { cli.Main("lipschitz", parse, run) }

// job is one run of the program.
type job struct {
	*options
	*sets.Data
	meter  *term.Meter
	stdout io.Writer
}

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	start := time.Now()
	j := &job{options: o, stdout: stdout}
	var err error
	if j.Data, err = sets.Open(ctx, o.Data, stderr); err == nil {
		err = j.Limit(o.TrainCount, 0)
	}
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.Data, err)
	}
	if o.atMost {
		o.Images = min(o.Images, j.Test.N)
	}
	if j.Test, err = sets.First("-images", j.Test, o.Images); err != nil {
		return err
	}
	// All inputs are checked before the first output and before the training.
	nets, err := j.networks()
	if err != nil {
		return err
	}
	folder, err := runs.Open(o.out)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	work := 0.0
	for _, n := range nets {
		work += j.work(n)
	}
	j.meter = term.NewMeter(stderr, work)
	defer j.meter.Clear()
	res := &results{Maker: runs.NewMaker(), Options: *o}
	for _, n := range nets {
		if n.train {
			// Results of an earlier run are of other networks.
			if err := runs.RemoveIn(o.out, "results.json", "distances.svg", "distances.png", "singular.svg", "singular.png", "training.svg", "training.png"); err != nil {
				return err
			}
			if err := j.trainOne(ctx, n); err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
		}
	}
	for _, n := range nets {
		if err := j.analyse(ctx, n); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		res.Networks = append(res.Networks, n)
	}
	j.meter.Clear()
	res.Seconds = time.Since(start).Seconds()
	if err := res.save(o.out); err != nil {
		return err
	}
	if err := res.print(stdout); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "\nTook %.0f s. results.json, distances.png and singular.png are in %s.\n", res.Seconds, o.out)
	return err
}
