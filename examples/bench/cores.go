package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
)

// coreCounts and coreParts are what the sweep of cores varies. gradient is that of an attack
// through time, in one pass over the whole batch.
var (
	coreCounts = []int{1, 2, 4, 8, 16, 32, 64}
	coreParts  = []string{"forward", "gradient", "train", "regularize"}
)

// corePoint is what the model says of a part on some cores.
type corePoint struct {
	Part    string  `json:"part"`
	Cores   int     `json:"cores"`
	MS      float64 `json:"ms"`       // an image; regularize: an update
	SpeedUp float64 `json:"speed_up"` // beside the same work on one core
	Serial  float64 `json:"serial"`   // share of the work outside of loops
	Loops   int     `json:"loops"`    // that split their work
	Units   int     `json:"units"`    // of the median loop, by work
}

// sweepCores models the parts on more cores than the machine may have. After an error it still
// prints and writes the completed points.
func sweepCores(ctx context.Context, o options, stdout, stderr io.Writer) error {
	m, x, y, err := o.warm()
	if err != nil {
		return err
	}
	jobs, err := newJobs(ctx, m, x, y)
	if err != nil {
		return err
	}
	jobs["gradient"] = func() error { _, err := m.InputGradient(snn.Pass{}, x, loss(y)); return err }
	start := startOfLoop()
	meter := term.NewMeter(stderr, float64(len(coreCounts)*len(coreParts)))
	points := []corePoint{}
	for _, n := range coreCounts {
		m.Threads = n
		for _, part := range coreParts {
			if err != nil {
				break
			}
			p := corePoint{Part: part, Cores: n}
			for i := range o.reps {
				if err = ctx.Err(); err != nil {
					break
				}
				r := parallel.Record(func() { err = jobs[part]() })
				if err != nil {
					break
				}
				if q := modelOf(r, n, start); i == 0 || q.MS < p.MS {
					q.Part = part
					p = q
				}
			}
			if err == nil {
				p.MS = perImage(part, p.MS, o.batch)
				points = append(points, p)
				meter.Add(1, fmt.Sprintf("%d cores, %s", n, part))
			}
		}
	}
	meter.Clear()
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "a model; part\tcores\tms\tspeed-up\tserial\tloops\tunits\t\n")
	for _, part := range coreParts {
		for _, p := range points {
			if p.Part == part {
				fmt.Fprintf(w, "%s\t%d\t%.2f\t%.1f×\t%.2f %%\t%d\t%d\t\n", p.Part, p.Cores, p.MS, p.SpeedUp, 100*p.Serial, p.Loops, p.Units)
			}
		}
	}
	return errors.Join(err, w.Flush(), o.save(o.task(map[string]any{
		"sweep": o.sweep, "kernel": kernel.CurrentLevel().String(), "start_of_loop_us": start.Seconds() * 1e6, "points": points,
	})))
}

// startOfLoop returns the time of a loop without work on two threads.
func startOfLoop() time.Duration {
	const n = 10000
	start := time.Now()
	for range n {
		parallel.For(2, 2, func(int) {})
	}
	return time.Since(start) / n
}

// modelOf models a recording on n cores. The cores of a loop take one unit after the other. To start
// a loop takes the given time for each doubling of the cores, since threads wake each other.
func modelOf(r *parallel.Recording, n int, start time.Duration) corePoint {
	work, all := r.Serial, r.Serial
	for _, l := range r.Loops {
		work += l.Work
		all += parallel.Makespan(l.Units, n)
	}
	p := corePoint{Cores: n, Serial: float64(r.Serial) / float64(work), Loops: len(r.Loops)}
	half := (work - r.Serial) / 2
	for _, l := range slices.SortedFunc(slices.Values(r.Loops), func(a, b parallel.Loop) int { return len(a.Units) - len(b.Units) }) {
		if p.Units, half = len(l.Units), half-l.Work; half <= 0 {
			break
		}
	}
	for c := 1; c < n; c *= 2 {
		all += time.Duration(len(r.Loops)) * start
	}
	p.MS, p.SpeedUp = all.Seconds()*1e3, float64(work)/float64(all)
	return p
}
