// Package plots draws the examples' figures.
package plots

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/org/snnrat/internal/atomicfile"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Line is one curve of a figure.
type Line struct {
	Name     string // in the legend
	X, Y     []float64
	Color    int // an index of the palette, which repeats
	Dashed   bool
	Unmarked bool // without points
	Unjoined bool // points without lines between them
}

// palette is that of Okabe and Ito, which colour-blind readers can tell apart.
var palette = []color.RGBA{
	{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255},
}

var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}}

// Figure is a chart of lines with points. Its legend is on the right.
type Figure struct {
	Title, X, Y string
	Note        string // a line in small print below the chart; "" for none
	// XTicks and YTicks are the places of the ticks and the lines of the grid. The axes reach
	// at least from the first to the last.
	XTicks, YTicks []float64
	XNames         []string // labels of XTicks, written at a slant; nil for the numbers
	LogX           bool     // a logarithmic axis, of positive values
	Lines          []Line
}

// Save writes the figure to folder/name.svg and folder/name.png.
func (f Figure) Save(folder, name string) error {
	for _, format := range []string{"svg", "png"} {
		c, err := draw.NewFormattedCanvas(18*vg.Centimeter, 10*vg.Centimeter, format)
		if err == nil {
			all := draw.New(c)
			all.SetColor(color.White)
			all.Fill(all.Rectangle.Path())
			err = f.draw(all)
		}
		if err == nil {
			err = atomicfile.Write(filepath.Join(folder, name+"."+format), func(w io.Writer) error {
				_, err := c.WriteTo(w)
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("figure %s: %w", name, err)
		}
	}
	return nil
}

// margin is what surrounds a figure.
var margin = vg.Points(8)

// draw draws the figure.
func (f Figure) draw(all draw.Canvas) error {
	p, err := f.plot()
	if err != nil {
		return err
	}
	legend := p.Legend
	if most, w := all.Size().X/2, legend.Rectangle(all).Size().X; w > most { // long names
		legend.TextStyle.Font.Size *= font.Length(most / w)
	}
	p.Legend, p.BackgroundColor = plot.NewLegend(), nil
	all = draw.Crop(all, margin, -margin, margin, -margin)
	if f.Note != "" {
		small := p.X.Label.TextStyle
		small.Font.Size, small.Color = vg.Points(8), color.Gray{90}
		small.XAlign, small.YAlign = text.XLeft, text.YBottom
		if most, w := all.Size().X, small.Width(f.Note); w > most {
			small.Font.Size *= font.Length(most / w)
		}
		all.FillText(small, all.Min, f.Note)
		all = draw.Crop(all, 0, 0, small.Height(f.Note)+margin, 0)
	}
	left := all.Size().X - legend.Rectangle(all).Size().X
	p.Draw(draw.Crop(all, 0, left-margin-all.Size().X, 0, 0))
	legend.Draw(draw.Crop(all, left, 0, 0, -vg.Points(24)))
	return nil
}

// svgTag is the tag that begins an SVG element, and what precedes it in a file.
var svgTag = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)

// Inline returns the figure as an element of an HTML page, without a title and a legend. It has
// no background, and the size of the element that holds it. alt describes it to readers who do
// not see it.
func (f Figure) Inline(alt string) ([]byte, error) {
	f.Title = ""
	p, err := f.plot()
	if err != nil {
		return nil, fmt.Errorf("figure %s: %w", alt, err)
	}
	p.Legend, p.BackgroundColor = plot.NewLegend(), nil
	const width, height = 12 * vg.Centimeter, 8 * vg.Centimeter
	c := vgsvg.New(width, height)
	p.Draw(draw.Crop(draw.New(c), 0, -margin, 0, -margin))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("figure %s: %w", alt, err)
	}
	tag := fmt.Sprintf(`<svg viewBox="0 0 %.5g %.5g" role="img" aria-label="%s">`, width.Points(), height.Points(), html.EscapeString(alt))
	return svgTag.ReplaceAllLiteral(b.Bytes(), []byte(tag)), nil
}

// Color returns the color of the lines with this index, such as #0072b2.
func Color(index int) string {
	c := palette[index%len(palette)]
	return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)
}

func (f Figure) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = f.Title, f.X, f.Y
	for _, s := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		s.Variant = "Sans"
	}
	p.Title.TextStyle.Font.Size, p.Title.Padding = 12, vg.Points(10)
	p.X.Label.Padding, p.Y.Label.Padding = vg.Points(4), vg.Points(4)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.ThumbnailWidth, p.Legend.Padding = vg.Points(32), vg.Points(6)
	p.Legend.TextStyle.Font.Size = 10
	if f.LogX {
		p.X.Scale = plot.LogScale{}
	}
	ticks(&p.X, f.XTicks)
	if f.XNames != nil {
		marks := make(plot.ConstantTicks, len(f.XTicks))
		for i, v := range f.XTicks {
			marks[i] = plot.Tick{Value: v, Label: f.XNames[i]}
		}
		p.X.Tick.Marker = marks
		p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = math.Pi/4, text.XRight, text.YCenter
	} else if len(f.XTicks) > 0 {
		thin(p.X.Tick.Marker.(plot.ConstantTicks), f.LogX)
	}
	ticks(&p.Y, f.YTicks)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{215}, color.Gray{215}
	grid.Vertical.Width, grid.Horizontal.Width = vg.Points(0.5), vg.Points(0.5)
	p.Add(grid)
	for _, l := range f.Lines {
		xy := make(plotter.XYs, len(l.X))
		for i := range xy {
			xy[i].X, xy[i].Y = l.X[i], l.Y[i]
		}
		line, points, err := plotter.NewLinePoints(xy)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		c := palette[l.Color%len(palette)]
		line.Color, points.Color = c, c
		line.Width, points.Radius = vg.Points(1.6), vg.Points(3)
		points.Shape = glyphs[(l.Color+l.Color/len(palette))%len(glyphs)] // another one when the colors repeat
		if l.Dashed {
			line.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
		}
		if l.Unmarked {
			p.Add(line)
			p.Legend.Add(l.Name, line)
			continue
		}
		if l.Unjoined {
			p.Add(points)
			p.Legend.Add(l.Name, points)
			continue
		}
		p.Add(line, points)
		p.Legend.Add(l.Name, line, points)
	}
	if f.LogX && p.X.Min == p.X.Max {
		// Package plot would extend the axis by 1 in both directions, beyond 0.
		p.X.Min, p.X.Max = p.X.Min/2, p.X.Max*2
	}
	return p, nil
}

func ticks(a *plot.Axis, at []float64) {
	if len(at) == 0 {
		return
	}
	marks := make(plot.ConstantTicks, len(at))
	for i, v := range at {
		marks[i] = plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', -1, 64)}
	}
	a.Tick.Marker = marks
	a.Min, a.Max = min(a.Min, at[0]), max(a.Max, at[len(at)-1])
}

// thin removes the labels of ticks, from left to right, that would touch the last one that stays.
func thin(marks plot.ConstantTicks, log bool) {
	at := func(v float64) float64 {
		if log {
			return math.Log(v)
		}
		return v
	}
	const axis, digit, gap = 250., 5.6, 4. // the shortest axis that is likely, and a digit, in points
	low := at(marks[0].Value)
	scale := axis / max(at(marks[len(marks)-1].Value)-low, math.SmallestNonzeroFloat64)
	end := math.Inf(-1) // of the last label
	for i := range marks {
		center, half := (at(marks[i].Value)-low)*scale, digit/2*float64(len(marks[i].Label))
		if center-half < end+gap {
			marks[i].Label = "" // a minor tick, without a line of the grid
			continue
		}
		end = center + half
	}
}
