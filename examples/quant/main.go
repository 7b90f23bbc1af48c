// Quant turns a network into one of integers, and compares the two.
//
//	go run ./examples/rat                                          # trains two networks
//	go run ./examples/quant -net out/rat/rat.safetensors
//	go run ./examples/quant -net NET -bits 4 -epochs 2 -train-eps 8
//
// It writes the network of integers to the folder -out, under the name of -net. It prints the
// accuracy of both networks on clean images and under PGD, with 95 % intervals, the bytes of
// their weights and files, and the images a second.
//
// With -epochs, it first fine-tunes the network with rounded weights. With -train-eps, it does so
// on adversarial images.
//
// A network of integers has no gradient. The images of PGD are made on the float network, and on
// the float network with the weights of the integers. Both are shown to the network of integers.
//
// docs/quant.md documents the file. Ctrl-C or SIGTERM stops the program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// options are the flags.
type options struct {
	net, data, out  string
	images, threads int
	bits            int
	eps             float64
	epochs          int
	lr, trainEps    float64
	trainImages     int
	seed            uint64
}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("quant", flag.ContinueOnError)
	fs.StringVar(&o.net, "net", "", "`file` of a network that this library saved")
	fs.StringVar(&o.data, "data", "fashion-mini", "`set` of images: "+sets.Expected)
	cli.Var(fs, &o.images, "images", 0, "[0, ∞)", "test images, 0 for all")
	cli.Var(fs, &o.bits, "bits", quant.DefaultConfig().Bits, "[2, 8]", "bits of a weight")
	cli.Var(fs, &o.eps, "eps", 16, "[0, 255]", "radius ε of PGD, in 255ths")
	cli.Var(fs, &o.epochs, "epochs", 0, "[0, 1000000]", "fine-tuning: epochs, 0 for none")
	cli.Var(fs, &o.lr, "lr", 0.01, "(0, ∞)", "fine-tuning: learning rate, falling along a cosine")
	cli.Var(fs, &o.trainEps, "train-eps", 0, "[0, 255]", "fine-tuning: radius ε of adversarial images, in 255ths, 0 for clean images")
	cli.Var(fs, &o.trainImages, "train", 0, "[0, ∞)", "fine-tuning: training images, 0 for all")
	cli.Var(fs, &o.seed, "seed", 1, "[0, ∞)", "seed of everything random")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Out(fs, &o.out, "`folder` to write to")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	if o.net == "" {
		return nil, errors.New("-net is missing: expected the file of a network, as in -net out/rat/rat.safetensors")
	}
	given := cli.Given(fs)
	for _, name := range []string{"lr", "train-eps", "train"} {
		if given[name] && o.epochs == 0 {
			return nil, fmt.Errorf("-%s: expected -epochs beside it, since nothing is trained without", name)
		}
	}
	return o, nil
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string { return "nothing is kept" }

func main() { cli.Main("quant", parse, run) }

func run(ctx context.Context, o *options, stdout, _ io.Writer) error {
	data, err := sets.Open(ctx, o.data, nil)
	if err == nil {
		err = data.Limit(o.trainImages, o.images)
	}
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.data, err)
	}
	load := func() (*snn.Model, error) {
		m, _, err := zoo.Load(o.net)
		return m, err
	}
	float, err := load()
	if err != nil {
		return err
	}
	if err := float.ValidateDataset(data.Test); err != nil {
		return fmt.Errorf("%s and %s: %w", o.net, o.data, err)
	}
	rounded, err := load()
	if err != nil {
		return err
	}
	folder, err := runs.Open(o.out)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	file := filepath.Join(o.out, filepath.Base(o.net))
	source, err := os.Stat(o.net)
	if err != nil {
		return err
	}
	if old, err := os.Stat(file); err == nil && os.SameFile(old, source) {
		return fmt.Errorf("-out %s: the file of -net is in it: expected another folder", o.out)
	}
	cfg := quant.DefaultConfig()
	cfg.Bits = o.bits
	if err := o.tune(ctx, rounded, data, cfg, stdout); err != nil {
		return err
	}
	network, err := quant.Convert(rounded, cfg)
	if err != nil {
		return err
	}
	if err := quant.Round(rounded, cfg); err != nil {
		return err
	}
	if err := network.Save(file); err != nil {
		return err
	}
	return o.compare(ctx, float, rounded, network, data, file, stdout)
}

// tune trains m for some epochs with rounded weights.
func (o *options) tune(ctx context.Context, m *snn.Model, data *sets.Data, cfg quant.Config, stdout io.Writer) error {
	if o.epochs == 0 {
		return nil
	}
	rounding, err := quant.NewRounding(cfg)
	if err != nil {
		return err
	}
	settings := train.Default(o.epochs)
	settings.LR, settings.Loader, settings.Regularizer = o.lr, data.Loader, rounding
	if o.trainEps > 0 {
		settings.Adversary = attack.RATMix(float32(o.trainEps / 255))
	}
	t, err := train.New(m, data.Train, settings, rng.New(o.seed))
	if err != nil {
		return err
	}
	for epoch, err := range t.Epochs(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "fine-tuning, epoch %d: loss %.3f, accuracy %.1f %%\n", epoch.Epoch, epoch.Loss, 100*epoch.Accuracy)
	}
	return nil
}

// count is a number of images that were classified as labelled, by both networks.
type count struct{ float, integer int }

// batch is the number of images that are judged together.
const batch = 100

// compare prints the table of both networks.
func (o *options) compare(ctx context.Context, float, rounded *snn.Model, network *quant.Network, data *sets.Data, file string, stdout io.Writer) error {
	pgd := attack.PGD(float32(o.eps/255), float32(o.eps/255/3), 7, snn.BPTT{})
	var clean, transferred, own count
	var floatTime, integerTime time.Duration
	test := data.Test
	for lo := 0; lo < test.N; lo += batch {
		n := min(batch, test.N-lo)
		shape := test.Shape()
		shape.N = n
		x, ids, indices := tensor.NewFrames(shape), make([]uint64, n), make([]int, n)
		for i := range n {
			ids[i], indices[i] = uint64(lo+i), lo+i
		}
		if err := test.Fill(x, indices); err != nil {
			return err
		}
		labels := test.Labels[lo : lo+n]
		judge := func(x tensor.NCHW, c *count) error {
			start := time.Now()
			logits, err := float.Logits(snn.Pass{}, x)
			if err != nil {
				return err
			}
			floatTime += time.Since(start)
			start = time.Now()
			predicted, err := network.Predict(x)
			if err != nil {
				return err
			}
			integerTime += time.Since(start)
			for i, label := range labels {
				if argmax(logits[i*float.Classes():][:float.Classes()]) == label {
					c.float++
				}
				if predicted[i] == label {
					c.integer++
				}
			}
			return nil
		}
		if err := judge(x, &clean); err != nil {
			return err
		}
		for _, source := range []struct {
			m *snn.Model
			c *count
		}{{float, &transferred}, {rounded, &own}} {
			attacked, err := pgd.Perturb(ctx, source.m, x, labels, ids, rng.New(o.seed).Derive("pgd", 0))
			if err != nil {
				return err
			}
			if err := judge(attacked, source.c); err != nil {
				return err
			}
		}
	}
	floatFile, err := os.Stat(o.net)
	if err != nil {
		return err
	}
	integerFile, err := os.Stat(file)
	if err != nil {
		return err
	}
	floatBytes, integerBytes := 0, 0
	for _, p := range float.Params() {
		floatBytes += 4 * p.Len()
	}
	for _, l := range network.Layers {
		switch l := l.(type) {
		case *quant.Conv:
			integerBytes += len(l.Weight) + 4*(len(l.Scale)+len(l.Gain)) + len(l.Border)
		case *quant.Neurons:
			integerBytes += 4 * (len(l.Bias) + len(l.Threshold) + len(l.Gain))
		}
	}
	percent := func(k int) string {
		low, high := attack.Wilson(k, test.N)
		return fmt.Sprintf("%.1f (%.1f to %.1f)", 100*float64(k)/float64(test.N), 100*low, 100*high)
	}
	speed := func(d time.Duration) string {
		return fmt.Sprintf("%.0f", 3*float64(test.N)/d.Seconds())
	}
	rows := tables.Table{
		{"", "float32", "integers"},
		{"clean", percent(clean.float), percent(clean.integer)},
		{"PGD, made on float32", percent(transferred.float), percent(transferred.integer)},
		{"PGD, made on rounded weights", percent(own.float), percent(own.integer)},
		{"bytes of parameters", fmt.Sprint(floatBytes), fmt.Sprintf("%d (%.3f)", integerBytes, float64(integerBytes)/float64(floatBytes))},
		{"bytes of the file", fmt.Sprint(floatFile.Size()), fmt.Sprintf("%d (%.3f)", integerFile.Size(), float64(integerFile.Size())/float64(floatFile.Size()))},
		{"images a second", speed(floatTime), speed(integerTime)},
	}
	_, err = fmt.Fprintf(stdout, `Accuracy in %% on %d images of %s, with 95 %% intervals. PGD: 7 steps of ε/3 at ε = %v/255.
Weights of %d bits. The network of integers has no gradient: images made on others are shown to it.

%v
wrote %s
`, test.N, data.Name, o.eps, o.bits, rows, file)
	return err
}

// argmax returns the place of the largest value, the first one of several.
func argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}
