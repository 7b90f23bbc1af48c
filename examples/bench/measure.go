package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// parts are the parts in the order of the table.
var parts = append(timedParts[:len(timedParts):len(timedParts)], "rat")

// timedParts are the parts that are run. rat is made of their times.
var timedParts = []string{"forward", "fgsm_bptt", "fgsm_bptr", "fgsm_cba", "train", "regularize"}

// ratTime returns the time of rat from the times of the timed parts.
func ratTime(ms map[string]float64) float64 {
	return ms["train"] + (ms["fgsm_bptt"]+ms["fgsm_bptr"])/2
}

func randomImages(n int, m *snn.Model) (tensor.NCHW, []int) {
	x, y := tensor.NewNCHW(n, m.Channels, m.Height, m.Width), make([]int, n)
	r := rng.New(2).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	for i := range y {
		y[i] = r.IntN(m.Classes())
	}
	return x, y
}

// warmUp sets the running statistics of batch norm from the images.
func warmUp(m *snn.Model, x tensor.NCHW, y []int) error {
	for range 20 {
		if err := m.ParamGradients(snn.Pass{Train: true}, x, func([]float32) []float32 { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// gradients lists the gradient approximations, with the names of their parts.
var gradients = []struct {
	name string
	snn.Gradient
}{{"bptt", snn.BPTT{}}, {"bptr", snn.BPTR{}}, {"cba", snn.CBA{}}}

// loss returns a function of the logits: the gradient of the mean cross-entropy.
func loss(y []int) func(logits []float32) []float32 {
	return func(logits []float32) []float32 {
		d := make([]float32, len(logits))
		autograd.CrossEntropy(nil, d, logits, y, 0)
		for i := range d {
			d[i] /= float32(len(y))
		}
		return d
	}
}

func rates(m *snn.Model, x tensor.NCHW) (rs []float64, err error) {
	_, err = m.Logits(snn.Pass{OnSpikes: func(_ string, s *tensor.Spikes) { rs = append(rs, math.Round(s.Rate()*1e3)/1e3) }}, x)
	return rs, err
}

// newJobs returns the function that runs each part, by name. The parameters do not change,
// because the learning rate is zero and the step of the projection is below rounding.
func newJobs(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int) (map[string]func() error, error) {
	key := rng.New(3)
	opt, err := train.NewUpdater(train.SGD{Momentum: 0.9}, m.Params())
	if err != nil {
		return nil, err
	}
	reg := regularize.ForVGG()
	reg.Beta = 1e-12
	jobs := map[string]func() error{
		"forward": func() error { _, err := m.Logits(snn.Pass{}, x); return err },
		"train": func() error {
			for _, p := range m.Params() {
				p.ClearGrad()
			}
			if err := m.ParamGradients(snn.Pass{Train: true, FusedUpdate: opt.FusedUpdate(0, m.Threads)}, x, loss(y)); err != nil {
				return err
			}
			opt.Step(0, m.Threads)
			return nil
		},
		"regularize": func() error {
			for _, p := range m.Params() {
				if len(p.Shape) > 1 {
					if err := reg.Apply(p, key, m.Threads); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
	for _, g := range gradients {
		fgsm := attack.FGSM(8./255, g.Gradient)
		jobs["fgsm_"+g.name] = func() error {
			_, err := fgsm.Perturb(ctx, m, x, y, nil, key)
			return err
		}
	}
	return jobs, nil
}

// timed runs a part once and returns its time in milliseconds.
func timed(ctx context.Context, jobs map[string]func() error, part string) (ms float64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := jobs[part](); err != nil {
		return 0, fmt.Errorf("%s: %w", part, err)
	}
	return time.Since(start).Seconds() * 1e3, nil
}

// perImage returns the time of an image from that of n images. The time of regularize is
// that of an update, and stays as it is.
func perImage(part string, ms float64, n int) float64 {
	if part == "regularize" {
		return ms
	}
	return ms / float64(n)
}

// measure returns the time of each part, or of the parts in only if it is not nil. It adds
// work to meter in all, and shows the name of each part after prefix.
func measure(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, reps int, only []string, meter *term.Meter, work float64, prefix string) (map[string]float64, error) {
	jobs, err := newJobs(ctx, m, x, y)
	if err != nil {
		return nil, err
	}
	// One run of each part tells how long the others will take.
	once, all := map[string]float64{}, 0.0
	for _, part := range timedParts {
		if only != nil && !slices.Contains(only, part) {
			continue
		}
		if once[part], err = timed(ctx, jobs, part); err != nil {
			return nil, err
		}
		all += once[part]
	}
	ms := map[string]float64{}
	for _, part := range timedParts {
		if _, ok := once[part]; !ok {
			continue
		}
		times := make([]float64, reps+1)
		for i := range times {
			if times[i], err = timed(ctx, jobs, part); err != nil {
				return nil, err
			}
			meter.Add(work*once[part]/all/float64(len(times)), prefix+part)
		}
		meter.Finished(prefix + part)
		times = times[1:] // the first run has cold caches
		slices.Sort(times)
		ms[part] = perImage(part, times[len(times)/2], x.N)
	}
	ms["rat"] = ratTime(ms)
	return ms, nil
}
