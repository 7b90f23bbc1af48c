package attack

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/org/snnrat/internal/version"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Report is the result of an evaluation. Accuracies are shares of Images, in [0,1], and 0
// if Images is 0. Slices are in the order of the data. A Report read back from its JSON is
// equal to the original, except that it has no Kept.
//
// String prints a Report. Its other methods count per class, compare networks and write
// images. They expect a Report of [Evaluate] or one read from JSON.
type Report struct {
	Images int   `json:"images"` // number evaluated: all, unless the evaluation was stopped
	Labels []int `json:"labels"` // [Images]
	// ClassNames holds the network's names of the classes, or else those of the data. Nil if
	// they are unknown.
	ClassNames []string `json:"class_names,omitempty"`
	// Digest is the SHA-256 of the clean images' values in hexadecimal digits, to tell data
	// sets apart.
	Digest  string    `json:"digest,omitempty"`
	Clean   Outcome   `json:"clean"`
	Attacks []Outcome `json:"attacks"` // in the order they were given
	// Survived says for each image whether it is classified as labelled when clean and
	// under every attack whose InWorstCase is true.
	Survived  []bool  `json:"survived"`            // [Images]
	WorstCase float64 `json:"worst_case_accuracy"` // the share of Survived; without an attack that counts, Clean.Accuracy

	// Norm and Eps are the threat model of WorstCase: every attacked image that counts is
	// within distance Eps of its original in Norm. Norm is "none" if no attack has a bound.
	// It ends in "per frame" if the distance is that of each frame, and not of the whole
	// example.
	Norm string  `json:"norm"`
	Eps  float32 `json:"eps"`
	// BlackBox says whether the images were made on another network, [Config].Source.
	BlackBox bool `json:"black_box,omitempty"`
	// Key is Config.Key in hexadecimal digits. It stands for the seed.
	Key string `json:"key"`
	// Library is the version of this library.
	Library string `json:"library"`

	// Part says which shard the report is of. Nil stands for the whole data set.
	Part *Part `json:"part,omitempty"`

	// Kept holds the images that [Config].Keep chose. It is nil if Keep is nil.
	Kept *Kept `json:"-"`
}

// Outcome is the result for the clean images or for one attack.
type Outcome struct {
	Name      string  `json:"name"` // of the attack; "clean" for the images themselves
	Accuracy  float64 `json:"accuracy"`
	Predicted []int   `json:"predicted"` // [Images], the class of the largest logit; among equal logits, the first
	// Success says for each image whether the attack succeeded. A targeted attack succeeds
	// if the network predicts the target. An untargeted attack succeeds if the network is
	// right about the clean image and wrong about the attacked one. Nil for clean images.
	Success []bool `json:"success,omitempty"` // [Images]
	// Target holds the class that the attack aimed at, −1 for none. It is nil for an
	// untargeted attack.
	Target []int `json:"target,omitempty"` // [Images]
	// ZeroGradient lists the images for which every gradient of the attack was zero. The
	// attack could not choose a direction for them, and their survival proves nothing.
	ZeroGradient []int `json:"zero_gradient,omitempty"`

	// Changes holds the number of changes of spikes in each attacked image, in [Flips], in
	// [Retiming] and of a [Pattern]: the levels that differ, or the spikes that moved. Nil for
	// other attacks.
	Changes []int `json:"changes,omitempty"` // [Images]

	// Norm and Eps are the threat model that the attack's images were checked against. Norm
	// is "none" for an adversary without a bound, and "" for clean images.
	Norm string  `json:"norm,omitempty"`
	Eps  float32 `json:"eps,omitempty"`
	// InWorstCase says whether Survived and WorstCase count the attack. They do if its
	// threat model lies within the report's.
	InWorstCase bool      `json:"in_worst_case,omitempty"`
	Settings    *Settings `json:"settings,omitempty"` // nil for clean images
}

// newReport returns the report of an evaluation of m before its first image.
func newReport(e *evaluation, m *snn.Model) *Report {
	r := &Report{
		Clean: Outcome{Name: clean}, Attacks: make([]Outcome, len(e.attacks)),
		Norm: e.Threat.name(), Eps: e.Threat.Eps, BlackBox: e.Source != nil,
		Key: hex.EncodeToString(e.Key[:]), Library: version.String(),
	}
	for k, a := range e.attacks {
		t, settings := e.threats[k], Describe(a.Attack)
		r.Attacks[k] = Outcome{
			Name: a.Name, Norm: t.name(), Eps: t.Eps, InWorstCase: e.inWorstCase(t), Settings: &settings,
		}
	}
	if r.ClassNames = m.ClassNames(); r.ClassNames == nil {
		r.ClassNames = snn.InfoOf(e.data).ClassNames
	}
	if e.Keep != nil {
		r.Kept = &Kept{Adversarial: make([]tensor.NCHW, len(e.attacks))}
	}
	return r
}

// shown is a network's predictions for the images of a batch, clean or under one attack.
type shown struct {
	kept      tensor.NCHW // copies of the images to keep
	predicted []int
	detail    Detail
	changes   []int // of spikes, or nil
}

// add appends the predictions for a batch, clean and under each attack, and the images chosen
// from it. The batch begins at image lo of the data.
func (r *Report) add(lo int, labels []int, versions []shown, chosen []int) {
	first := r.Images
	if r.Kept != nil {
		r.Kept.add(lo, chosen, versions)
		if r.Part != nil {
			for _, i := range chosen {
				r.Kept.positions = append(r.Kept.positions, first+i)
			}
		}
	}
	r.Images += len(labels)
	r.Labels = append(r.Labels, labels...)
	r.Clean.Predicted = append(r.Clean.Predicted, versions[0].predicted...)
	for k := range r.Attacks {
		o, v := &r.Attacks[k], versions[k+1]
		o.Predicted = append(o.Predicted, v.predicted...)
		o.Changes = append(o.Changes, v.changes...)
		for i, zero := range v.detail.ZeroGradient {
			if zero {
				o.ZeroGradient = append(o.ZeroGradient, first+i)
			}
		}
		// An adversary may tell targets for some of the batches alone.
		for i := range labels {
			t := -1
			if v.detail.Target != nil {
				t = v.detail.Target[i]
			}
			o.Target = append(o.Target, t)
		}
	}
}

// finish computes successes, accuracies and the worst case from the predictions.
func (r *Report) finish() {
	r.Clean.Accuracy = share(r.Images, func(i int) bool { return r.Clean.Predicted[i] == r.Labels[i] })
	r.Survived = make([]bool, r.Images)
	for i, y := range r.Labels {
		r.Survived[i] = r.Clean.Predicted[i] == y
	}
	for k := range r.Attacks {
		o := &r.Attacks[k]
		o.Success = nil
		targeted := false
		for i, y := range r.Labels {
			success := r.Clean.Predicted[i] == y && o.Predicted[i] != y
			if t := o.Target[i]; t >= 0 {
				targeted = true
				success = o.Predicted[i] == t
			}
			o.Success = append(o.Success, success)
			r.Survived[i] = r.Survived[i] && (!o.InWorstCase || o.Predicted[i] == y)
		}
		if !targeted {
			o.Target = nil
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

// UnmarshalJSON implements [json.Unmarshaler]. It returns an error that names the field if the
// length of a slice differs from Images or a class is negative. It also returns one if an accuracy
// or Survived does not follow from the predictions. After an error r is unchanged.
func (r *Report) UnmarshalJSON(text []byte) error {
	type plain Report // without this method
	var fresh plain   // for JSON leaves fields that it lacks as they are
	if err := json.Unmarshal(text, &fresh); err != nil {
		return err
	}
	read := Report(fresh)
	err := read.validate()
	if err == nil {
		err = read.validateResults()
	}
	if err != nil {
		return fmt.Errorf("attack: report: %w", err)
	}
	*r = read
	return nil
}

// validate returns an error if the parts of r do not fit together.
func (r *Report) validate() error {
	check := func(name string, n, smallest int, classes []int) error {
		if n != r.Images {
			return fmt.Errorf("%s of %d images: expected the %d of images", name, n, r.Images)
		}
		for i, c := range classes {
			if c < smallest {
				return fmt.Errorf("%s of image %d: %d: expected a class of at least %d", name, i, c, smallest)
			}
		}
		return nil
	}
	share := func(name string, v float64) error {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("%s %v: expected a number from 0 to 1", name, v)
		}
		return nil
	}
	errs := []error{
		check("labels", len(r.Labels), 0, r.Labels),
		check("survived", len(r.Survived), 0, nil),
		share("worst_case_accuracy", r.WorstCase),
	}
	for _, o := range append([]Outcome{r.Clean}, r.Attacks...) {
		errs = append(errs, check(o.Name+": predicted", len(o.Predicted), 0, o.Predicted), share(o.Name+": accuracy", o.Accuracy))
		if o.Success != nil {
			errs = append(errs, check(o.Name+": success", len(o.Success), 0, nil))
		}
		if o.Target != nil {
			errs = append(errs, check(o.Name+": target", len(o.Target), -1, o.Target))
		}
		if o.Changes != nil {
			errs = append(errs, check(o.Name+": changes", len(o.Changes), 0, o.Changes))
		}
	}
	return cmp.Or(errs...)
}

// validateResults returns an error if an accuracy, a survival or a name does not follow from
// the predictions of r, whose slices have their lengths.
func (r *Report) validateResults() error {
	names := map[string]bool{clean: true, worstCase: true}
	survived := make([]bool, r.Images)
	for k, o := range append([]Outcome{r.Clean}, r.Attacks...) {
		if k > 0 && names[o.Name] {
			return fmt.Errorf("attack %d has the name %q: expected one of its own, other than %q and %q", k-1, o.Name, clean, worstCase)
		}
		names[o.Name] = true
		correct := 0
		for i, y := range r.Labels {
			right := o.Predicted[i] == y
			if right {
				correct++
			}
			if k == 0 || o.InWorstCase {
				survived[i] = right && (k == 0 || survived[i])
			}
		}
		if r.correct(o.Accuracy) != correct {
			return fmt.Errorf("%s: accuracy %v: expected that of the predictions, of which %d of %d are right", o.Name, o.Accuracy, correct, r.Images)
		}
	}
	count := 0
	for i, s := range survived {
		if r.Survived[i] != s {
			return fmt.Errorf("survived of image %d is %v: expected %v by the predictions", i, r.Survived[i], s)
		}
		if s {
			count++
		}
	}
	if r.correct(r.WorstCase) != count {
		return fmt.Errorf("worst_case_accuracy %v: expected that of survived, which is true for %d of %d", r.WorstCase, count, r.Images)
	}
	return nil
}
