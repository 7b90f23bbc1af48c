package attack_test

import (
	"context"
	"fmt"
	"log"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset/fashion"
)

// fashionModel returns a small network for Fashion-MNIST; untrained, for brevity.
func fashionModel() *snn.Model {
	cfg := zoo.Default("small")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Steps = 1, 28, 28, 4
	cfg.Mean, cfg.Std = []float32{0.286}, []float32{0.353}
	model, err := zoo.New(cfg, rng.New(1))
	if err != nil {
		log.Fatal(err)
	}
	return model
}

func Example() {
	model := fashionModel()
	test, err := fashion.Test()
	if err != nil {
		log.Fatal(err)
	}
	if test, err = test.First(32); err != nil {
		log.Fatal(err)
	}
	const eps = 8. / 255
	report, err := attack.Evaluate(context.Background(), model, test, []attack.Named{
		{Name: "noise", Attack: attack.GaussianNoise{Std: eps}},
		{Name: "FGSM(BPTR)", Attack: attack.FGSM(eps, snn.BPTR{})},
		{Name: "PGD(BPTT)", Attack: attack.PGD(eps, 0.01, 7, snn.BPTT{})},
	}, attack.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Images, "images")
	for _, o := range report.Attacks {
		fmt.Println(o.Name, o.Accuracy <= 1)
	}
	fmt.Println(report.WorstCase <= report.Clean.Accuracy)
	// Output:
	// 32 images
	// noise true
	// FGSM(BPTR) true
	// PGD(BPTT) true
	// true
}

// A targeted attack in the Euclidean norm, composed of other parts than PGD's.
func ExampleAttack() {
	model := fashionModel()
	a := attack.PGD(0.5, 0.1, 10, snn.BPTT{Surrogate: snn.Arctan{Alpha: 2}})
	a.Norm = attack.L2{}
	a.Target = func(_ uint64, label int) int { return (label + 1) % model.Classes() }

	x := tensor.NewNCHW(1, 1, 28, 28)
	adv, err := a.Perturb(context.Background(), model, x, []int{3}, []uint64{0}, rng.New(1))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(adv, a.Norm.Distance(adv.Image(0), x.Image(0)) <= 0.5)
	// Output: 1×1×28×28 true
}
