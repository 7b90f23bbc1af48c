// Quant turns a network into one of integers, and compares the two.
//
//	go run ./examples/rat                                          # trains two networks
//	go run ./examples/quant -net out/rat/rat.safetensors
//	go run ./examples/quant -net NET -bits 4 -epochs 2 -train-eps 8
//
// It writes the network of integers to the folder -out, under the name of -net. It prints the
// accuracy of both networks on clean images and under PGD, with 95 % intervals, the bytes of
// their weights and files, and the images a second. results.json has the same figures.
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
	"encoding/json"
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
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
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
func (o *options) Stopped() string { return "if the network of integers was made, it is in " + o.out }

const resultsFile = "results.json"

func main() { cli.Main("quant", parse, run) }

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	data, err := sets.Open(ctx, o.data, stderr)
	if err == nil {
		data.Test, err = sets.First("-images", data.Test, o.images)
	}
	if err == nil {
		err = data.Limit(o.trainImages, 0)
	}
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.data, err)
	}
	load := func() (*snn.Model, error) {
		m, _, err := zoo.Load(o.net)
		if err != nil {
			return nil, fmt.Errorf("-net: %w", err)
		}
		return m, nil
	}
	float, err := load()
	if err != nil {
		return err
	}
	if err := float.ValidateDataset(data.Test); err != nil {
		return fmt.Errorf("-net %s, -data %s: %w", o.net, o.data, err)
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
	meter := term.NewMeter(stderr, float64(o.epochs)*o.epochWork(data.Train.N)+compareWork*float64(data.Test.N))
	defer meter.Clear()
	if err := o.tune(ctx, rounded, data, cfg, stdout, meter); err != nil {
		return err
	}
	network, err := quant.Convert(rounded, cfg)
	if err != nil {
		return err
	}
	if err := quant.Round(rounded, cfg); err != nil {
		return err
	}
	// Results of an earlier run are of another network.
	if err := runs.RemoveIn(o.out, resultsFile); err != nil {
		return err
	}
	if err := network.Save(file); err != nil {
		return err
	}
	r, err := o.compare(ctx, float, rounded, network, data.Test, meter)
	if err != nil {
		return err
	}
	r.Data = data.Name
	if o.epochs > 0 {
		r.Tuning = &tuning{o.epochs, o.lr, o.trainEps, data.Train.N}
	}
	r.Bytes = bytesOf(float, network)
	for name, size := range map[string]*int64{o.net: &r.FileBytes.Float, file: &r.FileBytes.Integers} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		*size = info.Size()
	}
	meter.Clear()
	if _, err := fmt.Fprintf(stdout, "%vwrote %s\n", r, file); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(o.out, resultsFile), func(w io.Writer) error { return json.NewEncoder(w).Encode(r) })
}

// epochWork is the work of an epoch of fine-tuning, in forward passes of an image.
func (o *options) epochWork(images int) float64 {
	work := 3.0
	if o.trainEps > 0 {
		work += trials.GradientWork
	}
	return work * float64(images)
}

// compareWork is the work of comparing both networks on an image, in forward passes.
const compareWork = 2*steps*trials.GradientWork + 6

// tune trains m for some epochs with rounded weights.
func (o *options) tune(ctx context.Context, m *snn.Model, data *sets.Data, cfg quant.Config, stdout io.Writer, meter *term.Meter) error {
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
	settings.Progress = func(p train.Progress) {
		meter.Add(o.epochWork(data.Train.N)/float64(p.Steps), fmt.Sprintf("fine-tuning, epoch %d/%d, loss %.3f", p.Epoch, p.Epochs, p.Loss))
	}
	t, err := train.New(m, data.Train, settings, rng.New(o.seed))
	if err != nil {
		return err
	}
	for epoch, err := range t.Epochs(ctx) {
		if err != nil {
			return err
		}
		meter.Clear()
		fmt.Fprintf(stdout, "fine-tuning, epoch %d: loss %.3f, accuracy %.1f %%\n", epoch.Epoch, epoch.Loss, 100*epoch.Accuracy)
	}
	return nil
}

// pair is a figure of both networks.
type pair struct {
	Float    int64 `json:"float32"`
	Integers int64 `json:"integers"`
}

// results are the figures of results.json. Clean, OnFloat and OnRounded are numbers of images that
// are classified as labelled.
type results struct {
	runs.Maker
	Net    string  `json:"net"`
	Data   string  `json:"data"`
	Images int     `json:"images"`
	Bits   int     `json:"bits"`
	Eps    float64 `json:"eps_255"`
	Seed   uint64  `json:"seed"`
	Tuning *tuning `json:"fine_tuning,omitempty"`

	Clean      pair `json:"clean"`
	OnFloat    pair `json:"pgd_on_float32"` // under PGD that is made on the float network
	OnRounded  pair `json:"pgd_on_rounded_weights"`
	Bytes      pair `json:"parameter_bytes"`
	FileBytes  pair `json:"file_bytes"`
	Throughput struct {
		Float    float64 `json:"float32"`
		Integers float64 `json:"integers"`
	} `json:"images_a_second"`
}

// tuning is the settings of the fine-tuning.
type tuning struct {
	Epochs int     `json:"epochs"`
	LR     float64 `json:"lr"`
	Eps    float64 `json:"eps_255"` // 0 for clean images
	Images int     `json:"images"`
}

// steps are those of PGD.
const steps = 7

// batch is the number of images that are judged together.
const batch = 100

// compare judges both networks.
func (o *options) compare(ctx context.Context, float, rounded *snn.Model, network *quant.Network, test *dataset.Set, meter *term.Meter) (*results, error) {
	pgd := attack.PGD(float32(o.eps/255), float32(o.eps/255/3), steps, snn.BPTT{})
	r := &results{Maker: runs.NewMaker(), Net: o.net, Images: test.N, Bits: o.bits, Eps: o.eps, Seed: o.seed}
	var floatTime, integerTime time.Duration
	for lo := 0; lo < test.N; lo += batch {
		n := min(batch, test.N-lo)
		shape := test.Shape()
		shape.N = n
		x, ids, indices := tensor.NewFrames(shape), make([]uint64, n), make([]int, n)
		for i := range n {
			ids[i], indices[i] = uint64(lo+i), lo+i
		}
		if err := test.Fill(x, indices); err != nil {
			return nil, err
		}
		labels := test.Labels[lo : lo+n]
		judge := func(x tensor.NCHW, c *pair) error {
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
					c.Float++
				}
				if predicted[i] == label {
					c.Integers++
				}
			}
			return nil
		}
		if err := judge(x, &r.Clean); err != nil {
			return nil, err
		}
		for _, source := range []struct {
			m *snn.Model
			c *pair
		}{{float, &r.OnFloat}, {rounded, &r.OnRounded}} {
			attacked, err := pgd.Perturb(ctx, source.m, x, labels, ids, rng.New(o.seed).Derive("pgd", 0))
			if err != nil {
				return nil, err
			}
			if err := judge(attacked, source.c); err != nil {
				return nil, err
			}
		}
		meter.Add(compareWork*float64(n), "both networks under PGD")
	}
	meter.Finished("both networks under PGD")
	r.Throughput.Float = 3 * float64(test.N) / floatTime.Seconds()
	r.Throughput.Integers = 3 * float64(test.N) / integerTime.Seconds()
	return r, nil
}

// bytesOf returns the bytes of the parameters of both networks.
func bytesOf(float *snn.Model, network *quant.Network) (bytes pair) {
	for _, p := range float.Params() {
		bytes.Float += int64(4 * p.Len())
	}
	for _, l := range network.Layers {
		switch l := l.(type) {
		case *quant.Conv:
			bytes.Integers += int64(len(l.Weight) + 4*(len(l.Scale)+len(l.Gain)) + len(l.Border))
		case *quant.Neurons:
			bytes.Integers += int64(4 * (len(l.Bias) + len(l.Threshold) + len(l.Gain)))
		}
	}
	return bytes
}

// String returns the figures as a table.
func (r *results) String() string {
	accuracy := func(name string, p pair) []string {
		row := []string{name}
		for _, k := range []int64{p.Float, p.Integers} {
			low, high := attack.Wilson(int(k), r.Images)
			row = append(row, fmt.Sprintf("%.1f (%.1f to %.1f)", 100*float64(k)/float64(r.Images), 100*low, 100*high))
		}
		return row
	}
	size := func(name string, p pair) []string {
		return []string{name, fmt.Sprint(p.Float), fmt.Sprintf("%d (%.3f)", p.Integers, float64(p.Integers)/float64(p.Float))}
	}
	rows := tables.Table{
		{"", "float32", "integers"},
		accuracy("clean", r.Clean),
		accuracy("PGD, made on float32", r.OnFloat),
		accuracy("PGD, made on rounded weights", r.OnRounded),
		size("bytes of parameters", r.Bytes),
		size("bytes of the file", r.FileBytes),
		{"images a second", fmt.Sprintf("%.0f", r.Throughput.Float), fmt.Sprintf("%.0f", r.Throughput.Integers)},
	}
	return fmt.Sprintf(`Accuracy in %% on %d images of %s, with 95 %% intervals. PGD: %d steps of ε/3 at ε = %v/255.
Weights of %d bits. The network of integers has no gradient: images made on others are shown to it.

%v
`, r.Images, r.Data, steps, r.Eps, r.Bits, rows)
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
