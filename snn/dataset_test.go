package snn_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// labelled is a data set of one shape, whose labels are all the same.
type labelled struct {
	shape tensor.Shape
	label int
}

func (d labelled) Shape() tensor.Shape           { return d.shape }
func (d labelled) Label(int) int                 { return d.label }
func (d labelled) Fill(tensor.NCHW, []int) error { return nil }

// informed is a data set that knows its classes.
type informed struct {
	labelled
	n     int
	names []string
}

func (d informed) NumClasses() int                   { return d.n }
func (d informed) ClassNames() []string              { return d.names }
func (d informed) Normalization() (_, std []float32) { return nil, []float32{2} }
func (d informed) Provenance() string                { return "a file" }

func TestInfoOf(t *testing.T) {
	assert.Zero(t, snn.InfoOf(labelled{}))
	assert.Equal(t, snn.DatasetInfo{Classes: 3, Std: []float32{2}, Provenance: "a file"}, snn.InfoOf(informed{n: 3}))
	names := []string{"a", "b"}
	assert.Equal(t, snn.DatasetInfo{Classes: 2, ClassNames: names, Std: []float32{2}, Provenance: "a file"}, snn.InfoOf(informed{names: names}))
}

// A data set must have examples of the model's shape, with one frame or T, and labels in
// range.
func TestValidateDataset(t *testing.T) {
	cfg := zoo.Default("| fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 1, 2, 3, 4
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	shape := tensor.Shape{N: 2, Steps: 1, C: 1, H: 1, W: 2}
	assert.NoError(t, m.ValidateDataset(labelled{shape, 2}))
	assert.NoError(t, m.ValidateDataset(labelled{shape.WithSteps(4), 0}))
	for _, c := range []struct {
		data labelled
		want string
	}{
		{labelled{shape.WithSteps(5), 0}, "snn: 5 frames for 4 time steps: expected a frame for each step, or one image for all of them"},
		{labelled{shape.WithSteps(0), 0}, "snn: a data set of 0 frames: expected at least 1"},
		{labelled{tensor.Shape{Steps: 1, C: 1, H: 1, W: 2}, 0}, "snn: a data set of no images: expected at least one"},
		{labelled{tensor.Shape{N: 1, Steps: 1, C: 1, H: 2, W: 1}, 0}, "snn: images of 1×2×1: the network expects 1×1×2"},
		{labelled{shape, 3}, "snn: image 0: label 3: expected 0 to 2"},
		{labelled{shape, -1}, "snn: image 0: label -1: expected 0 to 2"},
	} {
		assert.EqualError(t, m.ValidateDataset(c.data), c.want)
	}
}

// Classes are compared by number, and by name where both sides know names.
func TestValidateClasses(t *testing.T) {
	cfg := zoo.Default("| fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Mean, cfg.Std = 1, 1, 2, 3, nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	shape := tensor.Shape{N: 1, Steps: 1, C: 1, H: 1, W: 2}
	of := func(n int, names []string) error {
		return m.ValidateDataset(informed{labelled{shape, 0}, n, names})
	}
	assert.NoError(t, of(3, []string{"any", "other", "names"}), "a network without names")
	m.Config.ClassNames = []string{"a", "b", "c"}
	for _, c := range []struct {
		n     int
		names []string
		want  string
	}{
		{0, nil, ""}, {3, nil, ""}, {0, []string{"a", "b", "c"}, ""}, {3, []string{"a", "b", "c"}, ""},
		{3, []string{"a", "c", "b"}, `snn: class 1 is "c" in the data set and "b" in the network: expected the classes that it was trained on, in the same order`},
		{2, nil, "snn: a data set of 2 classes: the network has 3"},
		{4, []string{"a", "b", "c"}, "snn: a data set of 4 classes: the network has 3"},
		{3, []string{"a", "b"}, "snn: a data set of 2 classes: the network has 3"},
	} {
		err := of(c.n, c.names)
		if c.want == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, c.want)
		}
	}
}
