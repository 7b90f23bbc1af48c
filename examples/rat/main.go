// Rat trains a spiking network with RAT, attacks it and its plainly trained twin, and
// shows who survives: Table 2 and Figure 1 of Ding et al. 2022 in a small size.
//
//	go run ./examples/rat
//
// It trains three networks on the first 6,000 images of Fashion-MNIST, which are
// embedded: a plain one, one with RAT (adversarial examples mixed from FGSM and RFGSM
// × BPTT and BPTR, weights projected towards orthogonality), and a separately seeded
// plain one, the source of the black-box attacks. It prints the accuracies under every
// attack, and writes the networks, results.json, and the curves of accuracy against ε
// to a folder. Ctrl-C stops it; -resume goes on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"github.com/org/snnrat/snn/zoo"
)

// options are the flags.
type options struct {
	Data       string  `json:"data"`
	Arch       string  `json:"arch"`
	Width      float64 `json:"width"`
	T          int     `json:"T"`
	Theta      float64 `json:"theta"`
	Leak       float64 `json:"leak"`
	Epochs     int     `json:"epochs"`
	Eps        float64 `json:"eps_255"`
	TestEps    float64 `json:"test_eps_255"`
	Beta       float64 `json:"beta"`
	LR         float64 `json:"lr"`
	TrainCount int     `json:"train_images"`
	TestCount  int     `json:"test_images"`
	Seed       uint64  `json:"seed"`

	threads int
	out     string
	resume  bool
}

func flags() *options {
	o := &options{}
	flag.StringVar(&o.Data, "data", "fashion-mini", "fashion-mini (embedded), or a folder with MNIST's four IDX files")
	flag.StringVar(&o.Arch, "arch", "small", "a network's name ("+zoo.Names()+"), or one written out")
	flag.Float64Var(&o.Width, "width", 1, "multiplier of the network's width")
	flag.IntVar(&o.T, "T", 4, "time steps")
	flag.Float64Var(&o.Theta, "theta", 1, "firing threshold θ > 0")
	flag.Float64Var(&o.Leak, "leak", 1, "membrane leak λ in (0, 1]")
	flag.IntVar(&o.Epochs, "epochs", 5, "epochs of training")
	flag.Float64Var(&o.Eps, "eps", 8, "perturbation radius in training, in 255ths")
	flag.Float64Var(&o.TestEps, "test-eps", 16, "perturbation radius at test, in 255ths")
	flag.Float64Var(&o.Beta, "beta", 0.004, "step β of the orthogonal projection")
	flag.Float64Var(&o.LR, "lr", 0.1, "learning rate, falling along a cosine")
	flag.IntVar(&o.TrainCount, "train", 0, "training images; 0 for all")
	flag.IntVar(&o.TestCount, "test", 1000, "test images; 0 for all")
	flag.Uint64Var(&o.Seed, "seed", 1, "seed of everything random")
	flag.IntVar(&o.threads, "threads", 0, "threads; 0 for all processors")
	flag.StringVar(&o.out, "out", filepath.Join("out", "rat"), "folder to write to")
	flag.BoolVar(&o.resume, "resume", false, "go on from where a run into the same folder stopped")
	flag.Parse()
	return o
}

// check returns an error that names the flag that is out of range. What the model's
// and the trainer's own checks find, they name.
func (o *options) check() error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case !(o.Eps >= 0 && o.Eps <= 255):
		return fmt.Errorf("-eps %v: expected a radius in 255ths, from 0 to 255", o.Eps)
	case !(o.TestEps > 0 && o.TestEps <= 255):
		return fmt.Errorf("-test-eps %v: expected a radius in 255ths, above 0 and up to 255", o.TestEps)
	case o.Epochs < 1:
		return fmt.Errorf("-epochs %d: expected at least 1", o.Epochs)
	case !(o.Beta >= 0 && o.Beta <= 1):
		return fmt.Errorf("-beta %v: expected a number from 0 to 1", o.Beta)
	case !(o.LR > 0 && o.LR <= 100):
		return fmt.Errorf("-lr %v: expected a positive number", o.LR)
	case o.T < 1:
		return fmt.Errorf("-T %d: expected at least 1 time step", o.T)
	case !(o.Theta > 0):
		return fmt.Errorf("-theta %v: expected a positive number", o.Theta)
	case !(o.Leak > 0 && o.Leak <= 1):
		return fmt.Errorf("-leak %v: expected a number above 0 and up to 1", o.Leak)
	case o.TrainCount < 0 || o.TestCount < 0:
		return errors.New("-train and -test: expected at least 0 images")
	case o.threads < 0:
		return fmt.Errorf("-threads %d: expected at least 0", o.threads)
	case o.out == "":
		return errors.New("-out: expected a folder")
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o := flags()
	err := run(ctx, o)
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(os.Stderr, "\nrat: stopped; the epochs that were completed are in %s. To go on, start again with the same flags and -resume.\n", o.out)
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "rat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	start := time.Now()
	if err := o.check(); err != nil {
		return err
	}
	if o.threads > 0 {
		runtime.GOMAXPROCS(o.threads)
	}
	data, err := load(o)
	if err != nil {
		return err
	}
	if err := prepare(o); err != nil {
		return err
	}
	nets, err := trainAll(ctx, o, data)
	if err != nil {
		return err
	}
	res, err := evaluate(ctx, o, data, nets)
	if err != nil {
		return err
	}
	res.Seconds = time.Since(start).Seconds()
	if err := res.write(o.out); err != nil {
		return err
	}
	res.print(os.Stdout)
	fmt.Printf("\nAll of it took %.0f s. Networks, results.json and accuracy.png are in %s.\n", res.Seconds, o.out)
	return nets.finish(o)
}
