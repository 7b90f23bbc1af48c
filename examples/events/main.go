// Events trains a spiking network on recordings of an event camera, attacks it, and reports what
// the attacks leave.
//
//	go run ./examples/events                     # simulated recordings of Fashion-MNIST
//	go run ./examples/events -data N-MNIST       # a folder with train and test, each with one
//	                                             # folder of event files a class
//
// The simulated camera looks at the images of Fashion-MNIST, which are embedded, and moves along
// three saccades, as the camera of N-MNIST did. Events become T frames with a channel for OFF and
// one for ON. The network has as many time steps.
//
// Two kinds of attacks follow. The first change the values of frames within [0,1], by at most ε each.
// They add and remove parts of events, which no camera does. The others change spikes: they insert,
// delete or move whole ones, or insert the patterns of the DVS literature. For each recording, the
// program looks for few changes that fool the network. It also proves, for the network that is smoothed
// by windows, which numbers of changes cannot alter the class.
//
// The program prints tables and writes to the folder -out
//
//	network.safetensors         the network, which zoo.Load reads
//	results.json                the flags, counts of events, the training and every outcome
//	accuracy.svg, accuracy.png  the accuracy under PGD against ε
//	spikes.svg, spikes.png      the accuracy against the number of changes of spikes
//	frames.png                  frames of test examples, and below each of them the same under PGD
//	sample.gif                  the frames of the first test example
//
// Ctrl-C or SIGTERM stops it; it leaves the network if its training was complete.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/event"
	"github.com/org/snnrat/train/dataset/fashion"
)

// options are the flags.
type options struct {
	Data      string  `json:"data"`
	Sensor    int     `json:"sensor"`
	Threshold float64 `json:"threshold"`
	Noise     float64 `json:"noise_hz"`
	T         int     `json:"T"`
	Split     string  `json:"split"`
	Clip      int     `json:"clip"`
	Bin       int     `json:"bin"`
	Arch      string  `json:"arch"`
	Epochs    int     `json:"epochs"`
	LR        float64 `json:"lr"`
	Drop      float64 `json:"drop"`
	Shift     int     `json:"shift"`
	Eps       float64 `json:"eps_255"`
	Train     int     `json:"train"`
	Test      int     `json:"test"`
	Spikes    int     `json:"spikes"`
	Flips     int     `json:"flips"`
	Seed      uint64  `json:"seed"`

	// Results do not depend on these.
	threads int
	out     string
}

// simulated is the value of -data that makes recordings of images.
const simulated = "simulated"

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	camera := event.DefaultSimulator()
	fs := flag.NewFlagSet("events", flag.ContinueOnError)
	fs.StringVar(&o.Data, "data", simulated, "`recordings`: "+simulated+", of the embedded images, or a folder with train and test, each with one folder of event files a class")
	cli.Var(fs, &o.Sensor, "sensor", 0, "[0, 65536]", "width and height of the sensor in pixels; 0 for that of the files, or 34 for simulated")
	cli.Var(fs, &o.Threshold, "threshold", camera.Threshold, "[0.001, 100]", "simulated: contrast of an event")
	cli.Var(fs, &o.Noise, "noise", camera.Noise, "[0, 1000]", "simulated: random events of a pixel in a second")
	cli.Var(fs, &o.T, "T", 6, "[2, 1024]", "frames of an example, and time steps")
	fs.StringVar(&o.Split, "split", "time", "`what` frames have equally much of: time or count")
	cli.Var(fs, &o.Clip, "clip", 1, "[1, 255]", "count of events that the value 1 stands for; 1 makes binary frames")
	cli.Var(fs, &o.Bin, "bin", 1, "[1, 65536]", "pixels of the sensor that a pixel of a frame sums, in each direction")
	fs.StringVar(&o.Arch, "arch", "conv8 A conv16 A | fc", "a `network`'s name ("+zoo.Names()+"), or one written out")
	cli.Var(fs, &o.Epochs, "epochs", 4, "[1, 1000000]", "epochs of training")
	cli.Var(fs, &o.LR, "lr", 0.1, "(0, ∞)", "learning rate, falling along a cosine")
	cli.Var(fs, &o.Drop, "drop", 0.1, "[0, 1]", "training: share of the events to drop, anew in each epoch")
	cli.Var(fs, &o.Shift, "shift", 2, "[0, 65536]", "training: most pixels to shift an example by, anew in each epoch")
	cli.Var(fs, &o.Eps, "eps", 16, "(0, 255]", "perturbation radius ε of the table, in 255ths")
	cli.Var(fs, &o.Train, "train", 0, "[0, ∞)", "training recordings, 0 for all")
	cli.Var(fs, &o.Test, "test", 500, "[0, ∞)", "test recordings to attack, 0 for all")
	cli.Var(fs, &o.Spikes, "spikes", 60, "[0, ∞)", "test recordings whose spikes to change, 0 for none")
	cli.Var(fs, &o.Flips, "flips", 64, "[1, 1000000]", "most changes of spikes in a recording")
	cli.Var(fs, &o.Seed, "seed", 1, "[0, ∞)", "seed of everything random")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Out(fs, &o.out, "`folder` to write to")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	if o.Split != "time" && o.Split != "count" {
		return nil, fmt.Errorf("-split %q: expected time or count", o.Split)
	}
	given := cli.Given(fs)
	for _, name := range []string{"threshold", "noise"} {
		if given[name] && o.Data != simulated {
			return nil, fmt.Errorf("-%s %v: expected it with -data %s alone", name, fs.Lookup(name).Value, simulated)
		}
	}
	return o, nil
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string {
	return "if the training was complete, its network is in " + o.out
}

func main() { cli.Main("events", parse, run) }

// results is the content of results.json.
type results struct {
	runs.Maker
	Options    *options         `json:"options"`
	Seconds    float64          `json:"seconds"`
	Recordings map[string]part  `json:"recordings"` // train and test
	Training   []train.Metrics  `json:"training"`
	Labels     []int            `json:"labels"` // of the test recordings
	Outcomes   []trials.Outcome `json:"outcomes"`
	WorstCase  float64          `json:"worst_case_accuracy"` // clean and the attacks of the table
	Spikes     *spikes          `json:"spikes,omitempty"`
}

// part is the recordings of the training or of the test.
type part struct {
	Count  int           `json:"count"`
	Tally  event.Tally   `json:"events"`
	Report *event.Report `json:"files,omitempty"` // what was repaired and dropped
	set    *dataset.Set
}

// job is one run of the program.
type job struct {
	*options
	meter  *term.Meter
	stdout io.Writer
	res    *results
}

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	start := time.Now()
	j := &job{options: o, stdout: stdout, res: &results{Maker: runs.NewMaker(), Options: o, Recordings: map[string]part{}}}
	folder, err := runs.Open(o.out)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	data, err := j.open(ctx, stderr)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("-data %s: %w", o.Data, err)
	}
	model, err := zoo.New(j.config(data["train"].set), rng.New(o.Seed).Derive("network", 0))
	if err != nil {
		return fmt.Errorf("network of -arch %q: %w", o.Arch, err)
	}
	if err := model.ValidateDataset(data["test"].set); err != nil {
		return fmt.Errorf("-data %s: test: %w", o.Data, err)
	}
	if h, w := data["train"].set.H, data["train"].set.W; o.Shift >= min(h, w) {
		return fmt.Errorf("-shift %d: expected at most %d for frames of %d×%d", o.Shift, min(h, w)-1, h, w)
	}
	fmt.Fprintf(stdout, "%v\n", model.Summary())
	for _, name := range []string{"train", "test"} {
		p := data[name]
		fmt.Fprintf(stdout, "%-5s  %d recordings, %d events in frames, %d left out, %d above the clip\n", name, p.Count, p.Tally.Events, p.Tally.Left, p.Tally.Cut)
		if p.Report != nil {
			fmt.Fprintf(stdout, "       %v\n", p.Report)
		}
	}
	list := j.trials()
	work := 3 * float64(o.Epochs*data["train"].Count)
	for _, t := range list {
		work += t.Work(1) * float64(data["test"].Count)
	}
	work += float64(spikeWork * min(j.Spikes, data["test"].Count) * len(j.spikeAttacks()))
	j.meter = term.NewMeter(stderr, work)
	defer j.meter.Clear()
	if err := j.train(ctx, model, data["train"].set); err != nil {
		return fmt.Errorf("training: %w", err)
	}
	// Results of an earlier run are of another network.
	err = runs.RemoveIn(o.out, "results.json", "accuracy.svg", "accuracy.png", "spikes.svg", "spikes.png", "frames.png", "sample.gif")
	if err != nil {
		return err
	}
	if err := model.Save(filepath.Join(o.out, "network.safetensors")); err != nil {
		return err
	}
	if err := j.attack(ctx, model, data["test"].set, list); err != nil {
		return fmt.Errorf("attacks: %w", err)
	}
	if j.Spikes > 0 {
		if err := j.spikes(ctx, model, data["test"].set); err != nil {
			return fmt.Errorf("changes of spikes: %w", err)
		}
	}
	if err := j.pictures(ctx, model, data["test"].set); err != nil {
		return err
	}
	j.meter.Clear()
	j.res.Seconds = time.Since(start).Seconds()
	if err := j.save(); err != nil {
		return err
	}
	j.print()
	fmt.Fprintf(stdout, "\nTook %.0f s. The network, results.json, the pictures and sample.gif are in %s.\n", j.res.Seconds, o.out)
	return nil
}

// config returns the network of the flags for a set.
func (j *job) config(set *dataset.Set) zoo.Config {
	cfg := zoo.Default(j.Arch).For(set)
	cfg.Decay = 0.9
	return cfg
}

// open returns the sets of the training and of the test.
func (j *job) open(ctx context.Context, stderr io.Writer) (map[string]part, error) {
	frames := event.DefaultFrames(j.T)
	frames.Clip, frames.Bin = j.Clip, j.Bin
	if j.Split == "count" {
		frames.Split = event.EqualCount{}
	}
	var classes []string
	for _, name := range []string{"train", "test"} {
		var src event.Source
		var err error
		if j.Data == simulated {
			src, err = j.simulate(name)
		} else {
			src, err = j.files(name, classes)
			frames.Width, frames.Height = j.Sensor, j.Sensor
		}
		if err != nil {
			return nil, err
		}
		classes = src.ClassNames()
		n := src.Len()
		if limit := map[string]int{"train": j.Train, "test": j.Test}[name]; limit > 0 {
			n = min(n, limit)
		}
		some := newSpread(src, n)
		meter := term.NewMeter(stderr, float64(n))
		some.onRead = func() { meter.Add(1, "reading "+name) }
		p := part{Count: n}
		p.set, p.Tally, err = event.NewSet(ctx, name+" of "+j.Data, some, frames)
		meter.Clear()
		if err != nil {
			return nil, err
		}
		meter.Finished("reading " + name)
		some.onRead = nil // a set that is not kept in memory reads again
		if f, ok := src.(*event.Folder); ok {
			report := f.Report()
			p.Report = &report
		}
		j.res.Recordings[name] = p
	}
	return j.res.Recordings, nil
}

// simulate returns simulated recordings.
func (j *job) simulate(name string) (event.Source, error) {
	images, err := fashion.Train()
	if name == "test" {
		images, err = fashion.Test()
	}
	if err != nil {
		return nil, err
	}
	camera := event.DefaultSimulator()
	camera.Threshold, camera.Noise = j.Threshold, j.Noise
	if j.Sensor > 0 {
		camera.Width, camera.Height = j.Sensor, j.Sensor
	}
	return event.NewSimulated(images, camera, rng.New(j.Seed).Derive("camera "+name, 0))
}

// files returns the recordings of a folder.
func (j *job) files(name string, classes []string) (event.Source, error) {
	cfg := event.DefaultConfig()
	cfg.Width, cfg.Height = j.Sensor, j.Sensor
	path := filepath.Join(j.Data, name)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: expected a folder with train and test", err)
	}
	if classes == nil {
		return event.ReadFolder(path, cfg)
	}
	return event.ReadFolderAs(path, classes, cfg)
}

// spread is some of the recordings of a source. A folder sorts them by class, so they are spread
// over it.
type spread struct {
	event.Source
	n      int
	mu     sync.Mutex
	onRead func() // after each recording; nil for nothing
}

func newSpread(src event.Source, n int) *spread { return &spread{Source: src, n: n} }

func (s *spread) at(i int) int { return i * s.Source.Len() / s.n }

func (s *spread) Len() int        { return s.n }
func (s *spread) Label(i int) int { return s.Source.Label(s.at(i)) }

func (s *spread) Recording(i int) (event.Recording, error) {
	rec, err := s.Source.Recording(s.at(i))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onRead != nil {
		s.onRead()
	}
	return rec, err
}

// train trains the network.
func (j *job) train(ctx context.Context, model *snn.Model, set *dataset.Set) error {
	cfg := train.Default(j.Epochs)
	cfg.LR = j.LR
	if j.Drop > 0 {
		cfg.Loader.Augment = append(cfg.Loader.Augment, event.DropEvents{Share: j.Drop})
	}
	if j.Shift > 0 {
		cfg.Loader.Augment = append(cfg.Loader.Augment, dataset.Crop{Padding: j.Shift})
	}
	cfg.Progress = func(p train.Progress) {
		j.meter.Add(3*float64(set.N)/float64(p.Steps), fmt.Sprintf("epoch %d/%d, loss %.3f", p.Epoch, p.Epochs, p.Loss))
	}
	trainer, err := train.New(model, set, cfg, rng.New(j.Seed).Derive("training", 0))
	if err != nil {
		return err
	}
	for m, err := range trainer.Epochs(ctx) {
		if err != nil {
			return err
		}
		j.meter.Finished(fmt.Sprintf("epoch %d: loss %.3f, accuracy %.1f %%", m.Epoch, m.Loss, 100*m.Accuracy))
		j.res.Training = append(j.res.Training, m)
	}
	return nil
}

// curve lists the radii of the picture, in 255ths.
var curve = []float64{4, 8, 16, 32, 64}

// PGD makes this number of steps of α = ε/alphaShare.
const iterations, alphaShare = 7, 3

func pgd(g snn.Gradient, eps float64) trials.Trial {
	return trials.New("PGD", g, eps, eps/255/alphaShare, iterations)
}

// trials returns the rows of the table and the points of the curve, each once.
func (j *job) trials() []trials.Trial {
	list := []trials.Trial{trials.Clean, trials.Noise(j.Eps), trials.New("FGSM", snn.BPTT{}, j.Eps, 0, 0), pgd(snn.BPTR{}, j.Eps), pgd(snn.BPTT{}, j.Eps)}
	for _, eps := range curve {
		if t := pgd(snn.BPTT{}, eps); !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

// attack runs the trials.
func (j *job) attack(ctx context.Context, model *snn.Model, set *dataset.Set, list []trials.Trial) error {
	cfg := attack.DefaultConfig()
	cfg.Key = rng.New(j.Seed).Derive("attacks", 0)
	var attacks []attack.Named
	work := map[string]float64{trials.Clean.String(): trials.Clean.Work(1)}
	for _, t := range list[1:] {
		attacks = append(attacks, attack.Named{Name: t.String(), Attack: t.Adversary()})
		work[t.String()] = t.Work(1)
	}
	done := 0
	cfg.Progress = func(p attack.Progress) {
		j.meter.Add(float64(p.Done-done)*work[p.Attack], p.Attack)
		done = p.Done
	}
	report, err := attack.Evaluate(ctx, model, set, attacks, cfg)
	if err != nil {
		return err
	}
	var inTable []trials.Outcome
	for k, o := range append([]attack.Outcome{report.Clean}, report.Attacks...) {
		outcome := trials.NewOutcome(list[k], o)
		j.res.Outcomes = append(j.res.Outcomes, outcome)
		if outcome.Trial == trials.Clean || outcome.Eps == j.Eps {
			inTable = append(inTable, outcome)
		}
	}
	j.res.Labels = set.Labels
	j.res.WorstCase = trials.WorstCase(set.Labels, inTable)
	j.meter.Finished("attacks")
	return nil
}

// pictures draws frames of the first test examples, of different classes, and the same under PGD.
func (j *job) pictures(ctx context.Context, model *snn.Model, set *dataset.Set) error {
	var indices, labels []int
	for i, y := range set.Labels {
		if !slices.Contains(labels, y) && len(indices) < 4 {
			indices, labels = append(indices, i), append(labels, y)
		}
	}
	shape := set.Shape()
	shape.N = len(indices)
	x := tensor.NewFrames(shape)
	if err := set.Fill(x, indices); err != nil {
		return err
	}
	var ids []uint64
	for _, i := range indices {
		ids = append(ids, uint64(i))
	}
	adv, err := pgd(snn.BPTT{}, j.Eps).Adversary().Perturb(ctx, model, x, labels, ids, rng.New(j.Seed).Derive("pictures", 0))
	if err != nil {
		return err
	}
	shape.N *= 2
	both := tensor.NewFrames(shape)
	for k := range indices {
		copy(both.Image(2*k), x.Image(k))
		copy(both.Image(2*k+1), adv.Image(k))
	}
	scale := max(1, 100/max(set.H, set.W))
	err = atomicfile.Write(filepath.Join(j.out, "frames.png"), func(w io.Writer) error { return event.Strip(w, both, scale) })
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(j.out, "sample.gif"), func(w io.Writer) error { return event.GIF(w, x.Slice(0, 1), 2*scale, 15) })
}

// accuracy returns the accuracy in a trial, in percent.
func (j *job) accuracy(t trials.Trial) float64 {
	i := slices.IndexFunc(j.res.Outcomes, func(o trials.Outcome) bool { return o.Trial == t })
	return 100 * j.res.Outcomes[i].Accuracy
}

// save writes results.json and the curve.
func (j *job) save() error {
	err := atomicfile.Write(filepath.Join(j.out, "results.json"), func(w io.Writer) error { return json.NewEncoder(w).Encode(j.res) })
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	line := plots.Line{Name: "PGD (BPTT)", X: []float64{0}, Y: []float64{j.accuracy(trials.Clean)}}
	for _, eps := range curve {
		line.X = append(line.X, eps)
		line.Y = append(line.Y, j.accuracy(pgd(snn.BPTT{}, eps)))
	}
	f := plots.Figure{
		Title: fmt.Sprintf("Frames of events, T = %d", j.T), X: "ε (255ths)", Y: "accuracy (%)",
		XTicks: append([]float64{0}, curve...), YTicks: []float64{0, 20, 40, 60, 80, 100}, Lines: []plots.Line{line},
	}
	if err := f.Save(j.out, "accuracy"); err != nil || j.res.Spikes == nil {
		return err
	}
	return j.spikeFigure().Save(j.out, "spikes")
}

// print writes the table.
func (j *job) print() {
	t := table.NewWriter()
	t.SetOutputMirror(j.stdout)
	style := table.StyleLight
	style.Format.Header, style.Format.Footer = text.FormatDefault, text.FormatDefault
	t.SetStyle(style)
	t.SetTitle("Accuracy in %% on %d recordings", len(j.res.Labels))
	t.AppendHeader(table.Row{"attack", "gradient", "ε (255ths)", "accuracy"})
	for _, o := range j.res.Outcomes {
		eps := ""
		if o.Eps > 0 {
			eps = fmt.Sprint(o.Eps)
		}
		t.AppendRow(table.Row{o.Attack, o.Gradient, eps, fmt.Sprintf("%.1f", 100*o.Accuracy)})
	}
	t.AppendFooter(table.Row{"worst case", "", j.Eps, fmt.Sprintf("%.1f", 100*j.res.WorstCase)})
	fmt.Fprintln(j.stdout)
	t.Render()
	fmt.Fprintf(j.stdout, "PGD: %d steps of ε/%d. Worst case: right when clean and under every attack at ε = %v/255.\n", iterations, alphaShare, j.Eps)
	if j.res.Spikes != nil {
		j.printSpikes()
	}
}
