package snn_test

import (
	"testing"

	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Classes are compared by number, and by name where both sides know names.
func TestValidateClasses(t *testing.T) {
	cfg := zoo.Default("| fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Mean, cfg.Std = 1, 1, 2, 3, nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	assert.NoError(t, m.ValidateClasses(3, []string{"any", "other", "names"}), "a network without names")
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
		err := m.ValidateClasses(c.n, c.names)
		if c.want == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, c.want)
		}
	}
}
