package attack

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/org/snnrat/snn"
)

// probes is the number of images for the checks that make passes of their own.
const probes = 64

// check computes the twelve checks. Those that ctx stops are skipped, and so are all but the record if
// the battery was stopped before its first pass, with e.draws 0.
func (e *batteryRun) check(ctx context.Context) {
	p := &probe{batteryRun: e, gradient: snn.BPTT{}}
	for k, a := range e.Attacks {
		if a, ok := a.Attack.(*Attack); ok && !snn.ChangesForward(a.Gradient) && e.report.Attacks[k].Refused == "" {
			p.gradient = a.Gradient
			break
		}
	}
	for _, r := range e.report.Results {
		if r.BrokenBy != Misclassified && len(p.images) < probes {
			p.images = append(p.images, r.Index)
		}
	}
	points := []struct {
		name  string
		check func(ctx context.Context, c *Check) error
	}{
		{"accuracy falls as ε grows", p.radii},
		{"many steps are at least as strong as one, and enough", p.steps},
		{"attacks with gradients are at least as strong as those without", p.masked},
		{"gradients are not zero", p.zeros},
		{"several gradients, objectives and starts", p.variety},
		{"logits and surrogates of a usual scale", p.scale},
		{"verdicts do not depend on chance", p.chance},
		{"the best points are kept and predicted anew", p.kept},
		{"the objective is smooth near the images", p.roughness},
		{"a planted point is found", p.planted},
		{"no certified image is broken", p.certified},
		{"the record is complete", p.record},
	}
	for i, point := range points {
		c := Check{Point: i + 1, Name: point.name, Status: OK}
		switch {
		case (e.report.Partial || e.draws == 0) && point.name != "the record is complete":
			c.skip("The battery was stopped.")
		case len(p.images) == 0 && point.name != "the record is complete":
			c.skip("The network classifies no image as labelled.")
		default:
			err := point.check(ctx, &c)
			switch {
			case err != nil && ctx.Err() != nil:
				c.skip("The battery was stopped.")
			case err != nil:
				c.raise(Fault, fmt.Sprintf("The check itself failed: %v.", err))
			}
		}
		e.report.Checks = append(e.report.Checks, c)
	}
}

func (c *Check) skip(text string) { c.Status, c.Text = Skipped, text }

// raise sets the status, unless a worse one is set, and adds advice.
func (c *Check) raise(s Status, advice string) {
	if c.Status != Fault {
		c.Status = s
	}
	c.Advice = strings.TrimSpace(c.Advice + " " + advice)
}

// probe makes passes around some images.
type probe struct {
	*batteryRun
	images   []int // at least one, all classified as labelled
	gradient snn.Gradient
}

// each runs fn for every probe image, with an oracle of its own.
func (p *probe) each(ctx context.Context, purpose string, fn func(k int, o *Oracle) error) error {
	en := engine{model: p.model, n: len(p.images), shape: p.data.Shape(), run: func(ask asker, k int) error {
		x, err := p.read(p.images[k])
		if err != nil {
			return err
		}
		return fn(k, p.oracle(ask, x, p.images[k], p.cfg.Key.Derive("check "+purpose, 0)))
	}}
	return en.do(ctx)
}

// broken runs an attack around every probe image and returns which of them it breaks.
func (p *probe) broken(ctx context.Context, purpose string, a *Attack) ([]bool, error) {
	broke := make([]bool, len(p.images))
	err := p.each(ctx, purpose, func(k int, o *Oracle) error {
		o.Threat = Threat{a.Norm, a.Eps, p.Threat.PerFrame}
		err := a.Search(o)
		broke[k] = o.found
		return err
	})
	return broke, err
}

// probeSteps is the number of steps of [probe.attack].
const probeSteps = 40

// attack returns a short attack of radius eps.
func (p *probe) attack(eps float32) *Attack {
	return &Attack{
		Objective: Margin{}, Gradient: p.gradient, Norm: p.Threat.Norm, Start: AtImage{}, Eps: eps,
		Rule: ruleFor(p.Threat.Norm, eps, probeSteps), Steps: probeSteps, KeepBest: true, SharedFrames: p.Threat.PerFrame,
	}
}

// attackName returns the name of attack for the texts of checks.
func (p *probe) attackName() string {
	name := "APGD"
	if _, ok := p.Threat.Norm.(spikeNorm); ok {
		name = "A greedy attack"
	}
	return fmt.Sprintf("%s of %d steps", name, probeSteps)
}

// radii is check 1.
func (p *probe) radii(ctx context.Context, c *Check) error {
	most, half, anything := float32(1), p.Threat.Eps/2, true
	switch n := p.Threat.Norm.(type) {
	case LInf:
	case spikeNorm:
		most, half = n.most(p.data.Shape()), float32(int(half))
		f, flips := n.(Flips)
		anything = flips && !f.NoInsertions && !f.NoDeletions
	default:
		most = float32(math.Sqrt(float64(p.data.Shape().Neurons() * p.data.Shape().Steps)))
	}
	eps := []float32{half, p.Threat.Eps, min(2*p.Threat.Eps, most), most}
	var left []int
	for _, r := range eps {
		broke, err := p.broken(ctx, "radii", p.attack(r))
		if err != nil {
			return err
		}
		left = append(left, len(broke)-number(broke))
	}
	n := len(p.images)
	bound := "no bound but [0,1]"
	if !anything {
		bound = "the largest ε"
	}
	c.Text = fmt.Sprintf("%s leaves %d, %d and %d of %d images at ε/2, ε and 2ε, and %d with %s.", p.attackName(), left[0], left[1], left[2], n, left[3], bound)
	for i := 1; i < len(left); i++ {
		if left[i] > left[i-1]+max(1, n/50) {
			c.raise(Fault, "A larger ε leaves more images, which no bounded set can do: the attack is too weak to measure with.")
			break
		}
	}
	if chance := float64(n) / float64(p.model.Classes()); anything && float64(left[3]) > chance {
		c.raise(Warning, "Without a bound any image can become any other, so the attack should leave no more than chance. Its gradients are masked: trust searches by score alone.")
	}
	return nil
}

// steps is check 2.
func (p *probe) steps(ctx context.Context, c *Check) error {
	fgsm := FGSM(p.Threat.Eps, p.gradient)
	fgsm.Norm, fgsm.KeepBest, fgsm.SharedFrames = p.Threat.Norm, true, p.Threat.PerFrame
	one, err := p.broken(ctx, "one step", fgsm)
	if err != nil {
		return err
	}
	many, err := p.broken(ctx, "many steps", p.attack(p.Threat.Eps))
	if err != nil {
		return err
	}
	alone := 0
	for k := range one {
		if one[k] && !many[k] {
			alone++
		}
	}
	longest, name, late, followed := 0, "", 0.0, false
	for k, a := range p.report.Attacks {
		if !p.follows(k) {
			continue
		}
		followed = true
		steps := 0
		gradientAttacks(p.Attacks[k].Attack, 1, func(s Settings, _ int) { steps = max(steps, s.Steps) })
		if steps <= longest {
			continue
		}
		longest, name, late = steps, a.Name, 0
		met := 0
		for _, r := range p.report.Results {
			if k < len(r.Trials) && !r.Trials[k].Broke {
				late += float64(r.Trials[k].Late)
				met++
			}
		}
		late /= float64(max(met, 1))
	}
	c.Text = fmt.Sprintf("FGSM breaks %d of %d images. %s breaks %d. FGSM alone breaks %d.", number(one), len(one), p.attackName(), number(many), alone)
	if alone > max(1, len(one)/50) {
		c.raise(Warning, "One step breaks what many steps do not: give the attacks more steps, or other step rules.")
	}
	switch {
	case !followed:
		c.raise(Warning, "No attack of the battery follows gradients: add one.")
		return nil
	case longest == 0: // searches that do not tell
		return nil
	case longest < 20:
		c.raise(Warning, fmt.Sprintf("The longest gradient attack has %d steps, too few to converge: give it 20 or more.", longest))
	case late > 0.05:
		c.raise(Warning, "It has not converged: give it more steps.")
	}
	c.Text += fmt.Sprintf(" The longest gradient attack, %s, makes %.1f %% of its gain in the last tenth of its %d steps.", name, 100*late, longest)
	return nil
}

// gradientAttacks calls fn for each gradient attack that a consists of, and says how often an
// image meets it if a meets the image so many times.
func gradientAttacks(a snn.Adversary, times int, fn func(s Settings, times int)) {
	switch a := a.(type) {
	case Rounds:
		for _, b := range a.Attacks {
			gradientAttacks(b, times*a.N, fn)
		}
	case Mix:
		for _, b := range a {
			gradientAttacks(b, times, fn)
		}
	default:
		if s := Describe(a); s.Gradient != "" {
			fn(s, times)
		}
	}
}

// follows reports whether attack k asked for gradients.
func (p *probe) follows(k int) bool {
	for _, r := range p.report.Results {
		if k < len(r.Trials) && r.Trials[k].Gradients > 0 {
			return true
		}
	}
	return false
}

// masked is check 3.
func (p *probe) masked(ctx context.Context, c *Check) error {
	follows := make([]bool, len(p.report.Attacks))
	for k := range follows {
		follows[k] = p.follows(k)
	}
	gradients, scores := 0, 0
	for _, r := range p.report.Results {
		switch k := r.BrokenBy; {
		case k < 0:
		case follows[k] && !r.Trials[k].ByScores:
			gradients++
		case slices.Contains(follows[:k+1], true): // else gradients had no turn
			scores++
		}
	}
	noise := make([]bool, len(p.images))
	err := p.each(ctx, "noise", func(k int, o *Oracle) error {
		err := RandomNoise{p.Threat.Norm, p.Threat.Eps, 50}.Search(o)
		noise[k] = o.found
		return err
	})
	if err != nil {
		return err
	}
	lucky := 0
	for k, i := range p.images {
		if noise[k] && p.result(i).BrokenBy == Survived {
			lucky++
		}
	}
	n := p.report.Images
	c.Text = fmt.Sprintf("Attacks with gradients break %d images, and those without break %d more (%.1f points). 50 random points break %d of %d images, %d of which stood against the battery.",
		gradients, scores, 100*float64(scores)/float64(n), number(noise), len(noise), lucky)
	switch {
	case scores > gradients:
		c.raise(Fault, "Scores alone break more images than gradients do: the gradients are masked. Give searches by score a larger budget, and use other surrogates.")
	case float64(scores) > 0.002*float64(n):
		c.raise(Warning, "Gradients are masked in part, as is usual for spikes: what is left depends on the budget of the searches by score.")
	}
	if lucky > 0 {
		c.raise(Fault, "Random points break what the attacks do not: the attacks are broken.")
	}
	return nil
}

// result returns the result of an image of the data.
func (p *probe) result(i int) ImageResult {
	k, _ := slices.BinarySearchFunc(p.report.Results, i, func(r ImageResult, i int) int { return cmp.Compare(r.Index, i) })
	return p.report.Results[k]
}

// variety is check 5.
func (p *probe) variety(_ context.Context, c *Check) error {
	gradients, objectives, starts := map[string]bool{}, map[string]bool{}, 0
	for k, a := range p.report.Attacks {
		if a.Refused != "" {
			c.raise(Warning, fmt.Sprintf("The network refused %s: %s.", a.Name, a.Refused))
			continue
		}
		gradientAttacks(p.Attacks[k].Attack, 1, func(s Settings, times int) {
			gradients[s.Gradient], objectives[s.Objective] = true, true
			starts += max(s.Starts, 1) * max(s.Targets, 1) * times
		})
	}
	c.Text = fmt.Sprintf("%d gradient approximations, %d objectives and %d starts.", len(gradients), len(objectives), starts)
	if len(gradients) < 2 || len(objectives) < 2 || starts < 2 {
		c.raise(Warning, "The strongest choice differs from image to image: use at least two of each.")
	}
	return nil
}

// scale is check 6.
func (p *probe) scale(_ context.Context, c *Check) error {
	var margins []float64
	for _, i := range p.images {
		margins = append(margins, float64(p.result(i).CleanMargin))
	}
	slices.Sort(margins)
	median := margins[len(margins)/2]
	c.Text = fmt.Sprintf("The median margin of clean images is %.3g. Inputs are in [0,1], normalization is inside the network, batch norm uses its running statistics, and every pass starts from fresh membrane potentials.", median)
	if median > 50 {
		c.raise(Warning, "The softmax is constant in float32, so that other implementations of cross-entropy have no gradient. Those here do.")
	}
	if median < 1e-3 {
		c.raise(Warning, "The softmax hardly tells the classes apart, so that cross-entropy pulls towards all of them alike: use the margin or DLR.")
	}
	var narrow []string
	for _, row := range p.model.Summary().Rows {
		if s, theta := surrogateOf(row.Layer); s != nil {
			u := []float32{0, theta / 8, -theta / 8}
			d := make([]float32, len(u))
			s.Derivative(d, u)
			if d[1] < 0.05*d[0] && d[2] < 0.05*d[0] {
				narrow = append(narrow, fmt.Sprintf("%s (%v, threshold %v)", row.Name, s, theta))
			}
		}
	}
	if len(narrow) > 0 {
		c.raise(Warning, fmt.Sprintf("The network's own surrogate is almost zero an eighth of the threshold away from it: layer %s. Attacks that use it look weak: give them surrogates in units of the threshold.", strings.Join(narrow, ", ")))
	}
	return nil
}

// surrogateOf returns the surrogate and the smallest threshold of a layer of neurons, or nil.
func surrogateOf(l snn.Layer) (snn.Surrogate, float32) {
	switch n := l.(type) {
	case *snn.LIF:
		return n.Surrogate, n.Threshold
	case *snn.GLIF:
		return n.Surrogate, slices.Min(n.Threshold.Export())
	}
	return nil, 0
}

// chance is check 7.
func (p *probe) chance(_ context.Context, c *Check) error {
	if !p.report.Random {
		c.Text = "Two clean passes with other random numbers give the same logits."
		return nil
	}
	c.Text = fmt.Sprintf("The network is random. Attacks and verdicts average over %d draws.", p.draws)
	if p.draws < drawsOfRandom {
		c.raise(Fault, fmt.Sprintf("A few draws decide by luck, and their gradients point anywhere: use %d or more.", drawsOfRandom))
	}
	return nil
}

// kept is check 8.
func (p *probe) kept(_ context.Context, c *Check) error {
	broken, refuted := 0, 0
	for _, r := range p.report.Results {
		if r.BrokenBy >= 0 {
			broken++
			if r.Predicted == r.Label {
				refuted++
			}
		}
	}
	c.Text = fmt.Sprintf("Of %d broken images, %d are still misclassified by a pass of their own. Distances and ranges were computed anew in float64.", broken, broken-refuted)
	if refuted > 0 {
		c.raise(Fault, "Some verdicts do not repeat: report this, or look for a layer of your own that keeps state between passes.")
	}
	for _, a := range p.report.Attacks {
		if s := a.Settings; s.Kind == "gradient attack" && !s.KeepBest {
			c.raise(Warning, fmt.Sprintf("Attack %s is not made to keep its best point: set KeepBest.", a.Name))
		}
	}
	return nil
}

// roughness is check 9.
func (p *probe) roughness(ctx context.Context, c *Check) error {
	cosines := make([]float64, len(p.images))
	near, distance := p.Threat.Eps/4, "ε/4"
	if _, ok := p.Threat.Norm.(spikeNorm); ok {
		near = max(1, float32(int(near)))
		distance = fmt.Sprint(near)
	}
	err := p.each(ctx, "roughness", func(k int, o *Oracle) error {
		o.keep = false
		_, g, err := o.Gradient(o.Clean, p.gradient, Margin{})
		if err != nil {
			return err
		}
		x := slices.Clone(o.Clean)
		InBall{}.Initialize(x, p.Threat.Norm, near, o.Rand("near", 0))
		clip(x)
		_, h, err := o.Gradient(x, p.gradient, Margin{})
		if err != nil {
			return err
		}
		var gh, gg, hh float64
		for i := range g {
			gh += float64(g[i]) * float64(h[i])
			gg += float64(g[i]) * float64(g[i])
			hh += float64(h[i]) * float64(h[i])
		}
		if gg > 0 && hh > 0 {
			cosines[k] = gh / math.Sqrt(gg) / math.Sqrt(hh)
		}
		return nil
	})
	if err != nil {
		return err
	}
	mean := 0.0
	for _, v := range cosines {
		mean += v / float64(len(cosines))
	}
	c.Text = fmt.Sprintf("The gradient at an image and that at a random point within %s have a mean cosine of %.2f.", distance, mean)
	if mean < 0.1 {
		c.raise(Warning, "The gradient changes within a fraction of a step: use wider surrogates, averages over nearby points, or searches by score.")
	}
	return nil
}

// certified is check 11.
func (p *probe) certified(_ context.Context, c *Check) error {
	if p.cfg.Certified == nil {
		c.skip("No certificates were given.")
		return nil
	}
	certified, broken := 0, 0
	for _, r := range p.report.Results {
		if p.cfg.Certified[r.Index] {
			certified++
			if r.BrokenBy != Survived {
				broken++
			}
		}
	}
	c.Text = fmt.Sprintf("%d images are certified, and %d of them are misclassified or broken.", certified, broken)
	if broken > 0 {
		c.raise(Fault, "A certificate is wrong, or was made for another network, image or threat model.")
	}
	return nil
}

// record is check 12.
func (p *probe) record(_ context.Context, c *Check) error {
	r := p.report
	low, high := Wilson(int(math.Round(r.WorstCase*float64(r.Images))), r.Images)
	c.Text = fmt.Sprintf("%d of %d images; worst case %.1f %%, 95 %% interval %.1f to %.1f; key, settings, and the outcome of every image are in the report.",
		r.Images, r.total, 100*r.WorstCase, 100*low, 100*high)
	if r.Partial {
		c.raise(Warning, "The battery was stopped: resume it.")
	}
	return nil
}

// number returns how many of is are true.
func number(is []bool) (n int) {
	for _, v := range is {
		if v {
			n++
		}
	}
	return n
}
