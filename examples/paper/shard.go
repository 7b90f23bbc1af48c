package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/trials"
)

// part is the record shard.json of a folder: the shard whose evaluations are there, and what all
// shards have in common.
type part struct {
	Shard attack.Shard `json:"shard"`
	runs.Origin

	folder string
}

func (p part) path() string { return filepath.Join(p.folder, "shard.json") }

// claim writes shard.json to the folder of a shard. It returns an error if the folder is that of
// another shard.
func claim(o *options, origin runs.Origin) error {
	p := part{o.shard, origin, o.out}
	var old part
	switch err := runs.ReadRecord(p.path(), &old, runs.Budget(0)); {
	case errors.Is(err, fs.ErrNotExist) && o.shard.IsZero():
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return runs.WriteRecord(p.path(), p)
	case err != nil:
		return fmt.Errorf("-out: %w", err)
	case old.Shard != o.shard:
		return fmt.Errorf("-out %s: holds shard %v: expected another folder, or -shard %v", o.out, old.Shard, old.Shard)
	}
	if err := origin.Same(p.path(), old.Origin); err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	return nil
}

// openParts reads shard.json in all folders of -merge. It returns an error unless there is every
// shard of this evaluation once.
func openParts(o *options, origin runs.Origin) (parts []part, err error) {
	var list []attack.Shard
	var paths []string
	for _, folder := range o.merge {
		p := part{folder: folder}
		if err := runs.ReadRecord(p.path(), &p, runs.Budget(0)); err != nil {
			return nil, fmt.Errorf("-merge: %w: expected folders of -shard", err)
		}
		if err := origin.Same(p.path(), p.Origin); err != nil {
			return nil, fmt.Errorf("-merge: %w", err)
		}
		parts, list, paths = append(parts, p), append(list, p.Shard), append(paths, p.path())
	}
	if len(parts) == 0 {
		return nil, nil
	}
	if err := attack.ValidateShards(list, paths); err != nil {
		return nil, fmt.Errorf("-merge: %w", err)
	}
	slices.SortFunc(parts, func(a, b part) int { return a.Shard.Index - b.Shard.Index })
	return parts, nil
}

// gather joins the trials of a duel that the shards have made, and saves them. Those that are there
// already stay.
func (a archive) gather(d duel, list []trials.Trial, parts []part) error {
	if len(parts) == 0 {
		return nil
	}
	whole, path, err := a.open(d)
	if err != nil {
		return err
	}
	records := make([]*record, len(parts))
	for i, p := range parts {
		from := archive{filepath.Join(p.folder, evaluationsFolder), a.seed, a.version, p.Shard}
		var file string
		if records[i], file, err = from.open(d); err != nil {
			return fmt.Errorf("-merge: %w", err)
		}
		for _, t := range list {
			if share := records[i].done(t); share < 1 {
				return fmt.Errorf("-merge: shard %v is not complete: %s has %v on %.0f %% of its images, or is of another network or of other images (expected %s): run it with -shard %v",
					p.Shard, file, t, 100*share, records[i].Identity, p.Shard)
			}
		}
	}
	for _, t := range list {
		if whole.find(t) != nil || whole.battery(t) != nil {
			continue
		}
		if t.Preset != "" {
			b := &trials.BatteryOutcome{Trial: t, Report: &attack.BatteryReport{Partial: true}}
			for _, r := range records {
				b.Report.Results = append(b.Report.Results, r.battery(t).Report.Results...)
			}
			whole.Batteries = append(whole.Batteries, b)
			continue
		}
		o, right := trials.Outcome{Trial: t}, 0
		for _, r := range records {
			part := r.find(t)
			for _, i := range part.ZeroGradient {
				o.ZeroGradient = append(o.ZeroGradient, len(o.Predicted)+i)
			}
			o.Predicted = append(o.Predicted, part.Predicted...)
		}
		for i, label := range d.test.Labels {
			if o.Predicted[i] == label {
				right++
			}
		}
		o.Accuracy = float64(right) / float64(len(o.Predicted))
		whole.Outcomes = append(whole.Outcomes, o)
	}
	return runs.WriteRecord(path, whole)
}
