package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/train"
)

// results is the content of results.json. The keys of the maps are the names of the
// networks' files.
type results struct {
	runs.Maker
	Options  options                    `json:"options"`
	Seconds  float64                    `json:"seconds"` // since the program's last start
	Training map[string][]train.Metrics `json:"training"`
	Labels   []int                      `json:"labels"` // of the test images
	White    map[string]*judgement      `json:"white_box"`
	Black    map[string]*judgement      `json:"black_box"`
}

// judgement holds the outcomes of a network.
type judgement struct {
	// WorstCase is the share of the images that are classified as labelled when clean,
	// under all attacks of the table, and under the battery.
	WorstCase float64          `json:"worst_case_accuracy"`
	Outcomes  []trials.Outcome `json:"outcomes"`
	// Battery is nil for black-box attacks.
	Battery *trials.BatteryOutcome `json:"battery,omitempty"`
}

// newJudgement returns what results.json keeps of a network. The worst case is that over
// the clean images, the trials at ε = tableEps and the battery, if there is one.
func newJudgement(labels []int, outcomes []trials.Outcome, tableEps float64, battery *trials.BatteryOutcome) *judgement {
	var table []trials.Outcome
	for _, o := range outcomes {
		if o.Trial == trials.Clean || o.Eps == tableEps {
			table = append(table, o)
		}
	}
	if battery != nil {
		table = append(table, battery.Outcome())
	}
	return &judgement{trials.WorstCase(labels, table), outcomes, battery}
}

// accuracy returns the accuracy in a trial, in percent.
func (j *judgement) accuracy(t trials.Trial) float64 {
	i := slices.IndexFunc(j.Outcomes, func(o trials.Outcome) bool { return o.Trial == t })
	return 100 * j.Outcomes[i].Accuracy
}

// print writes the table in the form of the paper's Table 2, 80 columns wide.
func (r *results) print(out io.Writer) error {
	eps := r.Options.TestEps
	row := func(name string, cells ...string) string {
		line := fmt.Sprintf("%-10s", name)
		for _, c := range cells {
			line += fmt.Sprintf("%14s", c)
		}
		return strings.TrimRight(line, " ") + "\n"
	}
	both := func(rat, vanilla float64) string { return fmt.Sprintf("%.1f (%4.1f)", rat, vanilla) }
	cell := func(in map[string]*judgement, t trials.Trial) string {
		return both(in["rat"].accuracy(t), in["vanilla"].accuracy(t))
	}
	worst := func(in map[string]*judgement) string {
		return both(100*in["rat"].WorstCase, 100*in["vanilla"].WorstCase)
	}
	table := fmt.Sprintf("\nAccuracy in %% on %d images at ε = %v/255: RAT (vanilla)\n\n", len(r.Labels), eps) +
		fmt.Sprintf("%10s  %s  %s\n", "", centre("white-box", 40), centre("black-box", 26)) +
		row("", "BPTR", "BPTT", "CBA", "BPTR", "BPTT") +
		row("clean", cell(r.White, trials.Clean)) +
		row("noise", cell(r.White, trials.Noise(eps)))
	for _, name := range attackNames {
		var cells []string
		for _, g := range gradients {
			cells = append(cells, cell(r.White, newTrial(name, g, eps)))
		}
		cells = append(cells, "")
		if slices.Contains(cbaNames, name) {
			cells[len(cells)-1] = cell(r.White, newTrial(name, snn.CBA{}, eps))
		}
		for _, g := range gradients {
			cells = append(cells, cell(r.Black, newTrial(name, g, eps)))
		}
		table += row(name, cells...)
	}
	note := "\nWorst case: images classified as labelled when clean and under every attack.\n"
	if preset := r.Options.Battery; preset != noBattery {
		left := func(name string) float64 { return 100 * r.White[name].Battery.Outcome().Accuracy }
		table += row("battery", both(left("rat"), left("vanilla")))
		note = fmt.Sprintf("\nBattery: %s, whose attacks an image meets until one breaks it.\n", preset) +
			"Worst case: images classified as labelled when clean, under every attack, and,\n" +
			"white-box, under the battery.\n"
	}
	table += row("worst case", worst(r.White), "", "", worst(r.Black)) + note +
		fmt.Sprintf("PGD and BIM: %d steps of ε/%d. RAT trained at ε = %v/255.\n", iterations, alphaShare, r.Options.Eps) +
		r.faults() + r.zeroGradients()
	_, err := io.WriteString(out, table)
	return err
}

// faults returns a line if checks of the batteries found faults. A worst case with a fault is
// too high, or means nothing.
func (r *results) faults() string {
	if r.Options.Battery == noBattery {
		return ""
	}
	vanilla, rat := r.White["vanilla"].Battery.Faults(), r.White["rat"].Battery.Faults()
	if vanilla+rat == 0 {
		return ""
	}
	return fmt.Sprintf("Faults that the battery's checks found: vanilla %d, RAT %d. See results.json.\n", vanilla, rat)
}

// zeroGradients returns a line for each attack of the table that had a zero gradient for
// some images. The accuracy on these images shows no robustness. Black-box attacks have the
// gradients of the source network.
func (r *results) zeroGradients() (lines string) {
	for _, in := range []struct {
		*judgement
		source string
	}{{r.White["vanilla"], "vanilla"}, {r.White["rat"], "RAT"}, {r.Black["rat"], "the source network"}} {
		for _, o := range in.Outcomes {
			if o.Eps != r.Options.TestEps || len(o.ZeroGradient) == 0 {
				continue
			}
			images := fmt.Sprintf("%d images", len(o.ZeroGradient))
			if len(o.ZeroGradient) == 1 {
				images = "1 image"
			}
			lines += fmt.Sprintf("No gradient, so no attack: %s %s, %s of %s.\n", o.Attack, o.Gradient, images, in.source)
		}
	}
	return lines
}

// centre writes a heading in the middle of a rule of so many columns.
func centre(heading string, columns int) string {
	rest := columns - len(heading) - 2
	return strings.Repeat("-", rest/2) + " " + heading + " " + strings.Repeat("-", rest-rest/2)
}

// save writes results.json and the curves.
func (r *results) save(folder string) error {
	err := atomicfile.Write(filepath.Join(folder, "results.json"), func(w io.Writer) error {
		return json.NewEncoder(w).Encode(r)
	})
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	f := plots.Figure{
		Title:  fmt.Sprintf("PGD (BPTT, %d steps)", iterations),
		X:      "ε (255ths)",
		Y:      "accuracy (%)",
		XTicks: append([]float64{0}, curve...),
		YTicks: []float64{0, 20, 40, 60, 80, 100},
	}
	for _, kind := range []struct {
		name   string
		in     map[string]*judgement
		dashed bool
	}{{"white-box", r.White, false}, {"black-box", r.Black, true}} {
		for i, name := range []string{"rat", "vanilla"} {
			j := kind.in[name]
			l := plots.Line{
				Name: []string{"RAT", "vanilla"}[i] + ", " + kind.name, Color: i, Dashed: kind.dashed,
				X: []float64{0}, Y: []float64{j.accuracy(trials.Clean)},
			}
			for _, eps := range curve {
				l.X = append(l.X, eps)
				l.Y = append(l.Y, j.accuracy(newTrial("PGD", snn.BPTT{}, eps)))
			}
			f.Lines = append(f.Lines, l)
		}
	}
	return f.Save(folder, "accuracy")
}
