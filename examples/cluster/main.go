// Cluster trains a network with RAT on several processes, on one machine or on many:
//
//	go build -tags mpi -o cluster ./examples/cluster
//	mpirun -np 4 ./cluster -threads 1 -save shared/checkpoint.safetensors
//	srun --mpi=pmix -n 4 ./cluster -threads 1 -save shared/checkpoint.safetensors
//	go run ./examples/cluster -alone                # one process, without MPI
//
// The results are the same bits at any number of ranks that divides -shards. A training goes on
// from the checkpoint that it finds at -save, at any number of ranks. Rank 0 prints the metrics
// of every epoch, and digests of the weights, the metrics and the checkpoint in the end.
//
// SIGINT and SIGTERM on any rank stop all of them after the step, with a checkpoint.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/paramfile"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/mpi"
)

type options struct {
	data, arch, save               string
	width, eps, rows               float64
	passes, project                float64
	steps, epochs, batch           int
	shards, images, threads, every int
	seed                           uint64
	alone, mixed, adam, measure    bool
}

// Concurrency implements cli.Options.
func (o *options) Concurrency() int { return o.threads }

// Stopped implements cli.Options.
func (o *options) Stopped() string {
	if o.save == "" {
		return "without -save, nothing is kept"
	}
	return o.save + " has the last completed step; the same command goes on from there"
}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("cluster", flag.ContinueOnError)
	fs.StringVar(&o.data, "data", "fashion-mini", "data set: "+sets.Expected)
	fs.StringVar(&o.arch, "arch", "conv16 A conv32 A | fc", "`network` of package zoo")
	cli.Var(fs, &o.width, "width", 1, "(0, 8]", "width multiplier")
	cli.Var(fs, &o.eps, "eps", 2, "[0, 255]", "ε of the training in units of 1/255")
	cli.Var(fs, &o.rows, "rows", 0.3, "(0, 1]", "share of the rows of a linear layer that a step projects")
	cli.Var(fs, &o.steps, "T", 4, "[1, 1024]", "time steps")
	cli.Var(fs, &o.epochs, "epochs", 2, "[1, 100000]", "epochs")
	cli.Var(fs, &o.batch, "batch", 64, "[1, 65536]", "images of a batch, on all ranks together")
	cli.Var(fs, &o.shards, "shards", 8, "[1, 65536]", "micro-shards of a batch, a power of two")
	cli.Var(fs, &o.images, "images", 0, "[0, 1000000000]", "training images, 0 for all")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads of a rank, 0 for all processors")
	cli.Var(fs, &o.every, "every", 600, "[0, 86400]", "seconds between two checkpoints")
	cli.Var(fs, &o.seed, "seed", 1, "[0, ∞)", "seed of everything random")
	fs.StringVar(&o.save, "save", "", "checkpoint `file`, in a folder that all ranks see")
	fs.BoolVar(&o.alone, "alone", false, "train on this process, without MPI")
	fs.BoolVar(&o.mixed, "mixed", false, "allow ranks of different builds or kernel levels")
	fs.BoolVar(&o.measure, "measure", false, "measure the messages between the ranks, and do not train")
	cli.Var(fs, &o.passes, "predict", 0, "[0, 1e6]", "with the seconds of a step's passes on one machine, print what the model of docs/scaling.md predicts for more machines, and do not train")
	cli.Var(fs, &o.project, "project", 0, "[0, 1e6]", "seconds of a step's projection, for -predict")
	fs.BoolVar(&o.adam, "adam", false, "Adam in place of SGD")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	return o, o.check(cli.Given(fs))
}

// check returns an error that names a flag which the others make useless.
func (o *options) check(given map[string]bool) error {
	var mode string
	var used []string // flags
	switch {
	case o.project > 0 && o.passes == 0:
		return fmt.Errorf("-project %v: expected -predict beside it", o.project)
	case o.measure && o.alone:
		return errors.New("-measure: expected no -alone beside it, since one process sends no messages")
	case o.passes > 0:
		mode, used = "predict", []string{"predict", "project", "arch", "width", "T"}
	case o.measure:
		mode, used = "measure", []string{"measure", "threads"}
	default:
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(used, name) {
			return fmt.Errorf("-%s: expected no -%s beside it, since nothing is trained", mode, name)
		}
	}
	return nil
}

func main() { cli.Main("cluster", parse, run) }

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	if o.passes > 0 {
		model, err := zoo.New(o.network(zoo.Default(o.arch)), rng.New(o.seed))
		if err != nil {
			return fmt.Errorf("-arch %q: %w", o.arch, err)
		}
		predict(stdout, costsOf(model, o.passes, o.project))
		return nil
	}
	if o.alone {
		return o.train(ctx, nil, stdout, stderr)
	}
	world, err := mpi.Init()
	if err != nil {
		return fmt.Errorf("%w (or train on this process with -alone)", err)
	}
	if o.measure {
		return world.Close(measure(world, stdout))
	}
	sent := world.Sent()
	err = o.train(ctx, world, stdout, stderr)
	if err == nil && world.Rank() == 0 {
		fmt.Fprintf(stdout, "%d ranks; rank 0 sent %.1f MB\n", world.Size(), float64(world.Sent()-sent)/1e6)
	}
	return world.Close(err)
}

// measure prints the time of a small message to all ranks, and the rate at which a rank sends and
// receives much data at the same time.
func measure(world *mpi.World, stdout io.Writer) error {
	const shares, values = 1000, 1 << 24
	message := make([]byte, 8<<10) // about the statistics of 512 channels
	began := time.Now()
	for range shares {
		if _, err := world.Share(message, nil); err != nil {
			return err
		}
	}
	latency := time.Since(began) / shares
	n := world.Size()
	v, cuts := make([]float32, values), make([]int, n+1)
	for r := range cuts {
		cuts[r] = values * r / n
	}
	times := make([]time.Duration, 10)
	for i := range times {
		began = time.Now()
		if err := world.Collect(i, v, cuts).Wait(); err != nil {
			return err
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	if world.Rank() == 0 {
		fmt.Fprintf(stdout, "%d ranks: %v for a message of 8 KB to all, %.2f GB/s sent by each rank in parts of %.1f MB\n",
			n, latency.Round(time.Microsecond), 4*float64(values-cuts[1])/times[len(times)/2].Seconds()/1e9, 4*float64(cuts[1])/1e6)
	}
	return nil
}

// train trains on the ranks, or alone if there are none.
func (o *options) train(ctx context.Context, ranks train.Ranks, stdout, stderr io.Writer) error {
	data, err := sets.Open(ctx, o.data, stderr)
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.data, err)
	}
	set := data.Train
	if o.images > 0 {
		if set, err = set.First(o.images); err != nil {
			return fmt.Errorf("-images: %w", err)
		}
	}
	model, err := zoo.New(o.network(zoo.Default(o.arch).For(set)), rng.New(o.seed))
	if err != nil {
		return fmt.Errorf("-arch %q: %w", o.arch, err)
	}
	reg := regularize.ForVGG()
	reg.RowShare = float32(o.rows)
	cfg := train.RAT(o.epochs, attack.RATMix(float32(o.eps)/255), reg, regularize.Simplex)
	if o.adam {
		cfg.Optimizer, cfg.LR = train.DefaultAdam(), 1e-3
	}
	cfg.Loader.BatchSize, cfg.Loader.DropLast = o.batch, true
	cfg.Loader.Augment = []dataset.Augmentation{dataset.Crop{Padding: 2}}
	cfg.MicroShards, cfg.MixedRanks = o.shards, o.mixed
	cfg.Validation = train.DefaultValidation(data.Test, nil)
	first := true
	if ranks != nil {
		cfg.Ranks, first = ranks, ranks.Rank() == 0
	}
	if !first {
		stderr = io.Discard
	}
	meter := term.NewMeter(stderr, float64(o.epochs))
	defer meter.Clear()
	cfg.Progress = func(p train.Progress) {
		meter.Add(1/float64(p.Steps), fmt.Sprintf("epoch %d/%d, loss %.3f", p.Epoch, p.Epochs, p.Loss))
	}
	trainer, err := train.New(model, set, cfg, rng.New(o.seed))
	if err != nil {
		return err
	}
	if o.save != "" {
		// Every rank reads the file, so that one which does not see it is an error.
		if err := trainer.Resume(o.save); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		trainer.SaveEvery(time.Duration(o.every)*time.Second, o.save)
		meter.Skip(trainer.Completed())
	}
	for m, err := range trainer.Epochs(ctx) {
		if err != nil {
			return err
		}
		meter.Finished(fmt.Sprintf("epoch %d of %d", m.Epoch, o.epochs))
		if first {
			meter.Clear()
			fmt.Fprintf(stdout, "epoch %d: loss %.4f, accuracy %.1f %%, validation %.1f %%, %.1f images/s\n",
				m.Epoch, m.Loss, 100*m.Accuracy, 100*m.Validation.Clean, m.ImagesPerSecond)
		}
	}
	if first {
		return o.digests(stdout, model, trainer.History())
	}
	return nil
}

// network returns the settings of the network.
func (o *options) network(cfg zoo.Config) zoo.Config {
	cfg.WidthMultiplier, cfg.Steps = o.width, o.steps
	return cfg
}

// digests prints digests of what a training leaves, without what a clock measured.
func (o *options) digests(stdout io.Writer, model *snn.Model, history []train.Metrics) error {
	h := sha256.New()
	for _, p := range model.State() {
		binary.Write(h, binary.LittleEndian, p.Data())
	}
	fmt.Fprintf(stdout, "weights    %x\n", h.Sum(nil)[:16])
	for i := range history {
		history[i].Seconds, history[i].ImagesPerSecond = 0, 0
	}
	text, err := json.Marshal(history)
	if err != nil {
		return err
	}
	h.Reset()
	h.Write(text)
	fmt.Fprintf(stdout, "metrics    %x\n", h.Sum(nil)[:16])
	if o.save == "" {
		return nil
	}
	file, err := paramfile.Open(o.save, paramfile.Options{})
	if err != nil {
		return err
	}
	defer file.Close()
	params := map[string]*autograd.Param{}
	for _, name := range file.Names() {
		shape, _ := file.Shape(name)
		params[name] = autograd.NewParam(shape...)
	}
	if err := file.Import(params); err != nil {
		return err
	}
	h.Reset()
	for _, name := range slices.Sorted(maps.Keys(params)) {
		io.WriteString(h, name)
		for v := range params[name].Values() {
			binary.Write(h, binary.LittleEndian, math.Float32bits(v))
		}
	}
	fmt.Fprintf(stdout, "checkpoint %x\n", h.Sum(nil)[:16])
	return nil
}
