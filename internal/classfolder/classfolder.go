// Package classfolder lists folders that have one subfolder of files for each class.
package classfolder

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Files is the files of a folder, sorted by class name and then by name.
type Files struct {
	Paths   []string
	Labels  []int // of each path, an index of Classes
	Classes []string
}

// List lists the files of the folder at path. The classes are those given, which must be at least
// one, or the names of the subfolders for nil. List follows links. It leaves out names that begin
// with a dot, and files beside the subfolders.
//
// It returns an error that names the folder if it cannot be read or has no subfolder, or if a
// subfolder is of no class or has no file. The error calls the files kind, such as images. List
// also returns the error of check about what is in a subfolder.
func List(path string, classes []string, kind string, check func(file string, info fs.FileInfo) error) (*Files, error) {
	given := classes != nil
	for i, name := range classes {
		if slices.Contains(classes[:i], name) {
			return nil, fmt.Errorf("%s: class %q is twice in the list of classes", path, name)
		}
	}
	if given && len(classes) == 0 {
		return nil, fmt.Errorf("%s: no classes to read it with, want at least one", path)
	}
	folders, err := list(path)
	if err != nil {
		return nil, err
	}
	folders = slices.DeleteFunc(folders, func(info fs.FileInfo) bool { return !info.IsDir() })
	if len(folders) == 0 {
		return nil, fmt.Errorf("%s: no subfolders, want one for each class", path)
	}
	f := &Files{Classes: slices.Clone(classes)}
	for _, folder := range folders {
		if !given {
			f.Classes = append(f.Classes, folder.Name())
		}
		subfolder := filepath.Join(path, folder.Name())
		label := slices.Index(f.Classes, folder.Name())
		if label < 0 {
			return nil, fmt.Errorf("%s: a folder of none of the %d classes, want one of %q", subfolder, len(classes), Abridged(classes))
		}
		files, err := list(subfolder)
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s: no %s", subfolder, kind)
		}
		for _, info := range files {
			file := filepath.Join(subfolder, info.Name())
			if err := check(file, info); err != nil {
				return nil, err
			}
			f.Paths = append(f.Paths, file)
			f.Labels = append(f.Labels, label)
		}
	}
	return f, nil
}

// Abridged returns at most ten of the names, for an error.
func Abridged(names []string) []string {
	if len(names) > 10 {
		return append(slices.Clone(names[:10]), "…")
	}
	return names
}

// list returns what is in a folder, sorted by name. It follows links and leaves out names that
// begin with a dot.
func list(path string) (infos []fs.FileInfo, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: want a folder", path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(path, entry.Name()))
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}
