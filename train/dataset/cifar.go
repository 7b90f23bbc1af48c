package dataset

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// cifar is the binary layout of CIFAR-10 or CIFAR-100
// (https://www.cs.toronto.edu/~kriz/cifar.html): files of records, each of which is
// one or two labels and an image of 3×32×32 in [C][H][W] order, a byte a value; and a
// text of the class names, one a line.
type cifar struct {
	train   []string // files, all of as many records
	test    string
	names   string
	classes int
	labels  int // label bytes of a record, of which the last is the class
}

var (
	cifar10 = cifar{
		train:   []string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
		test:    "test_batch.bin",
		names:   "batches.meta.txt",
		classes: 10,
		labels:  1,
	}
	cifar100 = cifar{
		train:   []string{"train.bin"},
		test:    "test.bin",
		names:   "fine_label_names.txt",
		classes: 100,
		labels:  2, // the coarse label comes first
	}
)

// The shape of CIFAR's images.
const (
	cifarC, cifarH, cifarW = 3, 32, 32
	cifarPixels            = cifarC * cifarH * cifarW
)

// ReadCIFAR10 reads CIFAR-10 in its official binary layout (50,000 training and 10,000
// test images of 3×32×32 in 10 classes) from path, which is a folder with the files
// data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt, or a tar
// archive, gzipped or not, that has them in whatever folder.
//
// A folder's files stay open and an image is read when it is asked for; they must not
// change meanwhile. An archive is read to its end and its images are kept in memory.
//
// There may be fewer images than the official ones. It returns an error that names the
// file and the value when one is missing or unreadable, is not a whole, positive number
// of records, or differs in that number from the first of the training files; when a
// label is not that of a class; when the number of class names is another; and when
// the archive is cut short or corrupt.
func ReadCIFAR10(path string) (train, test *Set, err error) { return cifar10.read(path) }

// ReadCIFAR100 reads CIFAR-100 in its official binary layout (50,000 training and
// 10,000 test images of 3×32×32 in 100 classes) from a folder with the files train.bin,
// test.bin and fine_label_names.txt, or from an archive of them. Labels are the fine
// ones; the coarse ones are skipped. All else is as with [ReadCIFAR10].
func ReadCIFAR100(path string) (train, test *Set, err error) { return cifar100.read(path) }

// CIFARNormalization returns the channel means and standard deviations by which Ding et
// al. 2022, and most work on CIFAR, normalise the images: mean 0.4914, 0.4822, 0.4465
// and std 0.2023, 0.1994, 0.2010. The latter are not the deviations over the training
// images of CIFAR-10, about 0.247, 0.243 and 0.262, which [Moments] computes.
func CIFARNormalization() (mean, std []float32) {
	return []float32{0.4914, 0.4822, 0.4465}, []float32{0.2023, 0.1994, 0.2010}
}

func (c *cifar) read(path string) (train, test *Set, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("dataset: %w", err)
	}
	open := openArchive
	if info.IsDir() {
		open = openFolder
	}
	files, err := open(path, slices.Concat(c.train, []string{c.test, c.names}))
	if err != nil {
		return nil, nil, fmt.Errorf("dataset: %w", err)
	}
	classNames, err := c.classNames(files[len(files)-1])
	if err != nil {
		return nil, nil, err
	}
	if train, err = c.set(files[:len(c.train)], classNames); err != nil {
		return nil, nil, err
	}
	if test, err = c.set(files[len(c.train):][:1], classNames); err != nil {
		return nil, nil, err
	}
	return train, test, nil
}

// classNames returns the lines of the file of class names.
func (c *cifar) classNames(f file) ([]string, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, f.size))
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", f.path, err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	if len(lines) != c.classes || slices.Contains(lines, "") {
		return nil, fmt.Errorf("dataset: %s: %d lines, want %d, each the name of a class", f.path, len(lines), c.classes)
	}
	return lines, nil
}

// set returns the set of the records in files.
func (c *cifar) set(files []file, classNames []string) (*Set, error) {
	size := int64(c.labels + cifarPixels)
	images := &records{files: files, perFile: int(files[0].size / size), labels: c.labels}
	var labels []int
	for _, f := range files {
		if f.size == 0 || f.size%size != 0 {
			return nil, fmt.Errorf("dataset: %s: %d bytes, want a whole, positive number of records of %d", f.path, f.size, size)
		}
		if f.size != files[0].size {
			return nil, fmt.Errorf("dataset: %s: %d images, want %d as in %s", f.path, f.size/size, images.perFile, files[0].path)
		}
		var label [1]byte
		for i := range images.perFile {
			if _, err := f.ReadAt(label[:], int64(i)*size+int64(c.labels-1)); err != nil {
				return nil, fmt.Errorf("dataset: %s: label of image %d: %w", f.path, i, err)
			}
			if int(label[0]) >= c.classes {
				return nil, fmt.Errorf("dataset: %s: image %d has label %d, want 0 to %d", f.path, i, label[0], c.classes-1)
			}
			labels = append(labels, int(label[0]))
		}
	}
	return New(files[0].path, images, labels, classNames)
}

// records is the images in files of CIFAR's layout.
type records struct {
	files   []file
	perFile int
	labels  int // label bytes of a record
}

// Shape implements [PixelSource].
func (r *records) Shape() (n, c, h, w int) {
	return len(r.files) * r.perFile, cifarC, cifarH, cifarW
}

// ReadImage implements [PixelSource].
func (r *records) ReadImage(dst []uint8, i int) error {
	f, k := r.files[i/r.perFile], i%r.perFile
	if _, err := f.ReadAt(dst[:cifarPixels], int64(k)*int64(r.labels+cifarPixels)+int64(r.labels)); err != nil {
		return fmt.Errorf("%s: image %d: %w", f.path, k, err)
	}
	return nil
}

// file is an open file, or the content of one that was packed.
type file struct {
	io.ReaderAt
	path string
	size int64
}

// openFolder opens the named files of a folder. Reading at an offset, rather than
// mapping them, turns a file that is cut off later into an error, not a fault, and
// costs a microsecond an image.
func openFolder(folder string, names []string) ([]file, error) {
	var files []file
	for _, name := range names {
		// The garbage collector closes what no set refers to any more.
		f, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: not a file", f.Name())
		}
		files = append(files, file{f, f.Name(), info.Size()})
	}
	return files, nil
}

// openArchive unpacks the named files of an archive into memory.
func openArchive(archive string, names []string) ([]file, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := make([]file, len(names))
	if err := unpack(f, func(name string, size int64, content io.Reader) error {
		k := slices.Index(names, path.Base(name))
		if k < 0 {
			return nil
		}
		// With room for all at once nothing is copied to grow; what a corrupt size can
		// claim is never touched, and so costs no memory.
		data := bytes.NewBuffer(make([]byte, 0, min(size, 1<<28)+bytes.MinRead))
		if _, err := data.ReadFrom(content); err != nil {
			return fmt.Errorf("%s: after %d of %d bytes: %w", name, data.Len(), size, err)
		}
		files[k] = file{bytes.NewReader(data.Bytes()), archive + ": " + name, int64(data.Len())}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("%s, read as a .tar.gz archive: %w", archive, err)
	}
	for k, name := range names {
		if files[k].ReaderAt == nil {
			return nil, fmt.Errorf("%s: %s: %w", archive, name, fs.ErrNotExist)
		}
	}
	return files, nil
}

// unpack calls fn with every member of a tar archive, gzipped or not.
func unpack(r io.Reader, fn func(name string, size int64, content io.Reader) error) error {
	r, err := gunzip(r)
	if err != nil {
		return err
	}
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
		if err := fn(member.Name, member.Size, archive); err != nil {
			return err
		}
	}
}
