package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/proofs"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/train"
)

// results is the content of results.json.
type results struct {
	runs.Maker
	Options  options         `json:"options"`
	Seconds  float64         `json:"seconds"`
	Training []train.Metrics `json:"training,omitempty"` // of each epoch
	Labels   []int           `json:"labels"`             // of the test images
	Radii    proofs.Radii    `json:"radii"`              // those that are finished, from the smallest
}

// save writes results.json and the picture.
func (r *results) save(folder string) error {
	err := atomicfile.Write(filepath.Join(folder, "results.json"), func(w io.Writer) error { return json.NewEncoder(w).Encode(r) })
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	f := plots.Figure{
		Title: "What is proved, and what attacks find", X: "ε (255ths)", Y: "accuracy (%)", YTicks: []float64{0, 20, 40, 60, 80, 100},
		Lines: []plots.Line{{Name: "clean", Color: 2, Dashed: true, Unmarked: true}, {Name: "worst case", Color: 1}, {Name: "certified"}},
	}
	add := func(eps float64, of ...float64) {
		f.XTicks = append(f.XTicks, eps)
		for i, v := range of {
			f.Lines[i].X, f.Lines[i].Y = append(f.Lines[i].X, eps), append(f.Lines[i].Y, 100*v)
		}
	}
	add(0, r.Radii[0].Clean, r.Radii[0].Clean, r.Radii[0].Clean)
	for _, s := range r.Radii {
		add(s.Eps, s.Clean, s.WorstCase, s.Certified)
	}
	return f.Save(folder, "certified")
}
