package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/tensor"
)

// uncertified is the certified ε of an image that is certified at none.
const uncertified = -1

// certifiedRadii returns the radii of -certify, ascending.
func (j *job) certifiedRadii() (list []float32) {
	for _, f := range j.certify {
		v, _ := fraction(f)
		list = append(list, float32(v*j.eps.value))
	}
	return list
}

// prove certifies the images that are not done at the radii of -certify. A shard proves nothing:
// the run that merges the shards does.
func (j *job) prove(ctx context.Context, s *subject, p *progress) error {
	radii := j.certifiedRadii()
	if len(radii) == 0 || !j.shard.IsZero() {
		return nil
	}
	shape := j.data.Shape()
	shape.N = 1
	x := tensor.NewFrames(shape)
	work := certifyWork * float64(len(radii))
	j.meter.Skip(work * float64(len(p.Certified)))
	for i := len(p.Certified); i < j.data.N; i++ {
		if err := j.data.Fill(x, []int{i}); err != nil {
			return err
		}
		largest := float32(uncertified)
		for _, eps := range radii { // a larger ball contains a smaller one
			r, err := certify.Certify(ctx, s.model, x, []int{j.data.Label(i)}, certify.Config{Epsilon: float64(eps)})
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("-certify, -net %s: image %d: %w", s.File, i, err)
			}
			if r[0].Verdict != certify.Certified {
				break
			}
			largest = eps
		}
		p.Certified = append(p.Certified, largest)
		j.meter.Add(work, s.Name+": certificates")
		if err := j.journal.saveSometimes(); err != nil {
			return err
		}
	}
	j.meter.Finished(s.Name + ": certificates")
	return nil
}

// certified says for each image whether it is certified at the battery's ε, or returns nil
// without certificates.
func (j *job) certified(p *progress) (list []bool) {
	if len(p.Certified) < j.data.N {
		return nil
	}
	for _, eps := range p.Certified {
		list = append(list, eps >= j.threat.Eps)
	}
	return list
}

// certifiedCurve returns the certified accuracy at the radii of -certify.
func (j *job) certifiedCurve(p *progress) (list []curvePoint) {
	if len(p.Certified) < j.data.N {
		return nil
	}
	for i, eps := range j.certifiedRadii() {
		proven := 0
		for _, e := range p.Certified {
			if e >= eps {
				proven++
			}
		}
		list = append(list, point(j.certify[i], eps, proven, j.data.N))
	}
	return list
}

// contradiction returns an error that names the first image of r, an evaluation at eps, that an
// attack has broken although it is certified.
func (j *job) contradiction(s *subject, p *progress, r *attack.BatteryReport, eps float32) error {
	results := slices.Clone(r.Results)
	slices.SortFunc(results, func(a, b attack.ImageResult) int { return a.Index - b.Index })
	for _, i := range results {
		if i.Index >= len(p.Certified) {
			continue
		}
		e := p.Certified[i.Index]
		switch {
		case i.BrokenBy == attack.Misclassified && e >= 0:
			return fmt.Errorf("-net %s: image %d is certified at ε = %v, but the network misclassifies it: the certificate is wrong", s.File, i.Index, e)
		case i.BrokenBy >= 0 && e >= eps:
			return fmt.Errorf("-net %s: image %d is certified at ε = %v, but the attack %s breaks it at ε = %v: the certificate or the attack is wrong",
				s.File, i.Index, e, r.Attacks[i.BrokenBy].Name, eps)
		}
	}
	return nil
}
