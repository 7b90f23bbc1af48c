// Package trials names what the examples judge networks under, in tables and files.
package trials

import (
	"fmt"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
)

// Trial is something that a network is judged under. Trials can be compared.
type Trial struct {
	Attack   string  `json:"attack"`             // clean, noise, FGSM, RFGSM, PGD or BIM
	Gradient string  `json:"gradient,omitempty"` // the approximation that the attack uses
	Eps      float64 `json:"eps_255,omitempty"`  // ε; the standard deviation of noise
	Alpha    float64 `json:"alpha,omitempty"`    // step α of PGD and BIM
	Steps    int     `json:"steps,omitempty"`    // of PGD and BIM
}

// Clean is the images themselves.
var Clean = Trial{Attack: "clean"}

// Noise is Gaussian noise of standard deviation eps, in 255ths.
func Noise(eps float64) Trial { return Trial{Attack: "noise", Eps: eps} }

// Gradients are the approximations that attacks go by.
var Gradients = []snn.Gradient{snn.CBA{}, snn.BPTR{}, snn.BPTT{}}

// New returns the trial by an attack with radius eps, in 255ths. Steps and their
// length alpha are those of PGD and BIM; others take none.
func New(name string, g snn.Gradient, eps, alpha float64, steps int) Trial {
	t := Trial{Attack: name, Gradient: fmt.Sprint(g), Eps: eps}
	if name == "PGD" || name == "BIM" {
		t.Alpha, t.Steps = alpha, steps
	}
	return t
}

// String returns the trial's name, which is that of its random stream too.
func (t Trial) String() string {
	if t == Clean {
		return t.Attack
	}
	return fmt.Sprintf("%s %s ε=%v/255", t.Attack, t.Gradient, t.Eps)
}

// Adversary returns what makes the images.
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

// InWorstCase tells whether a worst case counts the trial: clean images and attacks, which
// stay within ε of them. Noise has no bound.
func (t Trial) InWorstCase() bool { return t.Attack != "noise" }

// Validate returns an error if the attack is none.
func (t Trial) Validate() error {
	if a, ok := t.Adversary().(*attack.Attack); ok {
		if err := a.Validate(); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

// GradientWork is the work of a gradient step of an attack on one image, in forward
// passes: one, a backward pass to the image, and the step.
const GradientWork = 2.5

// Work is that of making one image and showing it to so many networks, in forward
// passes.
func (t Trial) Work(networks int) float64 {
	work := float64(networks)
	if a, ok := t.Adversary().(*attack.Attack); ok {
		work += GradientWork * float64(a.Steps)
	}
	return work
}
