package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/train"
)

// results is the content of results.json.
type results struct {
	Options  options         `json:"options"`
	Seconds  float64         `json:"seconds"`
	Training []train.Metrics `json:"training,omitempty"` // of each epoch
	Labels   []int           `json:"labels"`             // of the test images
	Radii    []*radius       `json:"radii"`              // those that are finished, from the smallest
}

// radius is what is known at one ε.
type radius struct {
	Eps       float64 `json:"eps_255"`
	Certified float64 `json:"certified_accuracy"`
	WorstCase float64 `json:"worst_case_accuracy"`
	Clean     float64 `json:"clean_accuracy"`
	Faults    int     `json:"battery_faults"`    // checks of the battery that found a fault
	Refuted   []int   `json:"refuted,omitempty"` // images that are certified and that the battery broke
	Rows      []row   `json:"images"`
}

// row is what is known about a test image.
type row struct {
	Verdict  certify.Verdict `json:"verdict"`
	Margin   *float64        `json:"margin"`   // proven lower bound of the label's logit less the largest other one; null for none
	Clean    int             `json:"clean"`    // predicted class
	Attacked int             `json:"attacked"` // predicted class of the best point of the battery
}

// finite returns v, or nil for an infinite number, which JSON has no place for.
func finite(v float64) *float64 {
	if math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// count sets the verdicts of images that the battery broke, and the shares.
func (r *radius) count(labels []int) {
	share := 1 / float64(len(r.Rows))
	for i := range r.Rows {
		w := &r.Rows[i]
		if w.Clean == labels[i] {
			r.Clean += share
		}
		if w.Attacked == labels[i] {
			r.WorstCase += share
		} else if w.Verdict == certify.Certified {
			r.Refuted = append(r.Refuted, i)
		} else {
			w.Verdict = certify.Broken
		}
		if w.Verdict == certify.Certified {
			r.Certified += share
		}
	}
}

// print writes the table.
func (r *results) print(out io.Writer) error {
	text := fmt.Sprintf("Accuracy in %% on %d images\n\n%-8s%12s%12s%8s%12s\n", len(r.Labels), "ε", "certified", "worst case", "clean", "unknown")
	for _, s := range r.Radii {
		text += fmt.Sprintf("%-8s%12.1f%12.1f%8.1f%12.1f\n", fmt.Sprintf("%v/255", s.Eps), 100*s.Certified, 100*s.WorstCase, 100*s.Clean, 100*(s.WorstCase-s.Certified))
	}
	text += "\nCertified: proved that no image within ε (L∞) has another class. Worst case: no attack\n" +
		"of the battery " + r.Options.Battery + " found one. Unknown: neither proved nor found.\n"
	for _, s := range r.Radii {
		if s.Faults > 0 {
			text += fmt.Sprintf("Checks of the battery that found a fault at ε = %v/255: %d. The worst case may be too high.\n", s.Eps, s.Faults)
		}
	}
	_, err := io.WriteString(out, text)
	return err
}

// check returns an error if the battery broke an image that is certified, or if the certificates
// contradict each other.
func (r *results) check() error {
	var wrong []string
	broken := map[int]float64{} // the least ε at which an image is broken
	for _, s := range r.Radii {
		if len(s.Refuted) > 0 {
			wrong = append(wrong, fmt.Sprintf("at ε = %v/255 the battery broke images %v, which are certified", s.Eps, s.Refuted))
		}
		for i, w := range s.Rows {
			eps, known := broken[i]
			switch {
			case known && w.Verdict == certify.Certified:
				wrong = append(wrong, fmt.Sprintf("image %d is certified at ε = %v/255 and broken at %v/255", i, s.Eps, eps))
			case !known && w.Verdict == certify.Broken:
				broken[i] = s.Eps
			}
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("a certificate is wrong: %s: please report this with results.json and the network", strings.Join(wrong, "; "))
	}
	return nil
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
