package trials_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset/fashion"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A battery that is stopped goes on from what was saved, and ends with the same report.
func TestBattery(t *testing.T) {
	test, err := fashion.Test()
	require.NoError(t, err)
	test, err = test.First(8)
	require.NoError(t, err)
	cfg := zoo.Default("conv4 A | fc").For(test)
	cfg.Steps = 2
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	clean, err := attack.Evaluate(t.Context(), m, test, nil, attack.DefaultConfig())
	require.NoError(t, err)
	test.Labels = clean.Clean.Predicted // so that attacks have something to do
	begin := func() *trials.BatteryOutcome {
		return &trials.BatteryOutcome{Trial: trials.Battery("quick", 2), Report: &attack.BatteryReport{Partial: true}}
	}
	never := func() error { return errors.New("saved without a need") }
	count := 0
	run := func(ctx context.Context, b *trials.BatteryOutcome, stop func(), save func() error) error {
		count = 0
		return b.Run(ctx, m, test, attack.Shard{}, rng.New(1), func() {
			if count++; count == 3 {
				stop()
			}
		}, save)
	}
	whole := begin()
	require.NoError(t, run(t.Context(), whole, func() {}, never))
	assert.Equal(t, 8, count)
	require.NoError(t, whole.Validate(test.Labels, test.Classes))
	want, err := attack.Quick(attack.Threat{Norm: attack.LInf{}, Eps: 2. / 255}).Evaluate(t.Context(), m, test, attack.BatteryConfig{Key: rng.New(1)})
	require.NoError(t, err)
	assert.Equal(t, want.Results, whole.Report.Results)
	assert.Positive(t, want.Attacks[0].Met)
	assert.Equal(t, want.WorstCase, whole.Outcome().Accuracy)
	assert.Equal(t, want.WorstCase, trials.WorstCase(test.Labels, []trials.Outcome{whole.Outcome()}))

	part := begin()
	var saved []byte
	save := func() (err error) { saved, err = json.Marshal(part); return err }
	ctx, stop := context.WithCancel(t.Context())
	require.ErrorIs(t, run(ctx, part, stop, save), context.Canceled)
	stopped := count
	resumed := &trials.BatteryOutcome{}
	require.NoError(t, json.Unmarshal(saved, resumed))
	require.NoError(t, resumed.Validate(test.Labels, test.Classes))
	assert.Len(t, resumed.Report.Results, stopped)
	require.Less(t, stopped, 8, "else this test shows nothing")
	require.NoError(t, run(t.Context(), resumed, func() {}, never))
	assert.Equal(t, 8-stopped, count)
	assert.Equal(t, whole, resumed)

	full := errors.New("disk full")
	ctx, stop = context.WithCancel(t.Context())
	assert.ErrorIs(t, run(ctx, begin(), stop, func() error { return full }), full)

	for text, change := range map[string]func(b *trials.BatteryOutcome){
		`preset "none": expected one of`:   func(b *trials.BatteryOutcome) { b.Preset = "none" },
		"no report":                        func(b *trials.BatteryOutcome) { b.Report = nil },
		"result 1 is that of image 0":      func(b *trials.BatteryOutcome) { b.Report.Results[1].Index = 0 },
		"result 0 is that of image 1":      func(b *trials.BatteryOutcome) { r := b.Report.Results; r[0], r[1] = r[1], r[0] },
		"result 2 is that of image 1":      func(b *trials.BatteryOutcome) { b.Report.Partial, b.Report.Results[2] = true, b.Report.Results[1] },
		"result 7 is that of image 8":      func(b *trials.BatteryOutcome) { b.Report.Results[7].Index = 8 },
		"label 10 of image 2":              func(b *trials.BatteryOutcome) { b.Report.Results[2].Label = 10 },
		"classes -1 and":                   func(b *trials.BatteryOutcome) { b.Report.Results[2].Clean = -1 },
		"and 10 of image 2":                func(b *trials.BatteryOutcome) { b.Report.Results[2].Predicted = 10 },
		"broken by attack 4: the battery ": func(b *trials.BatteryOutcome) { b.Report.Results[2].BrokenBy = 4 },
		"met 5 attacks":                    func(b *trials.BatteryOutcome) { b.Report.Results[2].Trials = make([]attack.Trial, 5) },
		"results of 7 images: expected 8":  func(b *trials.BatteryOutcome) { b.Report.Results = b.Report.Results[:7] },
	} {
		b := &trials.BatteryOutcome{}
		raw, err := json.Marshal(whole)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, b))
		change(b)
		assert.ErrorContains(t, b.Validate(test.Labels, test.Classes), text)
	}
}
