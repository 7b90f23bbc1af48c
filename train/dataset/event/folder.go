package event

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

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
	paths      []string
	labels     []int
	classNames []string
	cfg        Config

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
// subfolder if one is not in the list.
func ReadFolderAs(path string, classes []string, cfg Config) (*Folder, error) {
	if len(classes) == 0 {
		return nil, fmt.Errorf("event: %s: an empty list of classes, want at least one", path)
	}
	return readFolder(path, classes, cfg)
}

func readFolder(path string, classes []string, cfg Config) (*Folder, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	folders, err := list(path)
	if err != nil {
		return nil, err
	}
	folders = slices.DeleteFunc(folders, func(info fs.FileInfo) bool { return !info.IsDir() })
	if len(folders) == 0 {
		return nil, fmt.Errorf("event: %s: no subfolders, want one for each class", path)
	}
	f := &Folder{cfg: cfg, report: map[int]Report{}, classNames: slices.Clone(classes)}
	if classes == nil {
		for _, info := range folders {
			f.classNames = append(f.classNames, info.Name())
		}
	}
	for _, folder := range folders {
		inner := filepath.Join(path, folder.Name())
		label := slices.Index(f.classNames, folder.Name())
		if label < 0 {
			return nil, fmt.Errorf("event: %s: the class is none of %q", inner, f.classNames)
		}
		files, err := list(inner)
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("event: %s: no files", inner)
		}
		for _, file := range files {
			if file.IsDir() {
				return nil, fmt.Errorf("event: %s is a folder, want files in the folder of a class", filepath.Join(inner, file.Name()))
			}
			f.paths = append(f.paths, filepath.Join(inner, file.Name()))
			f.labels = append(f.labels, label)
		}
	}
	return f, nil
}

// list returns what is in a folder, sorted by name. It follows links and leaves out names that
// begin with a dot.
func list(path string) (infos []fs.FileInfo, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(path, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("event: %w", err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Len implements [Source].
func (f *Folder) Len() int { return len(f.paths) }

// Label implements [Source].
func (f *Folder) Label(i int) int { return f.labels[i] }

// ClassNames implements [Source].
func (f *Folder) ClassNames() []string { return f.classNames }

// Path returns the path of file i.
func (f *Folder) Path(i int) string { return f.paths[i] }

// Recording implements [Source]. It returns an error that names the file if it is not what its
// format requires, or if it is truncated.
func (f *Folder) Recording(i int) (Recording, error) {
	rec, report, err := ReadAll(f.paths[i], f.cfg)
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
