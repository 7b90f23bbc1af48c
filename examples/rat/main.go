// Rat trains a spiking network with RAT, attacks it and a plainly trained network of the
// same architecture, and prints the accuracies of both: Table 2 and Figure 1 of Ding et
// al. 2022 at a small size.
//
//	go run ./examples/rat
//
// It trains three networks on the first 6,000 images of Fashion-MNIST, which are embedded:
// a plain network, a network with RAT, and a plain network of another seed. The last one is
// the source of the black-box attacks. RAT trains on adversarial examples of FGSM and
// RFGSM, each with BPTT and with BPTR. It also projects the weights towards orthogonality.
//
// # Results
//
// The program prints a table and writes to the folder -out
//
//	vanilla.safetensors, rat.safetensors, source.safetensors
//	                            the networks, which zoo.Load reads
//	results.json                the flags, the metrics of the trainings, and the outcome of
//	                            every attack
//	accuracy.svg, accuracy.png  the accuracy against ε
//
// In results.json, labels holds the classes of the test images. white_box and black_box
// hold the outcomes of each network. An outcome names the attack, its gradient
// approximation and its ε in 255ths. accuracy is in [0,1], and predicted holds the class
// that the network assigned to each image. zero_gradient lists the images for which every
// gradient of the attack was zero. The attack had no direction there, so the accuracy on
// them shows no robustness. battery, of white_box, holds the report of the battery
// that -battery chooses, with its checks. worst_case_accuracy is the share of the images that are
// classified as labelled when clean, under every attack of the table, and, white-box, under
// the battery. Noise has no bound and does not count.
//
// PGD and BIM make 7 steps of α = ε/3. In the table, ε is 16/255. RAT trains at ε = 8/255.
// The flags -test-eps and -eps change these two values of ε.
//
// # Stopping and resuming
//
// Ctrl-C or SIGTERM stops the program after the current step. The same flags with -resume
// continue from there, with the same bits as an uninterrupted run. A run that is killed
// loses at most the last ten minutes of training, the current evaluation, or the last ten
// seconds of a battery. Until a run is complete, the folder holds run.json, with the flags and
// the completed evaluations, and a checkpoint NAME.ckpt for each network. Evaluations of
// another version of the library, or of other kernels, are repeated. The file .lock locks the folder: a second run
// in it is refused.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/org/snnrat/attack"
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
	Battery    string  `json:"battery"` // a preset, or none
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
	atMost  bool              // TestCount is the default; a smaller set is taken whole
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
	fs.StringVar(&o.Battery, "battery", "quick", "`preset` of the battery that the white-box worst case counts: quick, standard or thorough; none leaves it out")
	cli.Var(fs, &o.Beta, "beta", 0.004, "[0, 1]", "step β of the orthogonal projection")
	cli.Var(fs, &o.LR, "lr", 0.1, "(0, ∞)", "learning rate, falling along a cosine")
	cli.Var(fs, &o.TrainCount, "train", 0, "[0, ∞)", "training images, 0 for all")
	cli.Var(fs, &o.TestCount, "test", 1000, "[0, ∞)", "test images, 0 for all; the default takes a smaller set whole")
	cli.Var(fs, &o.Seed, "seed", 1, "[0, ∞)", "seed of everything random")
	fs.VisitAll(func(f *flag.Flag) { o.given[f.Name] = "" })
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Out(fs, &o.out, "`folder` to write to")
	fs.BoolVar(&o.resume, "resume", false, "go on with the run in the folder that was stopped")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	for name := range o.given {
		o.given[name] = fs.Lookup(name).Value.String()
	}
	o.atMost = !cli.Given(fs)["test"]
	if _, err := attack.Preset(o.Battery, attack.Threat{}); err != nil && o.Battery != noBattery {
		return nil, fmt.Errorf("-battery: %w, or %s", err, noBattery)
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
	data, err := sets.Open(ctx, o.Data, stderr)
	if err == nil {
		data.Loader = dataset.DefaultTraining() // the training is too short for augmentation
		if o.atMost {
			o.TestCount = min(o.TestCount, data.Test.N)
		}
		err = data.Limit(o.TrainCount, o.TestCount)
	}
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.Data, err)
	}
	j := &job{options: o, Data: data, stdout: stdout}
	// Wrong flags show before anything is written.
	summary, err := j.check()
	if err != nil {
		return err
	}
	if o.resume && !exists(o.out) {
		return nothingToResume(o)
	}
	digest, err := sets.Digest(j.Test)
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.Data, err)
	}
	folder, err := runs.Open(o.out)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	if j.journal, err = openJournal(o, map[string]string{"-data " + o.Data: digest}, j.Test.N); err != nil {
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
