// Bench measures the parts of a RAT training step, in milliseconds an image.
//
//	go run ./examples/bench -arch vgg11 -T 8 -batch 16 -threads 2
//
// -peer DIR compares with another implementation. The folder holds what that implementation
// exported:
//
//	state.safetensors   the parameters of the network
//	batch.safetensors   images x and labels y
//	expect.safetensors  logits, rates and the gradients grad_x.bptt, .bptr and .cba
//
// The program loads the network and the images, and prints how much its results differ. The
// files do not hold T, so -T must be the value of the other side. -peer-json FILE reads the
// other side's times and prints the ratios. FILE has the form that -json writes.
//
// # In turns with another program
//
// -against COMMAND measures this build and another program in turns, so that noise of the
// machine affects both. The other program is another build, or testdata/peer.py, which is
// PyTorch's side:
//
//	go run ./examples/bench -against ./bench-of-before
//	go run ./examples/bench -against examples/bench/testdata/peer.py
//	go run ./examples/bench -against "venv/bin/python examples/bench/testdata/peer.py -compile"
//	go run ./examples/bench -against "venv/bin/python examples/bench/testdata/peer.py -spikingjelly"
//
// With -compile, PyTorch compiles the layers of neurons. With -spikingjelly they are those of
// SpikingJelly.
//
// COMMAND is split at spaces. A script whose name ends in .py is run with python3. Each side is
// a process of its own. Both compute the same network on the same images: those of -peer, or
// else a network that is not trained, on random images.
//
// For each part the sides run in turns, for -reps rounds. One round before them does not count.
// A turn repeats the part for 0.2 seconds, at least once, and its time is the median. The table
// has the median times, and the median and the range of the rounds' ratios. -json writes all
// rounds too.
//
// Older builds, which do not have -against, cannot run single parts. Runs of all parts then
// take turns. Such a run measures each part once, after two runs that do not count.
//
// A program of your own follows this protocol. It gets the flags -serve, -peer, -arch, -width,
// -T, -batch (not always) and -threads. It reads the files of the folder -peer, and writes one
// line, which says what it computes:
//
//	{"arch":"vgg11","T":8,"batch":16,"threads":2,"kernel":"PyTorch 2.15.0","rates":[0.112,…]}
//
// kernel is any text. rates has the mean firing rate of each layer of neurons. They must be
// those of this build within 0.01. checks may follow: the differences from expect.safetensors,
// in the form of -json.
//
// Then the program reads lines with names of parts. For each it runs the part once and writes
// the time, in the unit of the table. The largest resident memory so far may follow:
//
//	{"part":"forward","ms":43.1,"peak_rss_mb":2285}
//
// The program ends when its standard input ends. It can also end with an error. The message
// then has the last line of its standard error.
//
// # Networks of integers
//
// -integers measures the forward passes of the float32 network and of its network of integers
// (package quant), and with -against that of the other program, all in turns:
//
//	go run ./examples/bench -integers -arch vgg11
//	go run ./examples/bench -integers -against examples/bench/testdata/peer.py
//
// # Growth with one quantity
//
// -sweep measures how time and memory grow with one quantity: T, batch, width, rate or size,
// which is that of the images.
//
// -sweep cores is a model of more cores than the machine may have. It splits the work as that many
// threads would, and runs all units of every loop on one core. Then it adds up what they would take
// side by side, where a core takes the next unit when it has finished one. Each loop takes the measured time of an
// empty loop on two threads more for each doubling of the cores. The model does not know that cores
// share memory, caches and their clock rate, so it says how well the work is split, not how fast a
// machine is. Of the runs of a part, -reps of them, the fastest counts. The table has
//
//	ms        the time of an image; regularize: of an update
//	speed-up  the work, divided by this time
//	serial    the share of the work that is not in a loop with several threads
//	loops     loops with several threads
//	units     half of the work is in loops of at most so many units
//
// gradient is the gradient of an attack through time, in one pass over all images.
//
// # Results
//
// -json writes the results to a file. Ctrl-C or SIGTERM stops a sweep or -against. The program
// then prints and writes what was completed.
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
	"runtime/debug"
	"strings"
	"text/tabwriter"

	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

type options struct {
	arch                        string
	width                       float64
	steps, batch, threads, reps int
	peer, peerJSON, out, sweep  string
	against                     string
	serve, integers             bool
	given                       map[string]bool // the flags of the command line
}

// Concurrency implements cli.Options.
func (o options) Concurrency() int { return o.threads }

// Stopped implements cli.Options.
func (o options) Stopped() string {
	switch {
	case o.sweep != "":
		return "the table has what was measured"
	case o.integers:
		return "the table has the completed rounds, if any"
	case o.against != "":
		return "the table has the completed parts, if any"
	}
	return "nothing was written"
}

// report is what -json writes.
type report struct {
	Arch    string             `json:"arch"`
	Width   float64            `json:"width,omitempty"` // 0 if the other side does not say it
	T       int                `json:"T"`
	Batch   int                `json:"batch"`
	Threads int                `json:"threads"`
	Kernel  string             `json:"kernel"`
	Rates   []float64          `json:"rates"`
	MS      map[string]float64 `json:"ms"` // an image; regularize: an update
	PeakMB  float64            `json:"peak_rss_mb,omitempty"`
	Checks  []check            `json:"checks,omitempty"`
	Against *comparison        `json:"against,omitempty"`
}

func main() { cli.Main("bench", parse, run) }

func parse(args []string, stdout io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&o.arch, "arch", "vgg11", "a `network`'s name ("+zoo.Names()+"), or one written out")
	cli.Var(fs, &o.width, "width", 1, "(0, 64]", "multiplier of the network's width")
	cli.Var(fs, &o.steps, "T", 8, "[1, 1024]", "time steps")
	cli.Var(fs, &o.batch, "batch", 16, "[1, 65536]", "images, if they do not come from -peer")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Var(fs, &o.reps, "reps", 5, "[1, 1000000]", "runs of each part, or rounds of -against, of which the median counts; with -sweep cores the fastest")
	fs.StringVar(&o.peer, "peer", "", "`folder` of a network, images and expected results")
	fs.StringVar(&o.peerJSON, "peer-json", "", "`file` with the other side's figures")
	fs.StringVar(&o.against, "against", "", "`command` of another program to measure in turns with this one")
	fs.BoolVar(&o.serve, "serve", false, "run the parts that standard input names, as the program of -against")
	fs.BoolVar(&o.integers, "integers", false, "compare the forward pass of the network of integers instead")
	fs.StringVar(&o.sweep, "sweep", "", "`what` to vary instead: T, batch, width, rate, size or cores")
	fs.StringVar(&o.out, "json", "", "`file` to write the figures to")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return o, err
	}
	o.given = cli.Given(fs)
	if o.given["against"] && strings.TrimSpace(o.against) == "" {
		return o, errors.New("-against: expected a command")
	}
	if o.sweep != "" && o.given[o.sweep] {
		return o, fmt.Errorf("-%s: expected no value of what -sweep %s varies", o.sweep, o.sweep)
	}
	if o.sweep == "cores" && o.given["threads"] {
		return o, errors.New("-threads: expected no value of what -sweep cores varies")
	}
	for _, mode := range []struct {
		name    string
		on      bool
		without []string
	}{
		{"sweep", o.sweep != "", []string{"peer", "peer-json", "against", "serve"}},
		{"against", o.against != "", []string{"peer-json", "serve"}},
		{"integers", o.integers, []string{"sweep", "peer-json", "serve", "json"}},
		{"serve", o.serve, []string{"peer-json", "json", "reps"}},
	} {
		for _, name := range mode.without {
			if mode.on && o.given[name] {
				return o, fmt.Errorf("-%s: expected no -%s with it", mode.name, name)
			}
		}
	}
	return o, nil
}

// config describes the network: for CIFAR-10, with its normalization.
func (o options) config() zoo.Config {
	cfg := zoo.Default(o.arch)
	cfg.Steps, cfg.WidthMultiplier = o.steps, o.width
	cfg.Mean, cfg.Std = []float32{0.4914, 0.4822, 0.4465}, []float32{0.2023, 0.1994, 0.2010}
	return cfg
}

// network returns the network of config, which is not trained.
func (o options) network() (*snn.Model, error) {
	m, err := zoo.New(o.config(), rng.New(1))
	if err != nil {
		return nil, fmt.Errorf("network of -arch %q: %w", o.arch, err)
	}
	return m, nil
}

// warm returns the network of config, with random images that its batch norm knows.
func (o options) warm() (*snn.Model, tensor.NCHW, []int, error) {
	m, err := o.network()
	if err != nil {
		return nil, tensor.NCHW{}, nil, err
	}
	x, y := randomImages(o.batch, m)
	return m, x, y, warmUp(m, x, y)
}

func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if o.out != "" {
		if err := atomicfile.Try(o.out); err != nil {
			return fmt.Errorf("-json: %w", err)
		}
	}
	var peer *report
	if o.peerJSON != "" {
		var err error
		if peer, err = readFigures(o.peerJSON); err != nil {
			return fmt.Errorf("-peer-json: %w", err)
		}
	}
	debug.SetGCPercent(1) // buffers are reused, so there is little to collect
	if o.sweep != "" {
		return sweep(ctx, o, stdout, stderr)
	}
	if o.integers {
		return integers(ctx, o, stdout, stderr)
	}
	if o.against != "" {
		return against(ctx, o, stdout, stderr)
	}
	m, err := o.network()
	if err != nil {
		return err
	}
	r := &report{Arch: o.arch, Width: o.width, T: o.steps, Threads: parallel.Threads(0), Kernel: kernel.CurrentLevel().String()}
	x, y := randomImages(o.batch, m)
	if o.peer != "" {
		if x, y, err = loadPeer(m, o.peer); err != nil {
			return err
		}
		if o.given["batch"] && x.N != o.batch {
			return fmt.Errorf("-batch %d: -peer %s has %d images: expected the same, or no -batch", o.batch, o.peer, x.N)
		}
	}
	r.Batch = x.N
	if peer != nil {
		if err := peer.sameTask(r); err != nil {
			return fmt.Errorf("-peer-json: %s: figures of %w", o.peerJSON, err)
		}
	}
	if o.peer != "" {
		if r.Checks, err = compare(m, x, y, filepath.Join(o.peer, "expect.safetensors")); err != nil {
			return err
		}
		if !o.serve {
			if err := printChecks(stdout, "against the other side", r.Checks); err != nil {
				return err
			}
		}
	} else if err := warmUp(m, x, y); err != nil {
		return err
	}
	if r.Rates, err = rates(m, x); err != nil {
		return err
	}
	if o.serve {
		return serve(ctx, r, m, x, y, os.Stdin, stdout)
	}
	meter := term.NewMeter(stderr, 1)
	r.MS, err = measure(ctx, m, x, y, o.reps, nil, meter, 1, "")
	meter.Clear()
	if err != nil {
		return err
	}
	r.PeakMB = peakMB()
	if err := printTimes(stdout, r, peer); err != nil {
		return err
	}
	return o.save(r)
}

// save writes figures to the file of -json, if there is one.
func (o options) save(figures any) error {
	if o.out == "" {
		return nil
	}
	err := atomicfile.Write(o.out, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(figures)
	})
	if err != nil {
		return fmt.Errorf("-json: %w", err)
	}
	return nil
}

func printTimes(stdout io.Writer, r, peer *report) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s, T = %d, %d images, %d threads, %s; milliseconds an image (regularize: an update)\n", r.Arch, r.T, r.Batch, r.Threads, r.Kernel)
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
	return w.Flush()
}
