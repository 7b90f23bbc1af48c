package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/fashion"
)

// data is what the networks are trained and judged on.
type data struct {
	train, test *dataset.Set
	mean, std   []float32 // of the training images' channels
}

func load(o *options) (*data, error) {
	d := &data{}
	var err error
	if o.Data == "fashion-mini" {
		if d.train, err = fashion.Train(); err == nil {
			d.test, err = fashion.Test()
		}
	} else if _, none := os.Stat(filepath.Join(o.Data, "data_batch_1.bin")); none == nil {
		d.train, d.test, err = dataset.ReadCIFAR10(o.Data)
	} else {
		if d.train, err = idx(o.Data, "train"); err == nil {
			d.test, err = idx(o.Data, "t10k")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("-data %s: %w", o.Data, err)
	}
	if d.train.H != d.test.H || d.train.W != d.test.W {
		return nil, fmt.Errorf("-data %s: training images of %d×%d, but test images of %d×%d: expected the same size",
			o.Data, d.train.H, d.train.W, d.test.H, d.test.W)
	}
	if d.train, err = first("-train", d.train, o.TrainCount); err != nil {
		return nil, err
	}
	if d.test, err = first("-test", d.test, o.TestCount); err != nil {
		return nil, err
	}
	if d.mean, d.std, err = dataset.Moments(d.train); err != nil {
		return nil, fmt.Errorf("-data %s: %w", o.Data, err)
	}
	return d, nil
}

// idx reads MNIST's files of a part, gzipped or not, from a folder.
func idx(folder, part string) (*dataset.Set, error) {
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return nil, errors.New("no such folder: expected fashion-mini or a folder with MNIST's four IDX files or CIFAR-10's batches")
	}
	var paths []string
	for _, name := range []string{part + "-images-idx3-ubyte", part + "-labels-idx1-ubyte"} {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path + ".gz"); err == nil {
			path += ".gz"
		}
		paths = append(paths, path)
	}
	return dataset.ReadIDX(paths[0], paths[1], 10)
}

func first(flag string, s *dataset.Set, n int) (*dataset.Set, error) {
	if n == 0 || n == s.N {
		return s, nil
	}
	sub, err := s.First(n)
	if err != nil {
		return nil, fmt.Errorf("%s %d: %w", flag, n, err)
	}
	return sub, nil
}
