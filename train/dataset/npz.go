package dataset

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"

	"github.com/org/snnrat/internal/regular"
)

// ReadNPZ is like [ReadNPY] for two arrays of one NumPy archive, as numpy.savez writes it.
// images and labels are the names of the arrays. The archive may be compressed.
//
// ReadNPZ returns an error that names the archive and the array in the cases of ReadNPY, and
// if the file is no archive or lacks an array.
func ReadNPZ(path, images, labels string, classes int, limits ...Limits) (*Set, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	defer f.Close()
	archive, err := zip.NewReader(f, size)
	if err != nil {
		return nil, fmt.Errorf("dataset: %s, read as a NumPy archive: %w", path, err)
	}
	x, err := decodeMember(path, archive, images, decodeNPYImages, limits)
	if err != nil {
		return nil, err
	}
	y, err := decodeMember(path, archive, labels, decodeNPYLabels, limits)
	if err != nil {
		return nil, err
	}
	return newNPYSet(path+": "+images, path+": "+labels, x, y, classes)
}

// decodeMember decodes an array of a NumPy archive.
func decodeMember[T any](path string, archive fs.FS, name string, decode func(string, io.Reader, ...Limits) (T, error), limits []Limits) (v T, err error) {
	f, err := archive.Open(name + ".npy")
	if err != nil {
		return v, fmt.Errorf("dataset: %s: array %q: %w", path, name, err)
	}
	defer f.Close()
	return decode(path+": "+name, f, limits...)
}
