package snnrat_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset/event"
	"github.com/org/snnrat/train/dataset/fashion"
)

// attackSpikes runs the part of docs/events.md on attacks on spikes.
func attackSpikes(ctx context.Context, model *snn.Model, set snn.Dataset) error {
	flips := attack.Flips{Levels: 1} // binary frames
	report, err := attack.Evaluate(ctx, model, set, []attack.Named{
		{Name: "greedy", Attack: attack.GreedySpikes(flips, 32, 40, snn.BPTT{})}, // ≤ 32 changes, 40 steps
		{Name: "noise", Attack: attack.RandomNoise{Norm: flips, Eps: 32, Points: 50}},
		{Name: "frame", Attack: attack.DVSFrame(1)},
	}, attack.DefaultConfig())
	if err != nil {
		return err
	}
	fewest, err := report.Fewest() // of each example
	if err != nil {
		return err
	}
	fmt.Println(attack.AccuracyWithin(fewest, 8)) // of up to 8 changes
	return nil
}

// spikeBattery is the part on batteries.
func spikeBattery() attack.Battery {
	battery := attack.Standard(attack.Threat{Norm: attack.Retiming{Levels: 1, Steps: 6}, Eps: 1})
	return battery
}

func TestDocsEventsRuns(t *testing.T) {
	images, err := fashion.Test()
	require.NoError(t, err)
	images, err = images.First(3)
	require.NoError(t, err)
	camera, err := event.NewSimulated(images, event.DefaultSimulator(), rng.New(1))
	require.NoError(t, err)
	set, _, err := event.NewSet(t.Context(), "simulated", camera, event.DefaultFrames(2))
	require.NoError(t, err)
	m, err := zoo.New(zoo.Default("conv2 A | fc").For(set), rng.New(1))
	require.NoError(t, err)
	require.NoError(t, attackSpikes(t.Context(), m, set))
	assert.Equal(t, "standard", spikeBattery().Name)
}
