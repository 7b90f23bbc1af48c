// Nir shows what is in a NIR file, runs its network, attacks and certifies it, or writes the NIR file
// of a network that this library has saved:
//
//	go run -tags hdf5 ./examples/nir -file network.nir -dt 1e-4 -T 8
//	go run -tags hdf5 ./examples/nir -file network.nir -dt 1e-4 -T 8 -data fashion-mini -eps 8
//	go run -tags hdf5 ./examples/nir -file network.nir -dt 1e-4 -T 8 -data fashion-mini -certify 0.5,1,2
//	go run -tags hdf5 ./examples/nir -from rat.safetensors -dt 1e-3 -file rat.nir
//
// It prints the nodes of the graph, the layers of the network, and notes about what the network
// does that the graph does not say. With -data it prints the accuracy on clean images and under
// PGD. The tag needs libhdf5 (apt-get install libhdf5-dev).
//
// With -certify it prints three shares of the images for each ε. The first are certified: a proof shows
// that no image within ε has another class. The second are classified as labelled under a battery of
// attacks, and the third without an attack. The proofs are about the network that the notes describe,
// rounding included. -json writes the verdict for each image. A layer without a bound, such as a LI, a
// CubaLIF or a sum of several edges, is an error that names it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/nets"
	"github.com/org/snnrat/examples/internal/proofs"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/nir"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

type options struct {
	file, from, data      string
	dt, eps               float64
	steps, images, pgd    int
	exponential, at, soft bool
	start                 string
	threads               int
	seed                  uint64
	radii                 []float64 // of -certify
	battery, json         string
}

func (o *options) Concurrency() int { return o.threads }
func (o *options) Stopped() string  { return "nothing was written" }

var starts = map[string]nir.Start{"zero": nir.AtZero, "leak": nir.AtLeak, "reset": nir.AtReset}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	var certify string
	fs := flag.NewFlagSet("nir", flag.ContinueOnError)
	fs.StringVar(&o.file, "file", "", "NIR `file` to read, or to write with -from")
	fs.StringVar(&o.from, "from", "", "`file` of a network that the examples or zoo saved, to write as NIR")
	cli.Var(fs, &o.dt, "dt", 1e-4, "(0, ∞)", "time step in the unit of the graph's time constants")
	cli.Var(fs, &o.steps, "T", 8, "[1, 65536]", "time steps")
	fs.BoolVar(&o.exponential, "exponential", false, "leak by e^(−dt/τ), not by 1 − dt/τ")
	fs.BoolVar(&o.at, "at-threshold", false, "neurons fire at their threshold, not only above it")
	fs.BoolVar(&o.soft, "subtract", false, "a spike lowers the potential, instead of setting it to v_reset")
	fs.StringVar(&o.start, "start", "zero", "`potential` before the first step: zero, leak or reset")
	fs.StringVar(&o.data, "data", "", "data set to run the network on: "+sets.Expected)
	cli.Var(fs, &o.images, "images", 200, "[1, 1000000000]", "test images")
	cli.Var(fs, &o.eps, "eps", 8, "[0, 255]", "ε of PGD in units of 1/255")
	cli.Var(fs, &o.pgd, "pgd-steps", 10, "[1, 10000]", "steps of PGD")
	fs.StringVar(&certify, "certify", "", "radii ε to certify, in 255ths: `numbers` in (0, 255] with commas between them")
	fs.StringVar(&o.battery, "battery", "quick", "`preset` of the battery of attacks of -certify: quick, standard or thorough")
	fs.StringVar(&o.json, "json", "", "`file` to write the results of -certify to")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	cli.Var(fs, &o.seed, "seed", 1, "[0, ∞)", "seed of everything random")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return nil, err
	}
	if o.file == "" {
		return nil, errors.New("-file is empty: expected a NIR file")
	}
	if _, ok := starts[o.start]; !ok {
		return nil, fmt.Errorf("-start %s: expected zero, leak or reset", o.start)
	}
	if _, err := attack.Preset(o.battery, attack.Threat{}); err != nil {
		return nil, fmt.Errorf("-battery: %w", err)
	}
	given := cli.Given(fs)
	if given["certify"] {
		var err error
		if o.radii, err = proofs.ParseRadii("-certify", certify, "0.5,1,2"); err != nil {
			return nil, err
		}
	}
	switch {
	case o.from != "":
		return o, refuse(given, "with -from, which runs nothing", "T", "exponential", "at-threshold", "subtract", "start", "data", "images", "eps", "pgd-steps", "seed", "threads", "certify", "battery", "json")
	case o.data == "":
		return o, refuse(given, "without -data", "images", "eps", "pgd-steps", "seed", "threads", "certify", "battery", "json")
	case o.radii != nil:
		return o, refuse(given, "with -certify, whose attacks are those of -battery", "eps", "pgd-steps")
	}
	return o, refuse(given, "without -certify", "battery", "json")
}

// refuse returns an error for the first of the flags that is given.
func refuse(given map[string]bool, why string, names ...string) error {
	for _, n := range names {
		if given[n] {
			return fmt.Errorf("-%s does nothing %s", n, why)
		}
	}
	return nil
}

func main() { cli.Main("nir", parse, run) }

// run does the work. Errors begin with the name of the program, which is the package's.
func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	if err := work(ctx, o, stdout, stderr); err != nil {
		return plain{err}
	}
	return nil
}

type plain struct{ error }

func (p plain) Error() string { return strings.TrimPrefix(p.error.Error(), "nir: ") }
func (p plain) Unwrap() error { return p.error }

func work(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	if o.from != "" {
		return export(o, stdout)
	}
	if o.json != "" { // before work that can take long
		if err := atomicfile.Try(o.json); err != nil {
			return fmt.Errorf("-json: %w", err)
		}
	}
	g, err := nir.Read(o.file)
	if err != nil {
		return fmt.Errorf("-file: %w", plain{err})
	}
	printGraph(stdout, g)
	m, notes, err := g.Model(nir.Config{Dt: o.dt, Steps: o.steps, Exponential: o.exponential, AtThreshold: o.at, SoftReset: o.soft, Start: starts[o.start]})
	if err != nil {
		return fmt.Errorf("%s: %w", o.file, err)
	}
	fmt.Fprintf(stdout, "\n%v\n", m.Summary())
	printNotes(stdout, notes)
	if o.data == "" {
		return nil
	}
	m.Threads = o.threads
	data, err := sets.Open(ctx, o.data, stderr)
	if err != nil {
		return fmt.Errorf("-data %s: %w", o.data, err)
	}
	test, err := sets.First("-images", data.Test, o.images)
	if err != nil {
		return err
	}
	if err := nets.Fits(o.file, m, test); err != nil {
		return err
	}
	if o.radii != nil {
		return prove(ctx, o, m, notes, test, stdout, stderr)
	}
	return judge(ctx, o, m, data.Name, test, stdout, stderr)
}

func export(o *options, stdout io.Writer) error {
	m, _, err := zoo.Load(o.from)
	if err != nil {
		return fmt.Errorf("-from: %w", err)
	}
	from, err := os.Stat(o.from)
	if err != nil {
		return err
	}
	if to, err := os.Stat(o.file); err == nil && os.SameFile(from, to) {
		return fmt.Errorf("-file %s: is the file of -from: expected another one to write to", o.file)
	}
	g, notes, err := nir.GraphOf(m, o.dt)
	if err != nil {
		return fmt.Errorf("-from %s: %w", o.from, err)
	}
	if err := g.Write(o.file); err != nil {
		return fmt.Errorf("-file: %w", plain{err})
	}
	printGraph(stdout, g)
	printNotes(stdout, notes)
	return nil
}

func printNotes(w io.Writer, notes []nir.Note) {
	if len(notes) > 0 {
		fmt.Fprintln(w, "\nNotes")
	}
	for _, n := range notes {
		fmt.Fprintln(w, "  "+n.String())
	}
}

func printGraph(w io.Writer, g *nir.Graph) {
	fmt.Fprintf(w, "NIR %s, %d nodes, %d edges\n\n", g.Version, len(g.Nodes), len(g.Edges))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "node\ttype\tfields\tto")
	for _, name := range slices.Sorted(maps.Keys(g.Nodes)) {
		n := g.Nodes[name]
		var fields, to []string
		for _, f := range slices.Sorted(maps.Keys(n.Fields)) {
			fields = append(fields, describe(f, n.Fields[f]))
		}
		if n.Graph != nil {
			fields = append(fields, fmt.Sprintf("%d nodes", len(n.Graph.Nodes)))
		}
		for _, e := range g.Edges {
			if e[0] == name {
				to = append(to, e[1])
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, n.Type, strings.Join(fields, ", "), strings.Join(to, ", "))
	}
	t.Flush()
}

// describe shows a field by its values if they are few or equal, and by their range otherwise.
func describe(name string, a nir.Array) string {
	switch {
	case len(a.Texts) > 0:
		return name + " " + strings.Join(a.Texts, " ")
	case len(a.Ints) > 0:
		return fmt.Sprint(name, " ", a.Ints)
	case len(a.Floats) == 0:
		return fmt.Sprint(name, " ", a.Shape)
	}
	lo, hi := slices.Min(a.Floats), slices.Max(a.Floats)
	if lo == hi {
		return fmt.Sprintf("%s %v %.4g", name, a.Shape, lo)
	}
	return fmt.Sprintf("%s %v %.3g…%.3g", name, a.Shape, lo, hi)
}

// judge prints the accuracy on clean images and under PGD.
func judge(ctx context.Context, o *options, m *snn.Model, name string, test *dataset.Set, stdout, stderr io.Writer) error {
	eps := float32(o.eps / 255)
	cfg := attack.DefaultConfig()
	cfg.Key = rng.New(o.seed)
	meter, done := term.NewMeter(stderr, 1), 0
	cfg.Progress = func(p attack.Progress) {
		meter.Add(float64(p.Done-done)/float64(p.Total), p.Attack)
		done = p.Done
	}
	attacks := []attack.Named{{Name: "PGD", Attack: attack.PGD(eps, max(eps/4, eps/float32(o.pgd)), o.pgd, snn.BPTT{})}}
	report, err := attack.Evaluate(ctx, m, test, attacks, cfg)
	meter.Clear()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\n%d images of %s, ε = %v/255\n%v\n", report.Images, name, o.eps, report)
	return nil
}

// results is the content of the file of -json.
type results struct {
	runs.Maker
	File        string       `json:"file"`
	Dt          float64      `json:"dt"`
	T           int          `json:"T"`
	Exponential bool         `json:"exponential"`
	AtThreshold bool         `json:"at_threshold"`
	Subtract    bool         `json:"subtract"`
	Start       string       `json:"start"`
	Notes       []string     `json:"notes,omitempty"` // of the conversion
	Data        string       `json:"data"`
	Battery     string       `json:"battery"`
	Seed        uint64       `json:"seed"`
	Labels      []int        `json:"labels"` // of the test images
	Radii       proofs.Radii `json:"radii"`
}

// prove prints the certified accuracy at each radius, beside those under attacks and without.
func prove(ctx context.Context, o *options, m *snn.Model, notes []nir.Note, test *dataset.Set, stdout, stderr io.Writer) error {
	if _, ok := m.Body().(*snn.Sequential); !ok {
		return fmt.Errorf("-certify: %s: a node with several edges to it, or an edge past a node, has no bound: expected nodes in a row", o.file)
	}
	p := &proofs.Prover{Model: m, Test: test, Battery: o.battery, Key: rng.New(o.seed).Derive("battery", 0), Threads: o.threads}
	meter := term.NewMeter(stderr, float64(len(o.radii))*p.Work())
	defer meter.Clear()
	p.Progress, p.Finished = meter.Add, meter.Finished
	r := &results{runs.NewMaker(), o.file, o.dt, o.steps, o.exponential, o.at, o.soft, o.start, nil, o.data, o.battery, o.seed, test.Labels, nil}
	for _, n := range notes {
		r.Notes = append(r.Notes, n.String())
	}
	for _, eps := range o.radii {
		radius, err := p.Prove(ctx, eps)
		if err != nil {
			return fmt.Errorf("-certify: %s: %w", o.file, err)
		}
		r.Radii = append(r.Radii, radius)
	}
	meter.Clear()
	if o.json != "" {
		if err := atomicfile.Write(o.json, func(w io.Writer) error { return json.NewEncoder(w).Encode(r) }); err != nil {
			return fmt.Errorf("-json: %w", err)
		}
	}
	fmt.Fprintln(stdout)
	if err := r.Radii.Print(stdout, o.battery); err != nil {
		return err
	}
	return r.Radii.Check()
}
