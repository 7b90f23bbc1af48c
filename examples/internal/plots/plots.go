// Package plots draws the examples' figures.
package plots

import (
	"fmt"
	"image/color"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Line is one curve of a figure. Lines of one Color belong together; a Dashed one is
// the second of its kind.
type Line struct {
	Name   string
	X, Y   []float64
	Color  int
	Dashed bool
}

// The palette of Okabe and Ito, which colour-blind readers can tell apart.
var palette = []color.RGBA{
	{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255},
}

var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}}

// Figure is a chart of lines with points.
type Figure struct {
	Title, X, Y string
	YMin, YMax  float64 // the range of the vertical axis, if YMax > YMin
	Lines       []Line
}

// Save writes the figure to folder/name.svg and folder/name.png.
func (f Figure) Save(folder, name string) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = f.Title, f.X, f.Y
	p.Title.Padding = vg.Points(8)
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs = true, vg.Points(-6), vg.Points(-4)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	for _, l := range f.Lines {
		xy := make(plotter.XYs, len(l.X))
		for i := range xy {
			xy[i].X, xy[i].Y = l.X[i], l.Y[i]
		}
		line, points, err := plotter.NewLinePoints(xy)
		if err != nil {
			return fmt.Errorf("figure %s: %s: %w", name, l.Name, err)
		}
		c := palette[l.Color%len(palette)]
		line.Color, points.Color = c, c
		line.Width, points.Radius = vg.Points(1.6), vg.Points(3)
		points.Shape = glyphs[l.Color%len(glyphs)]
		if l.Dashed {
			line.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
		}
		p.Add(line, points)
		p.Legend.Add(l.Name, line, points)
	}
	if f.YMax > f.YMin {
		p.Y.Min, p.Y.Max = f.YMin, f.YMax
	}
	for _, ext := range []string{".svg", ".png"} {
		if err := p.Save(16*vg.Centimeter, 11*vg.Centimeter, filepath.Join(folder, name+ext)); err != nil {
			return fmt.Errorf("figure %s: %w", name, err)
		}
	}
	return nil
}
