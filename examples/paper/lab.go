package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"

	"github.com/org/snnrat/examples/internal/nets"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/train"
)

// lab holds the state of an experiment.
type lab struct {
	*options
	subjects  []subject
	needs     []need
	cabinet   cabinet
	archive   archive
	stdout    io.Writer
	meter     *term.Meter
	fileNotes []string // on the files of -weights and -source
	// described is the network of -weights, if there is one.
	described zoo.Config
	// stateDicts is set if -weights or -source is a state dict.
	stateDicts bool

	// By the network's name:
	networks map[string]*network
	loaded   map[string]*judged
	history  map[string][]train.Metrics
	parts    []part // shards of -merge
	// faults has the number of faults that checks of batteries found.
	faults map[string]int
}

// Below the folder -out.
const networksFolder, evaluationsFolder = "networks", "evaluations"

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	e, err := o.experiment()
	if err != nil {
		return err
	}
	if len(o.archs) == 0 {
		o.archs = e.archs
	}
	origin, err := runs.NewOrigin(o.values, nil)
	if err != nil {
		return err
	}
	l := &lab{
		options: o, stdout: stdout,
		cabinet:  cabinet{filepath.Join(o.out, networksFolder), false},
		archive:  archive{filepath.Join(o.out, evaluationsFolder), o.Seed, origin.Version, o.shard},
		networks: map[string]*network{}, loaded: map[string]*judged{}, history: map[string][]train.Metrics{}, faults: map[string]int{},
	}
	if o.models != "" {
		l.cabinet = cabinet{o.models, true}
	}
	if err := l.openData(ctx, stderr); err != nil {
		return err
	}
	// Wrong flags show before anything is written.
	for i := range o.Seeds {
		for _, n := range e.plan(o) {
			n.replica = i
			l.needs = append(l.needs, n)
		}
	}
	work, err := l.check()
	if err == nil && !l.stateDicts {
		err = nets.Refuse(o.given, "the files describe themselves")
	}
	if err != nil {
		return err
	}
	if e.work != nil {
		work += e.work(l)
	}
	for _, line := range l.fileNotes {
		fmt.Fprintln(stderr, line)
	}
	if l.parts, err = openParts(o, origin); err != nil {
		return err
	}
	folder, err := runs.Open(o.out, networksFolder, evaluationsFolder)
	if err != nil {
		return fmt.Errorf("-out %w", err)
	}
	defer folder.Close()
	if err := claim(o, origin); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\n\n", l.scaleText())
	l.meter = term.NewMeter(stderr, work)
	defer l.meter.Clear()
	if err := l.make(ctx); err != nil {
		return err
	}
	if !o.shard.IsZero() {
		l.meter.Clear()
		fmt.Fprintf(stdout, "Shard %v is complete. When all %d are, -merge with their folders makes the results.\n", o.shard, o.shard.Count)
		return nil
	}
	r, err := e.report(ctx, l)
	if err == nil && e.relations != nil {
		err = l.relate(r, e.relations(o))
	}
	l.meter.Clear()
	if err != nil {
		return err
	}
	return l.publish(r)
}

// relate adds the tests of relations to a report.
func (l *lab) relate(r *report, list []relation) error {
	if len(list) == 0 {
		return nil
	}
	r.relations = map[string][]tested{}
	for _, s := range l.subjects {
		all, err := l.test(s, list)
		if err != nil {
			return err
		}
		r.relations[s.String()] = all
		r.text += fmt.Sprintf("\nRelations of the paper, %v\n%s", s, l.relationsText(all))
	}
	return nil
}

// openData opens the data sets and the network of -weights, and lists the subjects.
func (l *lab) openData(ctx context.Context, stderr io.Writer) error {
	for _, path := range l.data {
		d, err := sets.Open(ctx, path, stderr)
		if err == nil {
			err = l.limit(d)
		}
		if err == nil && l.shard.Count > d.Test.N {
			err = fmt.Errorf("-shard %v: expected at most one shard for each of %d test images", l.shard, d.Test.N)
		}
		if err != nil {
			return fmt.Errorf("-data %s: %w", path, err)
		}
		digest, err := d.Train.Fingerprint()
		if err != nil {
			return fmt.Errorf("-data %s: %w", path, err)
		}
		tested, err := sets.Digest(d.Test)
		if err != nil {
			return fmt.Errorf("-data %s: %w", path, err)
		}
		if len(l.subjects) == 0 {
			if err := l.describe(d); err != nil {
				return err
			}
		}
		for _, arch := range l.archs {
			l.subjects = append(l.subjects, subject{d, digest, arch, tested})
		}
	}
	return nil
}

// limit shortens a data set to the number of images of the flags. If -scale asks for more
// than there are, the set stays whole.
func (l *lab) limit(d *sets.Data) error {
	train, test := l.Train, l.Test
	if !l.given["train"] {
		train = min(train, d.Train.N)
	}
	if !l.given["test"] {
		test = min(test, d.Test.N)
	}
	if len(l.data) == 1 {
		l.Train, l.Test = train, test // as the results' JSON has them
	}
	return d.Limit(train, test)
}

func (l *lab) scaleText() string {
	s := l.subjects[0]
	return l.describeScale(s.Train.N, s.Test.N)
}

// note is the line below a figure: the subject and the scale.
func (l *lab) note(s subject) string {
	return fmt.Sprintf("%v; scale %s: width %v, T = %d, %d training images, %d epochs, %d test images",
		s, l.Scale, l.Width, l.T, s.Train.N, l.Epochs, s.Test.N)
}

// network returns the network of a need.
func (l *lab) network(s subject, n need) *network {
	o := *l.options
	if n.beta != 0 {
		o.Beta = n.beta
	}
	if n.eps != 0 {
		o.Eps = n.eps
	}
	o.Seed, o.BatchNorm = l.Seeds[n.replica], o.BatchNorm && !n.noBN
	return o.newNetwork(s, n.method)
}

// sourceOf returns the need of the network that black-box attacks of a need are made on.
func sourceOf(n need) need {
	return need{method: source, unjudged: true, replica: n.replica, noBN: n.noBN}
}

// startOf returns the need of the network that the training of a need begins with, if there is one.
func startOf(n need) (start need, ok bool) {
	t := trainingOf(n.method)
	if t.start == "" {
		return need{}, false
	}
	return need{method: trainingNamed(t.start).method, eps: n.eps, unjudged: true, replica: n.replica, noBN: n.noBN}, true
}

// all yields the needs of all subjects. A source comes before the networks that are judged
// by it, and a network before those whose training begins with it.
func (l *lab) all() iter.Seq2[subject, need] {
	return func(yield func(subject, need) bool) {
		for _, s := range l.subjects {
			for _, n := range l.needs {
				if !l.shard.IsZero() {
					n.distances = nil // measured when shards are merged
				}
				if start, ok := startOf(n); ok && !yield(s, start) {
					return
				}
				if n.source && !yield(s, sourceOf(n)) || !yield(s, n) {
					return
				}
			}
		}
	}
}

// check builds all networks and returns the work that is left, or an error that names a
// flag.
func (l *lab) check() (work float64, err error) {
	for s, n := range l.all() {
		net := l.network(s, n)
		for _, t := range n.toJudge() {
			if err := t.Validate(); err != nil {
				return 0, fmt.Errorf("-test-eps %v, -test-alpha %v: %w", l.TestEps, l.TestAlpha, err)
			}
			work += l.work(s, n, t)
		}
		for _, t := range n.distances {
			work += l.distanceWork(s, n, t)
		}
		if net.file != "" {
			if err := l.open(net); err != nil {
				return 0, fmt.Errorf("-%s: %w", net.Method.Name, err)
			}
			continue
		}
		if l.networks[net.name] != nil {
			continue
		}
		l.networks[net.name] = net
		switch held, err := l.cabinet.holds(net); {
		case err != nil && l.cabinet.readOnly:
			return 0, fmt.Errorf("-models %s: expected a folder of networks: %w", l.models, err)
		case err != nil:
			return 0, fmt.Errorf("-out %s: expected a folder to write to: %w", l.out, err)
		case held:
			// loaded later
		case l.cabinet.readOnly:
			return 0, fmt.Errorf("-models %s: %s.safetensors is not there: expected the network of %s", l.models, net.name, net.text())
		case !l.shard.IsZero() || len(l.merge) > 0:
			return 0, fmt.Errorf("-out %s: %s.safetensors is not there: -shard and -merge expect trained networks: give -models, or train the network of %s there", l.out, net.name, net.text())
		default:
			if err := net.validate(); err != nil {
				return 0, err
			}
			work += float64(net.Epochs) * net.work()
		}
	}
	return work, nil
}

// work is the work of a trial of a need, in forward passes of an image.
func (l *lab) work(s subject, n need, t trials.Trial) float64 {
	net := l.network(s, n)
	lo, hi := l.shard.Range(s.Test.N)
	work := float64(hi-lo) * t.Work(1) * net.slow
	if random := net.Network.Poisson || net.Network.Levels > 0 || net.Network.Noise > 0 && !n.quiet; t.Preset != "" && random {
		work *= batteryDraws
	}
	return work
}

// batteryDraws is the number of draws that a battery averages over for random networks.
const batteryDraws = 10

// make trains the networks and makes the evaluations that are missing.
func (l *lab) make(ctx context.Context) error {
	for s, n := range l.all() {
		var start *judged
		if of, ok := startOf(n); ok {
			start = l.loaded[l.network(s, of).name]
		}
		if err := l.obtain(ctx, l.network(s, n), start); err != nil {
			return err
		}
	}
	for s, n := range l.all() {
		if err := l.judge(ctx, s, n); err != nil {
			return err
		}
	}
	return nil
}

// obtain loads a network. It trains the network, from start if that is not nil, if there is none.
func (l *lab) obtain(ctx context.Context, n *network, start *judged) error {
	if l.loaded[n.name] != nil {
		return nil
	}
	held, err := l.cabinet.holds(n)
	if err != nil {
		return err
	}
	if !held {
		err = l.cabinet.train(ctx, n, start, l.meter.Skip, l.meter.Add, l.meter.Finished)
	} else if !l.cabinet.readOnly { // a killed run may have left its checkpoint
		err = runs.Remove(l.cabinet.checkpoint(n))
	}
	if err != nil {
		return err
	}
	model, history, err := l.cabinet.load(n)
	if err != nil {
		return err
	}
	l.loaded[n.name], l.history[n.name] = newJudged(n.name, model), history
	return nil
}

// judged returns the network of a need as it is judged. The network must be loaded.
func (l *lab) judged(s subject, n need) (*judged, error) {
	net := l.network(s, n)
	if !n.quiet {
		return l.loaded[net.name], nil
	}
	name := net.name + "-quiet"
	if l.loaded[name] == nil {
		m, _, err := l.cabinet.load(net)
		if err != nil {
			return nil, err
		}
		for _, r := range m.Summary().Rows {
			if noisy, ok := r.Layer.(*snn.NoisyLIF); ok {
				noisy.Std = 0
			}
		}
		l.loaded[name] = &judged{name, m, digest(m) + " without noise"}
	}
	return l.loaded[name], nil
}

// archiveOf returns the archive of a need, which has its seed.
func (l *lab) archiveOf(n need) archive {
	a := l.archive
	a.seed = l.Seeds[n.replica]
	return a
}

// distanceWork is the work of measuring distances, in forward passes of an image.
func (l *lab) distanceWork(s subject, n need, t trials.Trial) float64 {
	return float64(distanceImages(s)) * t.Work(2) * l.network(s, n).slow
}

// duel returns the duel of a need. The networks must be loaded.
func (l *lab) duel(s subject, n need) (d duel, err error) {
	d.test, d.tested = s.Test, s.tested
	if d.network, err = l.judged(s, n); err == nil && n.source {
		d.source, err = l.judged(s, sourceOf(n))
	}
	return d, err
}

// judge makes the missing trials of a need.
func (l *lab) judge(ctx context.Context, s subject, n need) error {
	if n.unjudged {
		return nil
	}
	d, err := l.duel(s, n)
	if err != nil {
		return err
	}
	title := d.network.name + ", white-box"
	if d.source != nil {
		title = d.network.name + ", black-box"
	}
	a := l.archiveOf(n)
	if err := a.gather(d, n.toJudge(), l.parts); err != nil {
		return err
	}
	made := false
	for _, t := range n.toJudge() {
		r, _, err := a.open(d)
		if err != nil {
			return err
		}
		l.meter.Skip(r.done(t) * l.work(s, n, t))
		if r.find(t) != nil || !l.shard.IsZero() && r.done(t) == 1 {
			continue
		}
		if err := a.judge(ctx, d, t, func(share float64) {
			l.meter.Add(share*l.work(s, n, t), fmt.Sprintf("%s: %v", title, t))
		}); err != nil {
			return err
		}
		made = true
	}
	for _, t := range n.distances {
		measured, err := a.measure(ctx, d, t, distanceImages(s))
		if err != nil {
			return err
		}
		if !measured {
			l.meter.Skip(l.distanceWork(s, n, t))
			continue
		}
		l.meter.Add(l.distanceWork(s, n, t), fmt.Sprintf("%s: spike distances, %v", title, t))
		made = true
	}
	if made {
		l.meter.Finished(title)
	}
	d.network.model.FreeMemory() // there may be many networks
	return nil
}

// record returns the record of a need. Its trials must have been made.
func (l *lab) record(s subject, n need) (*record, error) {
	d, err := l.duel(s, n)
	if err != nil {
		return nil, err
	}
	r, _, err := l.archiveOf(n).open(d)
	if err == nil && r.find(trials.Clean) == nil {
		err = errors.New("the evaluation is gone: expected that the file stays")
	}
	return r, err
}

// publish prints the report and writes it to files.
func (l *lab) publish(r *report) error {
	text := l.scaleText() + "\n\n" + r.text
	write := func(name string, fn func(io.Writer) error) error {
		if err := atomicfile.Write(filepath.Join(l.out, name), fn); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
		return nil
	}
	err := write(l.resultName()+".txt", func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
	if err != nil {
		return err
	}
	err = write(l.resultName()+".json", func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		made := runs.NewMaker()
		content := map[string]any{
			"library": made.Library, "kernels": made.Kernels,
			"options": l.settings(), "scale": l.scaleText(), "data": l.data, "architectures": l.archs,
			"training": l.history, "results": r.results,
		}
		if r.relations != nil {
			content["relations"] = r.relations
		}
		return e.Encode(content)
	})
	if err != nil {
		return err
	}
	for name, f := range r.figures {
		if err := f.Save(l.out, name); err != nil {
			return err
		}
	}
	_, err = io.WriteString(l.stdout, r.text)
	return err
}
