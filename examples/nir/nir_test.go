package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// A network becomes a file, and the file a network that is run and attacked.
func TestExportAndRun(t *testing.T) {
	dir := t.TempDir()
	cfg := zoo.Default("conv8 A conv8 A | fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 28, 28, 10, 2
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	saved, graph := filepath.Join(dir, "m.safetensors"), filepath.Join(dir, "m.nir")
	require.NoError(t, m.Save(saved))
	var out, progress bytes.Buffer
	runs := func(args ...string) error {
		o, err := parse(args, &out)
		if err != nil {
			return err
		}
		return run(t.Context(), o, &out, &progress)
	}
	err = runs("-from", saved, "-dt", "0.001", "-file", graph)
	if err != nil {
		require.ErrorContains(t, err, "this program was built without HDF5")
		t.Skip("built without the tag hdf5")
	}
	require.NoError(t, runs("-file", graph, "-dt", "0.001", "-T", "2", "-data", "fashion-mini", "-images", "8", "-pgd-steps", "2"))
	assert.Contains(t, out.String(), "the mean over 2 steps")
	assert.Contains(t, out.String(), "8 images of Fashion-MNIST")
	assert.Contains(t, out.String(), "PGD")
}

func TestRefused(t *testing.T) {
	for want, args := range map[string][]string{
		"-file is empty": {},
		"-start late: expected zero, leak or reset": {"-file", "x", "-start", "late"},
		"-eps does nothing without -data":           {"-file", "x", "-eps", "3"},
		"-data does nothing with -from":             {"-file", "x", "-from", "y", "-data", "fashion-mini"},
		"-dt":                                       {"-file", "x", "-dt", "-1"},
	} {
		_, err := parse(args, &bytes.Buffer{})
		assert.ErrorContains(t, err, want)
	}
	o, err := parse([]string{"-file", "nowhere.nir", "-from", "nothing.safetensors"}, &bytes.Buffer{})
	require.NoError(t, err)
	err = run(t.Context(), o, &bytes.Buffer{}, &bytes.Buffer{})
	assert.ErrorContains(t, err, "nothing.safetensors")
	assert.True(t, errors.As(err, new(plain)))
}
