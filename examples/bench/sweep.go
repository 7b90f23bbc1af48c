package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// point is one value of the quantity that a sweep varies.
type point struct {
	Label string             `json:"value"`
	Rate  float64            `json:"mean_rate"`
	MS    map[string]float64 `json:"ms"` // an image
	MB    map[string]float64 `json:"mb"` // of values

	cfg   zoo.Config
	batch int
}

// The columns of a sweep's table.
var (
	sweepTimes  = []string{"forward", "fgsm_bptr", "fgsm_bptt", "train"}
	sweepMemory = []string{"forward", "fgsm_bptt", "train"}
)

// sweep measures how time and memory grow with one quantity. After an error it still prints
// and writes the completed points.
func sweep(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if o.sweep == "cores" {
		return sweepCores(ctx, o, stdout, stderr)
	}
	points, err := sweepPoints(o)
	if err != nil {
		return err
	}
	var work float64
	for _, p := range points {
		work += p.work()
	}
	meter := term.NewMeter(stderr, work)
	done := 0
	for ; done < len(points); done++ {
		if err = points[done].measure(ctx, o.reps, meter, o.sweep+" "); err != nil {
			break
		}
	}
	meter.Clear()
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\t\tms an image\t\t\t\tMB of values\t\t\t")
	fmt.Fprintf(w, "%s\tmean rate\t%s\t%s\t\n", o.sweep, strings.Join(sweepTimes, "\t"), strings.Join(sweepMemory, "\t"))
	for _, p := range points[:done] {
		fmt.Fprintf(w, "%s\t%.1f %%\t", p.Label, 100*p.Rate)
		for _, part := range sweepTimes {
			fmt.Fprintf(w, "%.2f\t", p.MS[part])
		}
		for _, part := range sweepMemory {
			fmt.Fprintf(w, "%.1f\t", p.MB[part])
		}
		fmt.Fprintln(w)
	}
	return errors.Join(err, w.Flush(), o.save(o.task(map[string]any{
		"sweep": o.sweep, "threads": parallel.Threads(0), "kernel": kernel.CurrentLevel().String(), "points": points[:done],
	})))
}

// task adds to the figures of a sweep what it does not vary.
func (o options) task(figures map[string]any) map[string]any {
	for name, v := range map[string]any{"arch": o.arch, "width": o.width, "T": o.steps, "batch": o.batch, "reps": o.reps} {
		if name != o.sweep {
			figures[name] = v
		}
	}
	return figures
}

func sweepPoints(o options) ([]point, error) {
	var points []point
	add := func(label string, batch int, set func(c *zoo.Config)) {
		c := o.config()
		set(&c)
		points = append(points, point{Label: label, cfg: c, batch: batch})
	}
	switch o.sweep {
	case "T":
		for _, t := range []int{1, 2, 4, 8, 16, 32} {
			add(fmt.Sprint(t), o.batch, func(c *zoo.Config) { c.Steps = t })
		}
	case "batch":
		for _, n := range []int{1, 2, 4, 8, 16, 32, 64, 128} {
			add(fmt.Sprint(n), n, func(*zoo.Config) {})
		}
	case "width":
		for _, w := range []float64{0.125, 0.25, 0.5, 1} {
			add(fmt.Sprint(w), o.batch, func(c *zoo.Config) { c.WidthMultiplier = w })
		}
	case "size":
		for _, n := range []int{32, 64, 112, 224} {
			add(fmt.Sprintf("%d×%d", n, n), o.batch, func(c *zoo.Config) { c.Height, c.Width = n, n })
		}
	case "rate":
		for _, theta := range []float32{16, 8, 4, 2, 1, 0.5, 0.1} {
			add(fmt.Sprintf("θ = %v", theta), o.batch, func(c *zoo.Config) { c.Threshold = theta })
		}
		// About half of the neurons fire: without memory, those with a positive current.
		add("θ = 0.001, λ = 0.01", o.batch, func(c *zoo.Config) { c.Threshold, c.Decay = 1e-3, 1e-2 })
	default:
		return nil, fmt.Errorf("-sweep %q: expected T, batch, width, rate, size or cores", o.sweep)
	}
	return points, nil
}

// work returns an estimate that is proportional to the time of the point.
func (p *point) work() float64 {
	return float64(p.cfg.Steps*p.batch*p.cfg.Height*p.cfg.Width) * p.cfg.WidthMultiplier * p.cfg.WidthMultiplier
}

func (p *point) measure(ctx context.Context, reps int, meter *term.Meter, sweep string) error {
	m, err := zoo.New(p.cfg, rng.New(1))
	if err != nil {
		return err
	}
	x, y := randomImages(p.batch, m)
	if err := warmUp(m, x, y); err != nil {
		return err
	}
	rs, err := rates(m, x)
	if err != nil {
		return err
	}
	for _, r := range rs {
		p.Rate += r / float64(len(rs))
	}
	if p.MS, err = measure(ctx, m, x, y, reps, sweepTimes, meter, p.work(), sweep+p.Label+", "); err != nil {
		return err
	}
	p.MB = map[string]float64{}
	for i, job := range []func(m *snn.Model) error{
		func(m *snn.Model) error { _, err := m.Logits(snn.Pass{}, x); return err },
		func(m *snn.Model) error { _, err := m.InputGradient(snn.Pass{}, x, loss(y)); return err },
		func(m *snn.Model) error { return m.ParamGradients(snn.Pass{Train: true}, x, loss(y)) },
	} {
		fresh, err := zoo.New(p.cfg, rng.New(1))
		if err != nil {
			return err
		}
		if err := job(fresh); err != nil {
			return err
		}
		p.MB[sweepMemory[i]] = float64(fresh.Peak()) / (1 << 20)
	}
	return nil
}
