// Rat trains a spiking network with RAT, attacks it and its plainly trained twin, and
// shows who survives: Table 2 and Figure 1 of Ding et al. 2022 in a small size.
//
//	go run ./examples/rat
//
// It trains three networks on the first 6,000 images of Fashion-MNIST, which are
// embedded: a plain one, one with RAT (adversarial examples mixed from FGSM and RFGSM
// × BPTT and BPTR, weights projected towards orthogonality), and a separately seeded
// plain one, the source of the black-box attacks. It prints the accuracies under every
// attack, and writes to a folder
//
//	vanilla.safetensors, rat.safetensors, source.safetensors
//	                            the networks, which zoo.Load reads
//	results.json                the flags, the course of the trainings, and what each
//	                            network saw in every image under every attack
//	accuracy.svg, accuracy.png  the curves of accuracy against ε
//
// In results.json, labels holds the classes of the test images. white_box and
// black_box have for each network outcomes: an attack with its gradient approximation
// and its ε in 255ths, the accuracy under it in [0,1], and predicted, the class that
// the network saw in each image. worst_case_accuracy is the share of images that it
// classified as labelled when clean and under all attacks of the table. zero_gradient lists the
// images for which every gradient of an attack was zero, so that it did not know where to
// go: that the network withstood it there says nothing. Below the table is what it has of
// these.
//
// PGD and BIM make 7 steps of α = ε/3, within ε = 16/255 in the table; RAT trains at
// ε = 8/255. -test-eps and -eps change the two.
//
// Ctrl-C or SIGTERM stops it; the same flags and -resume go on from the last completed
// epoch or evaluation, to the results, to the bit, of a run that was not stopped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/train/dataset"
)

// options are the flags.
type options struct {
	Data       string  `json:"data"`
	Arch       string  `json:"arch"`
	Width      float64 `json:"width"`
	T          int     `json:"T"`
	Theta      float64 `json:"theta"`
	Decay      float64 `json:"decay"`
	Epochs     int     `json:"epochs"`
	Eps        float64 `json:"eps_255"`
	TestEps    float64 `json:"test_eps_255"`
	Beta       float64 `json:"beta"`
	LR         float64 `json:"lr"`
	TrainCount int     `json:"train_images"`
	TestCount  int     `json:"test_images"`
	Seed       uint64  `json:"seed"`

	// Results do not depend on these.
	threads int
	out     string
	resume  bool
	given   map[string]string // the values of the other flags
	atMost  bool              // that TestCount is a default, of which a set may have fewer
}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{given: map[string]string{}}
	fs := flag.NewFlagSet("rat", flag.ContinueOnError)
	fs.StringVar(&o.Data, "data", "fashion-mini", "`set` of images: "+sets.Expected)
	fs.StringVar(&o.Arch, "arch", "small", "a `network`'s name ("+zoo.Names()+"), or one written out")
	cli.Var(fs, &o.Width, "width", 1, "(0, 64]", "multiplier of the network's width")
	cli.Var(fs, &o.T, "T", 4, "[1, 1024]", "time steps")
	cli.Var(fs, &o.Theta, "theta", 1, "(0, ∞)", "firing threshold θ")
	cli.Var(fs, &o.Decay, "decay", 1, "(0, 1]", "decay λ of the membrane potential; 1 is no leak")
	cli.Var(fs, &o.Epochs, "epochs", 5, "[1, 1000000]", "epochs of training")
	cli.Var(fs, &o.Eps, "eps", 8, "[0, 255]", "perturbation radius ε in training, in 255ths")
	cli.Var(fs, &o.TestEps, "test-eps", 16, "(0, 255]", "perturbation radius ε at test, in 255ths")
	cli.Var(fs, &o.Beta, "beta", 0.004, "[0, 1]", "step β of the orthogonal projection")
	cli.Var(fs, &o.LR, "lr", 0.1, "(0, ∞)", "learning rate, falling along a cosine")
	cli.Var(fs, &o.TrainCount, "train", 0, "[0, ∞)", "training images, 0 for all")
	cli.Var(fs, &o.TestCount, "test", 1000, "[0, ∞)", "test images, 0 for all; of a smaller set the default takes all")
	cli.Var(fs, &o.Seed, "seed", 1, "[0, ∞)", "seed of everything random")
	fs.VisitAll(func(f *flag.Flag) { o.given[f.Name] = "" })
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	fs.StringVar(&o.out, "out", filepath.Join("out", "rat"), "`folder` to write to")
	fs.BoolVar(&o.resume, "resume", false, "go on from where a run into the same folder stopped")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	for name := range o.given {
		o.given[name] = fs.Lookup(name).Value.String()
	}
	o.atMost = !cli.Given(fs)["test"]
	if o.out == "" {
		return nil, errors.New("-out is empty: expected a folder")
	}
	return o, nil
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string {
	return "the same flags and -resume go on from what is done, in " + o.out
}

func main() { cli.Main("rat", parse, run) }

// job is one run of the program.
type job struct {
	*options
	*sets.Data
	journal *journal
	meter   *term.Meter
	stdout  io.Writer
}

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	start := time.Now()
	data, err := sets.Open(ctx, o.Data, nil)
	if err == nil {
		data.Loader = dataset.DefaultTraining() // so little training bears no augmentation
		if o.atMost {
			o.TestCount = min(o.TestCount, data.Test.N)
		}
		err = data.Limit(o.TrainCount, o.TestCount)
	}
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.Data, err)
	}
	j := &job{options: o, Data: data, stdout: stdout}
	// What can be wrong is found before anything is written and before the first hour.
	summary, err := j.check()
	if err != nil {
		return err
	}
	if o.resume && !exists(o.out) {
		return nothingToResume(o)
	}
	folder, err := runs.Open(o.out)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	if j.journal, err = openJournal(o, j.Test.N); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%v\n%d training and %d test images of %s\n\n", summary, j.Train.N, j.Test.N, o.Data)
	j.meter = term.NewMeter(stderr, j.trainingWork()+j.evaluationWork())
	defer j.meter.Clear()
	nets, err := j.trainAll(ctx)
	if err != nil {
		return err
	}
	res, err := j.evaluate(ctx, nets)
	if err != nil {
		return err
	}
	j.meter.Clear()
	res.Seconds = time.Since(start).Seconds()
	if err := nets.save(o.out); err != nil {
		return err
	}
	if err := res.save(o.out); err != nil {
		return err
	}
	if err := res.print(stdout); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nTook %.0f s. The networks, results.json and accuracy.png are in %s.\n", res.Seconds, o.out)
	return j.journal.complete()
}
