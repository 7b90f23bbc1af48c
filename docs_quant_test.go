package snnrat_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/doctest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train"
)

// The Go code of docs/quant.md is code of this file.
func TestDocsQuant(t *testing.T) {
	doctest.Page(t, "docs/quant.md", 2, "docs_quant_test.go")
}

// convert runs the page's first part.
func convert(model *snn.Model, images tensor.NCHW, path string) error {
	settings := quant.DefaultConfig()
	network, err := quant.Convert(model, settings)
	if err != nil {
		return err
	}
	logits, err := network.Logits(images) // int32, [N, classes]
	if err != nil {
		return err
	}
	fmt.Println(len(logits), "logits in units of", network.Scale)
	return network.Save(path)
}

// finetune runs the page's second part.
func finetune(settings quant.Config) (train.Config, error) {
	rounding, err := quant.NewRounding(settings)
	if err != nil {
		return train.Config{}, err
	}
	cfg := train.Default(2)
	cfg.LR = 0.01
	cfg.Regularizer = rounding
	return cfg, nil
}

func TestDocsQuantRuns(t *testing.T) {
	m := model(t, snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 2}, snn.NewConv2D(1, 4, 3, 1, 1, true), snn.NewIF(), snn.Flatten{}, snn.NewLinear(64, 3, true))
	file := filepath.Join(t.TempDir(), "net.safetensors")
	require.NoError(t, convert(m, pixels(m, 3), file))
	_, err := quant.Load(file)
	require.NoError(t, err)
	cfg, err := finetune(quant.DefaultConfig())
	require.NoError(t, err)
	assert.NotNil(t, cfg.Regularizer)
}
