package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset/fashion"
)

// A small network is fine-tuned, converted and compared.
func TestRun(t *testing.T) {
	set, err := fashion.Train()
	require.NoError(t, err)
	cfg := zoo.Default("conv4 A conv8 A | fc").For(set)
	cfg.Steps = 2
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	dir := t.TempDir()
	net := filepath.Join(dir, "net.safetensors")
	require.NoError(t, m.Save(net))
	o, err := parse([]string{"-net", net, "-out", filepath.Join(dir, "out"), "-images", "30", "-train", "300", "-epochs", "1", "-train-eps", "2", "-eps", "2"}, io.Discard)
	require.NoError(t, err)
	var out, errs bytes.Buffer
	require.NoError(t, run(context.Background(), o, &out, &errs))
	assert.Contains(t, errs.String(), "both networks under PGD (100 % of all")
	assert.Contains(t, out.String(), "fine-tuning, epoch 1: loss ")
	assert.Regexp(t, regexp.MustCompile(`(?m)^clean  +\d+\.\d \(.* to .*\)  +\d+\.\d \(.*\)$`), out.String())
	b, err := os.ReadFile(filepath.Join(dir, "out", "results.json"))
	require.NoError(t, err)
	var r results
	require.NoError(t, json.Unmarshal(b, &r))
	assert.Equal(t, []any{net, 30, 8, 2.}, []any{r.Net, r.Images, r.Bits, r.Eps})
	assert.Equal(t, runs.NewMaker(), r.Maker)
	assert.Equal(t, &tuning{Epochs: 1, LR: 0.01, Eps: 2, Images: 300}, r.Tuning)
	assert.EqualValues(t, 1, r.Seed)
	assert.Contains(t, out.String(), r.String())
	assert.Greater(t, r.Bytes.Float, 3*r.Bytes.Integers)

	n, err := quant.Load(filepath.Join(dir, "out", "net.safetensors"))
	require.NoError(t, err)
	assert.Equal(t, set.ClassNames(), n.ClassNames)
	before, err := os.ReadFile(net)
	require.NoError(t, err)
	o.out = dir
	require.ErrorContains(t, run(context.Background(), o, &out, io.Discard), "-out "+dir+": the file of -net is in it")
	after, err := os.ReadFile(net)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	o.out = net
	before = out.Bytes()
	require.ErrorContains(t, run(context.Background(), o, &out, io.Discard), "-out "+net+": ")
	assert.Equal(t, before, out.Bytes(), "nothing was trained")
	o.images = 5000
	assert.ErrorContains(t, run(context.Background(), o, &out, io.Discard), "-images 5000: ")
	o.images, o.net = 1, filepath.Join(dir, "missing")
	assert.ErrorContains(t, run(context.Background(), o, &out, io.Discard), "-net: load model: "+o.net)

	// A run that was stopped leaves no results of another network.
	o.net, o.out, o.epochs = net, filepath.Join(dir, "out"), 0
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.ErrorIs(t, run(ctx, o, &out, io.Discard), context.Canceled)
	assert.NoFileExists(t, filepath.Join(dir, "out", "results.json"))
	assert.FileExists(t, filepath.Join(dir, "out", "net.safetensors"))
}

func TestParseRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		"-net is missing":     nil,
		"-out is empty":       {"-net", "x", "-out", ""},
		"-train-eps: ":        {"-net", "x", "-train-eps", "8"},
		"-lr: ":               {"-net", "x", "-lr", "0.1"},
		"-train: ":            {"-net", "x", "-train", "100"},
		"expected a whole nu": {"-net", "x", "-bits", "9"},
	} {
		_, err := parse(args, io.Discard)
		assert.ErrorContains(t, err, want)
	}
}
