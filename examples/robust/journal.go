package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
)

// journal is the record of a run that is not complete.
//
// A run that is complete first writes Completed and then removes the journal. So a run that is
// killed between these steps leaves a folder for a new run.
type journal struct {
	runs.Origin
	Shard     attack.Shard `json:"shard,omitzero"`
	Completed bool         `json:"completed,omitempty"`
	Networks  []*progress  `json:"networks"` // in the order of -net

	folder string
	saved  time.Time
	took   time.Duration // of the last save
}

// progress is what is done of a network.
type progress struct {
	Results []attack.ImageResult `json:"results"`
	Kept    map[int][]byte       `json:"kept"` // by image: the best point, float32 in little-endian order
	Curve   []curvePoint         `json:"curve"`
	// Certified has the largest certified ε of each image of the data, or uncertified. It may lack
	// the last images.
	Certified []float32 `json:"certified,omitempty"`
}

func (j *journal) path() string { return filepath.Join(j.folder, "run.json") }

// openJournal begins a journal, or goes on with the one in the folder, of at most budget bytes.
// It refuses to overwrite a run that can be resumed, and to resume a run of other flags or files.
func openJournal(o *options, inputs map[string]string, budget int64) (*journal, error) {
	origin, err := runs.NewOrigin(o.values, inputs)
	if err != nil {
		return nil, err
	}
	j := &journal{Origin: origin, Shard: o.shard, folder: o.out}
	for range o.nets {
		j.Networks = append(j.Networks, &progress{Kept: map[int][]byte{}})
	}
	old := &journal{folder: o.out}
	err = runs.ReadRecord(j.path(), old, budget)
	none := errors.Is(err, fs.ErrNotExist) || err == nil && old.Completed
	switch {
	case o.resume && none:
		return nil, nothingToResume(o)
	case o.resume && err != nil:
		return nil, fmt.Errorf("-resume: %w (remove the file to begin anew)", err)
	case o.resume:
		if err := j.goOn(old); err != nil {
			return nil, err
		}
	case err == nil && !none && !old.Shard.IsZero():
		return nil, fmt.Errorf("-out %s: holds shard %v: go on with -resume, choose another folder, or remove %s", o.out, old.Shard, j.path())
	case !none && exists(j.path()):
		return nil, fmt.Errorf("-out %s: holds a run that was stopped: go on with -resume, choose another folder, or remove %s", o.out, j.path())
	}
	if err := j.save(); err != nil {
		return nil, fmt.Errorf("-out %s: expected a folder to write to: %w", o.out, err)
	}
	return j, nil
}

func nothingToResume(o *options) error {
	return fmt.Errorf("-resume: %s holds no run that was stopped: start without -resume", o.out)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// goOn takes what an older journal holds. What another version of the library or other kernels
// made is made anew.
func (j *journal) goOn(old *journal) error {
	if old.Shard != j.Shard {
		return fmt.Errorf("-resume: -shard is %q, but the run in %s has %q: expected the same flags", j.Shard, j.folder, old.Shard)
	}
	for _, name := range slices.Sorted(maps.Keys(j.Flags)) {
		if was, is := old.Flags[name], j.Flags[name]; was != is {
			return fmt.Errorf("-resume: -%s is %q, but the run in %s has %q: expected the same flags", name, is, j.folder, was)
		}
	}
	if old.Version != j.Version || old.Kernels != j.Kernels || len(old.Networks) != len(j.Networks) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(j.Inputs)) {
		if old.Inputs[name] != j.Inputs[name] {
			return fmt.Errorf("-resume: %s has changed since the run in %s was stopped: start anew in another folder", name, j.folder)
		}
	}
	for i, p := range old.Networks {
		if p != nil && p.Kept != nil {
			j.Networks[i] = p
		}
	}
	return nil
}

// save writes the journal.
func (j *journal) save() error {
	start := time.Now()
	err := runs.WriteRecord(j.path(), j)
	j.saved = time.Now()
	j.took = j.saved.Sub(start)
	return err
}

// saveSometimes writes the journal, unless that would take more than a twentieth of the time.
func (j *journal) saveSometimes() error {
	if time.Since(j.saved) < 20*j.took {
		return nil
	}
	return j.save()
}

// complete removes what a run needs to be resumed.
func (j *journal) complete() error {
	j.Completed, j.Networks = true, nil
	if err := j.save(); err != nil {
		return err
	}
	return runs.Remove(j.path())
}
