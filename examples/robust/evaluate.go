package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/nets"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// identity tells networks apart.
type identity struct {
	Name   string `json:"name"` // from the end of File; no two networks have the same
	File   string `json:"file"`
	SHA256 string `json:"sha256"` // of the file
}

// subject is a network to evaluate.
type subject struct {
	identity
	model  *snn.Model
	report *attack.BatteryReport // nil before the first image is finished
	firing []firing              // nil if the run was stopped before
}

// job is one run of the program.
type job struct {
	*options
	data     *dataset.Set
	digest   string // of data
	subjects []*subject
	from     []*subject // of transfer attacks
	battery  attack.Battery
	*journal
	meter *term.Meter
}

// prepare reads the data and the networks, and returns an error that names the flag and the
// file if they do not fit together.
func prepare(ctx context.Context, o *options, stderr io.Writer) (*job, error) {
	j := &job{options: o}
	on, err := sets.Open(ctx, o.data, stderr)
	if err == nil {
		err = on.Limit(0, 0) // which gives a set its normalization
	}
	if err == nil {
		n := o.images
		if !o.given["images"] {
			n = min(n, on.Test.N)
		}
		if j.data, err = sets.First("-images", on.Test, n); err == nil {
			j.digest, err = sets.Digest(j.data)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("-data %s: %w", o.data, err)
	}
	stateDicts := false
	read := func(flag string, files, names []string) (list []*subject, err error) {
		for i, file := range files {
			s := &subject{identity: identity{Name: names[i], File: file}}
			cfg := zoo.Default(o.arch)
			cfg.WidthMultiplier, cfg.Steps = o.width, o.steps
			n, err := o.dict.Read(file, cfg.For(on.Train))
			if err == nil {
				err = nets.Fits(file, n.Model, j.data)
			}
			if err == nil {
				s.SHA256, err = sum(file)
			}
			if err != nil {
				return nil, fmt.Errorf("-%s: %w", flag, err)
			}
			for _, note := range n.Notes {
				fmt.Fprintln(stderr, note)
			}
			stateDicts = stateDicts || n.StateDict
			s.model = n.Model
			list = append(list, s)
		}
		return list, nil
	}
	if j.subjects, err = read("net", o.nets, names(o.nets)); err != nil {
		return nil, err
	}
	if j.from, err = read("source", o.sources, sourceNames(o.nets, o.sources)); err != nil {
		return nil, err
	}
	if !stateDicts {
		if err := nets.Refuse(o.given, "the files describe themselves", "arch", "width", "T"); err != nil {
			return nil, err
		}
	}
	if j.battery, err = attack.Preset(o.preset, o.threat); err != nil {
		return nil, err
	}
	for _, s := range j.from {
		j.battery.Attacks = append(j.battery.Attacks, transferred(s.Name, o.threat, s.model))
	}
	if o.shard.Count > j.data.N {
		return nil, fmt.Errorf("-shard %v: expected at most one shard for each of the %s", o.shard, plural(j.data.N, "image"))
	}
	return j, nil
}

// sum returns the SHA-256 of a network's file in hexadecimal digits.
func sum(path string) (string, error) {
	f, err := nets.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// inputs returns the digests of all that the results depend on, beside the flags.
func (j *job) inputs() map[string]string {
	in := map[string]string{"-data " + j.options.data: j.digest}
	for _, s := range slices.Concat(j.subjects, j.from) {
		in[s.File] = s.SHA256
	}
	return in
}

// files returns the names of the files of a complete report. A shard has none.
func (j *job) files() []string {
	if !j.shard.IsZero() {
		return nil
	}
	list := []string{"report.html", "results.json", "attacks.csv", "images.csv"}
	for _, s := range j.subjects {
		list = append(list, s.npz())
	}
	return list
}

// npz returns the name of the file of a network's images.
func (i identity) npz() string { return i.Name + ".npz" }

// certifyWork is the work of a proof at one radius for an image, as a share of that of an image of
// the evaluation. It is a guess, for the estimate of the time alone.
const certifyWork = 0.05

// curveWork is the work of an image of a point of the curve, as a share of that of an image of
// the evaluation. It is a guess, for the estimate of the time alone.
const curveWork = 0.2

// work returns the work of the run, in images of the evaluation.
func (j *job) work() float64 {
	_, onCurve := j.curveShard(j.shard)
	each := float64(extent(j.shard.Range(j.data.N))) + curveWork*float64(len(j.radii())*onCurve)
	if j.shard.IsZero() {
		each += certifyWork * float64(len(j.certify)*j.data.N)
	}
	return each * float64(len(j.subjects))
}

// onCurve returns the number of images of the curve.
func (j *job) onCurve() int { return min(j.curveImages, j.data.N) }

// keeps returns the number of images to keep.
func (j *job) keeps() int {
	if j.keep == 0 {
		return j.data.N
	}
	return min(j.keep, j.data.N)
}

// budget returns the size in bytes up to which a journal is read: that of the outcomes, and of
// the kept images in base64.
func (j *job) budget() int64 {
	images := len(j.subjects) * j.keeps()
	return runs.Budget(len(j.subjects)*j.data.N) + 6*int64(images)*int64(j.data.C*j.data.H*j.data.W)
}

// evaluate runs all that is not done. After an error of ctx, the subjects hold what is done.
func (j *job) evaluate(ctx context.Context) error {
	for i, s := range j.subjects {
		if err := j.prove(ctx, s, j.Networks[i]); err != nil {
			return err
		}
		if err := j.attack(ctx, s, j.Networks[i]); err != nil {
			return err
		}
		j.meter.Finished(s.Name)
	}
	for i, s := range j.subjects {
		if err := j.measureCurve(ctx, s, j.Networks[i]); err != nil {
			return err
		}
	}
	if !j.shard.IsZero() {
		return nil
	}
	for _, s := range j.subjects {
		var err error
		if s.firing, err = j.measureFiring(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// config returns the configuration of a battery.
func (j *job) config() attack.BatteryConfig {
	cfg := attack.DefaultBatteryConfig()
	cfg.Key, cfg.Draws = rng.New(j.seed).Derive("attacks", 0), j.draws
	return cfg
}

// attack runs the battery around the images that are not done.
func (j *job) attack(ctx context.Context, s *subject, p *progress) error {
	cfg := j.config()
	cfg.Exhaustive, cfg.Shard, cfg.Certified = j.exhaustive, j.shard, j.certified(p)
	cfg.Done = slices.Clone(p.Results)
	j.meter.Skip(float64(len(cfg.Done)))
	cfg.Keep = func(i int) bool { return i < j.keeps() }
	cfg.OnKept = func(index int, _, adv tensor.NCHW) error {
		b, err := binary.Append(nil, binary.LittleEndian, adv.Data)
		p.Kept[index] = b
		return err
	}
	cfg.OnResult = func(r attack.ImageResult) error {
		p.Results = append(p.Results, r)
		j.meter.Add(1, s.Name)
		return j.journal.saveSometimes()
	}
	report, err := j.battery.Evaluate(ctx, s.model, j.data, cfg)
	if report != nil && report.Images > 0 {
		s.report = report
		kept, failed := p.kept(j.data)
		if failed != nil {
			return failed
		}
		s.report.Kept = kept
		if failed := j.contradiction(s, p, report, j.threat.Eps); failed != nil {
			return failed
		}
	}
	if err != nil {
		return fmt.Errorf("-net %s: %w", s.File, err)
	}
	return nil
}

// kept returns the kept images.
func (p *progress) kept(data *dataset.Set) (*attack.Kept, error) {
	shape := data.Shape()
	k := &attack.Kept{Indices: slices.Sorted(maps.Keys(p.Kept))}
	if shape.N = len(k.Indices); shape.N == 0 {
		return k, nil
	}
	k.Clean = tensor.NewFrames(shape)
	if err := data.Fill(k.Clean, k.Indices); err != nil {
		return nil, err
	}
	adv := tensor.NewFrames(shape)
	for i, index := range k.Indices {
		if n, err := binary.Decode(p.Kept[index], binary.LittleEndian, adv.Image(i)); err != nil || n != len(p.Kept[index]) {
			return nil, fmt.Errorf("the journal's image %d: %d bytes: expected %d", index, len(p.Kept[index]), 4*adv.Pixels())
		}
	}
	k.Adversarial = []tensor.NCHW{adv}
	return k, nil
}

// plural returns a number with a noun.
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}
