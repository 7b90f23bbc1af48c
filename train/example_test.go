package train_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
)

// Trains a small network on a part of Fashion-MNIST, keeping a checkpoint after each
// epoch.
func Example() {
	set, err := fashion.Train()
	if err != nil {
		log.Fatal(err)
	}
	if set, err = set.PerClass(20); err != nil {
		log.Fatal(err)
	}
	arch := zoo.Default("conv8 A A | fc")
	arch.Channels, arch.Height, arch.Width, arch.Steps = 1, 28, 28, 2
	arch.Mean, arch.Std = []float32{0.286}, []float32{0.353}
	model, err := zoo.New(arch, rng.New(1))
	if err != nil {
		log.Fatal(err)
	}

	cfg := train.Default(2)
	cfg.Loader.BatchSize = 20
	trainer, err := train.New(model, set, cfg, rng.New(2))
	if err != nil {
		log.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	checkpoint := filepath.Join(folder, "checkpoint.safetensors")
	ctx := context.Background() // end it to stop
	for m, err := range trainer.Epochs(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if err := trainer.Save(checkpoint); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("epoch %d, learning rate %.2f, learnt something: %t\n", m.Epoch, m.LR, m.Accuracy > 0.2)
	}
	accuracy, err := train.Accuracy(ctx, model, set, 64)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("most images classified as labelled:", accuracy > 0.5)
	// Output:
	// epoch 1, learning rate 0.10, learnt something: true
	// epoch 2, learning rate 0.05, learnt something: true
	// most images classified as labelled: true
}

// A training loop of one's own, here on a single batch.
func ExampleUpdater() {
	arch := zoo.Default("conv4 A | fc")
	arch.Height, arch.Width, arch.Classes, arch.Steps = 8, 8, 2, 4
	model, err := zoo.New(arch, rng.New(1))
	if err != nil {
		log.Fatal(err)
	}
	x := tensor.NewNCHW(2, 3, 8, 8) // a black image and a grey one
	for i := range x.Image(1) {
		x.Image(1)[i] = 0.5
	}
	updater, err := train.NewUpdater(train.DefaultAdam(), model.Params())
	if err != nil {
		log.Fatal(err)
	}
	var first, last float64
	for range 20 {
		for _, p := range model.Params() {
			p.ClearGrad()
		}
		err := model.ParamGradients(snn.Pass{Train: true}, x, func(logits []float32) []float32 {
			loss, grad := make([]float64, 2), make([]float32, len(logits))
			autograd.CrossEntropy(loss, grad, logits, []int{0, 1}, 0)
			last = loss[0] + loss[1]
			return grad
		})
		if err != nil {
			log.Fatal(err)
		}
		if updater.Steps == 0 {
			first = last
		}
		updater.Step(0.01, 0)
	}
	fmt.Println(updater.Steps, "updates, loss at most a tenth:", last <= first/10)
	// Output: 20 updates, loss at most a tenth: true
}
