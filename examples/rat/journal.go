package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/trials"
)

// journal is the record of a run that is not complete. Beside it in the folder are
// checkpoints of the networks.
//
// A run that is complete first writes Completed and then removes the checkpoints and the
// journal. So a run that is killed between these steps leaves a folder for a new run.
type journal struct {
	runs.Origin      // of Judged and Batteries
	Completed   bool `json:"completed,omitempty"`
	// Judged has, by the evaluation's title, the outcomes of each network: of the clean
	// images, and of the trials in their order.
	Judged map[string][][]trials.Outcome `json:"judged"`
	// Batteries has, by the network's name, the images that the battery is done with.
	Batteries map[string][]attack.ImageResult `json:"batteries"`

	folder string
}

func (j *journal) path() string                  { return filepath.Join(j.folder, "run.json") }
func (j *journal) checkpoint(name string) string { return filepath.Join(j.folder, name+".ckpt") }

// checkpoints lists the paths of all checkpoints.
func (j *journal) checkpoints() (paths []string) {
	for _, n := range networks {
		paths = append(paths, j.checkpoint(n.name))
	}
	return paths
}

// openJournal begins a journal, or goes on with the one in the folder, which holds the
// evaluations of so many images. It refuses to overwrite a run that can be resumed, and
// to resume a run of other flags or inputs.
func openJournal(o *options, inputs map[string]string, images int) (*journal, error) {
	origin, err := runs.NewOrigin(o.given, inputs)
	if err != nil {
		return nil, err
	}
	j := &journal{Origin: origin, Judged: map[string][][]trials.Outcome{}, Batteries: map[string][]attack.ImageResult{}, folder: o.out}
	old := &journal{folder: o.out}
	err = runs.ReadRecord(j.path(), old, runs.Budget(images))
	none := errors.Is(err, fs.ErrNotExist)
	kept := slices.ContainsFunc(j.checkpoints(), exists)
	switch {
	case err == nil && old.Completed, none && !kept:
		if o.resume {
			return nil, nothingToResume(o)
		}
		err = runs.Remove(j.checkpoints()...)
	case o.resume && none: // its checkpoints say of themselves what they are of
		err = nil
	case o.resume && err != nil:
		return nil, fmt.Errorf("-resume: %w (remove the file to make the evaluations anew)", err)
	case o.resume:
		err = j.goOn(old)
	case kept:
		return nil, fmt.Errorf("-out %s: holds a run that was stopped: go on with -resume, choose another folder, or remove it", o.out)
	default:
		err = nil
	}
	if err != nil {
		return nil, err
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

// goOn takes the evaluations of an older journal. Those of another version of the library or of
// other kernels are made anew.
func (j *journal) goOn(old *journal) error {
	for _, name := range slices.Sorted(maps.Keys(j.Flags)) {
		if was, is := old.Flags[name], j.Flags[name]; was != is {
			return fmt.Errorf("-resume: -%s is %q, but the run in %s has %q: expected the same flags", name, is, j.folder, was)
		}
	}
	for name, is := range j.Inputs {
		if was, ok := old.Inputs[name]; ok && was != is {
			return fmt.Errorf("-resume: %s has changed since the run in %s was stopped: start anew in another folder", name, j.folder)
		}
	}
	if old.Version == j.Version && old.Kernels == j.Kernels && old.Judged != nil {
		j.Judged = old.Judged
		if old.Batteries != nil {
			j.Batteries = old.Batteries
		}
	}
	return nil
}

func (j *journal) save() error { return runs.WriteRecord(j.path(), j) }

// complete removes all that a run needs to be resumed.
func (j *journal) complete() error {
	j.Completed, j.Judged, j.Batteries = true, nil, nil
	if err := j.save(); err != nil {
		return err
	}
	return runs.Remove(append(j.checkpoints(), j.path())...)
}
