package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// sweep shows how time and memory grow with one quantity.
func sweep(o options) error {
	type point struct {
		label string
		cfg   zoo.Config
		batch int
	}
	var points []point
	add := func(label string, batch int, set func(c *zoo.Config)) {
		c := zoo.Default(o.arch)
		c.Steps, c.WidthMultiplier = o.steps, o.width
		set(&c)
		points = append(points, point{label, c, batch})
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
	case "rate":
		for _, theta := range []float32{16, 8, 4, 2, 1, 0.5, 0.1} {
			add(fmt.Sprintf("θ = %v", theta), o.batch, func(c *zoo.Config) { c.Threshold = theta })
		}
		// Half: with next to no memory, neurons fire when their current is positive.
		add("θ = 0.001, λ = 0.01", o.batch, func(c *zoo.Config) { c.Threshold, c.Leak = 1e-3, 1e-2 })
	default:
		return fmt.Errorf("-sweep %q: expected T, batch, width or rate", o.sweep)
	}

	timed := []string{"forward", "fgsm_bptr", "fgsm_bptt", "train"}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\t\tms an image\t\t\t\tMB of values\t\t\t")
	fmt.Fprintf(w, "%s\tmean rate\tforward\tfgsm_bptr\tfgsm_bptt\ttrain\tforward\tfgsm_bptt\ttrain\t\n", o.sweep)
	for i, p := range points {
		fmt.Fprintf(os.Stderr, "%s %s, %d of %d\n", o.sweep, p.label, i+1, len(points))
		m, err := zoo.New(p.cfg, rng.New(1))
		if err != nil {
			return err
		}
		m.Threads = o.threads
		x, y := randomImages(p.batch, m)
		if err := warmUp(m, x, y); err != nil {
			return err
		}
		rs, err := rates(m, x)
		if err != nil {
			return err
		}
		ms, err := measure(m, x, y, o.reps, timed)
		if err != nil {
			return err
		}
		mean := 0.0
		for _, r := range rs {
			mean += 100 * r / float64(len(rs))
		}
		fmt.Fprintf(w, "%s\t%.1f %%\t", p.label, mean)
		for _, part := range timed {
			fmt.Fprintf(w, "%.2f\t", ms[part])
		}
		for _, job := range []func(m *snn.Model) error{
			func(m *snn.Model) error { _, err := m.Logits(x, nil); return err },
			func(m *snn.Model) error { _, err := m.Run(snn.Pass{}, x, loss(y)); return err },
			func(m *snn.Model) error { return m.TrainStep(snn.Pass{Train: true}, x, loss(y)) },
		} {
			fresh, err := zoo.New(p.cfg, rng.New(1))
			if err != nil {
				return err
			}
			if err := job(fresh); err != nil {
				return err
			}
			fmt.Fprintf(w, "%.1f\t", float64(fresh.Peak())/(1<<20))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
