package attack

import (
	"encoding/hex"

	"github.com/org/snnrat/internal/version"
)

// Report is the result of an evaluation. Accuracies are shares of Images, in [0,1], and 0
// if Images is 0. Slices are in the order of the data. A Report read back from its JSON is
// equal to the original.
type Report struct {
	Images  int       `json:"images"` // number evaluated: all, unless the evaluation was stopped
	Labels  []int     `json:"labels"` // [Images]
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

	// Norm and Eps are the threat model that the attack's images were checked against. Norm
	// is "none" for an adversary without a bound, and "" for clean images.
	Norm string  `json:"norm,omitempty"`
	Eps  float32 `json:"eps,omitempty"`
	// InWorstCase says whether Survived and WorstCase count the attack. They do if its
	// threat model lies within the report's.
	InWorstCase bool      `json:"in_worst_case,omitempty"`
	Settings    *Settings `json:"settings,omitempty"` // nil for clean images
}

// newReport returns the report of an evaluation before its first image.
func newReport(e *evaluation) *Report {
	r := &Report{
		Clean: Outcome{Name: "clean"}, Attacks: make([]Outcome, len(e.attacks)),
		Norm: e.Threat.name(), Eps: e.Threat.Eps, BlackBox: e.Source != nil,
		Key: hex.EncodeToString(e.Key[:]), Library: version.String(),
	}
	for k, a := range e.attacks {
		t, settings := e.threats[k], Describe(a.Attack)
		r.Attacks[k] = Outcome{
			Name: a.Name, Norm: t.name(), Eps: t.Eps, InWorstCase: e.inWorstCase(t), Settings: &settings,
		}
	}
	return r
}

// shown is a network's predictions for the images of a batch, clean or under one attack.
type shown struct {
	predicted []int
	detail    Detail
}

// add appends the predictions for a batch, clean and under each attack.
func (r *Report) add(labels []int, versions []shown) {
	first := r.Images
	r.Images += len(labels)
	r.Labels = append(r.Labels, labels...)
	r.Clean.Predicted = append(r.Clean.Predicted, versions[0].predicted...)
	for k := range r.Attacks {
		o, v := &r.Attacks[k], versions[k+1]
		o.Predicted = append(o.Predicted, v.predicted...)
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
