// Bench times the parts of a RAT training step, in milliseconds an image.
//
//	go run ./examples/bench -arch vgg11 -T 8 -batch 16 -threads 2
//
// With -peer DIR it loads a network and images that another implementation exported
// (state.safetensors, batch.safetensors with x and y, expect.safetensors with logits,
// rates and grad_x.bptt, .bptr, .cba) and first checks that it computes the same. With
// -peer-json FILE, the line that the other side printed, it prints the ratios.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

type options struct {
	arch                        string
	width                       float64
	steps, batch, threads, reps int
	peer, peerJSON, out, sweep  string
}

// report is what -json writes.
type report struct {
	Arch    string             `json:"arch"`
	T       int                `json:"T"`
	Batch   int                `json:"batch"`
	Threads int                `json:"threads"`
	Rates   []float64          `json:"rates"`
	MS      map[string]float64 `json:"ms"` // an image; regularize: an update
	PeakMB  float64            `json:"peak_rss_mb,omitempty"`
	Checks  []check            `json:"checks,omitempty"`
}

// check compares one expected tensor.
type check struct {
	Name   string  `json:"name"`
	Err    float64 `json:"relative_error"` // of the tensor's largest magnitude
	Spikes int     `json:"spikes_differ"`  // at least so many
	Images int     `json:"images_differ"`  // by more than 1e-4 of the image's largest magnitude
}

// parts are the timed parts in the order of the table.
var parts = []string{"forward", "fgsm_bptt", "fgsm_bptr", "fgsm_cba", "train", "regularize", "rat"}

func main() {
	var o options
	flag.StringVar(&o.arch, "arch", "vgg11", "the network")
	flag.Float64Var(&o.width, "width", 1, "width multiplier")
	flag.IntVar(&o.steps, "T", 8, "time steps")
	flag.IntVar(&o.batch, "batch", 16, "images, if they do not come from -peer")
	flag.IntVar(&o.threads, "threads", 0, "threads; 0 for all")
	flag.IntVar(&o.reps, "reps", 5, "runs of each part; the median counts")
	flag.StringVar(&o.peer, "peer", "", "folder of a network, images and expected results")
	flag.StringVar(&o.peerJSON, "peer-json", "", "file with the other side's figures")
	flag.StringVar(&o.sweep, "sweep", "", "what to vary instead: T, batch, width or rate")
	flag.StringVar(&o.out, "json", "", "file to write the figures to")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	debug.SetGCPercent(20) // buffers are reused; garbage should not hide what is needed
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.reps < 1 || o.batch < 1 {
		return errors.New("-reps and -batch: expected at least 1")
	}
	if o.sweep != "" {
		return sweep(o)
	}
	cfg := zoo.Default(o.arch)
	cfg.Steps, cfg.WidthMultiplier = o.steps, o.width
	m, err := zoo.New(cfg, rng.New(1))
	if err != nil {
		return err
	}
	m.Threads = o.threads
	r := &report{Arch: o.arch, T: o.steps, Threads: parallel.Threads(o.threads)}
	x, y := randomImages(o.batch, m)
	if o.peer != "" {
		if x, y, err = loadPeer(m, o.peer); err != nil {
			return err
		}
		if r.Checks, err = compare(m, x, y, filepath.Join(o.peer, "expect.safetensors")); err != nil {
			return err
		}
		printChecks(r.Checks)
	} else if err := warmUp(m, x, y); err != nil {
		return err
	}
	r.Batch = x.N
	if r.Rates, err = rates(m, x); err != nil {
		return err
	}
	if r.MS, err = measure(m, x, y, o.reps, nil); err != nil {
		return err
	}
	r.PeakMB = peakMB()
	var peer *report
	if o.peerJSON != "" {
		b, err := os.ReadFile(o.peerJSON)
		if err != nil {
			return err
		}
		peer = new(report)
		if err := json.Unmarshal(b, peer); err != nil {
			return fmt.Errorf("%s: %w", o.peerJSON, err)
		}
		if plain(peer.Arch) != plain(r.Arch) || peer.T != r.T || peer.Batch != r.Batch || peer.Threads != r.Threads {
			return fmt.Errorf("%s: figures of %s, T %d, batch %d, %d threads: expected %s, %d, %d, %d",
				o.peerJSON, peer.Arch, peer.T, peer.Batch, peer.Threads, r.Arch, r.T, r.Batch, r.Threads)
		}
	}
	printTimes(r, peer)
	if o.out == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, append(b, '\n'), 0o644)
}

// plain is an architecture's name without case and dashes: the other side may spell it
// differently.
func plain(arch string) string { return strings.ReplaceAll(strings.ToLower(arch), "-", "") }

func randomImages(n int, m *snn.Model) (tensor.NCHW, []int) {
	x, y := tensor.NewNCHW(n, m.Channels, m.Height, m.Width), make([]int, n)
	r := rng.New(2).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	for i := range y {
		y[i] = r.IntN(m.Classes())
	}
	return x, y
}

// warmUp sets the running statistics of batch norm on the images.
func warmUp(m *snn.Model, x tensor.NCHW, y []int) error {
	for range 20 {
		if err := m.TrainStep(snn.Pass{Train: true}, x, func([]float32) []float32 { return nil }); err != nil {
			return err
		}
	}
	return nil
}

func loadPeer(m *snn.Model, dir string) (x tensor.NCHW, y []int, err error) {
	if err := m.Load(filepath.Join(dir, "state.safetensors")); err != nil {
		return x, nil, err
	}
	path := filepath.Join(dir, "batch.safetensors")
	f, err := golden.Read(path)
	if err != nil {
		return x, nil, err
	}
	t, err := f.Floats("x", 4)
	if err != nil {
		return x, nil, fmt.Errorf("%s: %w", path, err)
	}
	x = tensor.NCHW{N: t.Shape[0], C: t.Shape[1], H: t.Shape[2], W: t.Shape[3], Data: t.Floats}
	if y = f.Tensors["y"].Ints; len(y) != x.N {
		return x, nil, fmt.Errorf("%s: %d labels y for %d images", path, len(y), x.N)
	}
	return x, y, nil
}

// gradients are the gradient approximations under the names of their parts.
var gradients = []struct {
	name string
	snn.Gradient
}{{"bptt", snn.BPTT{}}, {"bptr", snn.BPTR{}}, {"cba", snn.CBA{}}}

// loss returns the gradient of the mean cross-entropy by the logits.
func loss(y []int) func(logits []float32) []float32 {
	return func(logits []float32) []float32 {
		d := make([]float32, len(logits))
		autograd.CrossEntropy(nil, d, logits, y, 0)
		for i := range d {
			d[i] /= float32(len(y))
		}
		return d
	}
}

// compare checks logits, firing rates and input gradients against expected ones.
func compare(m *snn.Model, x tensor.NCHW, y []int, path string) (cs []check, err error) {
	f, err := golden.Read(path)
	if err != nil {
		return nil, err
	}
	var counts, sizes []float64
	logits, err := m.Evaluate(snn.Pass{Observe: func(_ string, s *tensor.Spikes) {
		counts = append(counts, float64(s.Count()))
		sizes = append(sizes, float64(s.Frames()*s.Neurons()))
	}}, x)
	if err != nil {
		return nil, err
	}
	want := f.Tensors["rates"].Floats
	if len(want) != len(counts) {
		return nil, fmt.Errorf("%s: %d rates for %d layers of neurons", path, len(want), len(counts))
	}
	spikes := check{Name: "rates"}
	for i, r := range want {
		spikes.Spikes += int(math.Abs(math.Round(float64(r)*sizes[i]) - counts[i]))
		spikes.Err = max(spikes.Err, math.Abs(float64(r)-counts[i]/sizes[i]))
	}
	cs = append(cs, difference("logits", logits, f.Tensors["logits"].Floats, x.N), spikes)
	for _, g := range gradients {
		dx, err := m.Run(snn.Pass{Gradient: g.Gradient}, x, loss(y))
		if err != nil {
			return nil, err
		}
		cs = append(cs, difference("grad_x."+g.name, dx.Data, f.Tensors["grad_x."+g.name].Floats, x.N))
	}
	for _, c := range cs {
		if math.IsInf(c.Err, 1) {
			return nil, fmt.Errorf("%s: no tensor %s of the network's size", path, c.Name)
		}
	}
	return cs, nil
}

// difference compares a tensor of n images. A spike that falls on the other side of its
// threshold, or a ReLU that does, changes all that follows in its image, and nothing
// in the others: so images are counted, too.
func difference(name string, got, want []float32, n int) check {
	c := check{Name: name, Err: math.Inf(1)}
	if len(got) != len(want) || len(got) == 0 {
		return c
	}
	size := len(got) / n
	var worst, scale float64
	for i := range n {
		var imageWorst, imageScale float64
		for j := i * size; j < (i+1)*size; j++ {
			imageWorst = max(imageWorst, math.Abs(float64(got[j]-want[j])))
			imageScale = max(imageScale, math.Abs(float64(want[j])))
		}
		if imageWorst > 1e-4*imageScale {
			c.Images++
		}
		worst, scale = max(worst, imageWorst), max(scale, imageScale)
	}
	c.Err = worst / scale
	return c
}

func rates(m *snn.Model, x tensor.NCHW) (rs []float64, err error) {
	_, err = m.Evaluate(snn.Pass{Observe: func(_ string, s *tensor.Spikes) { rs = append(rs, math.Round(s.Rate()*1e3)/1e3) }}, x)
	return rs, err
}

// measure times the parts, or only some of them. The parameters do not change: the learning rate is zero,
// and the projection's step too small to matter.
func measure(m *snn.Model, x tensor.NCHW, y []int, reps int, only []string) (map[string]float64, error) {
	ctx, key := context.Background(), rng.New(3)
	opt, err := train.NewUpdater(train.SGD{Momentum: 0.9}, m.Params())
	if err != nil {
		return nil, err
	}
	reg := regularize.DefaultOrthogonal()
	reg.Beta = 1e-12
	jobs := map[string]func() error{
		"forward": func() error { _, err := m.Logits(x, nil); return err },
		"train": func() error {
			for _, p := range m.Params() {
				p.ClearGrad()
			}
			if err := m.TrainStep(snn.Pass{Train: true, Sink: opt.Sink(0, m.Threads)}, x, loss(y)); err != nil {
				return err
			}
			opt.Step(0, m.Threads)
			return nil
		},
		"regularize": func() error {
			for _, p := range m.Params() {
				if len(p.Shape) > 1 {
					if err := reg.Apply(p, key, m.Threads); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
	for _, g := range gradients {
		fgsm := attack.FGSM(8./255, g.Gradient)
		jobs["fgsm_"+g.name] = func() error {
			_, err := fgsm.Perturb(ctx, m, x, y, nil, key)
			return err
		}
	}
	ms := map[string]float64{}
	for _, part := range parts {
		job, ok := jobs[part]
		if !ok || !known(part, only) {
			continue
		}
		times := make([]float64, reps+1)
		for i := range times {
			start := time.Now()
			if err := job(); err != nil {
				return nil, fmt.Errorf("%s: %w", part, err)
			}
			times[i] = time.Since(start).Seconds() * 1e3
		}
		times = times[1:] // the first warms up
		slices.Sort(times)
		ms[part] = times[len(times)/2]
		if part != "regularize" {
			ms[part] /= float64(x.N)
		}
	}
	ms["rat"] = ms["train"] + (ms["fgsm_bptt"]+ms["fgsm_bptr"])/2
	return ms, nil
}

func printChecks(cs []check) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "against the other side\trelative error\tspikes that differ\timages that differ\t")
	for _, c := range cs {
		fmt.Fprintf(w, "%s\t%.1e\t%d\t%d\t\n", c.Name, c.Err, c.Spikes, c.Images)
	}
	w.Flush()
	fmt.Println()
}

func printTimes(r, peer *report) {
	fmt.Printf("%s, T = %d, %d images, %d threads; milliseconds an image (regularize: an update)\n", r.Arch, r.T, r.Batch, r.Threads)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, ours, theirs float64) {
		fmt.Fprintf(w, "%s\t%.2f\t", name, ours)
		if peer != nil && theirs > 0 {
			fmt.Fprintf(w, "%.2f\t%.2f×\t", theirs, theirs/ours)
		}
		fmt.Fprintln(w)
	}
	if peer != nil {
		fmt.Fprintln(w, "part\tsnnrat\tother side\tratio\t")
	}
	for _, part := range parts {
		theirs := 0.0
		if peer != nil {
			theirs = peer.MS[part]
		}
		row(part, r.MS[part], theirs)
	}
	if r.PeakMB > 0 {
		theirs := 0.0
		if peer != nil {
			theirs = peer.PeakMB
		}
		row("peak memory, MB", r.PeakMB, theirs)
	}
	w.Flush()
}
