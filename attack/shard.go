package attack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Shard is a part of the images of a data set, for evaluations on several machines. The images
// are cut into Count ranges whose lengths differ by at most one, and the shard is range number
// Index, from 1 to Count. The zero Shard is the whole data set.
//
// Shard implements [encoding.TextMarshaler] and [encoding.TextUnmarshaler], as flag.TextVar
// expects. The text is "2/8" for the second of eight, and "" for the zero Shard.
type Shard struct{ Index, Count int }

// IsZero reports whether s is the whole data set.
func (s Shard) IsZero() bool { return s == Shard{} }

// String returns the shard's text.
func (s Shard) String() string {
	if s.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Count)
}

// MarshalText returns the shard's text.
func (s Shard) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText returns. Any other text is an error.
func (s *Shard) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = Shard{}
		return nil
	}
	index, count, _ := strings.Cut(string(text), "/")
	i, err := strconv.Atoi(index)
	n, err2 := strconv.Atoi(count)
	read := Shard{i, n}
	if err != nil || err2 != nil || i < 1 || i > n || read.String() != string(text) {
		return errors.New("expected i/n with whole numbers 1 ≤ i ≤ n, such as 2/8")
	}
	*s = read
	return nil
}

// Range returns the images of the shard, lo to hi−1, of a data set of n images. A shard of
// more shards than images may be empty. Range panics if s is invalid or n is negative.
func (s Shard) Range(n int) (lo, hi int) {
	switch {
	case s.IsZero():
		return 0, n
	case s.Index < 1 || s.Index > s.Count || n < 0:
		panic(fmt.Sprintf("attack: range of shard %d/%d of %d images: expected an index from 1 to the number of shards", s.Index, s.Count, n))
	}
	size, rest := n/s.Count, n%s.Count // the first rest shards have one image more
	lo = (s.Index-1)*size + min(s.Index-1, rest)
	hi = lo + size
	if s.Index <= rest {
		hi++
	}
	return lo, hi
}

// validate returns an error if s is no shard of n images, or an empty one.
func (s Shard) validate(n int) error {
	switch {
	case s.IsZero():
	case s.Index < 1 || s.Index > s.Count:
		return fmt.Errorf("shard %d/%d: expected an index from 1 to the number of shards", s.Index, s.Count)
	case s.Count > n:
		return fmt.Errorf("shard %v of %s: expected at most one shard for each image", s, count(n, "image"))
	}
	return nil
}

// ValidateShards returns an error unless list holds every shard of one evaluation once. The
// error names the shards that are missing. names says what holds each shard, such as its file.
func ValidateShards(list []Shard, names []string) error {
	if len(list) == 0 {
		return errors.New("no shards: expected at least one")
	}
	of := list[0].Count
	holder := map[int]string{}
	for i, s := range list {
		switch before, twice := holder[s.Index]; {
		case s.Index < 1 || s.Index > s.Count:
			return fmt.Errorf("%s holds no shard", names[i])
		case s.Count != of:
			return fmt.Errorf("%s holds shard %v, but %s holds shard %v: expected shards of one evaluation", names[i], s, names[0], list[0])
		case twice:
			return fmt.Errorf("%s and %s both hold shard %v: expected each shard once", before, names[i], s)
		}
		holder[s.Index] = names[i]
	}
	if len(holder) == of {
		return nil
	}
	var lost []string
	for i := range of {
		if holder[i+1] != "" {
			continue
		}
		if len(lost) == 10 {
			lost = append(lost, "…")
			break
		}
		lost = append(lost, Shard{i + 1, of}.String())
	}
	return fmt.Errorf("%d of %d shards are missing: %s", of-len(holder), of, strings.Join(lost, ", "))
}

// Part says which shard of an evaluation a report is of, and what its results depend on beside
// the rest of the report.
type Part struct {
	Shard    Shard  `json:"shard"`
	Images   int    `json:"images"`   // of the whole data set
	Networks string `json:"networks"` // SHA-256 of the networks, and of those that images are made on
	// Kernels is the architecture and the instruction set of the kernels, such as "amd64 avx2".
	// Gradients differ between them by rounding errors.
	Kernels string `json:"kernels"`
}

// newPart returns the part of a report, or nil for the whole data set.
func newPart(s Shard, images int, networks []*snn.Model) (*Part, error) {
	if s.IsZero() {
		return nil, nil
	}
	p := &Part{Shard: s, Images: images, Kernels: Kernels()}
	h := sha256.New()
	for _, m := range networks {
		fmt.Fprintf(h, "%d×%d×%d\n%v\n", m.Channels, m.Height, m.Width, m.Summary())
		if err := m.Write(h); err != nil {
			return nil, fmt.Errorf("digest of a network: %w", err)
		}
	}
	p.Networks = hex.EncodeToString(h.Sum(nil))
	return p, nil
}

// Kernels returns the architecture and the instruction set of the kernels in use, as
// [Part].Kernels has them. Results of the same version, networks, images and settings are the same
// bits on machines with the same Kernels.
func Kernels() string { return fmt.Sprintf("%s %v", runtime.GOARCH, kernel.CurrentLevel()) }

// sourcesOf returns the networks that an attack makes images on, other than that under attack.
func sourcesOf(a snn.Adversary) (list []*snn.Model) {
	switch a := a.(type) {
	case Transfer:
		return slices.Concat(a.Sources, sourcesOf(a.Attack))
	case Rounds:
		for _, b := range a.Attacks {
			list = append(list, sourcesOf(b)...)
		}
	case Mix:
		for _, b := range a {
			list = append(list, sourcesOf(b)...)
		}
	}
	return list
}

// setting is something that all shards of an evaluation have in common.
type setting struct{ name, value string }

func (p *Part) settings() []setting {
	return []setting{
		{"number of images", strconv.Itoa(p.Images)}, {"networks", p.Networks}, {"kernels", p.Kernels},
	}
}

// asJSON returns v for a comparison.
func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// same returns an error that names the first setting in which a differs from b.
func same(nameA, nameB string, a, b []setting) error {
	for i, s := range a {
		if i >= len(b) {
			return fmt.Errorf("%s has the %s %s, and %s has none: expected shards of one evaluation", nameA, s.name, s.value, nameB)
		}
		if s != b[i] {
			return fmt.Errorf("%s has the %s %s, but %s has the %s %s: expected shards of one evaluation", nameA, s.name, s.value, nameB, b[i].name, b[i].value)
		}
	}
	if len(b) > len(a) {
		return same(nameB, nameA, b, a)
	}
	return nil
}

// Merge returns the report of an evaluation from those of its shards, in any order: the report
// that [Evaluate] returns without a [Config].Shard, to the last bit. Shards read from JSON have no
// Kept, and neither has the report then.
//
// Merge returns an error that names the shard, counted from 0, and the difference if a shard is
// missing, given twice, not complete or not of the same evaluation. Attacks are compared by their
// Settings, which do not describe every adversary in full.
func Merge(shards ...*Report) (*Report, error) {
	r, err := merge(shards)
	if err != nil {
		return nil, fmt.Errorf("attack: merge: %w", err)
	}
	return r, nil
}

func merge(shards []*Report) (*Report, error) {
	parts := make([]*Part, len(shards))
	for i, r := range shards {
		if r != nil {
			parts[i] = r.Part
		}
	}
	order, names, err := inOrder(parts)
	if err != nil {
		return nil, err
	}
	first := shards[order[0]]
	kept := true
	for _, i := range order {
		r := shards[i]
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("%s: %w", names[i], err)
		}
		if err := cmp.Or(r.Part.complete(names[i], r.Images), same(names[i], names[order[0]], r.settings(), first.settings())); err != nil {
			return nil, err
		}
		kept = kept && r.Kept != nil
	}
	whole := *first
	whole.Part, whole.Images, whole.Labels, whole.Kept = nil, 0, nil, nil
	whole.Clean.Predicted, whole.Attacks = nil, slices.Clone(first.Attacks)
	for k := range whole.Attacks {
		whole.Attacks[k].Predicted, whole.Attacks[k].Target, whole.Attacks[k].ZeroGradient = nil, nil, nil
		whole.Attacks[k].Changes = nil
	}
	if kept {
		whole.Kept = &Kept{Adversarial: make([]tensor.NCHW, len(first.Attacks))}
	}
	for _, i := range order {
		r := shards[i]
		for k, o := range r.Attacks {
			w := &whole.Attacks[k]
			w.Predicted = append(w.Predicted, o.Predicted...)
			w.Changes = append(w.Changes, o.Changes...)
			for _, image := range o.ZeroGradient {
				w.ZeroGradient = append(w.ZeroGradient, whole.Images+image)
			}
			if o.Target == nil {
				o.Target = slices.Repeat([]int{-1}, r.Images)
			}
			w.Target = append(w.Target, o.Target...)
		}
		whole.Clean.Predicted = append(whole.Clean.Predicted, r.Clean.Predicted...)
		whole.Images += r.Images
		whole.Labels = append(whole.Labels, r.Labels...)
		whole.Kept.join(r.Kept)
	}
	whole.finish()
	return &whole, nil
}

// inOrder returns the order of shards and their names, or an error unless there is each shard of an
// evaluation once.
func inOrder(parts []*Part) (order []int, names []string, err error) {
	list := make([]Shard, len(parts))
	for i, p := range parts {
		names = append(names, "shard "+strconv.Itoa(i))
		if p == nil {
			return nil, nil, fmt.Errorf("%s is nil or no part of an evaluation: expected the report of one with a Shard", names[i])
		}
		if list[i] = p.Shard; !p.Shard.IsZero() {
			names[i] += " (" + p.Shard.String() + ")"
		}
		order = append(order, i)
	}
	if err := ValidateShards(list, names); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(list[a].Index, list[b].Index) })
	return order, names, nil
}

// complete returns an error unless a shard has so many finished images.
func (p *Part) complete(name string, images int) error {
	if err := p.Shard.validate(p.Images); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if lo, hi := p.Shard.Range(p.Images); images != hi-lo {
		return fmt.Errorf("%s has results of %s: expected those of its %d", name, count(images, "image"), hi-lo)
	}
	return nil
}

// settings lists what the shards of an evaluation have in common.
func (r *Report) settings() []setting {
	list := append(r.Part.settings(), []setting{
		{"images' digest", r.Digest}, {"norm", r.Norm}, {"eps", fmt.Sprint(r.Eps)}, {"source of black-box attacks", fmt.Sprint(r.BlackBox)},
		{"key", r.Key}, {"version", r.Library}, {"names of classes", asJSON(r.ClassNames)},
	}...)
	for _, o := range r.Attacks {
		list = append(list, setting{"attack", asJSON([]any{o.Name, o.Norm, o.Eps, o.InWorstCase, o.Settings})})
	}
	return list
}

// join appends the images of another shard, unless k is nil.
func (k *Kept) join(from *Kept) {
	if k == nil || len(from.Indices) == 0 {
		return
	}
	k.Indices = append(k.Indices, from.Indices...)
	k.Clean = concat(k.Clean, from.Clean)
	for i := range k.Adversarial {
		k.Adversarial[i] = concat(k.Adversarial[i], from.Adversarial[i])
	}
}

// Merge returns the report of a battery on all images of data from those of its shards, in any
// order, and makes the checks. The report is the one that Evaluate returns without a
// [BatteryConfig].Shard, to the last bit. m, data and cfg are those of the shards. cfg has
// neither a Shard nor Done, and its Keep, OnKept and OnResult are not called.
//
// Kept holds what the shards have kept. It is nil if a shard has none, as one read from JSON.
//
// Merge returns an error as Evaluate does, and one that names the shard, counted from 0, and
// the difference if a shard is missing, given twice, not complete or not of this evaluation. If
// ctx is done during the checks, it returns ctx's error with a report in which some are skipped.
// Attacks are compared as the function [Merge] does.
func (b Battery) Merge(ctx context.Context, m *snn.Model, data snn.Dataset, cfg BatteryConfig, shards ...*BatteryReport) (*BatteryReport, error) {
	cfg.Keep = nil
	e := &batteryRun{Battery: b, cfg: cfg, model: m, data: data}
	if err := e.merge(ctx, shards); err != nil {
		return nil, fmt.Errorf("attack: battery: merge: %w", err)
	}
	e.report.finish()
	if !cfg.Unchecked {
		e.check(ctx)
	}
	return e.report, ctx.Err()
}

func (e *batteryRun) merge(ctx context.Context, shards []*BatteryReport) error {
	if !e.cfg.Shard.IsZero() || e.cfg.Done != nil {
		return errors.New("a configuration with a Shard or Done: expected that of the whole data set")
	}
	parts := make([]*Part, len(shards))
	for i, r := range shards {
		if r != nil {
			parts[i] = r.Part
		}
	}
	order, names, err := inOrder(parts)
	if err == nil {
		err = e.prepare(ctx)
	}
	if err != nil {
		return err
	}
	here := *e.report
	if here.Part, err = newPart(parts[order[0]].Shard, e.data.Shape().N, e.networks()); err != nil {
		return err
	}
	kept := &Kept{Adversarial: make([]tensor.NCHW, 1)}
	for _, i := range order {
		r := shards[i]
		if err := cmp.Or(same(names[i], "this evaluation", r.settings(), here.settings()), r.Part.complete(names[i], len(r.Results))); err != nil {
			return err
		}
		lo, hi := r.Part.Shard.Range(r.Part.Images)
		if err := e.validateResults(r.Results, lo, hi); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		e.report.Results = append(e.report.Results, r.Results...)
		if r.Kept == nil {
			kept = nil
		}
		kept.join(r.Kept)
	}
	e.report.Kept = kept
	return nil
}

// networks returns the network, and those that images are made on.
func (e *batteryRun) networks() []*snn.Model {
	list := []*snn.Model{e.model}
	for _, a := range e.Attacks {
		list = append(list, sourcesOf(a.Attack)...)
	}
	return list
}

// settings lists what the shards of an evaluation have in common.
func (r *BatteryReport) settings() []setting {
	list := append(r.Part.settings(), []setting{
		{"images' digest", r.Digest}, {"battery", strconv.Quote(r.Battery)}, {"norm", r.Norm}, {"eps", fmt.Sprint(r.Eps)}, {"random", fmt.Sprint(r.Random)},
		{"number of draws", strconv.Itoa(r.Draws)}, {"exhaustive", fmt.Sprint(r.Exhaustive)}, {"key", r.Key}, {"version", r.Library},
		{"names of classes", asJSON(r.ClassNames)},
	}...)
	for _, a := range r.Attacks {
		list = append(list, setting{"attack", asJSON([]any{a.Name, a.Settings, a.Refused})})
	}
	return list
}

// shard returns the shard of the report.
func (r *Report) shard() Shard {
	if r.Part == nil {
		return Shard{}
	}
	return r.Part.Shard
}
