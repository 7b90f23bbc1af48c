package attack

import (
	"context"
	"errors"
	"fmt"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Dataset is a labelled data set, such as a dataset.Set.
type Dataset interface {
	// Shape returns the number of images and the channels, rows and columns of each.
	Shape() (n, c, h, w int)
	// Label returns the label of image i.
	Label(i int) int
	// Fill writes image indices[i] to image i of dst, with values in [0,1].
	Fill(dst tensor.NCHW, indices []int) error
}

// Named is an attack under the name that its results and its random stream have.
type Named struct {
	Name   string
	Attack snn.Adversary
}

// Config says how to evaluate. Start from DefaultConfig.
type Config struct {
	// Batch is the number of images attacked together, ≥ 1. Results do not depend on
	// it.
	Batch int
	// Key is that of all random numbers: an image's are keyed by it, the attack's
	// name and the image's index.
	Key rng.Key
	// Source, if not nil, is the network that images are made on (black-box); if it
	// is nil, they are made on the network that is judged (white-box).
	Source *snn.Model
	// Progress, if not nil, is called after every attack on every batch, from the
	// evaluation's goroutine.
	Progress func(Progress)
}

// DefaultConfig returns batches of 64 images, the key of seed 0 and white-box attacks.
func DefaultConfig() Config { return Config{Batch: 64, Key: rng.New(0)} }

// Progress is how far an evaluation has come.
type Progress struct {
	Attack string // last finished, on the latest batch of images; "clean" for none
	Done   int    // images judged, each counted once clean and once for each attack
	Total  int    // what Done will be
}

// Report is how a network does under attacks. Accuracies are shares of Images, in
// [0,1]; 0 if there are none. The slices are in the order of the data.
type Report struct {
	Images  int       `json:"images"` // judged: all, if nothing stopped the evaluation
	Labels  []int     `json:"labels"` // [Images]
	Clean   Outcome   `json:"clean"`
	Attacks []Outcome `json:"attacks"` // in the order they were given
	// Survived tells of each image whether it is classified as labelled when clean
	// and under every attack.
	Survived  []bool  `json:"survived"`            // [Images]
	WorstCase float64 `json:"worst_case_accuracy"` // the share of Survived
}

// Outcome is what a network makes of one version of the images.
type Outcome struct {
	Name      string  `json:"name"` // of the attack; "clean" for the images themselves
	Accuracy  float64 `json:"accuracy"`
	Predicted []int   `json:"predicted"` // [Images], the class of the largest logit; of equal ones the first
	// Success tells of each image whether the attack had success: an Attack with a
	// Target, if the network sees the target; any other, if the network was right
	// about the clean image and is wrong about the attacked one. nil for clean images.
	Success []bool `json:"success,omitempty"` // [Images]
	// ZeroGradient lists the images for which every gradient of an Attack was zero: it did not
	// know where to go, and that they survived it says nothing. Other adversaries list none.
	ZeroGradient []int `json:"zero_gradient,omitempty"`
}

// Evaluate attacks m with each of the attacks on all images of data, and judges it.
//
// If ctx is done it returns ctx's error with the report of the batches completed
// until then. Other errors, with a nil report, name what is at fault: a setting, an
// attack without a name or with that of another, images or labels that do not fit the
// network, a parameter that is not finite, what an attack returned.
func Evaluate(ctx context.Context, m *snn.Model, data Dataset, attacks []Named, cfg Config) (*Report, error) {
	reports, err := EvaluateAll(ctx, []*snn.Model{m}, data, attacks, cfg)
	if reports == nil {
		return nil, err
	}
	return reports[0], err
}

// EvaluateAll is Evaluate for several networks. A Source's images are made once and
// shown to each of them.
func EvaluateAll(ctx context.Context, models []*snn.Model, data Dataset, attacks []Named, cfg Config) ([]*Report, error) {
	e := evaluation{cfg, data, attacks, nil}
	n, err := e.check(models)
	if err != nil {
		return nil, fmt.Errorf("attack: evaluate: %w", err)
	}
	for _, m := range models {
		r := &Report{Clean: Outcome{Name: "clean"}, Attacks: make([]Outcome, len(attacks))}
		for k, a := range attacks {
			r.Attacks[k].Name = a.Name
		}
		e.judges = append(e.judges, &judge{m, r})
	}
	total := n * (1 + len(attacks))
	for lo := 0; lo < n && err == nil; lo += cfg.Batch {
		hi := min(lo+cfg.Batch, n)
		err = e.batch(ctx, lo, hi, total)
		if err != nil && !errors.Is(err, ctx.Err()) {
			return nil, fmt.Errorf("attack: evaluate: images %d to %d: %w", lo, hi-1, err)
		}
	}
	reports := make([]*Report, len(models))
	for i, j := range e.judges {
		j.finish(attacks)
		reports[i] = j.report
	}
	if err != nil {
		return reports, ctx.Err()
	}
	return reports, nil
}

type evaluation struct {
	Config
	data    Dataset
	attacks []Named
	judges  []*judge
}

// judge is a network and its report.
type judge struct {
	model  *snn.Model
	report *Report
}

// check returns the number of images, or an error if the evaluation's parts do not
// fit together.
func (e *evaluation) check(models []*snn.Model) (n int, err error) {
	if e.Batch < 1 {
		return 0, fmt.Errorf("batches of %d images: expected at least 1", e.Batch)
	}
	if len(models) == 0 {
		return 0, errors.New("no networks: expected at least one")
	}
	n, c, h, w := e.data.Shape()
	if n < 1 {
		return 0, errors.New("a data set of no images: expected at least one")
	}
	classes := models[0].Classes()
	if e.Source != nil {
		models = append([]*snn.Model{e.Source}, models...)
	}
	for _, m := range models {
		if err := m.ValidateParams(); err != nil {
			return 0, err
		}
		if m.Channels != c || m.Height != h || m.Width != w {
			return 0, fmt.Errorf("images of %d×%d×%d: the network expects %d×%d×%d", c, h, w, m.Channels, m.Height, m.Width)
		}
		if m.Classes() != classes {
			return 0, fmt.Errorf("networks of %d and %d classes: expected the same number", classes, m.Classes())
		}
	}
	for i := range n {
		if y := e.data.Label(i); y < 0 || y >= classes {
			return 0, fmt.Errorf("image %d: label %d: expected 0 to %d", i, y, classes-1)
		}
	}
	names := map[string]bool{}
	for i, a := range e.attacks {
		switch {
		case a.Name == "" || names[a.Name]:
			return 0, fmt.Errorf("attack %d has the name %q: expected one of its own", i, a.Name)
		case a.Attack == nil:
			return 0, fmt.Errorf("attack %s is nil", a.Name)
		}
		names[a.Name] = true
	}
	return n, nil
}

// batch judges every network on images lo to hi−1, and adds to the reports when all
// is done.
func (e *evaluation) batch(ctx context.Context, lo, hi, total int) error {
	x := tensor.NewNCHW(hi-lo, e.judges[0].model.Channels, e.judges[0].model.Height, e.judges[0].model.Width)
	indices, y, ids := make([]int, x.N), make([]int, x.N), make([]uint64, x.N)
	for i := range indices {
		indices[i], y[i], ids[i] = lo+i, e.data.Label(lo+i), uint64(lo+i)
	}
	if err := e.data.Fill(x, indices); err != nil {
		return err
	}
	keys := imageKeys(e.Key.Derive("judge", 0), ids)
	done := lo * (1 + len(e.attacks))
	progress := func(name string) {
		done += x.N
		if e.Progress != nil {
			e.Progress(Progress{name, done, total})
		}
	}
	predicted := make([][][]int, 1+len(e.attacks)) // [clean and attacks][networks][images]
	zero := make([][][]int, 1+len(e.attacks))      // the same, but some images
	for k := range predicted {
		name := "clean"
		if k > 0 {
			name = e.attacks[k-1].Name
		}
		predicted[k], zero[k] = make([][]int, len(e.judges)), make([][]int, len(e.judges))
		adv := x
		var without []int
		for i, j := range e.judges {
			err := ctx.Err()
			if err == nil && k > 0 && (i == 0 || e.Source == nil) {
				on := e.Source
				if on == nil {
					on = j.model
				}
				adv, without, err = perturb(ctx, e.attacks[k-1].Attack, on, x, y, ids, e.Key.Derive("attack "+name, 0))
				if err == nil && adv.N != x.N {
					err = fmt.Errorf("%d images made of %d", adv.N, x.N)
				}
			}
			if err == nil {
				zero[k][i] = without
				predicted[k][i], err = predict(j.model, adv, keys)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		progress(name)
	}
	for i, j := range e.judges {
		r := j.report
		r.Images += x.N
		r.Labels = append(r.Labels, y...)
		r.Clean.Predicted = append(r.Clean.Predicted, predicted[0][i]...)
		for k := range r.Attacks {
			r.Attacks[k].Predicted = append(r.Attacks[k].Predicted, predicted[k+1][i]...)
			r.Attacks[k].ZeroGradient = append(r.Attacks[k].ZeroGradient, zero[k+1][i]...)
		}
	}
	return nil
}

// perturb is a.Perturb, with the ids of the images for which an Attack had no gradient.
func perturb(ctx context.Context, a snn.Adversary, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (adv tensor.NCHW, without []int, err error) {
	g, ok := a.(*Attack)
	if !ok {
		adv, err = a.Perturb(ctx, m, x, y, ids, key)
		return adv, nil, err
	}
	adv, zero, err := g.attack(ctx, m, x, y, ids, key)
	for i, b := range zero {
		if b {
			without = append(without, int(ids[i]))
		}
	}
	return adv, without, err
}

// predict returns the class that m sees in each image.
func predict(m *snn.Model, x tensor.NCHW, keys []rng.Key) ([]int, error) {
	logits, err := m.Logits(snn.Pass{Keys: keys}, x)
	if err == nil {
		err = checkFinite("logit", logits, x.N, 0)
	}
	if err != nil {
		return nil, err
	}
	classes := make([]int, x.N)
	for i := range classes {
		z := logits[i*m.Classes():][:m.Classes()]
		for k, v := range z {
			if v > z[classes[i]] {
				classes[i] = k
			}
		}
	}
	return classes, nil
}

// finish draws the conclusions from what the network predicted.
func (j *judge) finish(attacks []Named) {
	r := j.report
	r.Clean.Accuracy = share(r.Images, func(i int) bool { return r.Clean.Predicted[i] == r.Labels[i] })
	r.Survived = make([]bool, r.Images)
	for i, y := range r.Labels {
		r.Survived[i] = r.Clean.Predicted[i] == y
	}
	for k := range r.Attacks {
		o := &r.Attacks[k]
		o.Success = make([]bool, r.Images)
		a, _ := attacks[k].Attack.(*Attack)
		for i, y := range r.Labels {
			if a != nil && a.Target != nil {
				o.Success[i] = o.Predicted[i] == a.Target(uint64(i), y)
			} else {
				o.Success[i] = r.Clean.Predicted[i] == y && o.Predicted[i] != y
			}
			r.Survived[i] = r.Survived[i] && o.Predicted[i] == y
		}
		o.Accuracy = share(r.Images, func(i int) bool { return o.Predicted[i] == r.Labels[i] })
	}
	r.WorstCase = share(r.Images, func(i int) bool { return r.Survived[i] })
}

// share returns the share of n images for which has is true.
func share(n int, has func(i int) bool) float64 {
	count := 0
	for i := range n {
		if has(i) {
			count++
		}
	}
	return float64(count) / float64(max(n, 1))
}
