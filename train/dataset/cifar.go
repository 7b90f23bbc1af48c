package dataset

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// cifar is CIFAR-10 or CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html).
type cifar struct {
	name      string
	classes   int
	mean, std []float32 // [3] each, of the published training code
	binary    version
	python    version

	labels             int    // label bytes of a binary record, of which the last is the class
	labelKey, namesKey string // of the dicts of the Python version
}

// version lists the files of a version of a set.
//
// A file of the binary version is records. Each is one or two labels and an image of 3×32×32 in
// [C][H][W] order, a byte a value. The class names are a text, one a line. A file of the Python version is a pickled dict with a list of labels and the same images.
type version struct {
	train []string // of the binary version, all of as many records
	test  string
	names string
}

// files returns the names of all files.
func (v *version) files() []string { return slices.Concat(v.train, []string{v.test, v.names}) }

var (
	cifar10 = cifar{
		name: "CIFAR-10", classes: 10,
		mean: []float32{0.4914, 0.4822, 0.4465}, std: []float32{0.2023, 0.1994, 0.2010},
		binary: version{
			[]string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
			"test_batch.bin", "batches.meta.txt",
		},
		python: version{
			[]string{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"},
			"test_batch", "batches.meta",
		},
		labels: 1, labelKey: "labels", namesKey: "label_names",
	}
	cifar100 = cifar{
		name: "CIFAR-100", classes: 100,
		mean: []float32{0.5071, 0.4867, 0.4408}, std: []float32{0.2675, 0.2565, 0.2761},
		binary:   version{[]string{"train.bin"}, "test.bin", "fine_label_names.txt"},
		python:   version{[]string{"train"}, "test", "meta"},
		labels:   2, // the coarse label comes first
		labelKey: "fine_labels", namesKey: "fine_label_names",
	}
)

// The shape of CIFAR's images.
const (
	cifarC, cifarH, cifarW = 3, 32, 32
	cifarPixels            = cifarC * cifarH * cifarW
)

// ReadCIFAR10 reads CIFAR-10, 50,000 training and 10,000 test images of 3×32×32 in 10
// classes, from a folder or a tar archive, gzipped or not. These are the files of the
// official binary version, in whatever folder of the archive:
//
//	data_batch_1.bin … data_batch_5.bin test_batch.bin batches.meta.txt
//
// The official Python version has the same names without .bin and .txt. ReadCIFAR10
// recognizes the version by the files, and [Set.Provenance] names it.
//
// The binary files of a folder stay open, and each image is read when it is needed. The
// files must not change meanwhile. The images of an archive and of the Python version are
// kept in memory. ReadCIFAR10 executes nothing in a pickle of the Python version. A pickle
// that needs more than strings, lists and an array of bytes is an error.
//
// [Set.Normalization] gives the mean 0.4914, 0.4822, 0.4465 and std 0.2023, 0.1994, 0.2010
// by which Ding et al. 2022, and most work on CIFAR-10, normalize the images. These std
// differ from the standard deviations over the training images, about 0.247, 0.243 and
// 0.262, which [Moments] computes.
//
// There may be fewer images than the official ones. ReadCIFAR10 returns an error that names
// the file and the value in these cases:
//
//   - A file is missing, unreadable or not a regular file.
//   - A file is empty, or does not consist of whole records.
//   - Training files of the binary version have different numbers of records.
//   - A label is not that of a class, or the number of class names is wrong.
//   - The archive is cut short or corrupt, or holds more than [Limits] allow.
func ReadCIFAR10(path string, limits ...Limits) (train, test *Set, err error) {
	return readCIFAR(path, limits, &cifar10)
}

// ReadCIFAR100 reads CIFAR-100, 50,000 training and 10,000 test images of 3×32×32 in 100
// classes, from the binary or the Python version. The files are train.bin, test.bin and
// fine_label_names.txt, or train, test and meta. Labels are the fine ones; the coarse ones
// are skipped. [Set.Normalization] gives mean 0.5071, 0.4867, 0.4408 and std 0.2675,
// 0.2565, 0.2761, those of the code of Ding et al. 2022. All else is as with [ReadCIFAR10].
func ReadCIFAR100(path string, limits ...Limits) (train, test *Set, err error) {
	return readCIFAR(path, limits, &cifar100)
}

// ReadCIFAR reads CIFAR-10 or CIFAR-100 from a folder or an archive. It recognizes the set
// by the files. The result has 10 or 100 classes. All else is as with [ReadCIFAR10].
func ReadCIFAR(path string, limits ...Limits) (train, test *Set, err error) {
	return readCIFAR(path, limits, &cifar10, &cifar100)
}

// readCIFAR reads the set of which there are the most files.
func readCIFAR(path string, limits []Limits, sets ...*cifar) (train, test *Set, err error) {
	l, err := chosen(limits)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, c := range sets {
		names = slices.Concat(names, c.binary.files(), c.python.files())
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("dataset: %w", err)
	}
	open := openArchive
	if info.IsDir() {
		open = openFolder
	}
	found, err := open(path, names, l)
	if err != nil {
		return nil, nil, fmt.Errorf("dataset: %w", err)
	}
	var set *cifar
	var from *version
	most := -1
	for _, c := range sets {
		for _, v := range []*version{&c.binary, &c.python} {
			n := 0
			for _, name := range v.files() {
				if _, ok := found[name]; ok {
					n++
				}
			}
			if n > most {
				set, from, most = c, v, n
			}
		}
	}
	files := make([]file, len(from.files()))
	for i, name := range from.files() {
		f, ok := found[name]
		if !ok {
			return nil, nil, fmt.Errorf("dataset: %s: %s of %s: %w", path, name, set.name, fs.ErrNotExist)
		}
		files[i] = f
	}
	read, title := set.readBinary, "binary version"
	if from == &set.python {
		read, title = set.readPython, "Python version"
	}
	train, test, err = read(files, l)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range []*Set{train, test} {
		s.mean, s.std = set.mean, set.std
		s.provenance = fmt.Sprintf("%s: %s, %s", path, set.name, title)
	}
	return train, test, nil
}

// readBinary returns the sets of the binary version's files.
func (c *cifar) readBinary(files []file, l Limits) (train, test *Set, err error) {
	n := len(c.binary.train)
	text, err := files[n+1].content(l)
	if err != nil {
		return nil, nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	if len(lines) != c.classes || slices.Contains(lines, "") {
		return nil, nil, fmt.Errorf("dataset: %s: %d lines, want %d, each the name of a class", files[n+1].path, len(lines), c.classes)
	}
	if train, err = c.set(files[:n], lines, l); err != nil {
		return nil, nil, err
	}
	test, err = c.set(files[n:][:1], lines, l)
	return train, test, err
}

// set returns the set of the records in binary files.
func (c *cifar) set(files []file, classNames []string, l Limits) (*Set, error) {
	size := int64(c.labels + cifarPixels)
	for _, f := range files {
		if f.size == 0 || f.size%size != 0 {
			return nil, fmt.Errorf("dataset: %s: %d bytes, want a whole, positive number of records of %d", f.path, f.size, size)
		}
		if f.size != files[0].size {
			return nil, fmt.Errorf("dataset: %s: %d images, want %d as in %s", f.path, f.size/size, files[0].size/size, files[0].path)
		}
	}
	if _, ok := l.product(files[0].size/size, int64(len(files)), labelBytes); !ok {
		return nil, fmt.Errorf("dataset: %s: %d images, want labels of at most %d bytes, which Limits.Bytes allows", files[0].path, files[0].size/size, l.Bytes)
	}
	images := &records{files: files, perFile: int(files[0].size / size), labels: c.labels}
	var labels []int
	for _, f := range files {
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

// readPython returns the sets of the Python version's files.
func (c *cifar) readPython(files []file, l Limits) (train, test *Set, err error) {
	n := len(c.python.train)
	meta, err := files[n+1].dict(l)
	if err != nil {
		return nil, nil, err
	}
	names, ok := listOf[string](meta[c.namesKey])
	if !ok || len(names) != c.classes || slices.Contains(names, "") {
		return nil, nil, fmt.Errorf("dataset: %s: %d strings in %s, want %d, each the name of a class", files[n+1].path, len(names), c.namesKey, c.classes)
	}
	if train, err = c.pickled(files[:n], names, l); err != nil {
		return nil, nil, err
	}
	test, err = c.pickled(files[n:][:1], names, l)
	return train, test, err
}

// pickled returns the set of the images in pickles.
func (c *cifar) pickled(files []file, classNames []string, l Limits) (*Set, error) {
	var pixels []uint8 // [N][C][H][W]
	var labels []int
	for _, f := range files {
		batch, err := f.dict(l)
		if err != nil {
			return nil, err
		}
		images, ok := batch["data"].(*array)
		if !ok || images.columns != cifarPixels {
			return nil, fmt.Errorf("dataset: %s: want an array %q with %d bytes for each image", f.path, "data", cifarPixels)
		}
		y, ok := listOf[int](batch[c.labelKey])
		if !ok || len(y) != images.rows {
			return nil, fmt.Errorf("dataset: %s: %d numbers in %q, want one for each of the %d images", f.path, len(y), c.labelKey, images.rows)
		}
		for i, label := range y {
			if label < 0 || label >= c.classes {
				return nil, fmt.Errorf("dataset: %s: image %d has label %d, want 0 to %d", f.path, i, label, c.classes-1)
			}
		}
		if int64(len(pixels))+int64(len(images.data)) > l.Bytes {
			return nil, fmt.Errorf("dataset: %s: images of more than %d bytes, which Limits.Bytes allows", f.path, l.Bytes)
		}
		pixels, labels = append(pixels, images.data...), append(labels, y...)
	}
	return New(files[0].path, NewMemory(cifarC, cifarH, cifarW, pixels), labels, classNames)
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
