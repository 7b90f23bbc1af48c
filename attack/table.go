package attack

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/internal/tables"
)

// Table is a table of results for people.
type Table struct {
	rows tables.Table // the first row holds the headings
	left []int        // the columns that are flush left, from 1
}

// String returns the table in lines of text.
func (t Table) String() string { return t.rows.Text(t.left...) }

// Markdown returns the table in Markdown.
func (t Table) Markdown() string { return t.rows.Markdown() }

// CSV returns the table as comma-separated values. The first line holds the headings.
func (t Table) CSV() string { return t.rows.CSV() }

// String returns the report as text: a line on the evaluation, the table of [Report.Table],
// and that of [Report.ClassTable] if it has at most 20 classes.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Accuracy on %s", count(r.Images, "image"))
	if r.Part != nil {
		fmt.Fprintf(&b, ", shard %v of %d", r.Part.Shard, r.Part.Images)
	}
	if r.Norm != "none" && r.Norm != "" {
		fmt.Fprintf(&b, ", worst case within %s %s", r.Norm, radius(r.Eps))
	}
	if r.BlackBox {
		b.WriteString(", attacked on another network")
	}
	b.WriteString("\n\n" + r.Table().String())
	for _, o := range r.Attacks {
		if len(o.ZeroGradient) > 0 {
			fmt.Fprintf(&b, "\n%s did not attack %s: the gradient was zero.\n", o.Name, count(len(o.ZeroGradient), "image"))
		}
	}
	if t := r.ClassTable(); len(t.rows) > 1 && len(t.rows) <= 1+20 {
		b.WriteString("\n" + t.String())
	}
	return b.String()
}

// Table returns the accuracies in percent: for clean images, under each attack, and in the
// worst case. Beside each stands its 95 % interval by [Wilson]. A row of an attack also has
// the number of images whose gradients were all zero, whether the worst case counts the
// attack, its threat model and its settings.
func (r *Report) Table() Table {
	t := Table{tables.Table{{
		"", "accuracy %", "95 % from", "to", "correct", "zero gradient", "in worst case", "norm", "eps", "settings",
	}}, []int{1, 7, 8, 9, 10}}
	t.rows.Add(append([]string{"clean"}, r.accuracy(r.Clean.Accuracy)...)...)
	for _, o := range r.Attacks {
		zero, counted, settings := "", "no", ""
		if len(o.ZeroGradient) > 0 {
			zero = strconv.Itoa(len(o.ZeroGradient))
		}
		if o.InWorstCase {
			counted = "yes"
		}
		if o.Settings != nil {
			settings = o.Settings.String()
		}
		eps := ""
		if o.Norm != "none" {
			eps = radius(o.Eps)
		}
		t.rows.Add(append(append([]string{o.Name}, r.accuracy(o.Accuracy)...), zero, counted, o.Norm, eps, settings)...)
	}
	worst := append([]string{worstCase}, r.accuracy(r.WorstCase)...)
	if r.Norm != "none" && r.Norm != "" {
		worst = append(worst, "", "", r.Norm, radius(r.Eps))
	}
	t.rows.Add(worst...)
	return t
}

// accuracy returns the cells of an accuracy of r.
func (r *Report) accuracy(share float64) []string {
	return accuracyCells(r.correct(share), r.Images)
}

// accuracyCells returns an accuracy of k of n images, its interval and k.
func accuracyCells(k, n int) []string {
	low, high := Wilson(k, n)
	cells := make([]string, 3, 4)
	for i, v := range []float64{float64(k) / float64(max(n, 1)), low, high} {
		cells[i] = fmt.Sprintf("%.1f", 100*v)
	}
	return append(cells, strconv.Itoa(k))
}

// ClassResult holds the results for the images of one class.
type ClassResult struct {
	Class  int    // the label
	Name   string // "" if unknown
	Images int    // number of images with that label, ≥ 1
	Clean  int    // images that are classified as labelled when clean
	// WorstCase is the number of images that are classified as labelled when clean and
	// under every attack that counts.
	WorstCase int
}

// PerClass returns the results of each class that has images, in the order of the labels.
func (r *Report) PerClass() (list []ClassResult) {
	for i, y := range r.Labels {
		k, found := slices.BinarySearchFunc(list, y, func(c ClassResult, y int) int { return c.Class - y })
		if !found {
			c := ClassResult{Class: y}
			if y < len(r.ClassNames) {
				c.Name = r.ClassNames[y]
			}
			list = slices.Insert(list, k, c)
		}
		c := &list[k]
		c.Images++
		if r.Clean.Predicted[i] == y {
			c.Clean++
		}
		if r.Survived[i] {
			c.WorstCase++
		}
	}
	return list
}

// ClassTable returns the accuracies in percent of each class that has images, for clean
// images and in the worst case. Beside each stands its 95 % interval by [Wilson].
func (r *Report) ClassTable() Table {
	t := Table{tables.Table{{
		"class", "name", "images", "clean %", "95 % from", "to", "worst case %", "95 % from", "to",
	}}, []int{2}}
	for _, c := range r.PerClass() {
		cells := []string{strconv.Itoa(c.Class), c.Name, strconv.Itoa(c.Images)}
		cells = append(cells, accuracyCells(c.Clean, c.Images)[:3]...)
		t.rows.Add(append(cells, accuracyCells(c.WorstCase, c.Images)[:3]...)...)
	}
	if r.ClassNames == nil {
		for i, row := range t.rows {
			t.rows[i] = slices.Delete(row, 1, 2)
		}
		t.left = nil
	}
	return t
}

// String returns the settings in one line.
func (s Settings) String() string {
	var parts []string
	add := func(format string, v any, is bool) {
		if is {
			parts = append(parts, fmt.Sprintf(format, v))
		}
	}
	if s.Mix != nil {
		for i := range s.Mix {
			parts = append(parts, "("+s.Mix[i].String()+")")
		}
		kind := s.Kind
		switch {
		case s.GiveUp > 0:
			kind = fmt.Sprintf("up to %s (GiveUp %v)", count(s.Rounds, "round"), s.GiveUp)
		case s.Rounds > 0:
			kind = count(s.Rounds, "round")
		}
		return kind + " of " + strings.Join(parts, ", ")
	}
	add("%s", s.Kind, s.Kind != "gradient attack")
	add("%s", "targeted", s.Targeted)
	add("%s", s.Gradient, s.Gradient != "")
	add("%s", s.Objective, s.Objective != "")
	add("%s", s.Rule, s.Rule != "")
	add("%s", count(s.Steps, "step")+" of "+radius(s.Alpha), s.Steps > 0 && s.Alpha != 0)
	add("%s", count(s.Steps, "step"), s.Steps > 0 && s.Alpha == 0)
	add("%s", fmt.Sprintf("at most %d passes", s.Passes), s.Passes > 0)
	add("%s", count(s.Starts, "start"), s.Starts > 1)
	add("%s", count(s.Targets, "target"), s.Targets > 0)
	add("%s", count(s.Draws, "draw"), s.Draws > 1)
	add("start: %s", s.Start, s.Start != "")
	add("%s", "one perturbation for all frames", s.SharedFrames)
	add("std %s", radius(s.Std), s.Std != 0)
	return strings.Join(parts, ", ")
}

// radius writes a distance between images, as a number of 255ths if it is one.
func radius(eps float32) string {
	if k := math.Round(float64(eps) * 255); k >= 1 && k < 255 && eps == float32(k/255) {
		return fmt.Sprintf("%v/255", k)
	}
	return strconv.FormatFloat(float64(eps), 'g', 4, 32)
}

// count writes a number of things.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
