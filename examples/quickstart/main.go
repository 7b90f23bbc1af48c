package main

import (
	"context"
	"fmt"
	"log"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
)

func main() {
	ctx := context.Background()
	set := must(fashion.Train())
	cfg := zoo.Default("conv8 A conv16 A | fc").For(set) // T = 8, IF neurons, θ = 1
	net := must(zoo.New(cfg, rng.New(1)))

	mix, reg := attack.RATMix(8./255), regularize.ForVGG()
	rat := train.RAT(1, mix, reg, regularize.Simplex) // 1 epoch
	trainer := must(train.New(net, set, rat, rng.New(1)))
	for epoch, err := range trainer.Epochs(ctx) {
		fmt.Printf("epoch %d: loss %.3f\n", must(epoch, err).Epoch, epoch.Loss)
	}

	pgd := attack.Named{Name: "PGD", Attack: attack.PGD(8./255, 0.01, 7, snn.BPTT{})}
	report := must(attack.Evaluate(ctx, net, must(fashion.Test()), []attack.Named{pgd}, attack.DefaultConfig()))
	fmt.Printf("clean %.1f %%, under PGD %.1f %%\n", 100*report.Clean.Accuracy, 100*report.Attacks[0].Accuracy)
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
