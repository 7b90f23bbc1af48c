package train_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/train"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// adder measures the sum of the first parameter, and the number of epochs.
type adder struct {
	offset float64
	before func() error
}

func (a *adder) Measure(_ context.Context, m *snn.Model, epochs int) (map[string]float64, error) {
	if a.before != nil {
		if err := a.before(); err != nil {
			return nil, err
		}
	}
	sum := a.offset
	for _, v := range m.Params()[0].Data() {
		sum += float64(v)
	}
	return map[string]float64{"sum": sum, "epochs": float64(epochs)}, nil
}

// What is measured is in the metrics and in checkpoints, changes nothing of the
// training, and goes on after a resume.
func TestMonitor(t *testing.T) {
	plain := tiny(t, nil)
	fit(t, plain, rat())
	cfg := rat()
	cfg.Monitor = &adder{}
	want := tiny(t, nil)
	metrics := fit(t, want, cfg)
	assert.Equal(t, values(plain), values(want))
	assert.Nil(t, fit(t, plain, rat())[0].Measured)
	var sum float64
	for i, m := range metrics {
		assert.Equal(t, float64(i+1), m.Measured["epochs"])
		assert.NotEqual(t, sum, m.Measured["sum"])
		sum = m.Measured["sum"]
	}

	path := saveAt(t, cfg, 2)
	tr := trainer(t, tiny(t, nil), cfg)
	require.NoError(t, tr.Resume(path))
	assert.Equal(t, metrics[2:], finish(t, tr))
	for i, m := range tr.History() {
		assert.Equal(t, metrics[i], timeless(m))
	}

	cfg.Monitor = nil // which the training does not depend on
	without := tiny(t, nil)
	tr = trainer(t, without, cfg)
	require.NoError(t, tr.Resume(path))
	assert.Nil(t, finish(t, tr)[0].Measured)
	assert.Equal(t, values(want), values(without))
	assert.Equal(t, metrics[1].Measured, tr.History()[1].Measured)
}

// An error of the monitor ends the sequence. The next one measures again.
func TestMonitorErrors(t *testing.T) {
	want := tiny(t, nil)
	wantMetrics := fit(t, want, rat())
	for text, fail := range map[string]func(*adder, context.CancelFunc) error{
		"train: epoch 2 of 3: monitor: no measure":                       func(*adder, context.CancelFunc) error { return errors.New("no measure") },
		"train: epoch 2 of 3: monitor: sum is NaN, want a finite number": func(a *adder, _ context.CancelFunc) error { a.offset = math.NaN(); return nil },
		fmt.Sprintf("train: epoch 2 of 3: %v", context.Canceled):         func(_ *adder, cancel context.CancelFunc) error { cancel(); return nil },
	} {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		calls := 0
		a := &adder{}
		a.before = func() error {
			if calls++; calls == 2 {
				return fail(a, cancel)
			}
			return nil
		}
		cfg := rat()
		cfg.Monitor = a
		model := tiny(t, nil)
		tr := trainer(t, model, cfg)
		var last error
		for _, err := range tr.Epochs(ctx) {
			last = err
		}
		require.EqualError(t, last, text)
		assert.Len(t, tr.History(), 1)
		a.offset = 0
		for i, m := range finish(t, tr) {
			m.Measured = nil
			assert.Equal(t, wantMetrics[i+1], m)
		}
		assert.Equal(t, values(want), values(model))
	}
}

var _ train.Monitor = (*adder)(nil)
