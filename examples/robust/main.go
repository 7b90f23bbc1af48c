// Robust evaluates networks under a battery of attacks and writes a report: a page for people,
// and JSON, CSV and NumPy files for programs.
//
//	go run ./examples/robust -net rat.safetensors -net vanilla.safetensors -data fashion-mini -eps 8/255 -preset standard
//
// # Results
//
// The program prints the worst case of each network and writes to the folder -out
//
//	report.html   one page, which needs no other file and no network connection
//	results.json  all of the page, and the outcome of every image
//	attacks.csv   a line for each network and attack
//	images.csv    a line for each network and image
//	NAME.npz      the first -keep images, clean and adversarial, of each network
//
// In results.json, networks holds an entry for each network. It has the name, the file and its
// SHA-256. It has clean_accuracy and worst_case_accuracy, in [0,1], with their 95 % intervals. It
// has the accuracy by ε, the firing rates by layer, and the battery's [attack.BatteryReport].
// comparisons holds McNemar's test for every pair of networks. With -certify, certified has the
// certified accuracy by ε, and certified_eps the largest certified ε of each image, or -1.
//
// docs/robust.md says how to read the page.
//
// # Networks
//
// A file that this library saved describes its network. -arch, -width, -T, -mean, -std, -decay,
// -theta, -reset, -surrogate and -surrogate-param describe those of state dicts. pretrained:NAME in
// place of a file is a network of package snn/zoo/pretrained:
//
//	go run ./examples/robust -net pretrained:fashion-rat -data fashion-mini -eps 16/255
//
// The images
// of -source, which may be given several times, are made on another network of the same images
// and classes and then shown to those of -net.
//
// # Stopping and resuming
//
// Ctrl-C or SIGTERM stops the program. It then writes the report of the images that are
// finished, marked as partial. The same flags with -resume go on from there, and so they do
// after a kill. All files are then the same bits as those of an uninterrupted run. Until a run
// is complete, the folder holds run.json, with the flags and what is done.
//
// # Several machines
//
// With -shard i/n the program evaluates range number i of n of the images, and writes no report but
// run.json. The same flags with -merge and the folders of all shards make the report of a single
// run, bit by bit. docs/robust.md has a script for Slurm.
//
//	go run ./examples/robust FLAGS -shard 2/8 -out out/shards/2
//	go run ./examples/robust FLAGS -out out/robust -merge out/shards/*
//
// # Exit status
//
// The status is 0 if the report is written, 1 after an error, and 130 after Ctrl-C. With
// -strict, a fault found by the checks of the evaluation is an error too.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/nets"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/snn/zoo"
)

// options are the flags.
type options struct {
	nets, sources list
	data          string
	arch          string
	width         float64
	steps         int
	dict          nets.StateDict

	eps         radius
	norm        string
	preset      string
	images      int
	seed        uint64
	keep        int
	curve       factors
	curveImages int
	certify     factors
	draws       int
	exhaustive  bool

	out     string
	threads int
	strict  bool
	resume  bool
	shard   attack.Shard
	merge   list // folders of all shards

	threat  attack.Threat
	given   map[string]bool
	values  map[string]string // of all flags that the results depend on
	command string            // that repeats the run
}

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{eps: radius{"8/255", 8. / 255}, values: map[string]string{}}
	fs := flag.NewFlagSet("robust", flag.ContinueOnError)
	const file = ": one that this library saved, or a state dict (.pth or .safetensors), which the flags for state dicts describe, or pretrained:NAME; several times for several"
	fs.Var(&o.nets, "net", "`file` of a network"+file)
	fs.Var(&o.sources, "source", "`file` of a network to make transfer attacks on"+file)
	fs.StringVar(&o.data, "data", "", "`set` of images: "+sets.Expected+"; the test images are used")
	fs.StringVar(&o.arch, "arch", "vgg11", "`network` of a state dict: a name ("+zoo.Names()+"), or one written out")
	cli.Var(fs, &o.width, "width", 1, "(0, 64]", "multiplier of the width of the network of a state dict")
	cli.Var(fs, &o.steps, "T", 8, "[1, 1024]", "time steps of the network of a state dict")
	o.dict.Define(fs)
	fs.Var(&o.eps, "eps", "perturbation `radius` ε for pixels in [0,1], such as 8/255 or 0.03")
	fs.StringVar(&o.norm, "norm", "linf", "`norm` of the perturbation: linf or l2")
	fs.StringVar(&o.preset, "preset", "standard", "`name` of the attacks: "+presetNames)
	cli.Var(fs, &o.images, "images", 1000, "[0, ∞)", "test images, 0 for all; the default takes a smaller set whole")
	cli.Var(fs, &o.seed, "seed", 1, "[0, ∞)", "seed of everything random")
	cli.Var(fs, &o.keep, "keep", 60, "[0, ∞)", "first images to store and to show, 0 for all")
	o.curve = factors{"1/4", "1/2", "1", "2", "4"}
	fs.Var(&o.curve, "curve", "`list` of multiples of ε, for accuracy against ε under the preset quick, or none; the default leaves out what is above 1 in L∞")
	cli.Var(fs, &o.curveImages, "curve-images", 200, "[1, ∞)", "first images to evaluate for accuracy against ε")
	fs.Var(&o.certify, "certify", "`list` of multiples of ε, at which to prove for each image that no attack in L∞ can break it, or none")
	cli.Var(fs, &o.draws, "draws", 0, "[0, 10000]", "passes that the logits and gradients of a random network are averaged over, 0 for 10 if it is random")
	fs.BoolVar(&o.exhaustive, "exhaustive", false, "attack broken images too, to tell what each attack alone leaves")
	fs.VisitAll(func(f *flag.Flag) { o.values[f.Name] = "" })
	cli.Out(fs, &o.out, "`folder` to write to")
	cli.Var(fs, &o.threads, "threads", 0, "[0, 1024]", "threads, 0 for all processors")
	fs.BoolVar(&o.strict, "strict", false, "exit with status 1 if a check of the evaluation is a fault")
	fs.BoolVar(&o.resume, "resume", false, "go on with the run in the folder that was stopped")
	fs.TextVar(&o.shard, "shard", attack.Shard{}, "`i/n`: evaluate the i-th of n ranges of the images, and leave the report to -merge")
	fs.Var(&o.merge, "merge", "`folders` of all shards: make the report of their results, with the flags that they were made with")
	if err := cli.Parse(fs, cli.Spread(args, "merge"), stdout); err != nil {
		return nil, err
	}
	o.given = cli.Given(fs)
	for name := range o.values {
		o.values[name] = fs.Lookup(name).Value.String()
	}
	o.command = command(fs)
	return o, o.check()
}

// check returns an error that names a flag whose value is wrong, before any file is read.
func (o *options) check() error {
	norms := map[string]attack.Norm{"linf": attack.LInf{}, "l2": attack.L2{}}
	o.threat = attack.Threat{Norm: norms[o.norm], Eps: float32(o.eps.value)}
	switch {
	case len(o.nets) == 0:
		return errors.New("-net is missing: expected the file of a network, as in -net net.safetensors -data fashion-mini (-help lists the flags)")
	case o.data == "":
		return fmt.Errorf("-data is missing: expected %s", sets.Expected)
	case o.threat.Norm == nil:
		return fmt.Errorf("-norm %q: expected linf or l2", o.norm)
	case !o.shard.IsZero() && len(o.merge) > 0:
		return fmt.Errorf("-shard %v: expected no -merge beside it", o.shard)
	case !o.shard.IsZero() && o.strict:
		return fmt.Errorf("-strict: expected no -shard %v beside it, since a shard makes no checks", o.shard)
	case len(o.certify) > 0 && o.norm != "linf":
		return fmt.Errorf("-certify %v: expected -norm linf beside it, since the proofs are in L∞", &o.certify)
	case o.norm == "linf" && o.eps.value > 1:
		return fmt.Errorf("-eps %v: expected at most 1 in L∞, since pixels are in [0,1]", &o.eps)
	}
	for _, m := range []struct {
		flag string
		list factors
	}{{"curve", o.curve}, {"certify", o.certify}} {
		for _, f := range m.list { // the default of -curve leaves out what is too large
			if v, _ := fraction(f); o.given[m.flag] && o.norm == "linf" && float32(v*o.eps.value) > 1 {
				return fmt.Errorf("-%s %v: %s times -eps %v is above 1: expected at most 1 in L∞", m.flag, &m.list, f, &o.eps)
			}
		}
	}
	if _, err := attack.Preset(o.preset, o.threat); err != nil {
		return fmt.Errorf("-preset %q: expected %s", o.preset, presetNames)
	}
	for flag, files := range map[string]list{"net": o.nets, "source": o.sources} {
		if a, b := sameFile(files); a != "" {
			return fmt.Errorf("-%s %s: is the file of -%s %s: expected different files", flag, b, flag, a)
		}
	}
	if a, b := sameFile(append([]string{o.out}, o.merge...)); a != "" {
		return fmt.Errorf("-merge %s: is the folder %s: expected those of different shards, and another one for -out", b, a)
	}
	return o.dict.Check(o.given)
}

// Concurrency implements [cli.Options].
func (o *options) Concurrency() int { return o.threads }

// Stopped implements [cli.Options].
func (o *options) Stopped() string {
	if !o.shard.IsZero() {
		return "what is done is in " + o.out + "; the same flags and -resume go on from there"
	}
	return "the report in " + o.out + " is partial; the same flags and -resume go on from there"
}

func main() { cli.Main("robust", parse, run) }

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	j, err := prepare(ctx, o, stderr)
	if err != nil {
		return err
	}
	if o.resume && !exists(o.out) {
		return nothingToResume(o)
	}
	merged, err := j.mergeShards()
	if err != nil {
		return err
	}
	folder, err := runs.Open(o.out)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	for _, name := range j.files() {
		if info, err := os.Lstat(filepath.Join(o.out, name)); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("-out %s: %s is no file: expected a folder to write it to", o.out, name)
		}
	}
	if j.journal, err = openJournal(o, j.inputs(), j.budget()); err != nil {
		return err
	}
	for i, p := range merged {
		p.Certified = j.Networks[i].Certified // of a merge that was stopped: shards prove nothing
		j.Networks[i] = p
	}
	for _, n := range j.subjects {
		fmt.Fprintf(stdout, "%s: %s\n", n.Name, n.File)
	}
	fmt.Fprintf(stdout, "%s of %s, %s ε = %v, preset %s\n\n", plural(j.data.N, "image"), o.data, o.threat.Norm, &o.eps, o.preset)
	if !o.shard.IsZero() {
		lo, hi := o.shard.Range(j.data.N)
		fmt.Fprintf(stdout, "Shard %v: images %d to %d\n\n", o.shard, lo, hi-1)
	}
	j.meter = term.NewMeter(stderr, j.work())
	defer j.meter.Clear()
	err = j.evaluate(ctx)
	stopped := err != nil && errors.Is(err, ctx.Err())
	if err != nil && !stopped {
		return err
	}
	j.meter.Clear()
	if !o.shard.IsZero() {
		if err := j.journal.save(); err != nil || stopped {
			return cmp.Or(err, ctx.Err())
		}
		fmt.Fprintf(stdout, "The shard is complete. When all %d are, -merge with their folders makes the report.\n", o.shard.Count)
		return nil
	}
	res, failed := j.results(stopped)
	if failed == nil {
		failed = res.save(o.out)
	}
	if failed != nil {
		return failed
	}
	if stopped {
		if err := j.journal.save(); err != nil {
			return err
		}
		return ctx.Err()
	}
	res.print(stdout)
	fmt.Fprintf(stdout, "\nThe report is %s.\n", filepath.Join(o.out, "report.html"))
	if err := j.journal.complete(); err != nil {
		return err
	}
	return o.verdict(res)
}

// verdict returns an error if -strict is given and a check is a fault.
func (o *options) verdict(r *results) error {
	if faults := r.faults(); o.strict && len(faults) > 0 {
		return fmt.Errorf("-strict: %s", strings.Join(faults, "; "))
	}
	return nil
}
