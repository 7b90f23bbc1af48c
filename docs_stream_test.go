package snnrat_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/doctest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// The Go code of docs/stream.md is code of this file.
func TestDocsStream(t *testing.T) {
	doctest.Page(t, "docs/stream.md", 2, "docs_stream_test.go")
}

// classify runs the page's first part.
func classify(model *snn.Model, next func(frame []float32) bool) error {
	stream, err := model.NewStream(snn.StreamConfig{Threads: 1})
	if err != nil {
		return err
	}
	frame := tensor.NewNCHW(1, model.Channels, model.Height, model.Width)
	for next(frame.Data) {
		logits, err := stream.Step(frame)
		if err != nil {
			return err
		}
		class, logit := 0, logits[0]
		for c, v := range logits {
			if v > logit {
				class, logit = c, v
			}
		}
		fmt.Println("step", stream.Steps(), "class", class)
	}
	stream.Reset()
	return nil
}

// look runs the page's second part.
func look(stream *snn.Stream, frame tensor.NCHW) error {
	probe, err := stream.Probe("1")
	if err != nil {
		return err
	}
	if _, err := stream.Step(frame); err != nil {
		return err
	}
	fmt.Println("firing rate", probe.Spikes.Rate())
	fmt.Println("current of channel 3", probe.Current.At(0, 0, 3, 0, 0))
	fmt.Println("potential after the reset", probe.Membrane.At(0, 0, 3, 0, 0))
	return nil
}

func TestDocsStreamRuns(t *testing.T) {
	m := model(t, snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 2}, snn.NewConv2D(1, 4, 3, 1, 1, true), snn.NewIF(), snn.Flatten{}, snn.NewLinear(64, 3, true))
	x := pixels(m, 3)
	n := 0
	require.NoError(t, classify(m, func(frame []float32) bool {
		if n == x.N {
			return false
		}
		n += copy(frame, x.Image(n)) / len(frame)
		return true
	}))
	assert.Equal(t, 3, n)
	stream, err := m.NewStream(snn.StreamConfig{})
	require.NoError(t, err)
	require.NoError(t, look(stream, x.Slice(0, 1)))
	assert.Equal(t, 1, stream.Steps())
	assert.ErrorContains(t, look(stream, x), "expected 1×1×4×4")
}
