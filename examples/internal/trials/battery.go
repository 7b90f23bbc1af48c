package trials

import (
	"context"
	"fmt"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// Battery returns the trial of a battery within L∞ of radius eps, in 255ths. The preset is one
// of [attack.Preset].
func Battery(preset string, eps float64) Trial {
	return Trial{Attack: "battery", Preset: preset, Eps: eps}
}

// batteryWork is the work of a battery around one image, in forward passes. It is 0.45 of the
// work around an image that no attack breaks, as for quick on the mean of README's two networks.
var batteryWork = map[string]float64{"quick": 1000, "standard": 5500, "thorough": 25000}

// battery returns the battery of a trial.
func (t Trial) battery() (attack.Battery, error) {
	return attack.Preset(t.Preset, attack.Threat{Norm: attack.LInf{}, Eps: float32(t.Eps / 255)})
}

// BatteryOutcome is what a battery found around the test images.
type BatteryOutcome struct {
	Trial
	// Report holds nothing but the results of some images if it is partial.
	Report *attack.BatteryReport `json:"report"`
}

// Outcome returns the outcome for a worst case. The report is not partial.
func (b *BatteryOutcome) Outcome() Outcome {
	o := Outcome{Trial: b.Trial}
	right := 0
	for _, r := range b.Report.Results {
		o.Predicted = append(o.Predicted, r.Predicted)
		if r.Predicted == r.Label {
			right++
		}
	}
	o.Accuracy = float64(right) / float64(len(o.Predicted))
	return o
}

// Faults returns the number of the battery's checks that found a fault.
func (b *BatteryOutcome) Faults() (n int) {
	for _, c := range b.Report.Checks {
		if c.Status == attack.Fault {
			n++
		}
	}
	return n
}

// Validate returns an error if b is not an outcome of images with these labels, which are in
// [0, classes).
func (b *BatteryOutcome) Validate(labels []int, classes int) error {
	battery, err := b.battery()
	if err != nil {
		return err
	}
	if b.Report == nil {
		return fmt.Errorf("%v: no report: expected one", b.Trial)
	}
	seen := make([]bool, len(labels))
	attacks := len(battery.Attacks)
	for i, r := range b.Report.Results {
		switch {
		case r.Index < 0 || r.Index >= len(labels) || seen[r.Index] || r.Index != i && !b.Report.Partial:
			return fmt.Errorf("%v: result %d is that of image %d: expected one for each image, in their order", b.Trial, i, r.Index)
		case r.Label != labels[r.Index]:
			return fmt.Errorf("%v: label %d of image %d: expected %d", b.Trial, r.Label, r.Index, labels[r.Index])
		case min(r.Clean, r.Predicted) < 0 || max(r.Clean, r.Predicted) >= classes:
			return fmt.Errorf("%v: classes %d and %d of image %d: expected numbers in [0, %d)", b.Trial, r.Clean, r.Predicted, r.Index, classes)
		case r.BrokenBy < attack.Misclassified || r.BrokenBy >= attacks || len(r.Trials) > attacks:
			return fmt.Errorf("%v: image %d met %d attacks and was broken by attack %d: the battery has %d", b.Trial, r.Index, len(r.Trials), r.BrokenBy, attacks)
		}
		seen[r.Index] = true
	}
	if b.Report.Partial {
		return nil
	}
	if len(b.Report.Results) != len(labels) {
		return fmt.Errorf("%v: results of %d images: expected %d", b.Trial, len(b.Report.Results), len(labels))
	}
	return b.Outcome().Validate(labels, classes)
}

// saveInterval is the longest time of a battery that a killed run loses.
const saveInterval = 10 * time.Second

// Run runs the battery around the images of test that the partial report has not, and completes
// the report. It calls progress for each image that is finished. It calls save after every ten
// seconds and when ctx is done. An error of save stops the battery. The report of a shard stays
// partial, with the results of the shard's images.
func (b *BatteryOutcome) Run(ctx context.Context, m *snn.Model, test *dataset.Set, shard attack.Shard, key rng.Key, progress func(), save func() error) error {
	battery, err := b.battery()
	if err != nil {
		return err
	}
	cfg := attack.DefaultBatteryConfig()
	cfg.Key, cfg.Shard, cfg.Done = key, shard, b.Report.Results
	saved := time.Now()
	cfg.OnResult = func(r attack.ImageResult) error {
		b.Report.Results = append(b.Report.Results, r)
		progress()
		if time.Since(saved) < saveInterval {
			return nil
		}
		saved = time.Now()
		return save()
	}
	report, err := battery.Evaluate(ctx, m, test, cfg)
	if err != nil {
		if ctx.Err() != nil {
			if failed := save(); failed != nil {
				err = failed
			}
		}
		return fmt.Errorf("%v: %w", b.Trial, err)
	}
	if shard.IsZero() {
		b.Report = report
	}
	return nil
}
