package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/version"
)

// results is the content of results.json. Accuracies and firing rates are in [0,1].
type results struct {
	// Partial says whether the run was stopped. Networks then lacks those that it did not
	// reach, and they lack what was not done.
	Partial     bool              `json:"partial"`
	Pending     []string          `json:"pending,omitempty"` // names of networks without a finished image
	Command     string            `json:"command"`           // that repeats the run
	Flags       map[string]string `json:"flags"`
	Library     string            `json:"library"` // version
	Data        string            `json:"data"`
	Fingerprint string            `json:"data_fingerprint"` // a digest of the images and their labels
	Images      int               `json:"images"`           // of the data
	Preset      string            `json:"preset"`
	Norm        string            `json:"norm"`
	Eps         float32           `json:"eps"`
	Networks    []*outcome        `json:"networks"`
	Sources     []identity        `json:"sources,omitempty"` // networks of transfer attacks
	Comparisons []comparison      `json:"comparisons,omitempty"`
}

// outcome holds the results of a network.
type outcome struct {
	identity
	Clean             float64               `json:"clean_accuracy"`
	CleanInterval     [2]float64            `json:"clean_interval"` // of 95 %, by Wilson
	WorstCase         float64               `json:"worst_case_accuracy"`
	WorstCaseInterval [2]float64            `json:"worst_case_interval"`
	Curve             []curvePoint          `json:"curve,omitempty"`
	Certified         []curvePoint          `json:"certified,omitempty"`     // accuracy that is proven
	CertifiedEps      []float32             `json:"certified_eps,omitempty"` // of each image, -1 for none
	Firing            []firing              `json:"firing_rates,omitempty"`  // of the stored images that met an attack
	Report            *attack.BatteryReport `json:"report"`

	whole *attack.Report
}

// comparison is McNemar's test of two networks.
type comparison struct {
	A string `json:"a"`
	B string `json:"b"`
	attack.Comparison
}

// results returns the results of what is done.
func (j *job) results(stopped bool) (*results, error) {
	res := &results{
		Partial: stopped, Command: j.command, Flags: j.values, Library: version.String(), Data: j.options.data, Fingerprint: j.digest, Images: j.data.N,
		Preset: j.preset, Norm: j.threat.Norm.String(), Eps: j.threat.Eps, Networks: []*outcome{},
	}
	for _, s := range j.from {
		res.Sources = append(res.Sources, s.identity)
	}
	for i, s := range j.subjects {
		if s.report == nil {
			res.Pending = append(res.Pending, s.Name)
			continue
		}
		n := &outcome{
			identity: s.identity, Clean: s.report.Clean, WorstCase: s.report.WorstCase, Curve: j.withZero(s, j.Networks[i].Curve), Firing: s.firing,
			Certified: j.certifiedCurve(j.Networks[i]), CertifiedEps: j.Networks[i].Certified,
			Report: s.report, whole: s.report.Report(),
		}
		n.CleanInterval[0], n.CleanInterval[1] = n.whole.Interval(n.Clean)
		n.WorstCaseInterval[0], n.WorstCaseInterval[1] = n.whole.Interval(n.WorstCase)
		for _, before := range res.Networks {
			for _, under := range []string{"clean", "worst case"} {
				if n.Report.Partial || before.Report.Partial {
					continue // other images
				}
				c, err := attack.McNemar(before.whole, n.whole, under)
				if err != nil {
					return nil, err
				}
				res.Comparisons = append(res.Comparisons, comparison{before.Name, n.Name, c})
			}
		}
		res.Networks = append(res.Networks, n)
	}
	return res, nil
}

// withZero returns a curve with the accuracy on its clean images.
func (j *job) withZero(s *subject, curve []curvePoint) []curvePoint {
	if len(curve) == 0 {
		return nil
	}
	right := 0
	for _, r := range s.report.Results[:curve[0].Images] {
		if r.BrokenBy != attack.Misclassified {
			right++
		}
	}
	return append([]curvePoint{point("0", 0, right, curve[0].Images)}, curve...)
}

// faults lists the checks that are faults, with what to do.
func (r *results) faults() (list []string) {
	for _, n := range r.Networks {
		for _, c := range n.Report.Checks {
			if c.Status == attack.Fault {
				list = append(list, fmt.Sprintf("%s: fault in check %d (%s): %s", n.Name, c.Point, c.Name, c.Advice))
			}
		}
	}
	return list
}

// save writes all files to a folder.
func (r *results) save(folder string) error {
	var errs []error
	write := func(name string, write func(io.Writer) error) {
		errs = append(errs, atomicfile.Write(filepath.Join(folder, name), write))
	}
	write("results.json", func(w io.Writer) error { return json.NewEncoder(w).Encode(r) })
	write("attacks.csv", func(w io.Writer) error { return csv.NewWriter(w).WriteAll(r.attackRows()) })
	write("images.csv", func(w io.Writer) error { return csv.NewWriter(w).WriteAll(r.imageRows()) })
	write("report.html", r.writePage)
	for _, n := range r.Networks {
		if len(n.Report.Kept.Indices) > 0 {
			errs = append(errs, n.whole.WriteNPZ(filepath.Join(folder, n.npz())))
		}
	}
	return errors.Join(errs...)
}

// number returns the shortest text from which a program reads v.
func number[T float32 | float64](v T) string { return fmt.Sprint(v) }

// attackRows returns attacks.csv: a line for each network and attack. alone is empty unless all
// images met all attacks.
func (r *results) attackRows() [][]string {
	rows := [][]string{{"network", "order", "attack", "kind", "objective", "gradient", "start", "steps", "met", "broke", "left", "alone", "passes", "zero_gradient", "settings"}}
	for _, n := range r.Networks {
		for i, a := range n.Report.Attacks {
			alone := ""
			if a.Alone >= 0 {
				alone = number(a.Alone)
			}
			s := a.Settings
			rows = append(rows, []string{
				n.Name, strconv.Itoa(i + 1), a.Name, s.Kind, s.Objective, s.Gradient, s.Start, strconv.Itoa(s.Steps),
				strconv.Itoa(a.Met), strconv.Itoa(a.Broke), number(a.Left), alone, strconv.Itoa(a.Passes), strconv.Itoa(a.ZeroGradient), s.String(),
			})
		}
	}
	return rows
}

// imageRows returns images.csv: a line for each network and image. outcome is misclassified,
// broken or stood. certified_eps is the largest certified ε, -1 for none, and empty without
// -certify.
func (r *results) imageRows() [][]string {
	rows := [][]string{{"network", "image", "label", "clean", "clean_margin", "outcome", "broken_by", "predicted", "margin", "passes", "passes_to_break", "certified_eps"}}
	for _, n := range r.Networks {
		for _, i := range n.Report.Results {
			what, by := "stood", ""
			switch {
			case i.BrokenBy == attack.Misclassified:
				what = "misclassified"
			case i.BrokenBy >= 0:
				what, by = "broken", n.Report.Attacks[i.BrokenBy].Name
			}
			proven := ""
			if i.Index < len(n.CertifiedEps) {
				proven = number(n.CertifiedEps[i.Index])
			}
			rows = append(rows, []string{
				n.Name, strconv.Itoa(i.Index), strconv.Itoa(i.Label), strconv.Itoa(i.Clean), number(i.CleanMargin), what, by,
				strconv.Itoa(i.Predicted), number(i.Margin), strconv.Itoa(i.Passes), strconv.Itoa(i.PassesToBreak), proven,
			})
		}
	}
	return rows
}

// print prints the worst cases.
func (r *results) print(out io.Writer) {
	for _, n := range r.Networks {
		fmt.Fprintf(out, "%s: worst case %s %% (95 %%: %s to %s), clean %s %%, %d passes an image\n", n.Name, percent(n.WorstCase),
			percent(n.WorstCaseInterval[0]), percent(n.WorstCaseInterval[1]), percent(n.Clean), n.Report.Passes/max(n.Report.Images, 1))
		for _, c := range n.Certified {
			fmt.Fprintf(out, "%s: certified %s %% at ε × %s\n", n.Name, percent(c.Accuracy), c.Factor)
		}
	}
	for _, f := range r.faults() {
		fmt.Fprintf(out, "%s\n", f)
	}
}

// percent returns a share in percent with one decimal.
func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) }
