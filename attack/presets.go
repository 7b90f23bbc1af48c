package attack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// Preset returns the battery [Quick], [Standard] or [Thorough] by its name in lower case.
func Preset(name string, t Threat) (Battery, error) {
	i := slices.IndexFunc(presets, func(p preset) bool { return p.name == name })
	if i < 0 {
		var names []string
		for _, p := range presets {
			names = append(names, p.name)
		}
		return Battery{}, fmt.Errorf("attack: preset %q: expected one of %s", name, strings.Join(names, ", "))
	}
	return presets[i].of(t), nil
}

type preset struct {
	name string
	of   func(Threat) Battery
}

var presets = []preset{{"quick", Quick}, {"standard", Standard}, {"thorough", Thorough}}

// triangle, arctan and sigmoid are the surrogates of the presets, in units of the threshold.
var (
	triangle = relative{snn.Triangle{Width: 0.5}}
	arctan   = relative{snn.Arctan{Alpha: 2}}
	sigmoid  = relative{snn.Sigmoid{Alpha: 4}}
)

// mixture holds the surrogates of several shapes and widths.
var mixture = Mixture{triangle, arctan, sigmoid, relative{snn.Triangle{Width: 1}}, relative{snn.Arctan{Alpha: 4}}}

// Quick returns a battery for a first look.
func Quick(t Threat) Battery {
	b := newPreset("quick", t)
	b.gradient("APGD cross-entropy, triangle", 30, CrossEntropy{}, triangle, AtImage{}, APGD{})
	b.gradient("APGD margin, arctan", 30, Margin{}, arctan, InBall{}, APGD{})
	b.gradient("APGD cross-entropy, sigmoid", 30, CrossEntropy{}, sigmoid, AtBest{}, APGD{})
	b.search("search", 2000)
	return b.Battery
}

// Standard returns a battery for results that are reported.
func Standard(t Threat) Battery {
	b := newPreset("standard", t)
	b.gradients(100)
	b.search("search", 3000)
	b.rounds("rounds", 3, 2500)
	return b.Battery
}

// Thorough returns a battery for the strongest claims.
func Thorough(t Threat) Battery {
	b := newPreset("thorough", t)
	b.gradients(100)
	b.search("search", 3000)
	b.rounds("rounds", 20, 2500)
	return b.Battery
}

// presetBattery is a preset that is being put together.
type presetBattery struct{ Battery }

func newPreset(name string, t Threat) *presetBattery {
	return &presetBattery{Battery{Name: name, Threat: t}}
}

func (b *presetBattery) add(name string, s Searcher) {
	b.Attacks = append(b.Attacks, Named{Name: name, Attack: s})
}

// attack returns an attack of so many steps within the battery's threat model.
func (b *presetBattery) attack(steps int, o Objective, g snn.Gradient, s Start, r StepRule) *Attack {
	return &Attack{
		Objective: o, Gradient: g, Start: s, Rule: r, Steps: steps, KeepBest: true,
		Norm: b.Threat.Norm, Eps: b.Threat.Eps, SharedFrames: b.Threat.PerFrame,
	}
}

func (b *presetBattery) gradient(name string, steps int, o Objective, g snn.Gradient, s Start, r StepRule) {
	b.add(name, b.attack(steps, o, g, s, r))
}

// gradients adds the gradient attacks of the larger presets.
func (b *presetBattery) gradients(steps int) {
	b.gradient("APGD cross-entropy, triangle", steps, CrossEntropy{}, triangle, AtImage{}, APGD{})
	b.gradient("APGD margin, arctan", steps, Margin{}, arctan, InBall{}, APGD{})
	b.gradient("APGD cross-entropy, sigmoid", steps, CrossEntropy{}, sigmoid, InBall{}, APGD{})
	b.gradient("APGD margin, mixture", steps, Margin{}, mixture, InBall{}, APGD{})
	targeted := b.attack(steps/2, Margin{}, arctan, InBall{}, APGD{})
	targeted.Targets = 3
	b.add("APGD margin to three classes, arctan", targeted)
}

// search adds a search by scores from the best point before.
func (b *presetBattery) search(name string, passes int) {
	b.add(name, b.byScores(passes))
}

func (b *presetBattery) byScores(passes int) Searcher {
	if b.Threat.Norm == (L2{}) {
		return Square{Norm: L2{}, Eps: b.Threat.Eps, Queries: passes, P: 0.1, FromBest: true, SharedFrames: b.Threat.PerFrame}
	}
	return LocalSearch{Eps: b.Threat.Eps, Passes: passes, FromBest: true, SharedFrames: b.Threat.PerFrame}
}

// rounds adds rounds of a gradient attack from a random start and a search from its best point.
func (b *presetBattery) rounds(name string, n, passes int) {
	b.add(name, Rounds{N: n, Attacks: []Searcher{
		b.attack(50, Margin{}, mixture, InBall{}, APGD{}), b.byScores(passes),
	}})
}

// relative is BPTT with a surrogate in units of the threshold. It takes the surrogate as it is
// for neurons that do not tell their thresholds.
type relative struct{ snn.Surrogate }

// Encode implements [snn.Gradient].
func (relative) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	return e.Encode(p, x)
}

// Fire implements [snn.Gradient].
func (r relative) Fire(p *snn.Pass, n snn.Neuron, current *autograd.Value) *autograd.Value {
	_, known := n.(snn.ThresholdNeuron)
	return snn.BPTT{Surrogate: r.Surrogate, Relative: known}.Fire(p, n, current)
}

// String returns the name of BPTT with the surrogate.
func (r relative) String() string { return snn.BPTT{Surrogate: r.Surrogate, Relative: true}.String() }
