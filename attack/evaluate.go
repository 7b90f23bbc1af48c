package attack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Named is an attack and its name. The name identifies the attack's results and random
// numbers. It is another one than "clean" and "worst case", which name results of a report.
type Named struct {
	Name   string
	Attack snn.Adversary
}

// Config says how to evaluate. Start from DefaultConfig.
type Config struct {
	// Threat is the threat model of the worst case. The zero Threat stands for the attacks'
	// common norm and their largest Eps. It is an error if their norms differ.
	//
	// An adversary that is not [Bounded] must stay within Threat. An adversary that states
	// another norm, a larger Eps or no bound is in the report, but does not count in the
	// worst case. It is an error if a Threat is given and no attack counts.
	Threat Threat
	// Batch is the number of images attacked together, ≥ 1. Results do not depend on it.
	Batch int
	// Key is the key of all random numbers. The random numbers of an image come from Key,
	// the attack's name and the image's index.
	Key rng.Key
	// Source, if not nil, is the network that images are made on (black-box). If it is nil,
	// they are made on the network that is evaluated (white-box). Attacks with KeepBest, and searches,
	// stop where they have just fooled Source, and such images often fool no other network. [Transfer]
	// lets them go on.
	Source *snn.Model
	// Keep, if not nil, chooses images by their index in the data. The report keeps these
	// images, clean and under each attack, in its Kept. A kept image takes 4 bytes for each
	// value and version.
	Keep func(i int) bool
	// Shard chooses a part of the images, for evaluations on several machines. [Merge] makes
	// one report of the reports of all shards.
	Shard Shard
	// Progress, if not nil, is called after every attack on every batch, from the
	// evaluation's goroutine.
	Progress func(Progress)
}

// DefaultConfig returns batches of 64 images, the key of seed 0, white-box attacks and the
// zero Threat.
func DefaultConfig() Config { return Config{Batch: 64, Key: rng.New(0)} }

// Progress is how far an evaluation has come.
type Progress struct {
	Attack string // the attack that is finished on the present batch; "clean" for none
	Done   int    // images classified, each counted once clean and once for each attack
	Total  int    // Done at the end
}

// Evaluate runs each of the attacks on all images of data, or those of cfg.Shard, and classifies
// the clean and the attacked images with m.
//
// Evaluate checks the images of every adversary. An image must be within the attack's
// threat model, and within the evaluation's if the attack counts in the worst case. An
// adversary gets copies of the images and labels.
//
// If ctx is done, Evaluate returns ctx's error with the report of the batches that are
// complete. Every other error comes with a nil report and names one of these causes:
//
//   - a setting of cfg;
//   - an attack without a name of its own, or without a threat model;
//   - a data set whose images, labels or classes do not fit the network;
//   - a parameter, a logit or a gradient that is not finite;
//   - an attacked image outside the threat model, with its distance.
func Evaluate(ctx context.Context, m *snn.Model, data snn.Dataset, attacks []Named, cfg Config) (*Report, error) {
	reports, err := EvaluateAll(ctx, []*snn.Model{m}, data, attacks, cfg)
	if reports == nil {
		return nil, err
	}
	return reports[0], err
}

// EvaluateAll evaluates several networks as [Evaluate] does, and returns a report for each.
// With a Source, it makes the images once and shows them to each network.
func EvaluateAll(ctx context.Context, models []*snn.Model, data snn.Dataset, attacks []Named, cfg Config) ([]*Report, error) {
	e := &evaluation{cfg, data, attacks, nil, models, sha256.New()}
	n, err := e.check()
	if err != nil {
		return nil, fmt.Errorf("attack: evaluate: %w", err)
	}
	reports := make([]*Report, len(models))
	for i := range reports {
		reports[i] = newReport(e, models[i])
		networks := []*snn.Model{models[i]}
		if cfg.Source != nil {
			networks = append(networks, cfg.Source)
		}
		for _, a := range attacks {
			networks = append(networks, sourcesOf(a.Attack)...)
		}
		if reports[i].Part, err = newPart(cfg.Shard, n, networks); err != nil {
			return nil, fmt.Errorf("attack: evaluate: %w", err)
		}
	}
	first, end := cfg.Shard.Range(n)
	err = e.skip(ctx, 0, first)
	for lo := first; lo < end && err == nil; lo += e.Batch {
		err = e.batch(ctx, lo, min(lo+e.Batch, end), reports)
	}
	if err == nil {
		err = e.skip(ctx, end, n)
	}
	if err != nil && !errors.Is(err, ctx.Err()) {
		return nil, fmt.Errorf("attack: evaluate: %w", err)
	}
	for _, r := range reports {
		r.finish()
		r.Digest = hex.EncodeToString(e.digest.Sum(nil))
	}
	if err != nil {
		return reports, ctx.Err()
	}
	return reports, nil
}

type evaluation struct {
	Config
	data    snn.Dataset
	attacks []Named
	threats []Threat // of each attack
	models  []*snn.Model
	digest  hash.Hash // of the images of complete batches, and of those of other shards
}

// check returns the number of images, or an error if the parts of the evaluation do not fit
// together.
func (e *evaluation) check() (n int, err error) {
	models := e.models
	if e.Batch < 1 {
		return 0, fmt.Errorf("batches of %d images: expected at least 1", e.Batch)
	}
	if len(models) == 0 {
		return 0, errors.New("no networks: expected at least one")
	}
	classes := models[0].Classes()
	if slices.Contains(models, e.Source) {
		return 0, errors.New("Config.Source is a network that is judged: expected another one, or nil for white-box attacks")
	}
	if e.Source != nil {
		models = append([]*snn.Model{e.Source}, models...)
	}
	for _, m := range models {
		if err := m.ValidateParams(); err != nil {
			return 0, err
		}
		if err := m.ValidateDataset(e.data); err != nil {
			return 0, err
		}
		if m.Classes() != classes {
			return 0, fmt.Errorf("networks of %d and %d classes: expected the same number", classes, m.Classes())
		}
	}
	n = e.data.Shape().N
	e.Batch = min(e.Batch, n) // an index beyond must not overflow
	return n, cmp.Or(e.Shard.validate(n), e.checkAttacks())
}

// checkAttacks returns an error if attacks cannot be told apart or state no valid threat
// model. It completes the evaluation's threat models.
func (e *evaluation) checkAttacks() (err error) {
	frames := e.data.Shape().Steps
	e.Threat = e.Threat.of(frames)
	if err := e.Threat.validate(); err != nil {
		return fmt.Errorf("threat model: %w", err)
	}
	names := map[string]bool{clean: true, worstCase: true}
	for i, a := range e.attacks {
		switch {
		case a.Name == "" || names[a.Name]:
			return fmt.Errorf("attack %d has the name %q: expected one of its own, other than %q and %q", i, a.Name, clean, worstCase)
		case a.Attack == nil:
			return fmt.Errorf("attack %s is nil", a.Name)
		}
		names[a.Name] = true
		t, known := ThreatOf(a.Attack)
		if t = t.of(frames); !known {
			t = e.Threat
		}
		if !known && t.Norm == nil {
			return fmt.Errorf("attack %s states no threat model: expected Config.Threat, or an adversary that is Bounded", a.Name)
		}
		if err := t.validate(); err != nil {
			return fmt.Errorf("attack %s: %w", a.Name, err)
		}
		e.threats = append(e.threats, t)
	}
	if e.Threat.Norm == nil {
		e.Threat, err = largestThreat(e.threats)
		return err
	}
	if len(e.threats) > 0 && !slices.ContainsFunc(e.threats, e.inWorstCase) {
		return fmt.Errorf("no attack is bounded in %s with an eps of at most %v: expected one that the worst case of Config.Threat counts", e.Threat.name(), e.Threat.Eps)
	}
	return nil
}

// inWorstCase tells whether an attack of threat model t counts in the worst case.
func (e *evaluation) inWorstCase(t Threat) bool {
	return t.Norm != nil && t.name() == e.Threat.name() && t.Eps <= e.Threat.Eps
}

// skip adds images lo to hi−1, which are those of other shards, to the digest.
func (e *evaluation) skip(ctx context.Context, lo, hi int) error {
	for ; lo < hi; lo += e.Batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := e.read(lo, min(lo+e.Batch, hi))
		if err == nil {
			err = binary.Write(e.digest, binary.LittleEndian, x.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read returns images lo to hi−1.
func (e *evaluation) read(lo, hi int) (tensor.NCHW, error) {
	shape := e.data.Shape()
	shape.N = hi - lo
	x := tensor.NewFrames(shape)
	indices := make([]int, x.N)
	for i := range indices {
		indices[i] = lo + i
	}
	if err := e.data.Fill(x, indices); err != nil {
		return x, fmt.Errorf("images %d to %d: %w", lo, hi-1, err)
	}
	return x, nil
}

// batch evaluates every network on images lo to hi−1, and then adds to the reports.
func (e *evaluation) batch(ctx context.Context, lo, hi int, reports []*Report) error {
	x, err := e.read(lo, hi)
	if err != nil {
		return err
	}
	if err := (Threat{}).check(x, x, lo); err != nil {
		return fmt.Errorf("images %d to %d: %w", lo, hi-1, err)
	}
	y, ids := make([]int, x.N), make([]uint64, x.N)
	for i := range y {
		y[i], ids[i] = e.data.Label(lo+i), uint64(lo+i)
	}
	keys := imageKeys(e.Key.Derive("judge", 0), ids)
	chosen := e.choose(x, lo)
	first, end := e.Shard.Range(e.data.Shape().N)
	done, total := (lo-first)*(1+len(e.attacks)), (end-first)*(1+len(e.attacks))
	all := make([][]shown, len(e.models)) // [networks][clean and attacks]
	for k := range 1 + len(e.attacks) {
		name := clean
		if k > 0 {
			name = e.attacks[k-1].Name
		}
		adv, detail := x, Detail{}
		for i, m := range e.models {
			err := ctx.Err()
			if err == nil && k > 0 && (i == 0 || e.Source == nil) {
				on := m
				if e.Source != nil {
					on = e.Source
				}
				adv, detail, err = e.perturb(ctx, k-1, on, x, y, ids)
			}
			var predicted []int
			if err == nil {
				predicted, err = predict(m, adv, keys)
			}
			if err != nil {
				return fmt.Errorf("images %d to %d: %s: %w", lo, hi-1, name, err)
			}
			v := shown{pick(adv, chosen), predicted, detail, nil}
			if k > 0 {
				v.changes = changesOf(e.attacks[k-1].Attack, e.threats[k-1], adv, x)
			}
			all[i] = append(all[i], v)
		}
		done += x.N
		if e.Progress != nil {
			e.Progress(Progress{name, done, total})
		}
	}
	if err := binary.Write(e.digest, binary.LittleEndian, x.Data); err != nil {
		return err
	}
	for i, r := range reports {
		r.add(lo, y, all[i], chosen)
	}
	return nil
}

// perturb runs attack k on m and checks the images that it returns.
func (e *evaluation) perturb(ctx context.Context, k int, m *snn.Model, x tensor.NCHW, y []int, ids []uint64) (tensor.NCHW, Detail, error) {
	key, first := e.Key.Derive("attack "+e.attacks[k].Name, 0), int(ids[0])
	adv, detail, err := PerturbDetail(ctx, e.attacks[k].Attack, m, x.Clone(), slices.Clone(y), slices.Clone(ids), key)
	if err == nil {
		err = e.threats[k].check(adv, x, first)
	}
	if err == nil && e.inWorstCase(e.threats[k]) {
		err = e.Threat.check(adv, x, first)
	}
	if err == nil {
		err = detail.validate(x.N, m.Classes(), first)
	}
	return adv, detail, err
}

// predict returns the class that m predicts for each image.
func predict(m *snn.Model, x tensor.NCHW, keys []rng.Key) ([]int, error) {
	logits, err := m.Logits(snn.Pass{Keys: keys}, x)
	if err != nil {
		return nil, err
	}
	classes := make([]int, x.N)
	for i := range classes {
		classes[i] = argmax(logits[i*m.Classes():][:m.Classes()])
	}
	return classes, nil
}
