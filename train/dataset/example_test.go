package dataset_test

import (
	"context"
	"fmt"
	"log"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/fashion"
)

func Example() {
	train, err := fashion.Train() // or dataset.ReadIDX(images, labels, 10)
	if err != nil {
		log.Fatal(err)
	}
	loader, err := dataset.NewLoader(train, dataset.DefaultTraining(), rng.New(1))
	if err != nil {
		log.Fatal(err)
	}
	for epoch := range 2 {
		images := 0
		for batch, err := range loader.Epoch(context.Background(), epoch) {
			if err != nil {
				log.Fatal(err)
			}
			images += len(batch.Y) // train on batch.X, batch.Y
		}
		fmt.Printf("epoch %d: %d batches, %d images\n", epoch, loader.Batches(), images)
	}
	// Output:
	// epoch 0: 94 batches, 6000 images
	// epoch 1: 94 batches, 6000 images
}

// A set from memory: two grey images of 1×2.
func ExampleNew() {
	images := dataset.NewMemory(1, 1, 2, []uint8{0, 255, 255, 0})
	set, err := dataset.New("edges", images, []int{1, 0}, []string{"falling", "rising"})
	if err != nil {
		log.Fatal(err)
	}
	x := tensor.NewNCHW(1, set.C, set.H, set.W)
	if err := set.Fill(x, []int{0}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(x.Data, set.ClassNames()[set.Labels[0]])
	// Output: [0 1] rising
}

// Frames from memory: two examples of three binary frames of 1×2, one for each time step.
func ExampleNewFrameSet() {
	shape := tensor.Shape{N: 2, Steps: 3, C: 1, H: 1, W: 2}
	frames := dataset.NewFrames(shape, []bool{
		true, false, false, true, false, false, // a spike on the left, then one on the right
		false, false, false, true, true, false,
	})
	set, err := dataset.NewFrameSet("events", frames, []int{1, 0}, []string{"to the left", "to the right"})
	if err != nil {
		log.Fatal(err)
	}
	loader, err := dataset.NewLoader(set, dataset.DefaultEvaluation(), rng.New(1))
	if err != nil {
		log.Fatal(err)
	}
	for batch, err := range loader.Epoch(context.Background(), 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(batch.X, batch.X.Image(1), set.ClassNames()[batch.Y[1]])
	}
	// Output: 2×3×1×1×2 [0 0 0 1 1 0] to the left
}

// The standard augmentation for CIFAR: a random crop with padding 4, and a flip.
func ExampleDefaultCIFARTraining() {
	fmt.Printf("%+v\n", dataset.DefaultCIFARTraining())
	// Output: {BatchSize:64 DropLast:false Shuffle:true Augment:[{Padding:4} {}] Prefetch:2}
}

// CIFAR-10 from its archive, which package download gets. A folder of its files does as well.
func ExampleReadCIFAR10() {
	train, test, err := dataset.ReadCIFAR10("cifar-10-binary.tar.gz")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(train.N, "and", test.N, "images of", train.ClassNames())
}

// The moments of a training set, by which a model normalizes images.
func ExampleMoments() {
	train, err := fashion.Train()
	if err != nil {
		log.Fatal(err)
	}
	mean, std, err := dataset.Moments(train)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("mean %.3f, standard deviation %.3f\n", mean, std)
	// Output: mean [0.286], standard deviation [0.354]
}

// A test folder that lacks a class of the training folder keeps the training folder's labels.
func ExampleReadFolderAs() {
	train, err := dataset.ReadFolder("data/train")
	if err != nil {
		log.Fatal(err)
	}
	test, err := dataset.ReadFolderAs("data/test", train.ClassNames())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(test.N, "images of", test.ClassNames(), "read from", test.Provenance())
}

// A small, balanced part of a set for a quick evaluation.
func ExampleSet_PerClass() {
	test, err := fashion.Test()
	if err != nil {
		log.Fatal(err)
	}
	part, err := test.PerClass(20)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(part.N, "of", test.N, "images in", part.Classes, "classes")
	// Output: 200 of 1000 images in 10 classes
}
