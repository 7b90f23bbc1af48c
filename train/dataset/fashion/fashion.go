// Package fashion embeds a small part of Fashion-MNIST, so that a program can train
// on real images without a download:
//
//	train, err := fashion.Train() // 6,000 images of 1×28×28 in 10 classes
//	test, err := fashion.Test()   // 1,000
//
// Their normalization is the mean and the standard deviation of these training images,
// 0.2857 and 0.3537.
//
// They are the first 6,000 training and the first 1,000 test images of Fashion-MNIST by Xiao,
// Rasul and Vollgraf: "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
// Algorithms", 2017 (arXiv:1708.07747). The data is © Zalando SE under the MIT licence in the
// LICENSE file beside it. The files have the format of the whole set, which dataset.ReadIDX
// reads. The data adds 3 MB to a program that imports this package.
package fashion

import (
	"embed"
	"fmt"

	"github.com/org/snnrat/train/dataset"
)

//go:embed *.gz
var files embed.FS

// Train returns the training set, decoded anew: 6,000 images of 1×28×28.
func Train() (*dataset.Set, error) { return read("train") }

// Test returns the test set, decoded anew: 1,000 images of 1×28×28.
func Test() (*dataset.Set, error) { return read("t10k") }

// read decodes the two files of a part of the set.
func read(part string) (*dataset.Set, error) {
	imagesName, labelsName := part+"-images-idx3-ubyte.gz", part+"-labels-idx1-ubyte.gz"
	imagesFile, err := files.Open(imagesName)
	if err != nil {
		return nil, fmt.Errorf("fashion: %w", err)
	}
	labelsFile, err := files.Open(labelsName)
	if err != nil {
		return nil, fmt.Errorf("fashion: %w", err)
	}
	images, err := dataset.DecodeIDXImages(imagesName, imagesFile)
	if err != nil {
		return nil, err
	}
	labels, err := dataset.DecodeIDXLabels(labelsName, labelsFile)
	if err != nil {
		return nil, err
	}
	set, err := dataset.New("Fashion-MNIST, "+part, images, labels, []string{
		"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
		"Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
	})
	if err != nil {
		return nil, err
	}
	return set.WithNormalization([]float32{0.285672843}, []float32{0.353686064})
}
