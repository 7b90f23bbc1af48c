package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/org/snnrat/examples/internal/figures"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/lipschitz"
)

// results holds the results of a run, and the contents of results.json.
type results struct {
	runs.Maker
	Options  options    `json:"options"`
	Seconds  float64    `json:"seconds"`
	Networks []*network `json:"networks"`
}

// number formats x with few characters.
func number(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x >= 1e4 || x < 1e-2 && x > -1e-2:
		return fmt.Sprintf("%.1e", x)
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// print writes the tables. It then compares the networks if there are several.
func (r *results) print(out io.Writer) error {
	for _, n := range r.Networks {
		if err := n.print(out); err != nil {
			return err
		}
	}
	if len(r.Networks) < 2 {
		return nil
	}
	fmt.Fprintf(out, "\nComparison\n\n")
	var t tables.Table
	row := func(name string, cell func(n *network) string) {
		cells := []string{name}
		for _, n := range r.Networks {
			cells = append(cells, cell(n))
		}
		t.Add(cells...)
	}
	row("", func(n *network) string { return n.Name })
	row("largest σ_max", func(n *network) string { return number(n.largest(func(w weight) float64 { return w.SigmaMax })) })
	row("upper bound of the largest Λ", func(n *network) string { return number(n.largest(func(w weight) float64 { return w.Upper })) })
	row("product of σ_max", func(n *network) string { return number(n.SigmaProduct) })
	row("product of the upper bounds of Λ", func(n *network) string { return number(n.LambdaProduct) })
	row("largest ‖W·Wᵀ − I‖", func(n *network) string { return number(n.largest(func(w weight) float64 { return w.Defect })) })
	for i, eps := range radii {
		row(fmt.Sprintf("differing spikes in the last layer, ε = %v/255 (%%)", eps), func(n *network) string {
			last := n.Layers[len(n.Layers)-2]
			return number(100 * last.Attacked[i].Differences / float64(last.Neurons*last.Steps))
		})
	}
	_, err := io.WriteString(out, t.String())
	return err
}

func (n *network) largest(of func(weight) float64) (most float64) {
	for _, w := range n.Weights {
		most = max(most, of(w))
	}
	return most
}

func (n *network) print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s: weights as matrices C_out × C_in·k·k\n\n", n.Name)
	var t tables.Table
	t.Add("", "size", "Λ ≥", "Λ ≤", "width %", "σ_max", "γ", "γ Eq. 15", "‖W·Wᵀ − I‖")
	for _, w := range n.Weights {
		t.Add(strings.TrimSuffix(w.Weight, ".weight"), fmt.Sprintf("%d×%d", w.Rows, w.Cols), number(w.Lower), number(w.Upper),
			w.width(), number(w.SigmaMax), number(w.Gamma), number(w.PaperGamma), number(w.Defect))
	}
	t.Add("product", "", "", number(n.LambdaProduct), "", number(n.SigmaProduct), "", "", "")
	if _, err := io.WriteString(out, t.String()); err != nil {
		return err
	}

	fmt.Fprintf(out, "\n%s: maps between layers of neurons, with pooling, batch norm and block weights folded in\n\n", n.Name)
	t = tables.Table{}
	t.Add("", "from", "Λ ≥", "Λ ≤", "width %", "σ_max", "of image ≥", "≤", "γ", "R")
	for _, l := range n.Layers {
		for i, p := range l.Paths {
			cells := []string{l.Layer, p.From, number(p.Lower), number(p.interval.Upper), p.width(), number(p.Matrix),
				number(p.ImageLower), number(p.ImageUpper), number(l.Gamma), number(l.Hi - l.Lo)}
			if l.Layer == lipschitz.Logits {
				cells[9] = "" // no potentials
			}
			if i > 0 { // the other columns belong to the layer
				cells[0], cells[8], cells[9] = "", "", ""
			}
			t.Add(cells...)
		}
	}
	if _, err := io.WriteString(out, t.String()); err != nil {
		return err
	}

	fmt.Fprintf(out, "\n%s: PGD; D₂ of the output over D₂ of the input; spikes that differ, and their bound, in %%\n\n", n.Name)
	t = tables.Table{}
	head := []string{"", "N·T"}
	for _, eps := range radii {
		head = append(head, fmt.Sprintf("ε=%v/255", eps), "differ", "bound")
	}
	t.Add(head...)
	for _, l := range n.Layers[:len(n.Layers)-1] {
		all := float64(l.Neurons * l.Steps)
		cells := []string{l.Layer, fmt.Sprint(l.Neurons * l.Steps)}
		for _, a := range l.Attacked {
			cells = append(cells, number(a.Amplification), number(100*a.Differences/all), number(100*a.Bound/all))
		}
		t.Add(cells...)
	}
	if _, err := io.WriteString(out, t.String()); err != nil {
		return err
	}
	if !n.Config.SoftReset {
		if err := n.printTheorem1(out); err != nil {
			return err
		}
	}
	if n.Violations > 0 {
		fmt.Fprintf(out, "the bound does not hold for %d images, by rounding of a potential at its threshold\n", n.Violations)
	}
	return nil
}

// printTheorem1 writes the right-hand side of Theorem 1 as printed, beside the bound.
func (n *network) printTheorem1(out io.Writer) error {
	fmt.Fprintf(out, "\n%s: Theorem 1 as printed; right-hand side of Eq. 13, and the bound, divided by N·T\n\n", n.Name)
	var t tables.Table
	head := []string{"", "γ Eq. 15", "Γ Eq. 15"}
	for _, eps := range radii {
		head = append(head, fmt.Sprintf("ε=%v/255", eps), "bound")
	}
	t.Add(head...)
	for _, l := range n.Layers[:len(n.Layers)-1] {
		all := float64(l.Neurons * l.Steps)
		cells := []string{l.Layer, number(l.PaperGamma), number(l.PaperConstant)}
		for _, a := range l.Attacked {
			cells = append(cells, number(a.Theorem1/all), number(a.Bound/all))
		}
		t.Add(cells...)
	}
	_, err := io.WriteString(out, t.String())
	return err
}

// save writes results.json and the pictures.
func (r *results) save(folder string) error {
	err := atomicfile.Write(filepath.Join(folder, "results.json"), func(w io.Writer) error {
		return json.NewEncoder(w).Encode(r)
	})
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	var curves []figures.Curve
	var spectra []figures.Network
	training := plots.Figure{Title: "The weights during training", X: "epoch", Y: "largest σ_max; √Σ‖W·Wᵀ − I‖²"}
	for k, n := range r.Networks {
		for i, d := range n.distances {
			curves = append(curves, figures.Curve{
				Name: fmt.Sprintf("%s, ε = %v/255", short(n.Name), radii[i]), Distances: d, Color: i + k/2*len(radii), Dashed: k%2 > 0,
			})
		}
		to := figures.Network{Name: short(n.Name)}
		for _, w := range n.Weights {
			to.Spectra = append(to.Spectra, w.Spectrum)
		}
		spectra = append(spectra, to)
		if n.Training == nil {
			continue
		}
		sigma := plots.Line{Name: n.Name + ", σ_max", Color: k}
		defects := plots.Line{Name: n.Name + ", defect", Color: k, Dashed: true}
		for _, e := range n.Training {
			largest, defect := norms(e)
			sigma.X, sigma.Y = append(sigma.X, float64(e.Epoch)), append(sigma.Y, largest)
			defects.X, defects.Y = append(defects.X, float64(e.Epoch)), append(defects.Y, defect)
		}
		training.Lines = append(training.Lines, sigma, defects)
		training.XTicks = sigma.X
	}
	if training.Lines != nil {
		if err := training.Save(folder, "training"); err != nil {
			return err
		}
	}
	if err := figures.DrawDistances("Distance of spikes under PGD", curves).Save(folder, "distances"); err != nil {
		return err
	}
	return figures.DrawSpectra("Singular values of the weights", spectra).Save(folder, "singular")
}

// short returns the file name of a network without its folder, for a legend.
func short(name string) string { return strings.TrimSuffix(filepath.Base(name), ".safetensors") }
