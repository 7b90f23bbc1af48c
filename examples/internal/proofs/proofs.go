// Package proofs certifies the test images of the examples, attacks them as well, and reports what is
// known about each: that it is robust, that it is broken, or neither.
package proofs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// Radius is what is known at one ε.
type Radius struct {
	Eps       float64 `json:"eps_255"`
	Certified float64 `json:"certified_accuracy"`
	WorstCase float64 `json:"worst_case_accuracy"`
	Clean     float64 `json:"clean_accuracy"`
	Faults    int     `json:"battery_faults"`    // checks of the battery that found a fault
	Refuted   []int   `json:"refuted,omitempty"` // images that are certified and that the battery broke
	Rows      []Row   `json:"images"`
}

// Row is what is known about a test image.
type Row struct {
	Verdict  certify.Verdict `json:"verdict"`
	Margin   *float64        `json:"margin"`   // proven lower bound of the label's logit less the largest other one; null for none
	Clean    int             `json:"clean"`    // predicted class
	Attacked int             `json:"attacked"` // predicted class of the best point of the battery
}

// ParseRadii reads radii ε in 255ths, numbers in (0, 255] with commas between them. It returns them
// from the smallest, each once. The error names the text and the flag.
func ParseRadii(flag, text, example string) (list []float64, err error) {
	for _, t := range strings.Split(text, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(t), 64)
		if err != nil || !(v > 0 && v <= 255) {
			return nil, fmt.Errorf("%s %q: %q: expected numbers in (0, 255] with commas between them, such as %s", flag, text, t, example)
		}
		list = append(list, v)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// Prover certifies and attacks the images of a set.
type Prover struct {
	Model   *snn.Model
	Test    *dataset.Set
	Battery string  // preset of the attacks, see [attack.Preset]
	Key     rng.Key // of the attacks
	Threads int     // 0 for all processors
	// Progress is told of work that is done, in forward passes, and in which part. Finished is told of a
	// part that is done.
	Progress func(work float64, part string)
	Finished func(part string)
}

// proofWork is the work of one certificate, in forward passes.
const proofWork = 60

// Work returns the work at one ε, in forward passes.
func (p *Prover) Work() float64 {
	return float64(p.Test.N) * (proofWork + trials.Battery(p.Battery, 1).Work(1))
}

// Prove certifies the images at a radius in 255ths, and attacks them.
func (p *Prover) Prove(ctx context.Context, eps float64) (*Radius, error) {
	part := fmt.Sprintf("certificates at ε = %v/255", eps)
	proofs, err := p.certify(ctx, eps, part)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", part, err)
	}
	r := &Radius{Eps: eps}
	for i, c := range proofs {
		r.Rows = append(r.Rows, Row{Verdict: c.Verdict, Margin: finite(c.Margin), Clean: c.Predicted, Attacked: c.Predicted})
		if c.Label != p.Test.Labels[i] {
			return nil, fmt.Errorf("image %d is certified as class %d: expected its label, %d", i, c.Label, p.Test.Labels[i])
		}
	}
	p.Finished(part)
	part = fmt.Sprintf("attacks at ε = %v/255", eps)
	b := &trials.BatteryOutcome{Trial: trials.Battery(p.Battery, eps), Report: &attack.BatteryReport{Partial: true}}
	work := b.Work(1)
	err = b.Run(ctx, p.Model, p.Test, attack.Shard{}, p.Key, func() { p.Progress(work, part) }, func() error { return nil })
	if err != nil {
		return nil, err
	}
	p.Finished(part)
	r.Faults = b.Faults()
	for i, o := range b.Report.Results {
		r.Rows[i].Attacked = o.Predicted
	}
	r.count(p.Test.Labels)
	return r, nil
}

// certify certifies the test images at a radius, several at a time. It looks for no counterexample.
func (p *Prover) certify(ctx context.Context, eps float64, part string) ([]certify.Result, error) {
	x, all := tensor.NewNCHW(p.Test.N, p.Test.C, p.Test.H, p.Test.W), make([]int, p.Test.N)
	for i := range all {
		all[i] = i
	}
	if err := p.Test.Fill(x, all); err != nil {
		return nil, err
	}
	cfg := certify.Config{Epsilon: eps / 255, Method: method(p.Model)}
	results, errs := make([]certify.Result, x.N), make([]error, x.N)
	const at = 8 // images at a time on each thread, between two lines of progress
	batch := at * parallel.Threads(p.Threads)
	for lo := 0; lo < x.N; lo += batch {
		n := min(batch, x.N-lo)
		parallel.For(p.Threads, n, func(i int) {
			i += lo
			r, err := certify.Certify(ctx, p.Model, x.Slice(i, i+1), p.Test.Labels[i:i+1], cfg)
			if errs[i] = err; err == nil {
				results[i] = r[0]
			}
		})
		if err := cmp.Or(errs...); err != nil {
			return nil, err
		}
		p.Progress(float64(n)*proofWork, part)
	}
	return results, nil
}

// method returns the method of the certificates: counts where all neurons are IF neurons with soft
// reset, and else linear relaxations.
func method(m *snn.Model) certify.Method {
	for _, r := range m.Summary().Rows {
		if n, ok := r.Layer.(snn.Neuron); ok {
			if l, ok := n.(*snn.LIF); !ok || l.Decay != 1 || !l.SoftReset {
				return certify.Linear{}
			}
		}
	}
	return certify.Counts{}
}

// finite returns v, or nil for an infinite number, which JSON has no place for.
func finite(v float64) *float64 {
	if math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// count sets the verdicts of images that the battery broke, and the shares.
func (r *Radius) count(labels []int) {
	share := 1 / float64(len(r.Rows))
	for i := range r.Rows {
		w := &r.Rows[i]
		if w.Clean == labels[i] {
			r.Clean += share
		}
		if w.Attacked == labels[i] {
			r.WorstCase += share
		} else if w.Verdict == certify.Certified {
			r.Refuted = append(r.Refuted, i)
		} else {
			w.Verdict = certify.Broken
		}
		if w.Verdict == certify.Certified {
			r.Certified += share
		}
	}
}

// Radii is what is known at several ε, from the smallest.
type Radii []*Radius

// Print writes a table of the accuracies, and what its columns mean.
func (list Radii) Print(out io.Writer, battery string) error {
	text := fmt.Sprintf("Accuracy in %% on %d images\n\n%-8s%12s%12s%8s%12s\n", len(list[0].Rows), "ε", "certified", "worst case", "clean", "unknown")
	for _, s := range list {
		text += fmt.Sprintf("%-8s%12.1f%12.1f%8.1f%12.1f\n", fmt.Sprintf("%v/255", s.Eps), 100*s.Certified, 100*s.WorstCase, 100*s.Clean, 100*(s.WorstCase-s.Certified))
	}
	text += "\nCertified: proved that no image within ε (L∞) has another class. Worst case: no attack\n" +
		"of the battery " + battery + " found one. Unknown: neither proved nor found.\n"
	for _, s := range list {
		if s.Faults > 0 {
			text += fmt.Sprintf("Checks of the battery that found a fault at ε = %v/255: %d. The worst case may be too high.\n", s.Eps, s.Faults)
		}
	}
	_, err := io.WriteString(out, text)
	return err
}

// Check returns an error if the battery broke an image that is certified, or if the certificates
// contradict each other.
func (list Radii) Check() error {
	var wrong []string
	broken := map[int]float64{} // the least ε at which an image is broken
	for _, s := range list {
		if len(s.Refuted) > 0 {
			wrong = append(wrong, fmt.Sprintf("at ε = %v/255 the battery broke images %v, which are certified", s.Eps, s.Refuted))
		}
		for i, w := range s.Rows {
			eps, known := broken[i]
			switch {
			case known && w.Verdict == certify.Certified:
				wrong = append(wrong, fmt.Sprintf("image %d is certified at ε = %v/255 and broken at %v/255", i, s.Eps, eps))
			case !known && w.Verdict == certify.Broken:
				broken[i] = s.Eps
			}
		}
	}
	if len(wrong) > 0 {
		return errors.New("a certificate is wrong: " + strings.Join(wrong, "; ") + ": please report this with the results and the network")
	}
	return nil
}
