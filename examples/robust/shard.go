package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
)

// curveShard returns the shard of the images of the curve that goes with a shard of all images. It
// has none if there are more shards than images of the curve.
func (j *job) curveShard(s attack.Shard) (of attack.Shard, images int) {
	s.Count = min(s.Count, j.onCurve())
	if s.Index > s.Count {
		return s, 0
	}
	return s, extent(s.Range(j.onCurve()))
}

// extent returns the number of images lo to hi−1.
func extent(lo, hi int) int { return hi - lo }

// mergeShards returns what the shards of -merge have found, as a run that is not cut into shards
// would have. Without -merge it returns nil.
func (j *job) mergeShards() ([]*progress, error) {
	if len(j.merge) == 0 {
		return nil, nil
	}
	here, err := runs.NewOrigin(j.values, j.inputs())
	if err != nil {
		return nil, err
	}
	var parts []*journal
	var list []attack.Shard
	var paths, absent []string
	for _, folder := range j.merge {
		part := &journal{folder: folder}
		switch err := runs.ReadRecord(part.path(), part, j.budget()); {
		case errors.Is(err, fs.ErrNotExist):
			absent = append(absent, folder)
			continue
		case err != nil:
			return nil, fmt.Errorf("-merge: %w (make this shard anew)", err)
		}
		if err := here.Same(part.path(), part.Origin); err != nil {
			return nil, fmt.Errorf("-merge: %w", err)
		}
		parts, list, paths = append(parts, part), append(list, part.Shard), append(paths, part.path())
	}
	err = nil
	if len(list) > 0 || len(absent) == 0 {
		err = attack.ValidateShards(list, paths)
	}
	switch {
	case len(absent) > 0 && err != nil:
		return nil, fmt.Errorf("-merge: %w (there is no run.json in %s): run each with -shard", err, strings.Join(absent, ", "))
	case len(absent) > 0:
		return nil, fmt.Errorf("-merge: there is no run.json in %s: expected folders of -shard", strings.Join(absent, ", "))
	case err != nil:
		return nil, fmt.Errorf("-merge: %w", err)
	}
	for i, part := range parts {
		if err := j.complete(part); err != nil {
			return nil, fmt.Errorf("-merge: %s: shard %v is not complete: %w: go on with -shard %v -resume", paths[i], part.Shard, err, part.Shard)
		}
	}
	var merged []*progress
	for i := range j.subjects {
		whole := &progress{Kept: map[int][]byte{}}
		for _, part := range parts {
			whole.Results = append(whole.Results, part.Networks[i].Results...)
			maps.Copy(whole.Kept, part.Networks[i].Kept)
		}
		for k, factor := range j.radii() {
			right, eps := 0, float32(0)
			for _, part := range parts {
				if c := part.Networks[i].Curve; len(c) > 0 {
					right += correct(c[k].Accuracy, c[k].Images)
					eps = c[k].Eps
				}
			}
			whole.Curve = append(whole.Curve, point(factor, eps, right, j.onCurve()))
		}
		merged = append(merged, whole)
	}
	return merged, nil
}

// complete returns an error that says what a shard lacks.
func (j *job) complete(part *journal) error {
	if len(part.Networks) != len(j.subjects) {
		return fmt.Errorf("it has %d of %s", len(part.Networks), plural(len(j.subjects), "network"))
	}
	_, onCurve := j.curveShard(part.Shard)
	want := extent(part.Shard.Range(j.data.N))
	for i, p := range part.Networks {
		if p == nil || len(p.Results) != want {
			return fmt.Errorf("%s has not all of its %s", filepath.Base(j.subjects[i].File), plural(want, "image"))
		}
		if onCurve > 0 && len(p.Curve) != len(j.radii()) {
			return fmt.Errorf("%s has %d of the %d radii of -curve", filepath.Base(j.subjects[i].File), len(p.Curve), len(j.radii()))
		}
	}
	return nil
}
