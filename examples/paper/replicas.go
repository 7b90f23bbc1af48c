package main

import (
	"cmp"

	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/snn"
)

// replicas are the networks of a need, one for each seed, with what they classify as labelled.
type replicas struct {
	networks []*summary
	records  []*record
	clean    correct
	pgd      []correct // under PGD at each of options.Radii
	worst    []correct // at each radius: clean, and under PGD and the battery at all radii up to this one
}

// replicas collects what there is of a need at all seeds. Its trials must have been made.
func (l *lab) replicas(s subject, n need) (*replicas, error) {
	all := &replicas{pgd: make([]correct, len(l.Radii)), worst: make([]correct, len(l.Radii))}
	for i := range l.Seeds {
		n.replica = i
		sum, err := l.summarize(s, n)
		if err != nil {
			return nil, err
		}
		r, err := l.record(s, n)
		if err != nil {
			return nil, err
		}
		all.networks, all.records = append(all.networks, sum), append(all.records, r)
		add := func(to *correct, list ...trials.Trial) error {
			right, err := r.right(list...)
			*to = append(*to, right)
			return err
		}
		err = add(&all.clean, trials.Clean)
		for k, eps := range l.Radii {
			err = cmp.Or(err, add(&all.pgd[k], pgdAt(l.options, eps)), add(&all.worst[k], upTo(n, eps)...))
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// trialsAtRadii lists the trials at options.Radii of a network of ablation or audit.
func (o *options) trialsAtRadii() (list []trials.Trial) {
	for _, eps := range o.Radii {
		list = append(append(list, pgdAt(o, eps)), o.battery(eps)...)
	}
	return list
}

func pgdAt(o *options, eps float64) trials.Trial {
	return trials.New("PGD", snn.BPTT{}, eps, o.TestAlpha, o.TestSteps)
}

// upTo lists the trials up to a radius, clean images among them.
func upTo(n need, eps float64) (list []trials.Trial) {
	for _, t := range n.toJudge() {
		if t.Eps <= eps && t.InWorstCase() {
			list = append(list, t)
		}
	}
	return list
}
