// Smooth trains a small network, makes a smoothed network of it, and certifies that no change of
// a test image within a radius alters the class of the smoothed network.
//
//	go run ./examples/smooth                     # Gaussian noise: L2 distance
//	go run ./examples/smooth -sigma 0.5
//	go run ./examples/smooth -windows lattice    # windows: number of edits of spikes
//	go run ./examples/smooth -windows time -shift 1
//
// The images are those of -data, by default the embedded part of Fashion-MNIST. With Gaussian noise
// the network trains on noisy images, at the same σ. With windows, every image becomes -T frames
// of spikes first: a pixel spikes at a step with its value as the probability. The frames are the
// data, and the edits change them. The network trains on what single windows see.
//
// It prints the certified accuracy against the radius. It writes report.json, with the flags and a
// certificate for each image, and network.safetensors to a folder. With -model it reads the network instead of
// training it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/lipschitz/smooth"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// options are the flags.
type options struct {
	model, data, arch       string
	train, images, epochs   int
	steps                   int
	poisson                 bool
	lr                      float64
	sigma, alpha            float64
	samples                 int
	windows                 string
	block, size, hop, shift int
	seed                    uint64
	threads                 int
	out                     string
	values                  map[string]string // of the flags that results depend on
}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{values: map[string]string{}}
	fs := flag.NewFlagSet("smooth", flag.ContinueOnError)
	fs.StringVar(&o.model, "model", "", "a network's `file`; without it a network is trained")
	fs.StringVar(&o.data, "data", "fashion-mini", "`data set`: "+sets.Expected)
	fs.StringVar(&o.arch, "arch", "conv16 A conv32 A | fc", "training: a `network`'s name ("+zoo.Names()+"), or one written out")
	cli.Var(fs, &o.train, "train", 0, "[0, ∞)", "training: images, 0 for all")
	cli.Var(fs, &o.epochs, "epochs", 10, "[1, 1000000]", "training: epochs")
	cli.Var(fs, &o.lr, "lr", 0.1, "(0, ∞)", "training: learning rate, falling along a cosine")
	cli.Var(fs, &o.steps, "T", 4, "[1, 1024]", "time steps; with -windows the frames of an example, too")
	fs.BoolVar(&o.poisson, "poisson", false, "training: Poisson coding of the images, drawn anew for every sample")
	cli.Var(fs, &o.images, "images", 200, "[0, 1000000]", "test images to certify, 0 for all")
	cli.Var(fs, &o.sigma, "sigma", 0.25, "(0, ∞)", "standard deviation of the noise, for pixels in [0,1]")
	cli.Var(fs, &o.samples, "samples", 1000, "[1, 1048576]", "noisy images of each test image")
	cli.Var(fs, &o.alpha, "alpha", 0.001, "(0, 1)", "probability that a certificate is wrong")
	fs.StringVar(&o.windows, "windows", "", "the `axis` of windows, time, rows, columns or lattice, in place of noise")
	cli.Var(fs, &o.block, "block", 4, "[2, 1024]", "windows: lattice of every so many pixels")
	cli.Var(fs, &o.size, "size", 1, "[1, ∞)", "windows: their size")
	cli.Var(fs, &o.hop, "stride", 1, "[1, ∞)", "windows: their stride")
	cli.Var(fs, &o.shift, "shift", 0, "[0, ∞)", "windows: steps by which an edit may move a spike")
	cli.Var(fs, &o.seed, "seed", 1, "[0, ∞)", "seed of everything random")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Out(fs, &o.out, "`folder` to write to")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	given := cli.Given(fs)
	other := []string{"block", "size", "stride", "shift"}
	why := "without -windows"
	if o.windows != "" {
		other, why = []string{"sigma", "samples", "alpha", "poisson"}, "with -windows"
	}
	if o.windows != string(smooth.Lattice) {
		other = append(other, "block")
		o.block = 0
	}
	if o.model != "" {
		other, why = append(other, "arch", "train", "epochs", "lr", "poisson"), why+", or with -model"
		if o.windows == "" {
			other = append(other, "T") // the network has it
		}
	}
	for _, name := range other {
		if given[name] {
			return nil, fmt.Errorf("-%s: expected none %s", name, why)
		}
	}
	if given["shift"] && o.windows != string(smooth.Time) {
		return nil, fmt.Errorf("-shift: expected none with -windows %s, on whose axis a move in time changes nothing", o.windows)
	}
	other = append(other, "shift", "out", "threads")
	if o.windows == string(smooth.Time) {
		o.values["shift"] = fmt.Sprint(o.shift)
	}
	fs.VisitAll(func(f *flag.Flag) {
		if !slices.Contains(other, f.Name) {
			o.values[f.Name] = f.Value.String()
		}
	})
	return o, nil
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string {
	if o.model != "" {
		return "nothing was written"
	}
	return "if the training was complete, its network is in " + o.out + ", for -model"
}

// results is the content of the report.
type results struct {
	Flags map[string]string `json:"flags"`
	*smooth.Report
}

const reportFile = "report.json"

func main() { cli.Main("smooth", parse, run) }

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	d, err := sets.Open(ctx, o.data, stderr)
	if err == nil {
		d.Test, err = sets.First("-images", d.Test, o.images)
	}
	if err == nil {
		err = d.Limit(o.train, 0)
	}
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.data, err)
	}
	var method smooth.Method
	var adversary snn.Adversary
	if o.windows == "" {
		g := smooth.DefaultGaussian(o.sigma)
		g.Samples0, g.Samples, g.Alpha = min(100, o.samples), o.samples, o.alpha
		method, adversary = g, attack.GaussianNoise{Std: float32(o.sigma)}
	} else {
		w := smooth.Windows{Axis: smooth.Axis(o.windows), Block: o.block, Size: o.size, Stride: o.hop, MaxShift: o.shift}
		method, adversary = w, w
		for _, set := range []**dataset.Set{&d.Train, &d.Test} {
			if *set, err = frames(*set, o.steps, rng.New(o.seed).Derive("frames", uint64((*set).N))); err != nil {
				return err
			}
		}
		d.Mean, d.Std = nil, nil // of spikes
	}
	folder, err := runs.Open(o.out)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	m, err := o.network(ctx, d, adversary, stdout, stderr)
	if err != nil {
		return err
	}

	start := time.Now()
	meter := term.NewMeter(stderr, float64(d.Test.N))
	report, err := smooth.Evaluate(ctx, m, d.Test, method, smooth.Config{
		Key:      rng.New(o.seed).Derive("certify", 0),
		Progress: func(done, total int) { meter.Add(1, fmt.Sprintf("image %d of %d", done, total)) },
	})
	meter.Clear()
	if err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	err = atomicfile.Write(filepath.Join(o.out, reportFile), func(w io.Writer) error {
		return json.NewEncoder(w).Encode(results{o.values, report})
	})
	if err != nil {
		return err
	}
	passes, step := 0, 1.0
	for _, c := range report.Certificates {
		for _, n := range c.Votes {
			passes += n
		}
	}
	if g, ok := method.(smooth.Gaussian); ok {
		passes += g.Samples0 * report.Images
		step = g.Sigma / 4
	}
	fmt.Fprint(stdout, report, "\n", report.Table(radii(report, step)...))
	fmt.Fprintf(stdout, "\nTook %.1f s, %.0f passes a second. report.json is in %s.\n", seconds, float64(passes)/seconds, o.out)
	return nil
}

// network reads the network of -model, or trains one and saves it.
func (o *options) network(ctx context.Context, d *sets.Data, adversary snn.Adversary, stdout, stderr io.Writer) (*snn.Model, error) {
	if o.model != "" {
		m, _, err := zoo.Load(o.model)
		if err == nil {
			err = m.ValidateDataset(d.Test)
		}
		if err != nil {
			return nil, fmt.Errorf("-model: %w", err)
		}
		return m, nil
	}
	cfg := zoo.Default(o.arch).For(d.Train)
	cfg.Steps, cfg.Poisson, cfg.Mean, cfg.Std = o.steps, o.poisson, d.Mean, d.Std
	if o.poisson {
		cfg.Mean, cfg.Std = nil, nil
	}
	m, err := zoo.New(cfg, rng.New(o.seed).Derive("network", 0))
	if err != nil {
		return nil, fmt.Errorf("network of -arch %q: %w", o.arch, err)
	}
	c := train.Default(o.epochs)
	c.LR, c.Loader, c.Adversary = o.lr, d.Loader, adversary
	meter := term.NewMeter(stderr, float64(o.epochs))
	c.Progress = func(p train.Progress) {
		meter.Add(1/float64(p.Steps), fmt.Sprintf("epoch %d/%d, loss %.3f", p.Epoch, p.Epochs, p.Loss))
	}
	start := time.Now()
	t, err := train.New(m, d.Train, c, rng.New(o.seed).Derive("train", 0))
	if err != nil {
		return nil, err
	}
	var last train.Metrics
	for e, err := range t.Epochs(ctx) {
		if err != nil {
			return nil, err
		}
		last = e
	}
	meter.Clear()
	fmt.Fprintf(stdout, "Trained in %.0f s: loss %.3f, accuracy %.1f %% on the images that it trained on.\n\n", time.Since(start).Seconds(), last.Loss, 100*last.Accuracy)
	// The report of an earlier run is of another network.
	if err := runs.RemoveIn(o.out, reportFile); err != nil {
		return nil, err
	}
	return m, m.Save(filepath.Join(o.out, "network.safetensors"))
}

// frames returns the images of a set as frames of spikes. At every step, a pixel spikes with its
// value as the probability.
func frames(set *dataset.Set, steps int, key rng.Key) (*dataset.Set, error) {
	shape := set.Shape()
	shape.N = 1
	image := tensor.NewFrames(shape)
	shape.N, shape.Steps = set.N, steps
	spikes := make([]bool, 0, shape.Frames()*shape.Neurons())
	for i := range set.N {
		if err := set.Fill(image, []int{i}); err != nil {
			return nil, err
		}
		r := key.Derive("image", uint64(i)).Rand()
		for range steps {
			for _, v := range image.Data {
				spikes = append(spikes, r.Float32() < v)
			}
		}
	}
	return dataset.NewFrameSet(set.Provenance(), dataset.NewFrames(shape, spikes), set.Labels, set.ClassNames())
}

// radii returns the multiples of step up to the largest radius of the report.
func radii(r *smooth.Report, step float64) (list []float64) {
	most := 0.0
	for _, c := range r.Certificates {
		most = max(most, c.Radius)
	}
	for k := 0; float64(k)*step <= most; k++ {
		list = append(list, float64(k)*step)
	}
	return list
}
