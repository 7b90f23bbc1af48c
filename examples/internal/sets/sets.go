// Package sets opens the data sets that the examples run on.
package sets

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/download"
	"github.com/org/snnrat/train/dataset/fashion"
)

// Data is a set to train on and one to judge by.
type Data struct {
	Name        string // such as CIFAR-10
	Train, Test *dataset.Set
	Mean, Std   []float32            // by which images are normalised; nil for the moments of Train
	Loader      dataset.LoaderConfig // of a training
}

// Expected says what Open takes.
const Expected = "fashion-mini (embedded), cifar10 or cifar100 (downloaded once, 160 MB), a folder or a .tar.gz archive of CIFAR's " +
	"binary layout, a folder of MNIST's four IDX files, or a folder with train and test, each with one folder of images a class"

// format is a way in which a folder holds a data set.
type format struct {
	name  string
	marks []string // files of which there must be one
	read  func(path string) (train, test *dataset.Set, err error)
	cifar bool
}

var formats = []format{
	{"CIFAR-10", []string{"data_batch_1.bin", "test_batch.bin", "batches.meta.txt"}, dataset.ReadCIFAR10, true},
	{"CIFAR-100", []string{"train.bin", "test.bin", "fine_label_names.txt"}, dataset.ReadCIFAR100, true},
	{"IDX images", []string{"train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"}, readIDX, false},
	{"images", []string{"train"}, readFolders, false},
}

// Open reads the data set at path, which is one of what [Expected] lists. What is
// downloaded goes to the user's cache; progress, if not nil, is called with the bytes
// that are there and their number in the end.
func Open(ctx context.Context, path string, progress func(done, total int64)) (*Data, error) {
	f, path, err := find(ctx, path, progress)
	if err != nil {
		return nil, err
	}
	d := &Data{Name: f.name, Loader: dataset.DefaultTraining()}
	if d.Train, d.Test, err = f.read(path); err != nil {
		return nil, err
	}
	if f.cifar {
		d.Mean, d.Std = dataset.CIFARNormalization()
		d.Loader = dataset.DefaultCIFARTraining()
	}
	if d.Train.C != d.Test.C || d.Train.H != d.Test.H || d.Train.W != d.Test.W {
		return nil, fmt.Errorf("training images of %d×%d×%d, but test images of %d×%d×%d: expected the same size",
			d.Train.C, d.Train.H, d.Train.W, d.Test.C, d.Test.H, d.Test.W)
	}
	if !slices.Equal(d.Train.ClassNames(), d.Test.ClassNames()) {
		return nil, fmt.Errorf("training images of the classes %q, but test images of %q: expected the same", d.Train.ClassNames(), d.Test.ClassNames())
	}
	return d, nil
}

func find(ctx context.Context, path string, progress func(done, total int64)) (format, string, error) {
	switch path {
	case "fashion-mini":
		return format{"Fashion-MNIST (7,000 images)", nil, readFashion, false}, path, nil
	case "cifar10":
		path, err := fetch(ctx, download.CIFAR10, progress)
		return formats[0], path, err
	case "cifar100":
		path, err := fetch(ctx, download.CIFAR100, progress)
		return formats[1], path, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return format{}, "", fmt.Errorf("%w: expected %s", err, Expected)
	}
	if !info.IsDir() {
		if strings.Contains(filepath.Base(path), "100") {
			return formats[1], path, nil
		}
		return formats[0], path, nil
	}
	// Archives of CIFAR hold a folder, which may be given, or the one it lies in.
	for _, folder := range []string{path, filepath.Join(path, "cifar-10-batches-bin"), filepath.Join(path, "cifar-100-binary")} {
		for _, f := range formats {
			for _, mark := range f.marks {
				if _, err := os.Stat(filepath.Join(folder, mark)); err == nil {
					return f, folder, nil
				}
			}
		}
	}
	return format{}, "", fmt.Errorf("the folder holds no data set: expected %s", Expected)
}

func fetch(ctx context.Context, src download.Source, progress func(done, total int64)) (string, error) {
	cfg, err := download.Default()
	if err != nil {
		return "", err
	}
	cfg.Progress = progress
	return download.File(ctx, src, cfg)
}

func readFashion(string) (train, test *dataset.Set, err error) {
	return both("", func(_, part string) (*dataset.Set, error) {
		if part == "test" {
			return fashion.Test()
		}
		return fashion.Train()
	})
}

func readFolders(path string) (train, test *dataset.Set, err error) {
	return both(path, func(path, part string) (*dataset.Set, error) {
		return dataset.ReadFolder(filepath.Join(path, part))
	})
}

func readIDX(path string) (train, test *dataset.Set, err error) {
	return both(path, func(path, part string) (*dataset.Set, error) {
		if part == "test" {
			part = "t10k"
		}
		var files []string
		for _, name := range []string{part + "-images-idx3-ubyte", part + "-labels-idx1-ubyte"} {
			file := filepath.Join(path, name)
			if _, err := os.Stat(file + ".gz"); err == nil {
				file += ".gz"
			}
			files = append(files, file)
		}
		return dataset.ReadIDX(files[0], files[1], 10)
	})
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

// Limit leaves the first so many training and test images, 0 standing for all, and
// sets Mean and Std to those of the training images that are left, if they are nil.
func (d *Data) Limit(train, test int) (err error) {
	if d.Train, err = First("-train", d.Train, train); err != nil {
		return err
	}
	if d.Test, err = First("-test", d.Test, test); err != nil {
		return err
	}
	if d.Mean == nil {
		d.Mean, d.Std, err = dataset.Moments(d.Train)
	}
	return err
}
