package event

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"sync"

	"github.com/org/snnrat/internal/classfolder"
	"github.com/org/snnrat/internal/parallel"
)

// Source is labelled recordings. Its methods must be safe for concurrent use.
type Source interface {
	// Len returns the number of recordings.
	Len() int
	// Label returns the class of recording i, which is in [0, Len()), as an index of ClassNames.
	Label(i int) int
	// ClassNames returns the names of the classes.
	ClassNames() []string
	// Recording returns recording i. It returns an error if it cannot be read.
	Recording(i int) (Recording, error)
}

// Folder is the recordings in a folder that has one subfolder of files for each class. It is a
// [Source]. A file is read each time that its recording is asked for.
type Folder struct {
	files classfolder.Files
	cfg   Config

	mu     sync.Mutex
	report map[int]Report // of the files that were read, by their index
}

// ReadFolder lists the files of a folder that has one subfolder for each class, as N-MNIST has.
// Classes are sorted by name, and files by class and then by name. Names that begin with a dot,
// and files beside the subfolders, are left out. Files may be of different formats, unless cfg
// says one.
//
// ReadFolder does not read the files. It returns an error that names the folder if it cannot be
// read, or has no subfolder, or a subfolder has no file or another folder in it.
func ReadFolder(path string, cfg Config) (*Folder, error) { return readFolder(path, nil, cfg) }

// ReadFolderAs lists a folder as [ReadFolder] does, with a given list of classes: the label of a
// class is its place in classes. The classes of a test folder are those of the training folder.
//
// A class of the list may have no subfolder. ReadFolderAs returns an error that names the
// subfolder if one is not in the list, and an error if the list is empty or has a name twice.
func ReadFolderAs(path string, classes []string, cfg Config) (*Folder, error) {
	return readFolder(path, append([]string{}, classes...), cfg)
}

// readFolder lists a folder with the given classes, or with those of its subfolders for nil.
func readFolder(path string, classes []string, cfg Config) (*Folder, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	files, err := classfolder.List(path, classes, "files", func(file string, info fs.FileInfo) error {
		if info.IsDir() {
			return fmt.Errorf("%s is a folder, want files in the folder of a class", file)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return &Folder{files: *files, cfg: cfg, report: map[int]Report{}}, nil
}

// Len implements [Source].
func (f *Folder) Len() int { return len(f.files.Paths) }

// Label implements [Source].
func (f *Folder) Label(i int) int { return f.files.Labels[i] }

// ClassNames implements [Source].
func (f *Folder) ClassNames() []string { return f.files.Classes }

// Path returns the path of file i.
func (f *Folder) Path(i int) string { return f.files.Paths[i] }

// Recording implements [Source]. It returns an error that names the file if it is not what its
// format requires, or if it is truncated.
func (f *Folder) Recording(i int) (Recording, error) {
	rec, report, err := ReadAll(f.files.Paths[i], f.cfg)
	if err != nil {
		return Recording{}, err
	}
	f.mu.Lock()
	f.report[i] = report
	f.mu.Unlock()
	return rec, nil
}

// Report returns the sum of the reports of the files that were read so far, each once. Format is
// that of the files, or empty if they differ. Width and Height are the largest.
func (f *Folder) Report() (sum Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := true
	for _, r := range f.report {
		sum.add(r)
		sum.Width, sum.Height = max(sum.Width, r.Width), max(sum.Height, r.Height)
		if first {
			sum.Format = r.Format
		} else if sum.Format != r.Format {
			sum.Format = ""
		}
		first = false
	}
	return sum
}

// forEach calls fn with the recordings of a source, several at a time. It returns the first error
// by index.
func forEach(ctx context.Context, src Source, fn func(i int, rec Recording) error) error {
	errs := make([]error, src.Len())
	parallel.For(0, src.Len(), func(i int) {
		if errs[i] = ctx.Err(); errs[i] != nil {
			return
		}
		rec, err := src.Recording(i)
		errs[i] = err
		if err == nil {
			errs[i] = fn(i, rec)
		}
	})
	return cmp.Or(errs...)
}
