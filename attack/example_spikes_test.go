package attack_test

import (
	"context"
	"fmt"
	"log"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/event"
	"github.com/org/snnrat/train/dataset/fashion"
)

// recordings returns frames of a few simulated recordings, and a network for them; untrained, for brevity.
func recordings() (*snn.Model, *dataset.Set, error) {
	images, err := fashion.Test()
	if err == nil {
		images, err = images.First(8)
	}
	if err != nil {
		return nil, nil, err
	}
	camera, err := event.NewSimulated(images, event.DefaultSimulator(), rng.New(1))
	if err != nil {
		return nil, nil, err
	}
	set, _, err := event.NewSet(context.Background(), "simulated", camera, event.DefaultFrames(4)) // binary, T = 4
	if err != nil {
		return nil, nil, err
	}
	model, err := zoo.New(zoo.Default("conv4 A | fc").For(set), rng.New(1))
	return model, set, err
}

// Attacks that insert, delete or move whole spikes.
func ExampleGreedySpikes() {
	model, set, err := recordings()
	if err != nil {
		log.Fatal(err)
	}
	flips, retiming := attack.Flips{Levels: 1}, attack.Retiming{Levels: 1, Steps: 4}
	cfg := attack.DefaultConfig()
	cfg.Threat = attack.Threat{Norm: flips, Eps: 8} // of the worst case
	report, err := attack.Evaluate(context.Background(), model, set, []attack.Named{
		{Name: "8 flips", Attack: attack.GreedySpikes(flips, 8, 10, snn.BPTT{})},
		{Name: "moves by a step", Attack: attack.GreedySpikes(retiming, 1, 10, snn.BPTT{})},
		{Name: "dash", Attack: attack.DVSDash(1)},
	}, cfg)
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range report.Attacks {
		fmt.Println(o.Name, "in", o.Norm, "counts in the worst case:", o.InWorstCase)
	}
	fewest, err := report.Fewest() // changes that fool the network, by recording
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(attack.AccuracyWithin(fewest, 8) == report.WorstCase)
	// Output:
	// 8 flips in spike flips counts in the worst case: true
	// moves by a step in spike retiming counts in the worst case: false
	// dash in none counts in the worst case: false
	// true
}
