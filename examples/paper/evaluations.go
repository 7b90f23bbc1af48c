package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/figures"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// record is the file of an evaluation: the outcomes of one network.
type record struct {
	Network  string           `json:"network"`
	Source   string           `json:"source,omitempty"` // of black-box attacks
	Identity string           `json:"identity"`         // digest of all that outcomes depend on
	Labels   []int            `json:"labels"`           // of the test images, or of those of the shard
	Outcomes []trials.Outcome `json:"outcomes"`
	// Batteries holds the reports of batteries. That of a battery in progress is partial.
	Batteries []*trials.BatteryOutcome `json:"batteries,omitempty"`
	// Distances holds the distances of spikes under perturbations of the first test images.
	Distances []distances `json:"distances,omitempty"`
}

// distances are those of spikes in every layer, under a perturbation of the first images.
type distances struct {
	trials.Trial
	Images int `json:"images"`
	*figures.Distances
}

// judged is a network that can be attacked.
type judged struct {
	name   string
	model  *snn.Model
	digest string
}

func newJudged(name string, m *snn.Model) *judged { return &judged{name, m, digest(m)} }

// digest identifies a network by its parameters and its architecture.
func digest(m *snn.Model) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %d×%d×%d %T\n%v\n", m.Steps, m.Channels, m.Height, m.Width, m.Encoder, m.Summary())
	fmt.Fprintln(h, m.Meta["snnrat"])
	var raw []byte
	for _, p := range m.State() {
		raw = append(raw[:0], p.Name...)
		for _, v := range p.Export() {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		h.Write(raw)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// duel is a network and the network that its test images are attacked on: source, or the
// network itself if source is nil.
type duel struct {
	network, source *judged
	test            *dataset.Set
	tested          string // digest of test
}

// archive is the folder of records.
type archive struct {
	folder  string
	seed    uint64
	version string // of the library
	shard   attack.Shard
}

func (a archive) key() rng.Key { return rng.New(a.seed).Derive("attacks", 0) }

// open returns the record of a duel and its path; an empty record if there is none.
func (a archive) open(d duel) (*record, string, error) {
	lo, hi := a.shard.Range(d.test.N)
	r := &record{Network: d.network.name, Labels: d.test.Labels[lo:hi]}
	from := ""
	if d.source != nil {
		r.Source, from = d.source.name, d.source.digest
	}
	r.Identity = fmt.Sprintf("network %s, source %q, %d images %s, seed %d, library %s", d.network.digest, from, d.test.N, d.tested, a.seed, a.version)
	if !a.shard.IsZero() {
		r.Identity += fmt.Sprintf(", shard %v, kernels %s", a.shard, attack.Kernels())
	}
	sum := sha256.Sum256([]byte(r.Identity))
	path := filepath.Join(a.folder, fmt.Sprintf("%s-%s.json", d.network.name, hex.EncodeToString(sum[:4])))
	kept := &record{}
	switch err := runs.ReadRecord(path, kept, runs.Budget(d.test.N)); {
	case errors.Is(err, fs.ErrNotExist):
		return r, path, nil
	case err != nil:
		return nil, "", fmt.Errorf("%w (remove the file to evaluate anew)", err)
	}
	if err := kept.validate(r, d.test.Labels, d.test.Classes); err != nil {
		return nil, "", fmt.Errorf("%s: %w (remove the file to evaluate anew)", path, err)
	}
	return kept, path, nil
}

// validate returns an error if r is not a record of what want is of, in so many classes. labels
// are those of all test images.
func (r *record) validate(want *record, labels []int, classes int) error {
	if r.Identity != want.Identity || r.Network != want.Network || r.Source != want.Source {
		return fmt.Errorf("outcomes of %s (%s, source %q): expected those of %s (%s, source %q)",
			r.Network, r.Identity, r.Source, want.Network, want.Identity, want.Source)
	}
	if !slices.Equal(r.Labels, want.Labels) {
		return errors.New("labels of other images: expected those of the test images")
	}
	for _, b := range r.Batteries {
		if b == nil {
			return errors.New("a battery is null: expected its report")
		}
		if err := b.Validate(labels, classes); err != nil {
			return err
		}
		if r.battery(b.Trial) != b {
			return fmt.Errorf("%v: expected one report of a battery", b.Trial)
		}
	}
	for i, o := range r.Outcomes {
		if err := o.Validate(want.Labels, classes); err != nil {
			return err
		}
		if r.find(o.Trial) != &r.Outcomes[i] {
			return fmt.Errorf("%v: expected one outcome of a trial", o.Trial)
		}
	}
	for _, d := range r.Distances {
		if err := d.validate(len(want.Labels)); err != nil {
			return fmt.Errorf("distances, %v: %w", d.Trial, err)
		}
	}
	return nil
}

// validate returns an error if d is not of the first of so many images.
func (d distances) validate(images int) error {
	switch {
	case d.Images < 1 || d.Images > images:
		return fmt.Errorf("those of %d images: expected a number in [1, %d]", d.Images, images)
	case d.Distances == nil || len(d.Layers) == 0:
		return errors.New("no layers: expected at least one")
	}
	for _, list := range [][]float64{d.D2, d.PerNeuron, d.PerSpike, d.Rate} {
		if len(list) != len(d.Layers) || slices.ContainsFunc(list, func(v float64) bool { return !(v >= 0) }) {
			return fmt.Errorf("%v: expected one number of at least 0 for each of %d layers", list, len(d.Layers))
		}
	}
	return nil
}

// distancesUnder returns the distances of the first images under a perturbation, or nil.
func (r *record) distancesUnder(t trials.Trial, images int) *figures.Distances {
	for _, d := range r.Distances {
		if d.Trial == t && d.Images == images {
			return d.Distances
		}
	}
	return nil
}

// battery returns what there is of a battery, or nil.
func (r *record) battery(t trials.Trial) *trials.BatteryOutcome {
	for _, b := range r.Batteries {
		if b.Trial == t {
			return b
		}
	}
	return nil
}

// done returns the share of the images for which a trial has been made, in [0,1].
func (r *record) done(t trials.Trial) float64 {
	if b := r.battery(t); b != nil {
		return float64(len(b.Report.Results)) / float64(len(r.Labels))
	}
	if r.find(t) != nil {
		return 1
	}
	return 0
}

// find returns the outcome of a trial, or nil.
func (r *record) find(t trials.Trial) *trials.Outcome {
	if b := r.battery(t); b != nil && !b.Report.Partial {
		o := b.Outcome()
		return &o
	}
	for i := range r.Outcomes {
		if r.Outcomes[i].Trial == t {
			return &r.Outcomes[i]
		}
	}
	return nil
}

// outcome returns the outcome of a trial that has been made.
func (r *record) outcome(t trials.Trial) (*trials.Outcome, error) {
	o := r.find(t)
	if o == nil {
		return nil, fmt.Errorf("%s: no outcome of %v: expected that the file stays", r.Network, t)
	}
	return o, nil
}

// right says for each test image whether it is classified as labelled in all of these trials, which
// have been made.
func (r *record) right(list ...trials.Trial) ([]bool, error) {
	right := slices.Repeat([]bool{true}, len(r.Labels))
	for _, t := range list {
		o, err := r.outcome(t)
		if err != nil {
			return nil, err
		}
		for i, y := range r.Labels {
			right[i] = right[i] && o.Predicted[i] == y
		}
	}
	return right, nil
}

// judge makes a trial of a duel, and saves its outcome and that of clean images. It calls
// progress with the share of the images that were judged since the last call.
func (a archive) judge(ctx context.Context, d duel, t trials.Trial, progress func(share float64)) error {
	r, path, err := a.open(d)
	if err != nil {
		return err
	}
	if t.Preset != "" {
		return a.besiege(ctx, d, t, r, path, progress)
	}
	cfg := attack.DefaultConfig()
	cfg.Key, cfg.Shard = a.key(), a.shard
	if d.source != nil {
		cfg.Source = d.source.model
	}
	var attacks []attack.Named
	if t != trials.Clean {
		attacks = append(attacks, attack.Named{Name: t.String(), Attack: t.Adversary()})
	}
	done := 0
	cfg.Progress = func(p attack.Progress) {
		if p.Attack == "clean" == (t == trials.Clean) {
			progress(float64(p.Done-done) / float64(len(r.Labels)))
		}
		done = p.Done
	}
	report, err := attack.Evaluate(ctx, d.network.model, d.test, attacks, cfg)
	if err != nil {
		return fmt.Errorf("%s: %v: %w", d.network.name, t, err)
	}
	keep := func(t trials.Trial, o attack.Outcome) {
		if r.find(t) == nil {
			r.Outcomes = append(r.Outcomes, trials.NewOutcome(t, o))
		}
	}
	keep(trials.Clean, report.Clean)
	for _, o := range report.Attacks {
		keep(t, o)
	}
	return runs.WriteRecord(path, r)
}

// besiege runs a battery around the images that the record has not, and saves its report.
func (a archive) besiege(ctx context.Context, d duel, t trials.Trial, r *record, path string, progress func(share float64)) error {
	b := r.battery(t)
	if b == nil {
		b = &trials.BatteryOutcome{Trial: t, Report: &attack.BatteryReport{Partial: true}}
		r.Batteries = append(r.Batteries, b)
	}
	save := func() error { return runs.WriteRecord(path, r) }
	step := func() { progress(1 / float64(len(r.Labels))) }
	if err := b.Run(ctx, d.network.model, d.test, a.shard, rng.New(a.seed).Derive("battery", 0), step, save); err != nil {
		return fmt.Errorf("%s: %w", d.network.name, err)
	}
	return save()
}

// noiseKey is the key of the noise under which distances are measured. It is the same for all
// networks and seeds, and so is the noise.
var noiseKey = rng.New(0).Derive("shared noise", 0)

// measure measures the distances of spikes under a perturbation of the first images, and saves
// them. It reports whether it had to.
func (a archive) measure(ctx context.Context, d duel, t trials.Trial, images int) (measured bool, err error) {
	r, path, err := a.open(d)
	if err != nil || r.distancesUnder(t, images) != nil {
		return false, err
	}
	test, err := d.test.First(images)
	if err != nil {
		return false, err
	}
	key := a.key()
	if !t.InWorstCase() {
		key = noiseKey
	}
	found, err := figures.Measure(ctx, d.network.model, test, attack.Named{Name: t.String(), Attack: t.Adversary()}, key)
	if err != nil {
		return false, fmt.Errorf("%s: distances, %v: %w", d.network.name, t, err)
	}
	r.Distances = append(r.Distances, distances{t, images, found})
	return true, runs.WriteRecord(path, r)
}
