package main

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/lipschitz/smooth"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// spikeResult is what one attack on spikes found.
type spikeResult struct {
	Name     string  `json:"name"`
	Norm     string  `json:"norm"` // "none" for a pattern
	Eps      float32 `json:"eps"`
	Accuracy float64 `json:"accuracy"` // right with and without the attack
	Changes  []int   `json:"changes"`  // [examples], those that fooled the network; 0 if it errs anyway, −1 if none did
	// Within is the accuracy that so many changes leave, for the numbers of spikeCounts. It is
	// empty for retiming and patterns.
	Within []float64 `json:"within,omitempty"`
}

// certificate is what windows prove about the smoothed network.
type certificate struct {
	Method    string `json:"method"`
	Certified []int  `json:"certified"` // [examples], changes that cannot alter the class; −1 if it is wrong
	Changes   []int  `json:"changes"`   // the numbers of the next two
	// Proven is the certified accuracy, and Left the accuracy under attack, which is never lower.
	Proven []float64 `json:"proven"`
	Left   []float64 `json:"left"`
}

// spikes is the part of results.json about changes of spikes.
type spikes struct {
	Examples    int           `json:"examples"`
	Spikes      float64       `json:"spikes_per_example"`
	Counts      []int         `json:"counts"` // the numbers of changes of Within
	Attacks     []spikeResult `json:"attacks"`
	Certificate certificate   `json:"certificate"`
}

// spikeSteps is the number of steps of the attacks on spikes.
const spikeSteps = 32

// spikeCounts returns the numbers of changes of the table and the picture.
func (j *job) spikeCounts() (list []int) {
	for k := 1; k < j.Flips; k *= 2 {
		list = append(list, k)
	}
	return append(list, j.Flips)
}

// spikeAttacks returns the attacks on spikes. Those in Flips have the budget of -flips.
func (j *job) spikeAttacks() []attack.Named {
	flips := attack.Flips{Levels: j.Clip}
	insert, remove := flips, flips
	insert.NoDeletions, remove.NoInsertions = true, true
	k := float32(j.Flips)
	greedy := func(n attack.Norm, eps float32, changes int) *attack.Attack {
		g := snn.BPTT{Surrogate: snn.Arctan{Alpha: 2}, Relative: true}
		a := attack.GreedySpikes(n, eps, spikeSteps, g)
		a.Rule = attack.Greedy{Changes: changes}
		return a
	}
	each := max(1, 2*j.Flips/spikeSteps)
	list := []attack.Named{
		{Name: "flips", Attack: greedy(flips, k, each)},
		{Name: "insertions", Attack: greedy(insert, k, each)},
		{Name: "deletions", Attack: greedy(remove, k, each)},
		{Name: "random flips", Attack: attack.RandomNoise{Norm: flips, Eps: k, Points: 20}},
	}
	for delta := 1; delta <= min(2, j.T-1); delta++ {
		list = append(list, attack.Named{Name: fmt.Sprintf("retiming, Δ = %d", delta), Attack: greedy(attack.Retiming{Levels: j.Clip, Steps: j.T}, float32(delta), 16)})
	}
	return append(list,
		attack.Named{Name: "frame", Attack: attack.DVSFrame(j.Clip)},
		attack.Named{Name: "corner", Attack: attack.DVSCorner(j.Clip)},
		attack.Named{Name: "dash", Attack: attack.DVSDash(j.Clip)},
	)
}

// spikes attacks spikes and certifies against such attacks.
func (j *job) spikes(ctx context.Context, model *snn.Model, set *dataset.Set) error {
	indices := make([]int, min(j.Spikes, set.N)) // spread over the set
	for i := range indices {
		indices[i] = i * set.N / len(indices)
	}
	set, err := set.Subset(indices)
	if err != nil {
		return err
	}
	x := tensor.NewFrames(set.Shape())
	for i := range indices {
		indices[i] = i
	}
	if err := set.Fill(x, indices); err != nil {
		return err
	}
	r := &spikes{Examples: set.N, Counts: j.spikeCounts()}
	for _, v := range x.Data {
		r.Spikes += float64(v) * float64(j.Clip) / float64(set.N)
	}
	cfg := attack.DefaultConfig()
	cfg.Key = rng.New(j.Seed).Derive("spikes", 0)
	for _, a := range j.spikeAttacks() {
		s, err := j.spikeAttack(ctx, model, set, a, cfg)
		if err != nil {
			return err
		}
		r.Attacks = append(r.Attacks, s)
		if a.Name == "deletions" { // all three are flips
			all := spikeResult{Name: "best of the three", Norm: r.Attacks[0].Norm, Eps: r.Attacks[0].Eps}
			all.Changes = fewest(r.Attacks[0].Changes, r.Attacks[1].Changes, s.Changes)
			all.Accuracy = attack.AccuracyWithin(all.Changes, math.MaxInt)
			j.within(&all)
			r.Attacks = append(r.Attacks, all)
		}
		j.meter.Add(float64(spikeWork*set.N), a.Name)
	}
	if r.Certificate, err = j.certify(ctx, model, x, set.Labels, cfg.Key); err != nil {
		return err
	}
	j.res.Spikes = r
	j.meter.Finished("changes of spikes")
	return nil
}

// spikeWork is about the number of passes that an attack on spikes makes for an example.
const spikeWork = 100

// spikeAttack runs one attack.
func (j *job) spikeAttack(ctx context.Context, model *snn.Model, set *dataset.Set, a attack.Named, cfg attack.Config) (s spikeResult, err error) {
	report, err := attack.Evaluate(ctx, model, set, []attack.Named{a}, cfg)
	if err != nil {
		return s, err
	}
	o := report.Attacks[0]
	s = spikeResult{Name: a.Name, Norm: o.Norm, Eps: o.Eps}
	for i, y := range set.Labels {
		switch {
		case report.Clean.Predicted[i] != y:
			s.Changes = append(s.Changes, 0)
		case o.Predicted[i] == y:
			s.Changes = append(s.Changes, -1)
		default:
			s.Changes = append(s.Changes, o.Changes[i])
		}
	}
	s.Accuracy = attack.AccuracyWithin(s.Changes, math.MaxInt)
	if greedy, is := a.Attack.(*attack.Attack); is {
		if _, flips := greedy.Norm.(attack.Flips); flips {
			j.within(&s)
		}
	}
	return s, nil
}

// within computes the accuracies from the numbers of changes.
func (j *job) within(s *spikeResult) {
	for _, k := range j.spikeCounts() {
		s.Within = append(s.Within, attack.AccuracyWithin(s.Changes, k))
	}
}

// windows returns those of the certificate. Each sees 3 of 9 pixels, at all steps.
func windows(model *snn.Model) smooth.Windows {
	return smooth.Windows{Axis: smooth.Lattice, Block: min(3, model.Height, model.Width), Size: 3, Stride: 1}
}

// certify certifies the network that is smoothed by windows, and attacks it by changes that were found on
// the network itself. It returns an error if such a change alters a class that is certified against it.
func (j *job) certify(ctx context.Context, model *snn.Model, x tensor.NCHW, y []int, key rng.Key) (c certificate, err error) {
	method := windows(model)
	c.Method = method.String()
	clean, err := method.Certify(ctx, model, x, nil, key)
	if err != nil {
		return c, err
	}
	most := 1
	for i, list := range clean {
		radius := -1
		if list.Class == y[i] {
			radius = int(list.Radius)
		}
		c.Certified = append(c.Certified, radius)
		most = max(most, radius)
	}
	for k := 0; k <= most; k++ {
		adv := x
		if k > 0 {
			a := attack.GreedySpikes(attack.Flips{Levels: j.Clip}, float32(k), k, snn.BPTT{})
			a.Reduce = false
			if adv, err = a.Perturb(ctx, model, x, y, nil, key); err != nil {
				return c, err
			}
		}
		list, err := method.Certify(ctx, model, adv, nil, key)
		if err != nil {
			return c, err
		}
		proven, left := 0, 0
		for i, label := range y {
			if c.Certified[i] >= k {
				proven++
			}
			if list[i].Class == label {
				left++
			} else if c.Certified[i] >= k {
				return c, fmt.Errorf("example %d is certified against %d changes, and %d change its class", i, c.Certified[i], k)
			}
		}
		n := float64(len(y))
		c.Changes, c.Proven, c.Left = append(c.Changes, k), append(c.Proven, float64(proven)/n), append(c.Left, float64(left)/n)
	}
	return c, nil
}

// median returns the number of changes that fools the network with half of the recordings that it
// classifies correctly, or "> most" if the attack fools it with fewer than half of them.
func median(changes []int, most string) string {
	right := slices.DeleteFunc(slices.Clone(changes), func(k int) bool { return k == 0 })
	fooled := slices.DeleteFunc(slices.Clone(right), func(k int) bool { return k < 0 })
	if slices.Sort(fooled); 2*len(fooled) < len(right) || len(right) == 0 {
		return most
	}
	return fmt.Sprint(fooled[(len(right)-1)/2])
}

// fewest returns for each example the fewest of some numbers of changes.
func fewest(of ...[]int) []int {
	least := slices.Clone(of[0])
	for _, changes := range of[1:] {
		for i, k := range changes {
			if least[i] < 0 || k >= 0 && k < least[i] {
				least[i] = k
			}
		}
	}
	return least
}

// spikeFigure returns the picture of the accuracy against the number of changes.
func (j *job) spikeFigure() plots.Figure {
	r := j.res.Spikes
	f := plots.Figure{
		Title: fmt.Sprintf("%d recordings of %.0f spikes in the mean, T = %d", r.Examples, r.Spikes, j.T),
		X:     "changes of spikes", Y: "accuracy (%)", LogX: true, YTicks: []float64{0, 20, 40, 60, 80, 100},
	}
	for _, k := range r.Counts {
		f.XTicks = append(f.XTicks, float64(k))
	}
	for _, a := range r.Attacks {
		if len(a.Within) == 0 {
			continue
		}
		line := plots.Line{Name: a.Name, X: f.XTicks, Color: len(f.Lines)}
		for _, v := range a.Within {
			line.Y = append(line.Y, 100*v)
		}
		f.Lines = append(f.Lines, line)
	}
	return f
}

// printSpikes writes the tables about changes of spikes.
func (j *job) printSpikes() {
	r := j.res.Spikes
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t := table.NewWriter()
	t.SetOutputMirror(j.stdout)
	t.SetStyle(style)
	t.SetTitle("Accuracy in %% by changes of spikes")
	head := table.Row{"attack", "median"}
	for _, k := range r.Counts {
		head = append(head, k)
	}
	t.AppendHeader(head)
	for _, a := range r.Attacks {
		most := "-"
		if len(a.Within) > 0 {
			most = fmt.Sprintf("> %v", a.Eps)
		}
		row := table.Row{a.Name, median(a.Changes, most)}
		for _, v := range a.Within {
			row = append(row, fmt.Sprintf("%.1f", 100*v))
		}
		if len(a.Within) == 0 {
			for range r.Counts[1:] {
				row = append(row, "")
			}
			row = append(row, fmt.Sprintf("%.1f", 100*a.Accuracy))
		}
		t.AppendRow(row)
	}
	fmt.Fprintln(j.stdout)
	t.Render()
	fmt.Fprintf(j.stdout, "%d recordings of %.0f spikes in the mean. Median: so many changes fool the network with half of the\nrecordings that it classifies correctly. The last column of random flips, retiming and the patterns is\nthe accuracy under that attack, which has one bound.\n", r.Examples, r.Spikes)

	t = table.NewWriter()
	t.SetOutputMirror(j.stdout)
	t.SetStyle(style)
	t.SetTitle("Smoothed network, accuracy in %%")
	t.AppendHeader(table.Row{"changes", "proven", "under attack"})
	for i, k := range r.Certificate.Changes {
		t.AppendRow(table.Row{k, fmt.Sprintf("%.1f", 100*r.Certificate.Proven[i]), fmt.Sprintf("%.1f", 100*r.Certificate.Left[i])})
	}
	fmt.Fprintln(j.stdout)
	t.Render()
	fmt.Fprintf(j.stdout, "It votes over %s. Proven: no such number of changes alters the class.\n", r.Certificate.Method)
}
