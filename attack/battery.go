package attack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Battery is a list of attacks, cheapest first. An image meets one after the other and leaves as
// soon as one has broken it, that is, found a misclassified image within the threat model.
type Battery struct {
	// Name is that of a preset, such as "standard", and reports show it. Change it if you change
	// Attacks. A battery with a name leaves out the gradient attacks whose gradient approximation
	// the network's neurons refuse, and the report says so. Without a name, such an attack is an
	// error.
	Name   string
	Threat Threat // bounds all attacks
	// Attacks are at least one. A [Searcher] shares its passes with other images, and leaves an
	// image as soon as it is broken. Any other adversary gets one image at a time. A [Searcher]
	// may begin at the best point of the attacks before it, as an Attack with Start AtBest does.
	Attacks []Named
}

// BatteryConfig says how to run a battery. Start from DefaultBatteryConfig.
type BatteryConfig struct {
	// Key is the key of all random numbers. Those of an image come from Key, the attack's name
	// and the image's index.
	Key rng.Key
	// Draws is the number of passes over which logits and gradients of a random network are
	// averaged, for attacks and verdicts. 0 stands for 1, or for 10 if the network is random.
	Draws int
	// Exhaustive lets every image meet every attack, so that the report tells what each attack
	// alone leaves. It costs the passes that leaving saves.
	Exhaustive bool
	// Keep, if not nil, chooses images by their index in the data. The report's Kept has them,
	// clean and at the battery's best point.
	Keep func(i int) bool
	// OnKept, if not nil, is called for each image that Keep chooses, with the image, [1,C,H,W],
	// and the battery's best point. The call comes just before that of OnResult, under the same
	// conditions.
	OnKept func(index int, x, adv tensor.NCHW) error
	// Unchecked leaves out the report's Checks, which take passes of their own around up to 64
	// images. It is for series of evaluations of which one is checked.
	Unchecked bool
	// Shard chooses a part of the images, for evaluations on several machines. [Battery.Merge]
	// makes one report of the reports of all shards. A shard has no Checks: Merge makes them.
	Shard Shard
	// Done holds results of an earlier run, of the same battery, configuration, network and
	// data. Their images are not attacked again, and not kept.
	Done []ImageResult
	// Certified, if not nil, says for each image of the data whether it is proven that no point
	// within the threat model is misclassified. Check 11 holds the battery against it.
	Certified []bool
	// OnResult, if not nil, is called for each image when it is finished, in no fixed order, and
	// not concurrently. An error stops the battery, which returns it.
	OnResult func(ImageResult) error
}

// DefaultBatteryConfig returns the key of seed 0 and the zero values of all else.
func DefaultBatteryConfig() BatteryConfig { return BatteryConfig{Key: rng.New(0)} }

// drawsOfRandom is the number of draws for random networks.
const drawsOfRandom = 10

// Evaluate runs the battery around all images of data, or those of cfg.Shard.
//
// If ctx is done, Evaluate returns ctx's error with the report of the images that are finished.
// It is Partial, unless all of them are and only checks are missing. Every other error comes with
// a nil report and names one of these causes:
//
//   - a setting of b or cfg;
//   - a data set whose images, labels or classes do not fit the network, or hold values outside
//     [0,1];
//   - a parameter, a logit, an objective or a gradient that is not finite;
//   - an attack that changes the original image, or comes to a point outside the threat model.
//
// A check that fails is a [Fault] of the report.
func (b Battery) Evaluate(ctx context.Context, m *snn.Model, data snn.Dataset, cfg BatteryConfig) (*BatteryReport, error) {
	e := &batteryRun{Battery: b, cfg: cfg, model: m, data: data}
	err := e.prepare(ctx)
	if err == nil {
		err = e.run(ctx)
	}
	if err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
		return nil, fmt.Errorf("attack: battery: %w", err)
	}
	if e.report == nil { // stopped before the first pass
		e.report = newBatteryReport(e, false, "")
	}
	e.report.finish()
	if !cfg.Unchecked && cfg.Shard.IsZero() {
		e.check(ctx)
	}
	return e.report, ctx.Err()
}

// batteryRun is a battery on its way.
type batteryRun struct {
	Battery
	cfg    BatteryConfig
	model  *snn.Model
	data   snn.Dataset
	draws  int
	report *BatteryReport
	mu     sync.Mutex // of report
}

// prepare checks the parts of the evaluation, reads all images once, and begins the report.
func (e *batteryRun) prepare(ctx context.Context) error {
	if err := e.validate(); err != nil {
		return err
	}
	n := e.data.Shape().N
	digest := sha256.New()
	for i := range n {
		x, err := e.read(i)
		if err == nil {
			err = cmp.Or(ctx.Err(), Threat{}.check(x, x, i), e.Threat.start(x, i))
		}
		if err == nil {
			err = binary.Write(digest, binary.LittleEndian, x.Data)
		}
		if err != nil {
			return err
		}
	}
	random, err := e.random()
	if err != nil {
		return err
	}
	if e.draws = e.cfg.Draws; e.draws == 0 {
		e.draws = 1
		if random {
			e.draws = drawsOfRandom
		}
	}
	e.report = newBatteryReport(e, random, hex.EncodeToString(digest.Sum(nil)))
	if e.report.Part, err = newPart(e.cfg.Shard, n, e.networks()); err != nil {
		return err
	}
	return e.refuse()
}

// refuse tries the gradient of each attack, and notes which of them the network refuses.
func (e *batteryRun) refuse() error {
	x, err := e.read(0)
	if err != nil {
		return err
	}
	left := 0
	for k, a := range e.Attacks {
		if a, ok := a.Attack.(*Attack); ok {
			gradients, mix := a.Gradient.(GradientMix)
			if !mix {
				gradients = GradientMix{a.Gradient}
			}
			var err error
			for _, g := range gradients {
				_, refused := e.model.InputGradient(snn.Pass{Gradient: g}, x, func(logits []float32) []float32 {
					return make([]float32, len(logits))
				})
				err = cmp.Or(err, refused)
			}
			if err != nil && e.Name == "" {
				return fmt.Errorf("attack %s: %w", e.Attacks[k].Name, err)
			}
			if err != nil {
				e.report.Attacks[k].Refused = err.Error()
				continue
			}
		}
		left++
	}
	if left == 0 {
		return fmt.Errorf("the network refuses all attacks: %s", e.report.Attacks[0].Refused)
	}
	return nil
}

// validate returns an error if the parts of the evaluation do not fit together.
func (e *batteryRun) validate() error {
	if e.Threat = e.Threat.of(e.data.Shape().Steps); e.Threat.Norm == nil {
		return errors.New("threat model without a norm: expected one such as LInf{}")
	}
	if !(e.Threat.Eps > 0) || e.Threat.Eps-e.Threat.Eps != 0 || e.Threat.Norm == (LInf{}) && e.Threat.Eps > 1 {
		return fmt.Errorf("eps %v: expected a positive number, of at most 1 in L∞, for pixels in [0,1]", e.Threat.Eps)
	}
	if err := e.Threat.validate(); err != nil {
		return err
	}
	if len(e.Attacks) == 0 {
		return errors.New("no attacks: expected at least one")
	}
	if e.cfg.Draws < 0 {
		return fmt.Errorf("%d draws: expected at least 0", e.cfg.Draws)
	}
	if n := e.data.Shape().N; e.cfg.Certified != nil && len(e.cfg.Certified) != n {
		return fmt.Errorf("field Certified of %d images: expected the %d of the data", len(e.cfg.Certified), n)
	}
	names := map[string]bool{clean: true, worstCase: true}
	for i, a := range e.Attacks {
		if a.Name == "" || names[a.Name] {
			return fmt.Errorf("attack %d has the name %q: expected one of its own, other than %q and %q", i, a.Name, clean, worstCase)
		}
		names[a.Name] = true
		if a.Attack == nil {
			return fmt.Errorf("attack %s is nil", a.Name)
		}
		if v, ok := a.Attack.(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				return fmt.Errorf("attack %s: %w", a.Name, err)
			}
		}
		if t, known := ThreatOf(a.Attack); known && (t.Norm == nil || t.of(e.data.Shape().Steps).name() != e.Threat.name() || t.Eps > e.Threat.Eps) {
			return fmt.Errorf("attack %s is bounded by %s, eps %v: expected %s and at most %v, the battery's", a.Name, t.name(), t.Eps, e.Threat.name(), e.Threat.Eps)
		}
	}
	if err := e.model.ValidateParams(); err != nil {
		return err
	}
	if err := e.model.ValidateDataset(e.data); err != nil {
		return err
	}
	if err := e.cfg.Shard.validate(e.data.Shape().N); err != nil {
		return err
	}
	lo, hi := e.cfg.Shard.Range(e.data.Shape().N)
	if err := e.validateResults(e.cfg.Done, lo, hi); err != nil {
		return fmt.Errorf("field Done: %w", err)
	}
	return nil
}

// validateResults returns an error if results of another run are not of this one, and of images lo
// to hi−1.
func (e *batteryRun) validateResults(results []ImageResult, lo, hi int) error {
	seen := map[int]bool{}
	for _, r := range results {
		switch {
		case r.Index < lo || r.Index >= hi || seen[r.Index]:
			return fmt.Errorf("a result of image %d: expected one for each of some of the images %d to %d", r.Index, lo, hi-1)
		case r.Label != e.data.Label(r.Index):
			return fmt.Errorf("image %d has the label %d: expected %d, that of the data", r.Index, r.Label, e.data.Label(r.Index))
		case r.BrokenBy < Misclassified || r.BrokenBy >= len(e.Attacks) || len(r.Trials) > len(e.Attacks):
			return fmt.Errorf("image %d met %d attacks and was broken by attack %d: the battery has %d", r.Index, len(r.Trials), r.BrokenBy, len(e.Attacks))
		case r.BrokenBy == Misclassified && len(r.Trials) > 0:
			return fmt.Errorf("image %d met %d attacks although it was misclassified: expected none", r.Index, len(r.Trials))
		case (r.BrokenBy == Survived || r.BrokenBy >= 0 && e.cfg.Exhaustive) && len(r.Trials) < len(e.Attacks):
			return fmt.Errorf("image %d met %d attacks: expected the %d of the battery", r.Index, len(r.Trials), len(e.Attacks))
		case slices.IndexFunc(r.Trials, func(t Trial) bool { return t.Broke }) != max(r.BrokenBy, Survived):
			return fmt.Errorf("image %d was broken by attack %d: its trials do not say so", r.Index, r.BrokenBy)
		}
		seen[r.Index] = true
	}
	return nil
}

// read reads an image.
func (e *batteryRun) read(i int) (tensor.NCHW, error) {
	shape := e.data.Shape()
	shape.N = 1
	x := tensor.NewFrames(shape)
	if err := e.data.Fill(x, []int{i}); err != nil {
		return x, fmt.Errorf("image %d: %w", i, err)
	}
	return x, nil
}

// random reports whether the network's logits differ from one pass to the next, at images or half
// way from them to grey: an encoder may be random at grey values alone.
func (e *batteryRun) random() (bool, error) {
	for i := range min(8, e.data.Shape().N) {
		x, err := e.read(i)
		if err != nil {
			return false, err
		}
		for range 2 {
			var logits [2][]float32
			for k := range logits {
				key := e.cfg.Key.Derive("random", uint64(k))
				if logits[k], err = e.model.Logits(snn.Pass{Keys: []rng.Key{key}}, x); err != nil {
					return false, fmt.Errorf("image %d: %w", i, err)
				}
			}
			if !slices.Equal(logits[0], logits[1]) {
				return true, nil
			}
			for k, v := range x.Data {
				x.Data[k] = (v + 0.5) / 2
			}
		}
	}
	return false, nil
}

// run runs the battery around the images that are not done.
func (e *batteryRun) run(ctx context.Context) error {
	done := map[int]bool{}
	for _, r := range e.cfg.Done {
		done[r.Index] = true
	}
	var images []int
	for i, hi := e.cfg.Shard.Range(e.data.Shape().N); i < hi; i++ {
		if !done[i] {
			images = append(images, i)
		}
	}
	en := engine{model: e.model, n: len(images), shape: e.data.Shape(), run: func(ask asker, k int) error {
		stopped := false
		r, x, adv, err := e.image(ctx, func(r *request) bool {
			stopped = !ask(r)
			return !stopped
		}, images[k])
		if err != nil {
			return err
		}
		if stopped { // and the attack does not say so
			return errStopped
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		keep := e.cfg.Keep != nil && e.cfg.Keep(r.Index)
		e.report.add(r, x, adv, keep)
		if keep && e.cfg.OnKept != nil {
			if err := e.cfg.OnKept(r.Index, x, adv); err != nil {
				return err
			}
		}
		if e.cfg.OnResult != nil {
			return e.cfg.OnResult(r)
		}
		return nil
	}}
	return en.do(ctx)
}

// oracle returns the oracle of an image for an attack.
func (e *batteryRun) oracle(ask asker, x tensor.NCHW, i int, key rng.Key) *Oracle {
	id := uint64(i)
	judged := e.cfg.Key.Derive("judge", 0).Derive("image", id)
	return &Oracle{
		Clean: x.Data, Shape: x.Shape(), Label: e.data.Label(i), Target: -1, Classes: e.model.Classes(), ID: id, Threat: e.Threat,
		key: key.Derive("image", id), draws: e.draws, keep: true, early: true, yield: ask, model: e.model,
		judge: func(o *Oracle, point []float32) (float32, bool, error) {
			r := &request{x: point, keys: o.keys(judged)}
			if err := o.ask(r); err != nil {
				return 0, false, err
			}
			margin, found := o.score(r.logits)
			return margin, found, nil
		},
	}
}

// image runs the battery around one image.
func (e *batteryRun) image(ctx context.Context, ask asker, i int) (r ImageResult, x, adv tensor.NCHW, err error) {
	if x, err = e.read(i); err != nil {
		return r, x, adv, err
	}
	o := e.oracle(ask, x, i, e.cfg.Key)
	judged := &request{x: x.Data, keys: o.keys(e.cfg.Key.Derive("judge", 0).Derive("image", uint64(i)))}
	if err := o.ask(judged); err != nil {
		return r, x, adv, err
	}
	r = ImageResult{Index: i, Label: o.Label, Clean: argmax(judged.logits), BrokenBy: Survived}
	r.CleanMargin, _ = o.score(judged.logits)
	r.Predicted, r.Margin, r.Passes = r.Clean, r.CleanMargin, o.passes
	top := standing{x.Data, r.CleanMargin, false}
	if r.Clean != r.Label {
		r.BrokenBy = Misclassified
		return r, x, x, nil
	}
	for k, a := range e.Attacks {
		if e.report.Attacks[k].Refused != "" {
			r.Trials = append(r.Trials, Trial{Margin: top.margin})
			continue
		}
		key := e.cfg.Key.Derive("attack "+a.Name, 0)
		o := e.oracle(ask, x, i, key)
		o.before = top
		if t, known := ThreatOf(a.Attack); known {
			o.Threat = t.of(o.Shape.Steps)
		}
		err := e.search(ctx, o, a.Attack, x, key)
		if err != nil && !errors.Is(err, ErrFound) {
			return r, x, adv, fmt.Errorf("%s: %w", a.Name, err)
		}
		if o.beats(top) {
			top = o.standing
		}
		r.Passes += o.passes
		r.Trials = append(r.Trials, o.trial(top.margin))
		if o.found && r.BrokenBy < 0 {
			r.BrokenBy, r.PassesToBreak = k, r.Passes
		}
		if o.found && !e.cfg.Exhaustive {
			break
		}
	}
	if r.Margin = top.margin; r.BrokenBy >= 0 {
		if r.Predicted, err = e.predictAnew(top.best, x, i); err != nil {
			return r, x, adv, err
		}
	}
	if n, ok := e.Threat.Norm.(spikeNorm); ok {
		r.Changes = n.changes(top.best, x.Data)
	}
	adv = batchOf(x.Shape(), [][]float32{top.best})
	return r, x, adv, e.vouch(x, adv, i)
}

// vouch returns an error if image x is not that of the data any more, or if its best point is
// not within the threat model.
func (e *batteryRun) vouch(x, adv tensor.NCHW, i int) error {
	original, err := e.read(i)
	if err != nil {
		return err
	}
	if !slices.Equal(x.Data, original.Data) {
		return errors.New("an attack has changed the original image, Oracle.Clean: expected a copy to be changed")
	}
	return e.Threat.check(adv, original, i)
}

// search runs one attack.
func (e *batteryRun) search(ctx context.Context, o *Oracle, a snn.Adversary, x tensor.NCHW, key rng.Key) error {
	if s, ok := a.(Searcher); ok {
		return s.Search(o)
	}
	adv, err := a.Perturb(ctx, e.model, x.Clone(), []int{o.Label}, []uint64{o.ID}, key)
	if err == nil {
		err = o.Threat.check(adv, x, int(o.ID))
	}
	if err != nil {
		return err
	}
	_, err = o.Logits(slices.Clone(adv.Data)) // other images' passes come first, and a may use its memory again
	return err
}

// predictAnew returns the class of a point around image i, by a pass of its own over a copy.
func (e *batteryRun) predictAnew(point []float32, x tensor.NCHW, i int) (int, error) {
	o := e.oracle(nil, x, i, e.cfg.Key)
	keys := o.keys(e.cfg.Key.Derive("judge", 0).Derive("image", uint64(i)))
	sum := make([]float32, e.model.Classes())
	for _, k := range keys {
		z, err := e.model.Logits(snn.Pass{Keys: []rng.Key{k}, Threads: 1}, batchOf(x.Shape(), [][]float32{slices.Clone(point)}))
		if err != nil {
			return 0, err
		}
		for c, v := range z {
			sum[c] += v / float32(len(keys))
		}
	}
	return argmax(sum), nil
}
