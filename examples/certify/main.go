// Certify trains a spiking network so that its robustness can be proved, and then proves it. For
// each test image and each ε, it tries to prove that no image within ε in the L∞ norm has another
// class.
//
//	go run ./examples/certify
//
// It trains on the first 6,000 images of Fashion-MNIST, which are embedded, with train.IBP: the loss
// is that of the worst logits within -train-eps, which intervals bound. The neurons are IF neurons
// with soft reset, for which certify.Counts bounds the number of spikes. A battery of attacks then
// looks for an image within ε that the network misclassifies.
//
// # Results
//
// The program prints a table and writes to the folder -out
//
//	network.safetensors       the network, which zoo.Load and -network read
//	results.json              the flags, the metrics of the training, and what is known by image
//	certified.svg, .png       the accuracies against ε
//
// For each ε, certified is the share of the images for which a proof shows that no image within ε
// has another class than the label. Worst case is the share that is classified as labelled under
// every attack of the battery, and clean the share that is without one. The worst accuracy that an
// attack can reach lies between certified and worst case.
//
// In results.json, radii holds these numbers for each ε in 255ths, with a row for each test image.
// The row has the verdict (certified, broken or unknown), the proven lower bound of the margin, and
// the class that was predicted last under the battery. An image is broken if it is misclassified
// without an attack or by one.
//
// The battery also attacks images that are certified. If it breaks one, a proof is wrong: the
// program says so, names the images, and ends with an error.
//
// # Stopping
//
// Ctrl-C or SIGTERM stops the program after the current step. A training that was stopped goes on
// with -resume and the same flags, with the same bits. The results of every ε that is finished are in
// results.json; the others can be computed from the network of the folder by -network.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/proofs"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// options are the flags.
type options struct {
	Data    string `json:"data"`
	Network string `json:"network,omitempty"`

	// Options of the training, all 0 with -network.
	Arch       string  `json:"arch"`
	T          int     `json:"T"`
	Epochs     int     `json:"epochs"`
	TrainEps   float64 `json:"train_eps_255"`
	Kappa      float64 `json:"kappa"`
	LR         float64 `json:"lr"`
	TrainCount int     `json:"train_images"`

	Eps     []float64 `json:"eps_255"`
	Images  int       `json:"images"`
	Battery string    `json:"battery"`
	Seed    uint64    `json:"seed"`

	// Results do not depend on these.
	threads int
	out     string
	resume  bool
}

const defaultEps = "1,2,4,8,16"

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	var eps string
	fs := flag.NewFlagSet("certify", flag.ContinueOnError)
	fs.StringVar(&o.Data, "data", "fashion-mini", "`set` of images: "+sets.Expected)
	fs.StringVar(&o.Network, "network", "", "`file` of a network to certify, as zoo.Load reads it, instead of training one")
	fs.StringVar(&o.Arch, "arch", "conv8 A conv16 A | fc", "a `network`'s name ("+zoo.Names()+"), or one written out")
	cli.Var(fs, &o.T, "T", 2, "[1, 64]", "time steps")
	cli.Var(fs, &o.Epochs, "epochs", 6, "[1, 1000000]", "epochs of training")
	cli.Var(fs, &o.TrainEps, "train-eps", 4, "(0, 255]", "perturbation radius ε in training, in 255ths")
	cli.Var(fs, &o.Kappa, "kappa", 0.3, "[0, 1)", "weight of the loss of the images themselves in training")
	cli.Var(fs, &o.LR, "lr", 0.05, "(0, ∞)", "learning rate, falling along a cosine")
	cli.Var(fs, &o.TrainCount, "train", 0, "[0, ∞)", "training images, 0 for all")
	fs.StringVar(&eps, "eps", defaultEps, "perturbation radii ε at test, in 255ths: `numbers` in (0, 255] with commas between them")
	cli.Var(fs, &o.Images, "images", 100, "[1, ∞)", "test images to certify; a smaller set is taken whole")
	fs.StringVar(&o.Battery, "battery", "quick", "`preset` of the battery of attacks: quick, standard or thorough")
	cli.Var(fs, &o.Seed, "seed", 1, "[0, ∞)", "seed of everything random")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Out(fs, &o.out, "`folder` to write to")
	fs.BoolVar(&o.resume, "resume", false, "go on with the training in the folder that was stopped")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	var err error
	if o.Eps, err = proofs.ParseRadii("-eps", eps, defaultEps); err != nil {
		return nil, err
	}
	if _, err := attack.Preset(o.Battery, attack.Threat{}); err != nil {
		return nil, fmt.Errorf("-battery: %w", err)
	}
	if o.Network != "" {
		given := cli.Given(fs)
		for _, name := range []string{"resume", "arch", "T", "epochs", "train-eps", "kappa", "lr", "train"} {
			if given[name] {
				return nil, fmt.Errorf("-%s and -network: expected one of them, since a loaded network is not trained", name)
			}
		}
		o.Arch, o.T, o.Epochs, o.TrainEps, o.Kappa, o.LR = "", 0, 0, 0, 0, 0
	}
	return o, nil
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string {
	return "what is done is in " + o.out + "; a training goes on with the same flags and -resume"
}

func main() { cli.Main("certify", parse, run) }

// job is one run of the program.
type job struct {
	*options
	*sets.Data
	meter  *term.Meter
	stdout io.Writer
}

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	start := time.Now()
	data, err := sets.Open(ctx, o.Data, stderr)
	if err == nil {
		o.Images = min(o.Images, data.Test.N)
		err = data.Limit(o.TrainCount, o.Images)
	}
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.Data, err)
	}
	j := &job{options: o, Data: data, stdout: stdout}
	m, err := j.network()
	if err != nil {
		return err
	}
	m.Threads = o.threads
	checkpoint, err := o.checkpoint()
	if err != nil {
		return err
	}
	folder, err := runs.Open(o.out)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	fmt.Fprintf(stdout, "%v\n%d test images of %s\n\n", m.Summary(), j.Test.N, o.Data)
	p := &proofs.Prover{Model: m, Test: j.Test, Battery: o.Battery, Key: rng.New(o.Seed).Derive("battery", 0), Threads: o.threads}
	j.meter = term.NewMeter(stderr, j.trainingWork()+float64(len(o.Eps))*p.Work())
	defer j.meter.Clear()
	p.Progress, p.Finished = j.meter.Add, j.meter.Finished
	res := &results{Maker: runs.NewMaker(), Options: *o, Labels: j.Test.Labels}
	if o.Network == "" {
		if res.Training, err = j.train(ctx, m, checkpoint); err != nil {
			return err
		}
		// Results of an earlier run are of another network.
		if err := runs.RemoveIn(o.out, "results.json", "certified.svg", "certified.png"); err != nil {
			return err
		}
		if err := m.Save(filepath.Join(o.out, "network.safetensors")); err != nil {
			return err
		}
		if err := runs.Remove(checkpoint); err != nil {
			return err
		}
	}
	for _, eps := range o.Eps {
		r, err := p.Prove(ctx, eps)
		if err != nil {
			return err
		}
		res.Radii = append(res.Radii, r)
		res.Seconds = math.Round(10*time.Since(start).Seconds()) / 10
		if err := res.save(o.out); err != nil {
			return err
		}
	}
	j.meter.Clear()
	if err := res.Radii.Print(stdout, o.Battery); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nTook %.0f s. The results are in %s.\n", res.Seconds, o.out)
	return res.Radii.Check()
}
