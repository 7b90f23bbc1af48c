package attack

import (
	"context"
	"fmt"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Detail holds what an adversary knows about the images that it returned. The zero Detail
// holds nothing.
type Detail struct {
	// Target holds the class that the attack aimed at for each image, −1 for none, [N]. It
	// is nil for an untargeted attack.
	Target []int
	// ZeroGradient says for each image whether every gradient was zero, [N]. It is nil for
	// an adversary that follows no gradient.
	ZeroGradient []bool
}

// Detailer is an adversary that returns a Detail. PerturbDetail returns the images that
// Perturb would return, and a Detail about them.
//
// A wrapper of another adversary implements it by calling the function [PerturbDetail] on
// the adversary that it wraps. Evaluate counts an attack in any other wrapper as untargeted,
// and lists no zero gradients for it. A type that embeds an *Attack and has a Perturb of its
// own needs a PerturbDetail of its own too, since Evaluate prefers PerturbDetail.
type Detailer interface {
	PerturbDetail(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, Detail, error)
}

// PerturbDetail calls a's PerturbDetail if a is a [Detailer], and otherwise its Perturb.
func PerturbDetail(ctx context.Context, a snn.Adversary, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, Detail, error) {
	if d, ok := a.(Detailer); ok {
		return d.PerturbDetail(ctx, m, x, y, ids, key)
	}
	adv, err := a.Perturb(ctx, m, x, y, ids, key)
	return adv, Detail{}, err
}

// validate returns an error if d does not fit n images of so many classes. The first image
// is image from.
func (d Detail) validate(n, classes, from int) error {
	if d.Target != nil && len(d.Target) != n || d.ZeroGradient != nil && len(d.ZeroGradient) != n {
		return fmt.Errorf("%d targets and %d statements on gradients for %d images: expected one each, or nil", len(d.Target), len(d.ZeroGradient), n)
	}
	for i, t := range d.Target {
		if t < -1 || t >= classes {
			return fmt.Errorf("image %d: target %d: expected −1 to %d", from+i, t, classes-1)
		}
	}
	return nil
}

// Settings describes an adversary in a report.
type Settings struct {
	Kind      string     `json:"kind"` // such as "gradient attack"; the Go type if the adversary is not a Describer
	Objective string     `json:"objective,omitempty"`
	Gradient  string     `json:"gradient,omitempty"` // the gradient approximation
	Start     string     `json:"start,omitempty"`
	Steps     int        `json:"steps,omitempty"`
	Alpha     float32    `json:"alpha,omitempty"`     // the length of a step; 0 if Rule chooses it
	Rule      string     `json:"rule,omitempty"`      // the step rule; "" for steps of length Alpha
	Starts    int        `json:"starts,omitempty"`    // number of starts, if more than 1
	Targets   int        `json:"targets,omitempty"`   // number of wrong classes to aim at, each from starts of its own
	Draws     int        `json:"draws,omitempty"`     // passes over which a random network is averaged, if more than 1
	Passes    int        `json:"passes,omitempty"`    // the budget of a search by scores
	Rounds    int        `json:"rounds,omitempty"`    // number of rounds of the attacks in Mix
	GiveUp    float64    `json:"give_up,omitempty"`   // as in [Rounds]
	KeepBest  bool       `json:"keep_best,omitempty"` // whether the best point is returned
	Targeted  bool       `json:"targeted,omitempty"`
	Std       float32    `json:"std,omitempty"` // standard deviation of noise
	P         float64    `json:"p,omitempty"`   // as in [Square]
	Mix       []Settings `json:"mix,omitempty"` // of each attack of a Mix, of Rounds or of a Transfer
	// SharedFrames says whether all frames of an example have the same perturbation.
	SharedFrames bool `json:"shared_frames,omitempty"`
	// Reduce says whether changes of spikes that are not needed are taken back.
	Reduce bool `json:"reduce,omitempty"`
	// Order is the gradient approximation that orders a search by scores, if one does.
	Order string `json:"order,omitempty"`
}

// Describer is an adversary that describes itself in a report.
type Describer interface {
	Describe() Settings
}

// Describe returns a's own description if a is a [Describer], and otherwise its Go type.
func Describe(a snn.Adversary) Settings {
	if d, ok := a.(Describer); ok {
		return d.Describe()
	}
	return Settings{Kind: fmt.Sprintf("%T", a)}
}

// Describe implements [Describer]. An objective or a start without a String method appears
// as its Go type.
func (a *Attack) Describe() Settings {
	s := Settings{
		KeepBest: a.KeepBest, Targets: a.Targets,
		Kind: "gradient attack", Objective: nameOf(a.Objective), Gradient: nameOf(a.Gradient), Start: nameOf(a.Start),
		Steps: a.Steps, Alpha: a.Alpha, Targeted: a.Target != nil, SharedFrames: a.SharedFrames, Reduce: a.Reduce,
	}
	if a.Rule != nil {
		s.Rule = nameOf(a.Rule)
	}
	switch a.Rule.(type) {
	case APGD, SAPGD, Greedy:
		s.Alpha = 0
	}
	if a.Starts > 1 {
		s.Starts = a.Starts
	}
	if a.Draws > 1 {
		s.Draws = a.Draws
	}
	return s
}

// Describe implements [Describer].
func (g GaussianNoise) Describe() Settings { return Settings{Kind: "Gaussian noise", Std: g.Std} }

// Describe implements [Describer].
func (m Mix) Describe() Settings {
	s := Settings{Kind: "mix"}
	for _, a := range m {
		s.Mix = append(s.Mix, Describe(a))
	}
	return s
}

func nameOf(v any) string {
	if s, ok := v.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", v)
}
