package attack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// Preset returns the battery [Quick], [Standard] or [Thorough] by its name in lower case. It returns
// an error that lists the names for any other.
//
// Gradient attacks of several objectives and surrogates come first. A search by scores follows from
// their best point: a [LocalSearch] in L∞, a [Square] in L2. Standard and Thorough end with [Rounds]
// of a gradient attack from a random start and a search from its best point. Its gradient is a
// [GradientMix] of five surrogates.
//
// The presets run for images, for frames, for two classes, and for random networks. Frames share
// a perturbation if the threat model is L2 with PerFrame.
//
// For frames of spikes the threat model is one in [Flips] or [Retiming]. The gradient attacks are then
// [Greedy], and the searches are a [SpikeSearch] each: one in the order of gradients and one by scores
// alone. An attack that has broken an image takes back the changes that it does not need, so that
// [ImageResult].Changes is small.
//
// The passes that the comments of the presets tell are those in L∞, for a network that is not
// random. An image that breaks costs those before.
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

// gradientMix holds surrogates of several shapes and widths.
var gradientMix = GradientMix{triangle, arctan, sigmoid, relative{snn.Triangle{Width: 1}}, relative{snn.Arctan{Alpha: 4}}}

// Quick returns a battery for a first look: two gradient attacks of 30 steps and a search of 2,200
// passes, without rounds. An image that stands takes 2,323 passes. On 1,000 images of Fashion-MNIST
// at ε = 16/255 it leaves 50.5 % of a RAT network of T = 4, see docs/results/attack-search.md.
func Quick(t Threat) Battery {
	b := newPreset("quick", t)
	b.gradient("cross-entropy, triangle", 30, CrossEntropy{}, triangle, AtImage{})
	b.gradient("margin, arctan", 30, Margin{}, arctan, InBall{})
	b.search(2200)
	return b.Battery
}

// Standard returns a battery for results that are reported: five gradient attacks of 50 steps, a
// search of 1,500 passes, and rounds of 50 steps and 2,000 passes. There are three rounds for each
// image, and up to six for those near the border. An image that stands takes 8,309 to 14,612
// passes. On the network of [Quick] it leaves 47.3 %.
func Standard(t Threat) Battery {
	b := newPreset("standard", t)
	b.gradients(50)
	b.search(1500)
	b.rounds(6, 3, 50, 2000)
	return b.Battery
}

// Thorough returns a battery for the strongest claims: five gradient attacks of 200 steps, a search
// of 3,000 passes, and rounds of 50 steps and 4,000 passes. There are three rounds for each image,
// and up to 40 for those near the border. An image that stands takes 17,309 to 169,046 passes.
func Thorough(t Threat) Battery {
	b := newPreset("thorough", t)
	b.gradients(200)
	b.search(3000)
	b.rounds(40, 4, 50, 4000)
	return b.Battery
}

// presetBattery is a preset that is being put together.
type presetBattery struct{ Battery }

func newPreset(name string, t Threat) *presetBattery {
	return &presetBattery{Battery{Name: name, Threat: t}}
}

// shared reports whether frames share a perturbation. In L∞ those of each frame are as large.
func (b *presetBattery) shared() bool { return b.Threat.PerFrame && b.Threat.Norm != (LInf{}) }

func (b *presetBattery) add(name string, s Searcher) {
	b.Attacks = append(b.Attacks, Named{Name: name, Attack: s})
}

// spikes reports whether the threat model is one of changes of spikes.
func (b *presetBattery) spikes() bool { _, ok := b.Threat.Norm.(spikeNorm); return ok }

// ruleFor returns the rule of attacks of so many steps. In [Flips], half of the steps use up eps.
func ruleFor(n Norm, eps float32, steps int) StepRule {
	switch n.(type) {
	case Flips:
		return Greedy{Changes: max(1, (2*int(eps)+steps-1)/steps)}
	case Retiming:
		return Greedy{Changes: 8}
	}
	return APGD{}
}

// attack returns an attack of so many steps within the battery's threat model.
func (b *presetBattery) attack(steps int, o Objective, g snn.Gradient, s Start) *Attack {
	return &Attack{
		Objective: o, Gradient: g, Start: s, Rule: ruleFor(b.Threat.Norm, b.Threat.Eps, steps), Steps: steps, KeepBest: true,
		Norm: b.Threat.Norm, Eps: b.Threat.Eps, SharedFrames: b.shared(), Reduce: b.spikes(),
	}
}

// gradient adds a gradient attack. Those of spikes begin at the image, since random changes would use
// up eps.
func (b *presetBattery) gradient(name string, steps int, o Objective, g snn.Gradient, s Start) {
	rule := "APGD, "
	if b.spikes() {
		rule, s = "greedy, ", AtImage{}
	}
	b.add(rule+name, b.attack(steps, o, g, s))
}

// gradients adds the gradient attacks of the larger presets.
func (b *presetBattery) gradients(steps int) {
	b.gradient("cross-entropy, triangle", steps, CrossEntropy{}, triangle, AtImage{})
	b.gradient("margin, arctan", steps, Margin{}, arctan, InBall{})
	b.gradient("DLR, sigmoid", steps, DLR{}, sigmoid, InBall{})
	b.gradient("margin, ASSG", steps, Margin{}, snn.ASSG{A: 0.42}, InBall{})
	b.gradient("margin, BPTR", steps, Margin{}, snn.BPTR{}, InBall{})
}

// search adds a search by scores from the best point before.
func (b *presetBattery) search(passes int) {
	if b.spikes() {
		b.add("search in the order of gradients", SpikeSearch{
			Norm: b.Threat.Norm, Eps: b.Threat.Eps, Passes: passes - passes/4, Gradient: arctan, FromBest: true, Reduce: true,
		})
		passes /= 4
	}
	b.add("search", b.byScores(passes))
}

func (b *presetBattery) byScores(passes int) Searcher {
	if b.spikes() {
		return SpikeSearch{Norm: b.Threat.Norm, Eps: b.Threat.Eps, Passes: passes, FromBest: true, Reduce: true}
	}
	if b.Threat.Norm == (LInf{}) {
		return LocalSearch{Eps: b.Threat.Eps, Passes: passes, FromBest: true, SharedFrames: b.shared()}
	}
	return Square{Norm: b.Threat.Norm, Eps: b.Threat.Eps, Queries: passes, P: 0.1, FromBest: true, SharedFrames: b.shared()}
}

// rounds adds rounds of a gradient attack from a random start and a search from its best point.
func (b *presetBattery) rounds(n int, giveUp float64, steps, passes int) {
	search := b.byScores(passes)
	if s, ok := search.(SpikeSearch); ok {
		s.Gradient = arctan
		search = s
	}
	b.add("rounds", Rounds{N: n, GiveUp: giveUp, Attacks: []Searcher{b.attack(steps, Margin{}, gradientMix, InBall{}), search}})
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
