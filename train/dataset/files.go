package dataset

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"

	"github.com/org/snnrat/internal/regular"
)

// file is an open file, or the content of one that was packed.
type file struct {
	io.ReaderAt
	path string
	size int64
}

// content returns the whole file.
func (f *file) content(l Limits) ([]byte, error) {
	if f.size > l.Bytes {
		return nil, fmt.Errorf("dataset: %s: %d bytes, want at most %d, which Limits.Bytes allows", f.path, f.size, l.Bytes)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.size))
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", f.path, err)
	}
	return b, nil
}

// dict returns the content of a pickled dict.
func (f *file) dict(l Limits) (map[string]any, error) {
	text, err := f.content(l)
	if err != nil {
		return nil, err
	}
	d, err := unpickle(text, l)
	if err != nil {
		return nil, fmt.Errorf("dataset: %s, read as a pickle of CIFAR's Python version: %w", f.path, err)
	}
	return d, nil
}

// openFolder opens those of the named files that a folder has. Reading at an offset, rather
// than mapping them, turns a file that is cut off later into an error, not a fault, and costs
// a microsecond an image.
func openFolder(folder string, names []string, _ Limits) (map[string]file, error) {
	files := map[string]file{}
	for _, name := range names {
		// The garbage collector closes what no set refers to any more.
		f, size, err := regular.Open(filepath.Join(folder, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = file{f, f.Name(), size}
	}
	return files, nil
}

// openArchive unpacks those of the named files that an archive has into memory.
func openArchive(archive string, names []string, l Limits) (map[string]file, error) {
	f, _, err := regular.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := map[string]file{}
	left := l.Bytes
	if err := unpack(f, l, func(member *tar.Header, content io.Reader) error {
		name := path.Base(member.Name)
		if !slices.Contains(names, name) || !member.FileInfo().Mode().IsRegular() {
			return nil
		}
		// A sparse member claims more than the archive holds.
		if member.Size > left {
			return fmt.Errorf("%s: %d bytes, want at most %d in all, which Limits.Bytes allows", member.Name, member.Size, l.Bytes)
		}
		left -= member.Size
		data, err := io.ReadAll(content)
		if err != nil {
			return fmt.Errorf("%s: after %d of %d bytes: %w", member.Name, len(data), member.Size, err)
		}
		files[name] = file{bytes.NewReader(data), archive + ": " + member.Name, int64(len(data))}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("%s, read as a .tar.gz archive: %w", archive, err)
	}
	return files, nil
}

// unpack calls fn with every member of a tar archive, gzipped or not.
func unpack(r io.Reader, l Limits, fn func(member *tar.Header, content io.Reader) error) error {
	r, err := gunzip(r)
	if err != nil {
		return err
	}
	r = l.capped(r)
	for archive := tar.NewReader(r); ; {
		member, err := archive.Next()
		if err == io.EOF {
			// The end of a gzip stream is where its checksum is verified.
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		if err := fn(member, archive); err != nil {
			return err
		}
	}
}

// capped returns a reader of r that fails after Limits.Bytes.
func (l Limits) capped(r io.Reader) io.Reader { return &capped{r, l.Bytes, l.Bytes} }

type capped struct {
	r          io.Reader
	left, most int64
}

// Read implements [io.Reader].
func (c *capped) Read(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		p = p[:c.left+1] // one more, which tells the end from too much
	}
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		n, err = int(c.left), fmt.Errorf("more than %d bytes, which Limits.Bytes allows", c.most)
	}
	c.left -= int64(n)
	return n, err
}
