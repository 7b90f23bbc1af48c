package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/train"
)

// pair holds the reports of the two networks.
type pair struct {
	RAT     *attack.Report `json:"rat"`
	Vanilla *attack.Report `json:"vanilla"`
}

// results is what the run found; results.json holds it.
type results struct {
	Options  options                    `json:"options"`
	Seconds  float64                    `json:"seconds"`
	Training map[string][]train.Metrics `json:"training"`
	White    pair                       `json:"white_box"`
	Black    pair                       `json:"black_box"`
}

// accuracy returns a report's accuracy under the attack of that name, in percent.
func accuracy(r *attack.Report, name string) float64 {
	if name == "clean" {
		return 100 * r.Clean.Accuracy
	}
	for _, a := range r.Attacks {
		if a.Name == name {
			return 100 * a.Accuracy
		}
	}
	panic("rat: no attack " + name)
}

// cell formats the accuracies of the RAT network and, in brackets, the plain one.
func (p pair) cell(name string) string {
	return fmt.Sprintf("%.1f (%.1f)", accuracy(p.RAT, name), accuracy(p.Vanilla, name))
}

// print writes the table in the form of the paper's Table 2.
func (r *results) print(out io.Writer) {
	eps := r.Options.TestEps
	fmt.Fprintf(out, "\nAccuracy in %% on %d images at ε = %v/255: RAT (vanilla)\n\n", r.White.RAT.Images, eps)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\twhite-box\t\t\tblack-box\t\t")
	fmt.Fprintln(w, "\tBPTR\tBPTT\tCBA\tBPTR\tBPTT\t")
	fmt.Fprintf(w, "clean\t%s\t\t\t\t\t\n", r.White.cell("clean"))
	fmt.Fprintf(w, "noise\t%s\t\t\t\t\t\n", r.White.cell("noise"))
	for _, name := range attackNames {
		fmt.Fprintf(w, "%s\t", name)
		for _, g := range gradients {
			fmt.Fprintf(w, "%s\t", r.White.cell(label(name, g, eps)))
		}
		cba := ""
		if name == "FGSM" || name == "PGD" {
			cba = r.White.cell(label(name, snn.CBA{}, eps))
		}
		fmt.Fprintf(w, "%s\t", cba)
		for _, g := range gradients {
			fmt.Fprintf(w, "%s\t", r.Black.cell(label(name, g, eps)))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// write writes results.json and the curves.
func (r *results) write(folder string) error {
	err := atomicfile.Write(filepath.Join(folder, "results.json"), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(r)
	})
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	f := plots.Figure{
		Title: fmt.Sprintf("PGD through time, %d steps: accuracy against ε", iterations),
		X:     "ε (255ths)", Y: "accuracy (%)", YMin: 0, YMax: 100,
	}
	for _, kind := range []struct {
		name   string
		pair   pair
		dashed bool
	}{{"white-box", r.White, false}, {"black-box", r.Black, true}} {
		for i, n := range []struct {
			name   string
			report *attack.Report
		}{{"RAT", kind.pair.RAT}, {"vanilla", kind.pair.Vanilla}} {
			l := plots.Line{
				Name: n.name + ", " + kind.name, Color: i, Dashed: kind.dashed,
				X: []float64{0}, Y: []float64{accuracy(n.report, "clean")},
			}
			for _, eps := range curve {
				l.X = append(l.X, eps)
				l.Y = append(l.Y, accuracy(n.report, label("PGD", snn.BPTT{}, eps)))
			}
			f.Lines = append(f.Lines, l)
		}
	}
	return f.Save(folder, "accuracy")
}
