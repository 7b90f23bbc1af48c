package main

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/plots"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"percent":  percent,
	"times100": func(share float64) float64 { return 100 * share },
	"p":        func(p float64) string { return fmt.Sprintf("%.2g", p) },
	"rate":     func(r float64) string { return strconv.FormatFloat(r, 'f', 4, 64) },
}).Parse(pageText))

// page is what the template shows.
type page struct {
	*results
	Threat  string // norm and ε
	Shown   []*shown
	ByEps   template.HTML // a figure; "" for none
	ByPass  template.HTML
	Curves  []curveRow
	OnCurve int // images of ByEps
	Checked bool
}

// curveRow has the points of all networks at one ε.
type curveRow struct {
	Factor string
	Eps    float32
	Points []*curvePoint // of each network; nil if it was not reached
}

// curves returns the points of all networks by ε.
func (r *results) curves() (rows []curveRow) {
	for k, n := range r.Networks {
		for i, p := range n.Curve {
			if i == len(rows) {
				rows = append(rows, curveRow{p.Factor, p.Eps, make([]*curvePoint, len(r.Networks))})
			}
			rows[i].Points[k] = &p
		}
	}
	return rows
}

// shown is what the page shows of a network, beside its outcome.
type shown struct {
	*outcome
	Color            string // in the figures
	Wrong            int    // clean images that are misclassified
	Broken           int
	Stood            int
	Faults, Warnings int // checks
	Random           bool
	Wall             []tile
	Attacks          []row
}

// row is what the page shows of an attack.
type row struct {
	attack.BatteryAttack
	Lost float64 // of the images
	How  string  // settings
}

// tile is what the page shows of an image.
type tile struct {
	attack.ImageResult
	Original, Adversarial, Difference template.URL
	Enlarged                          float64
	LabelName, PredictedName, By      string // By is "" for an image that stood
}

// Numbers of images on the wall.
const (
	wallBroken = 12
	wallStood  = 6
)

// writePage writes report.html.
func (r *results) writePage(w io.Writer) error {
	p := page{results: r, Threat: fmt.Sprintf("%s ε = %s", r.Norm, r.Flags["eps"])}
	for i, n := range r.Networks {
		s, err := show(n, plots.Color(i))
		if err != nil {
			return err
		}
		p.Shown = append(p.Shown, s)
		p.Checked = p.Checked || len(n.Report.Checks) > 0
	}
	var err error
	if p.ByPass, err = r.byPass(); err != nil {
		return err
	}
	if p.ByEps, err = r.byEps(); err != nil {
		return err
	}
	if p.Curves = r.curves(); len(p.Curves) > 0 {
		p.OnCurve = p.Curves[0].Points[0].Images // the first network comes first on the curve
	}
	return pageTemplate.Execute(w, p)
}

// show returns what the page shows of a network.
func show(n *outcome, color string) (*shown, error) {
	s := &shown{outcome: n, Color: color, Random: n.Report.Random}
	for _, i := range n.Report.Results {
		switch {
		case i.BrokenBy == attack.Misclassified:
			s.Wrong++
		case i.BrokenBy == attack.Survived:
			s.Stood++
		default:
			s.Broken++
		}
	}
	for _, c := range n.Report.Checks {
		switch c.Status {
		case attack.Fault:
			s.Faults++
		case attack.Warning:
			s.Warnings++
		}
	}
	for _, a := range n.Report.Attacks {
		first := 0
		for _, i := range n.Report.Results {
			if i.BrokenBy == len(s.Attacks) {
				first++
			}
		}
		s.Attacks = append(s.Attacks, row{a, float64(first) / float64(n.Report.Images), a.Settings.String()})
	}
	var err error
	s.Wall, err = wall(n)
	return s, err
}

// wall returns the first kept images that were broken, and the first that stood.
func wall(n *outcome) (broken []tile, err error) {
	var stood []tile
	at := map[int]attack.ImageResult{}
	for _, i := range n.Report.Results {
		at[i.Index] = i
	}
	for k, index := range n.Report.Kept.Indices {
		i := at[index]
		full := len(stood) >= wallStood
		if i.BrokenBy >= 0 {
			full = len(broken) >= wallBroken
		}
		if i.BrokenBy == attack.Misclassified || full {
			continue
		}
		t := tile{ImageResult: i, LabelName: class(n.Report.ClassNames, i.Label), PredictedName: class(n.Report.ClassNames, i.Predicted)}
		pictures := n.whole.Picture(0, k)
		t.Enlarged = pictures.Enlarged
		for _, p := range []struct {
			url *template.URL
			of  image.Image
		}{{&t.Original, pictures.Original}, {&t.Adversarial, pictures.Adversarial}, {&t.Difference, pictures.Difference}} {
			var b bytes.Buffer
			if err := png.Encode(&b, p.of); err != nil {
				return nil, err
			}
			*p.url = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()))
		}
		if i.BrokenBy >= 0 {
			t.By = n.Report.Attacks[i.BrokenBy].Name
			broken = append(broken, t)
		} else {
			stood = append(stood, t)
		}
	}
	return append(broken, stood...), nil
}

// class returns the number and the name of a class.
func class(names []string, c int) string {
	if c < len(names) && names[c] != strconv.Itoa(c) {
		return fmt.Sprintf("%d %s", c, names[c])
	}
	return strconv.Itoa(c)
}

var percents = []float64{0, 20, 40, 60, 80, 100}

// byEps returns the figure of accuracy against ε, or "" if there is none.
func (r *results) byEps() (template.HTML, error) {
	f := plots.Figure{X: "ε (255ths)", Y: "accuracy (%)", YTicks: percents}
	alt := "Accuracy against ε."
	if r.Norm != "L∞" {
		f.X = "ε (" + r.Norm + ")"
	}
	for i, n := range r.Networks {
		if len(n.Curve) == 0 {
			continue
		}
		l := plots.Line{Name: n.Name, Color: i}
		var texts []string
		for _, c := range n.Curve {
			x := float64(c.Eps)
			if r.Norm == "L∞" {
				x *= 255
			}
			x = math.Round(100*x) / 100
			l.X, l.Y = append(l.X, x), append(l.Y, 100*c.Accuracy)
			texts = append(texts, fmt.Sprintf("%s %% at %v", percent(c.Accuracy), x))
			if len(f.Lines) == 0 {
				f.XTicks = append(f.XTicks, x)
			}
		}
		f.Lines = append(f.Lines, l)
		alt += fmt.Sprintf(" %s: %s.", n.Name, strings.Join(texts, ", "))
	}
	if len(f.Lines) == 0 {
		return "", nil
	}
	f.XTicks = apart(f.XTicks)
	return inline(f, alt)
}

// apart returns the values that are far enough apart for their labels, from the last one down.
func apart(values []float64) (list []float64) {
	last := values[len(values)-1]
	next := math.Inf(1)
	for i := len(values) - 1; i >= 0; i-- {
		if next-values[i] >= last/12 && (values[i] >= last/12 || values[i] == 0) {
			list = append([]float64{values[i]}, list...)
			next = values[i]
		}
	}
	return list
}

// byPass returns the figure of accuracy against passes.
func (r *results) byPass() (template.HTML, error) {
	f := plots.Figure{X: "passes around an image", Y: "accuracy (%)", YTicks: percents, LogX: true}
	alt := "Accuracy against the number of passes."
	most := 1
	for _, n := range r.Networks {
		for _, i := range n.Report.Results {
			most = max(most, i.Passes)
		}
	}
	for x := 1.0; x <= float64(most); x *= 10 {
		f.XTicks = append(f.XTicks, x)
	}
	for i, n := range r.Networks {
		l := plots.Line{Name: n.Name, Color: i, Unmarked: true}
		const points = 120
		for k := range points + 1 {
			x := math.Pow(float64(most), float64(k)/points)
			l.X, l.Y = append(l.X, x), append(l.Y, 100*n.Report.AccuracyAt(int(x+1e-9)))
		}
		f.Lines = append(f.Lines, l)
		alt += fmt.Sprintf(" %s: from %s %% to %s %% after %d passes.", n.Name, percent(n.Report.AccuracyAt(1)), percent(n.Report.AccuracyAt(most)), most)
	}
	if len(f.Lines) == 0 {
		return "", nil
	}
	return inline(f, alt)
}

func inline(f plots.Figure, alt string) (template.HTML, error) {
	b, err := f.Inline(alt)
	return template.HTML(b), err
}
