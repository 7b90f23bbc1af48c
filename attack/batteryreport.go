package attack

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/org/snnrat/internal/version"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// The values of [ImageResult].BrokenBy that are no index of an attack.
const (
	Survived      = -1 // no attack broke the image
	Misclassified = -2 // the network misclassifies the original; the image met no attack
)

// ImageResult is what a battery found around one image.
type ImageResult struct {
	Index       int     `json:"index"` // in the data
	Label       int     `json:"label"`
	Clean       int     `json:"clean"`        // predicted class of the original
	CleanMargin float32 `json:"clean_margin"` // logit of the label minus the largest other one
	// BrokenBy is the index of the first attack that broke the image, or Survived, or
	// Misclassified.
	BrokenBy  int     `json:"broken_by"`
	Predicted int     `json:"predicted"` // class of the best point, predicted anew
	Margin    float32 `json:"margin"`    // of the best point
	// Changes is the number of changes of spikes in the best point, in [Flips] and [Retiming].
	Changes int `json:"changes,omitempty"`
	// Passes counts passes of one image. A forward pass is one, and a backward pass another.
	// Those of adversaries that are no Searcher are not known.
	Passes        int     `json:"passes"`
	PassesToBreak int     `json:"passes_to_break,omitempty"` // Passes when the image was broken
	Trials        []Trial `json:"trials"`                    // of the attacks that the image met, in order
}

// Trial is what one attack did around one image.
type Trial struct {
	Broke     bool    `json:"broke,omitempty"`
	Margin    float32 `json:"margin"` // of the best point so far
	Passes    int     `json:"passes"`
	Gradients int     `json:"gradients,omitempty"`      // gradients that the attack asked for
	Zeros     int     `json:"zero_gradients,omitempty"` // those that were zero
	// Late is the share of an attack's gain in its objective that came in the last tenth of its
	// steps, the largest of all starts. It is 0 for an attack that broke the image.
	Late float32 `json:"late,omitempty"`
	// ByScores says that the attack was [Rounds], of which one without gradients broke the image.
	ByScores bool `json:"by_scores,omitempty"`
}

// BatteryAttack sums up one attack of a battery.
type BatteryAttack struct {
	Name     string   `json:"name"`
	Settings Settings `json:"settings"`
	Refused  string   `json:"refused,omitempty"` // why the network's neurons refuse the attack; it met no image
	Met      int      `json:"met"`               // images that met the attack
	Broke    int      `json:"broke"`             // those of them that it broke
	// Left is the accuracy that all attacks up to this one leave, in [0,1].
	Left float64 `json:"left"`
	// Alone is the accuracy that this attack alone leaves, in [0,1]. It is −1 unless the battery
	// was Exhaustive. An attack that begins at the best point before counts what was broken
	// before as its own.
	Alone  float64 `json:"alone"`
	Passes int     `json:"passes"` // of one image, summed over the images that met the attack
	// ZeroGradient is the number of images for which every gradient was zero.
	ZeroGradient int `json:"zero_gradient,omitempty"`
}

// BatteryReport is the result of a battery. Accuracies are shares of Images, in [0,1].
type BatteryReport struct {
	Battery string `json:"battery"` // name of the preset
	Images  int    `json:"images"`  // number of images that are finished
	// Partial says whether the battery was stopped before the last image. Images that break soon are
	// finished first, so the WorstCase of a partial report is usually too low.
	Partial    bool            `json:"partial"`
	Clean      float64         `json:"clean_accuracy"`
	WorstCase  float64         `json:"worst_case_accuracy"`
	Attacks    []BatteryAttack `json:"attacks"`
	Results    []ImageResult   `json:"results"` // in the order of the data
	Passes     int             `json:"passes"`  // sum over the images
	Checks     []Check         `json:"checks"`  // the twelve points of an honest evaluation; nil if it was unchecked
	Norm       string          `json:"norm"`
	Eps        float32         `json:"eps"`
	Random     bool            `json:"random"` // whether the network's logits differ from pass to pass
	Draws      int             `json:"draws"`  // passes over which logits and gradients are averaged
	Exhaustive bool            `json:"exhaustive,omitempty"`
	ClassNames []string        `json:"class_names,omitempty"`
	Digest     string          `json:"digest"`  // SHA-256 of the images' values in hexadecimal digits
	Key        string          `json:"key"`     // Config.Key in hexadecimal digits
	Library    string          `json:"library"` // version of this library
	// Part says which shard the report is of. Nil stands for the whole data set.
	Part *Part `json:"part,omitempty"`

	// Kept holds the images that BatteryConfig.Keep chose, and the best points around them as
	// those of one attack.
	Kept *Kept `json:"-"`

	total int // images of the data, or of the shard
}

func newBatteryReport(e *batteryRun, random bool, digest string) *BatteryReport {
	r := &BatteryReport{
		Battery: e.Name, Norm: e.Threat.name(), Eps: e.Threat.Eps, Random: random, Draws: e.draws, Exhaustive: e.cfg.Exhaustive,
		Digest: digest, Key: hex.EncodeToString(e.cfg.Key[:]), Library: version.String(),
		Results: slices.Clone(e.cfg.Done),
	}
	lo, hi := e.cfg.Shard.Range(e.data.Shape().N)
	r.total = hi - lo
	if r.ClassNames = e.model.ClassNames(); r.ClassNames == nil {
		r.ClassNames = snn.InfoOf(e.data).ClassNames
	}
	for _, a := range e.Attacks {
		r.Attacks = append(r.Attacks, BatteryAttack{Name: a.Name, Settings: Describe(a.Attack), Alone: -1})
	}
	if e.cfg.Keep != nil {
		r.Kept = &Kept{Adversarial: make([]tensor.NCHW, 1)}
	}
	return r
}

// add appends the result of an image.
func (r *BatteryReport) add(result ImageResult, x, adv tensor.NCHW, keep bool) {
	r.Results = append(r.Results, result)
	if keep {
		r.Kept.Indices = append(r.Kept.Indices, result.Index)
		r.Kept.Clean = concat(r.Kept.Clean, x)
		r.Kept.Adversarial[0] = concat(r.Kept.Adversarial[0], adv)
	}
}

// finish puts the results in the order of the data and sums them up.
func (r *BatteryReport) finish() {
	slices.SortFunc(r.Results, func(a, b ImageResult) int { return cmp.Compare(a.Index, b.Index) })
	r.Kept.sort()
	r.Images = len(r.Results)
	r.Partial = r.Images < r.total
	count := func(has func(ImageResult) bool) float64 {
		return share(r.Images, func(i int) bool { return has(r.Results[i]) })
	}
	r.Clean = count(func(i ImageResult) bool { return i.BrokenBy != Misclassified })
	r.WorstCase = count(func(i ImageResult) bool { return i.BrokenBy == Survived })
	for k := range r.Attacks {
		a := &r.Attacks[k]
		for _, i := range r.Results {
			if k >= len(i.Trials) || a.Refused != "" {
				continue
			}
			t := i.Trials[k]
			a.Met++
			a.Passes += t.Passes
			if t.Broke {
				a.Broke++
			}
			if t.Gradients > 0 && t.Zeros == t.Gradients {
				a.ZeroGradient++
			}
		}
		a.Left = count(func(i ImageResult) bool { return i.BrokenBy == Survived || i.BrokenBy > k })
		if r.Exhaustive && a.Refused == "" {
			a.Alone = count(func(i ImageResult) bool { return k < len(i.Trials) && !i.Trials[k].Broke })
		}
	}
	for _, i := range r.Results {
		r.Passes += i.Passes
	}
}

// sort puts the images in the order of the data.
func (k *Kept) sort() {
	if k == nil || len(k.Indices) == 0 {
		return
	}
	order := make([]int, len(k.Indices))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(k.Indices[a], k.Indices[b]) })
	k.Clean = pick(k.Clean, order)
	for i := range k.Adversarial {
		k.Adversarial[i] = pick(k.Adversarial[i], order)
	}
	slices.Sort(k.Indices)
}

// AccuracyAt returns the accuracy that so many passes around each image leave, in [0,1]. Images
// that were broken within that many are lost, and so are those that were misclassified.
func (r *BatteryReport) AccuracyAt(passes int) float64 {
	return share(r.Images, func(i int) bool {
		b := r.Results[i]
		return b.BrokenBy == Survived || b.BrokenBy >= 0 && b.PassesToBreak > passes
	})
}

// Report returns the result as that of an evaluation with one attack, the whole battery, for
// tables, per-class results, comparisons and pictures. Its slices are those of Results, in the
// same order. The Digest of a Partial report, or of that of a shard, is that of its own images.
func (r *BatteryReport) Report() *Report {
	settings := Settings{Kind: "battery"}
	for _, a := range r.Attacks {
		settings.Mix = append(settings.Mix, a.Settings)
	}
	name := "battery"
	if r.Battery != "" {
		name = r.Battery + " battery"
	}
	e := &Report{
		Images: r.Images, ClassNames: r.ClassNames, Digest: r.Digest, Clean: Outcome{Name: clean},
		Attacks: []Outcome{{Name: name, Norm: r.Norm, Eps: r.Eps, InWorstCase: true, Settings: &settings}},
		Norm:    r.Norm, Eps: r.Eps, Key: r.Key, Library: r.Library,
	}
	if r.Partial || r.Part != nil { // of some images, which tell it from another part of the data
		digest := sha256.New()
		fmt.Fprint(digest, r.Digest)
		for _, i := range r.Results {
			fmt.Fprint(digest, " ", i.Index)
		}
		e.Digest = hex.EncodeToString(digest.Sum(nil))
	}
	if r.Kept != nil {
		kept := *r.Kept
		for _, index := range kept.Indices {
			kept.positions = append(kept.positions, slices.IndexFunc(r.Results, func(i ImageResult) bool { return i.Index == index }))
		}
		e.Kept = &kept
	}
	for _, i := range r.Results {
		e.Labels = append(e.Labels, i.Label)
		e.Clean.Predicted = append(e.Clean.Predicted, i.Clean)
		e.Attacks[0].Predicted = append(e.Attacks[0].Predicted, i.Predicted)
		e.Attacks[0].Target = append(e.Attacks[0].Target, -1)
		if strings.HasPrefix(r.Norm, spikesPrefix) {
			e.Attacks[0].Changes = append(e.Attacks[0].Changes, i.Changes)
		}
	}
	e.finish()
	return e
}

// trial sums up the oracle's attack, after which the best point has the given margin.
func (o *Oracle) trial(margin float32) Trial {
	t := Trial{Broke: o.found, Margin: margin, Passes: o.passes, Gradients: o.gradients, Zeros: o.zeros, ByScores: o.byScores}
	if !o.found {
		t.Late = o.late
	}
	return t
}
