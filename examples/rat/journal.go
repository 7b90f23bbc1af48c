package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/atomicfile"
)

// journal is what a run that was stopped leaves in its folder, beside a checkpoint for
// each network: the flags that made it, and the evaluations that are done. A run that
// is completed removes all of it.
type journal struct {
	Flags   map[string]string           `json:"flags"`
	Reports map[string][]*attack.Report `json:"reports"` // by the evaluation's title

	folder string
}

func (j *journal) path() string                  { return filepath.Join(j.folder, "run.json") }
func (j *journal) checkpoint(name string) string { return filepath.Join(j.folder, name+".ckpt") }

// openJournal begins a journal, or goes on with the one in the folder. It refuses to
// overwrite a run that can be resumed, and to resume one of other flags.
func openJournal(o *options) (*journal, error) {
	j := &journal{Flags: o.given, Reports: map[string][]*attack.Report{}, folder: o.out}
	if o.resume {
		return j.resume()
	}
	if j.holds() {
		return nil, fmt.Errorf("-out %s: holds a run that was stopped: go on with -resume, choose another folder, or remove it", o.out)
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return nil, notWritable(o, err)
	}
	// A first run's checkpoint may be hours away: that it can be written is seen here.
	if err := j.save(); err != nil {
		return nil, notWritable(o, err)
	}
	return j, nil
}

func notWritable(o *options, err error) error {
	return fmt.Errorf("-out %s: expected a folder to write to: %w", o.out, err)
}

// resume returns the folder's journal, which must be of the flags of j.
func (j *journal) resume() (*journal, error) {
	b, err := os.ReadFile(j.path())
	if err != nil {
		return nil, fmt.Errorf("-resume: %s holds no run that was stopped, start without -resume: %w", j.folder, err)
	}
	old := &journal{folder: j.folder}
	if err := json.Unmarshal(b, old); err != nil {
		return nil, fmt.Errorf("-resume: %s: expected a run's flags and evaluations: %w", j.path(), err)
	}
	for _, name := range slices.Sorted(maps.Keys(j.Flags)) {
		if was, is := old.Flags[name], j.Flags[name]; was != is {
			return nil, fmt.Errorf("-resume: -%s is %q, but the run in %s has %q: expected the same flags", name, is, j.folder, was)
		}
	}
	if old.Reports == nil {
		old.Reports = j.Reports
	}
	return old, nil
}

// holds reports whether there is something to resume.
func (j *journal) holds() bool {
	return slices.ContainsFunc(networks, func(n network) bool {
		_, err := os.Stat(j.checkpoint(n.name))
		return err == nil
	})
}

func (j *journal) save() error {
	return atomicfile.Write(j.path(), func(w io.Writer) error { return json.NewEncoder(w).Encode(j) })
}

func (j *journal) remove() error {
	paths := []string{j.path()}
	for _, n := range networks {
		paths = append(paths, j.checkpoint(n.name))
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
