// Package trials names the attacks of the examples in tables and files, and holds their
// outcomes.
package trials

import (
	"fmt"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
)

// Trial is clean images, noise, an attack with its settings, or a battery of attacks. Trials can
// be compared.
type Trial struct {
	Attack   string  `json:"attack"`             // clean, noise, FGSM, RFGSM, PGD, BIM or battery
	Preset   string  `json:"preset,omitempty"`   // of a battery
	Gradient string  `json:"gradient,omitempty"` // the approximation that the attack uses
	Eps      float64 `json:"eps_255,omitempty"`  // ε; the standard deviation of noise
	Alpha    float64 `json:"alpha,omitempty"`    // step α of PGD and BIM
	Steps    int     `json:"steps,omitempty"`    // of PGD and BIM
}

// Clean is the images themselves.
var Clean = Trial{Attack: "clean"}

// Noise is Gaussian noise of standard deviation eps, in 255ths.
func Noise(eps float64) Trial { return Trial{Attack: "noise", Eps: eps} }

// Gradients are the gradient approximations of the attacks.
var Gradients = []snn.Gradient{snn.CBA{}, snn.BPTR{}, snn.BPTT{}}

// New returns the trial of an attack with radius eps, in 255ths. PGD and BIM make steps of
// length alpha. The other attacks ignore alpha and steps.
func New(name string, g snn.Gradient, eps, alpha float64, steps int) Trial {
	t := Trial{Attack: name, Gradient: fmt.Sprint(g), Eps: eps}
	if name == "PGD" || name == "BIM" {
		t.Alpha, t.Steps = alpha, steps
	}
	return t
}

// String returns the trial's name. It names the trial's random stream, too.
func (t Trial) String() string {
	if t == Clean {
		return t.Attack
	}
	if t.Preset != "" {
		return fmt.Sprintf("%s battery ε=%v/255", t.Preset, t.Eps)
	}
	return fmt.Sprintf("%s %s ε=%v/255", t.Attack, t.Gradient, t.Eps)
}

// Adversary returns the attack, or the noise. A battery has none.
func (t Trial) Adversary() snn.Adversary {
	eps, alpha := float32(t.Eps/255), float32(t.Alpha)
	for _, g := range Gradients {
		if fmt.Sprint(g) != t.Gradient {
			continue
		}
		switch t.Attack {
		case "FGSM":
			return attack.FGSM(eps, g)
		case "RFGSM":
			return attack.RFGSM(eps, g)
		case "PGD":
			return attack.PGD(eps, alpha, t.Steps, g)
		case "BIM":
			return attack.BIM(eps, alpha, t.Steps, g)
		}
	}
	return attack.GaussianNoise{Std: eps}
}

// InWorstCase reports whether a worst case counts the trial. It counts clean images and
// attacks, which stay within ε of them. It leaves out noise, which has no bound.
func (t Trial) InWorstCase() bool { return t.Attack != "noise" }

// Validate returns an error if a setting of the attack is out of its range.
func (t Trial) Validate() error {
	if a, ok := t.Adversary().(*attack.Attack); ok {
		if err := a.Validate(); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

// Outcome is what a network made of the test images in a trial.
type Outcome struct {
	Trial
	Accuracy  float64 `json:"accuracy"`  // in [0,1]
	Predicted []int   `json:"predicted"` // class of each test image
	// ZeroGradient lists the images, in increasing order, for which every gradient of the
	// attack was zero.
	ZeroGradient []int `json:"zero_gradient,omitempty"`
}

// NewOutcome returns the outcome of a trial from an attack's report.
func NewOutcome(t Trial, o attack.Outcome) Outcome {
	return Outcome{t, o.Accuracy, o.Predicted, o.ZeroGradient}
}

// Validate returns an error if o is not an outcome of images with these labels, which are
// in [0, classes).
func (o Outcome) Validate(labels []int, classes int) error {
	if len(labels) == 0 || len(o.Predicted) != len(labels) {
		return fmt.Errorf("%v: %d predictions: expected %d", o.Trial, len(o.Predicted), len(labels))
	}
	right := 0
	for i, class := range o.Predicted {
		if class < 0 || class >= classes {
			return fmt.Errorf("%v: class %d of image %d: expected a number in [0, %d)", o.Trial, class, i, classes)
		}
		if class == labels[i] {
			right++
		}
	}
	if accuracy := float64(right) / float64(len(labels)); o.Accuracy != accuracy {
		return fmt.Errorf("%v: accuracy %v: expected %v, as the predictions say", o.Trial, o.Accuracy, accuracy)
	}
	last := -1
	for _, i := range o.ZeroGradient {
		if i <= last || i >= len(labels) {
			return fmt.Errorf("%v: image %d has a zero gradient: expected a number in [%d, %d)", o.Trial, i, last+1, len(labels))
		}
		last = i
	}
	return nil
}

// WorstCase returns the share of the images that are classified as labelled in all outcomes
// that a worst case counts. The outcomes are valid for the labels.
func WorstCase(labels []int, outcomes []Outcome) float64 {
	survived := 0
	for i, label := range labels {
		right := true
		for _, o := range outcomes {
			right = right && (!o.InWorstCase() || o.Predicted[i] == label)
		}
		if right {
			survived++
		}
	}
	return float64(survived) / float64(len(labels))
}

// GradientWork is the work of a gradient step of an attack on one image, in forward passes.
// It counts the forward pass, the backward pass to the image, and the step.
const GradientWork = 2.5

// Work returns the work of attacking one image and of classifying it by so many networks, in
// forward passes. That of a battery is a typical value.
func (t Trial) Work(networks int) float64 {
	if t.Preset != "" {
		return float64(networks) * batteryWork[t.Preset]
	}
	work := float64(networks)
	if a, ok := t.Adversary().(*attack.Attack); ok {
		work += GradientWork * float64(a.Steps)
	}
	return work
}
