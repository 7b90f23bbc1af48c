// Package sets opens the data sets that the examples run on.
package sets

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/download"
	"github.com/org/snnrat/train/dataset/fashion"
)

// Data is a set to train on and one to judge by, of the same classes.
type Data struct {
	Name        string // such as CIFAR-10
	Train, Test *dataset.Set
	Mean, Std   []float32            // by which images are normalized; nil for the moments of Train
	Loader      dataset.LoaderConfig // of a training
}

// Expected says what Open takes.
const Expected = "fashion-mini (embedded), cifar10 or cifar100 (downloaded once, 160 MB), a folder or a .tar.gz archive of CIFAR's " +
	"binary or Python version, a folder of MNIST's four IDX files, or a folder with train and test, each with one folder of images a class"

// format is a way in which a folder holds a data set.
type format struct {
	name  string
	marks []string // files of which there must be one, or a folder with a slash at the end
	read  func(path string) (train, test *dataset.Set, err error)
}

var (
	cifar = format{
		"CIFAR",
		[]string{
			"data_batch_1.bin", "test_batch.bin", "batches.meta.txt", "train.bin", "test.bin", "fine_label_names.txt",
			"data_batch_1", "test_batch", "batches.meta", "train", "test", "meta",
		},
		func(path string) (train, test *dataset.Set, err error) { return dataset.ReadCIFAR(path) },
	}
	// Both of MNIST's names are in use: with a hyphen and with a dot before idx3.
	idx = format{
		"IDX images",
		[]string{"train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "train-images.idx3-ubyte", "train-images.idx3-ubyte.gz"},
		readIDX,
	}
	folders = format{"images", []string{"train/"}, readFolders}
)

// Open reads the data set at path, which is one of what [Expected] lists. What is downloaded
// goes to the user's cache, and the progress of that to stderr.
//
// It returns an error if the images of the two sets differ in shape or their classes differ in
// number or name. A test folder may lack classes of the training folder.
func Open(ctx context.Context, path string, stderr io.Writer) (*Data, error) {
	f, path, err := find(ctx, path, stderr)
	if err != nil {
		return nil, err
	}
	d := &Data{Name: f.name, Loader: dataset.DefaultTraining()}
	if d.Train, d.Test, err = f.read(path); err != nil {
		return nil, err
	}
	if f.name == cifar.name {
		d.Name = fmt.Sprintf("CIFAR-%d", d.Train.Classes)
		d.Loader = dataset.DefaultCIFARTraining()
	}
	d.Mean, d.Std = d.Train.Normalization()
	if d.Train.C != d.Test.C || d.Train.H != d.Test.H || d.Train.W != d.Test.W {
		return nil, fmt.Errorf("training images of %d×%d×%d, but test images of %d×%d×%d: expected the same size",
			d.Train.C, d.Train.H, d.Train.W, d.Test.C, d.Test.H, d.Test.W)
	}
	if d.Train.Classes != d.Test.Classes || !slices.Equal(d.Train.ClassNames(), d.Test.ClassNames()) {
		return nil, fmt.Errorf("training images of %d classes %q, but test images of %d classes %q: expected the same",
			d.Train.Classes, d.Train.ClassNames(), d.Test.Classes, d.Test.ClassNames())
	}
	return d, nil
}

// find returns the format of the data set at path, and the folder or archive that holds it.
func find(ctx context.Context, path string, stderr io.Writer) (format, string, error) {
	switch path {
	case "fashion-mini":
		return format{"Fashion-MNIST (7,000 images)", nil, readFashion}, path, nil
	case "cifar10":
		path, err := fetch(ctx, download.CIFAR10, stderr)
		return cifar, path, err
	case "cifar100":
		path, err := fetch(ctx, download.CIFAR100, stderr)
		return cifar, path, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return format{}, "", fmt.Errorf("%w: expected %s", err, Expected)
	}
	if !info.IsDir() {
		return cifar, path, nil
	}
	// Archives of CIFAR hold a folder, which may be given, or the one it lies in.
	for _, inner := range []string{"", "cifar-10-batches-bin", "cifar-100-binary", "cifar-10-batches-py", "cifar-100-python"} {
		folder := filepath.Join(path, inner)
		for _, f := range []format{cifar, idx, folders} {
			for _, mark := range f.marks {
				name, wantFolder := strings.CutSuffix(mark, "/")
				if info, err := os.Stat(filepath.Join(folder, name)); err == nil && info.IsDir() == wantFolder {
					return f, folder, nil
				}
			}
		}
	}
	return format{}, "", fmt.Errorf("the folder holds no data set: expected %s", Expected)
}

func fetch(ctx context.Context, src download.Source, stderr io.Writer) (string, error) {
	cfg, err := download.Default()
	if err != nil {
		return "", err
	}
	p := &progress{stderr: stderr, name: "download of " + path.Base(src.URL)}
	cfg.Progress = p.show
	defer p.clear()
	return download.File(ctx, src, cfg)
}

// progress shows how much of a download is there.
type progress struct {
	stderr io.Writer
	name   string
	meter  *term.Meter // nil before the first call of show
	had    int64
}

func (p *progress) show(done, total int64) {
	if total <= 0 {
		return // unknown
	}
	if p.meter == nil {
		p.meter = term.NewMeter(p.stderr, float64(total))
		p.meter.Skip(float64(done)) // of an earlier download that was cut off
	} else {
		p.meter.Add(float64(done-p.had), p.name)
	}
	if p.had = done; done == total {
		p.meter.Finished(p.name)
	}
}

func (p *progress) clear() {
	if p.meter != nil {
		p.meter.Clear()
	}
}

func readFashion(string) (train, test *dataset.Set, err error) {
	return both("", func(_, part string) (*dataset.Set, error) {
		if part == "test" {
			return fashion.Test()
		}
		return fashion.Train()
	})
}

// readFolders reads the test folder with the classes of the training folder, so that labels
// mean the same in both.
func readFolders(path string) (train, test *dataset.Set, err error) {
	return both(path, func(path, part string) (*dataset.Set, error) {
		if part == "test" {
			return dataset.ReadFolderAs(filepath.Join(path, part), train.ClassNames())
		}
		train, err = dataset.ReadFolder(filepath.Join(path, part))
		return train, err
	})
}

func readIDX(path string) (train, test *dataset.Set, err error) {
	return both(path, func(path, part string) (*dataset.Set, error) {
		if part == "test" {
			part = "t10k"
		}
		images, err := idxFile(path, part+"-images", "idx3-ubyte")
		if err != nil {
			return nil, err
		}
		labels, err := idxFile(path, part+"-labels", "idx1-ubyte")
		if err != nil {
			return nil, err
		}
		return dataset.ReadIDX(images, labels, 10)
	})
}

// idxFile returns the path of the file with this name and ending, whichever of its spellings
// the folder has.
func idxFile(folder, name, ending string) (string, error) {
	for _, between := range []string{"-", "."} {
		for _, packed := range []string{".gz", ""} {
			path := filepath.Join(folder, name+between+ending+packed)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w: expected it with - or . before %s, with or without .gz", filepath.Join(folder, name+"-"+ending), fs.ErrNotExist, ending)
}

// both reads the parts train and test.
func both(path string, read func(path, part string) (*dataset.Set, error)) (train, test *dataset.Set, err error) {
	if train, err = read(path, "train"); err != nil {
		return nil, nil, err
	}
	test, err = read(path, "test")
	return train, test, err
}

// First returns the first n images of a set, all for n = 0. The error names the flag
// that n is of.
func First(flag string, s *dataset.Set, n int) (*dataset.Set, error) {
	if n == 0 || n == s.N {
		return s, nil
	}
	sub, err := s.First(n)
	if err != nil {
		return nil, fmt.Errorf("%s %d: %w", flag, n, err)
	}
	return sub, nil
}

// Digest returns a digest of the labels and of all images of a set, 32 hexadecimal digits. It reads
// every image, which [dataset.Set.Fingerprint] does not.
func Digest(s *dataset.Set) (string, error) {
	shape := s.Shape()
	shape.N = 1
	x := tensor.NewFrames(shape)
	h := sha256.New()
	for i := range s.N {
		if err := s.Fill(x, []int{i}); err != nil {
			return "", err
		}
		if err := binary.Write(h, binary.LittleEndian, x.Data); err != nil {
			return "", err
		}
		fmt.Fprintln(h, s.Labels[i])
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// Limit leaves the first so many training and test images, 0 standing for all. Sets that have
// no normalization of their own get the moments of the training images that are left.
func (d *Data) Limit(train, test int) (err error) {
	if d.Train, err = First("-train", d.Train, train); err != nil {
		return err
	}
	if d.Test, err = First("-test", d.Test, test); err != nil {
		return err
	}
	if d.Mean == nil {
		if d.Mean, d.Std, err = dataset.Moments(d.Train); err != nil {
			return err
		}
	}
	if d.Train, err = d.Train.WithNormalization(d.Mean, d.Std); err != nil {
		return err
	}
	d.Test, err = d.Test.WithNormalization(d.Mean, d.Std)
	return err
}
