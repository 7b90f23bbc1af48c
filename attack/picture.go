package attack

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/tensor"
)

// Sizes in a picture, in pixels.
const (
	textSize   = 13
	lineHeight = 17
	margin     = 12
	gap        = 8
	smallest   = 96   // height or width of a panel; smaller images are enlarged
	pageHeight = 4000 // of the rows of a file, unless one row is higher
)

// paper is the color behind the panels, which may be white or black.
var paper = color.Gray{230}

// WritePNG draws the report's Kept into files NUMBER-ATTACK-PAGE.png of a folder, with at
// most ten images each, and creates the folder if it does not exist. It replaces files of these
// names and leaves others, such as further pages of an earlier report. A row has the original,
// the adversarial image, and their difference enlarged by a whole number around grey. The
// text beside it has the index, the label, the predictions, the target and the distances. A
// wrong prediction is red.
//
// Images of one channel are grey and those of three are red, green and blue. Of two channels
// the first is red and the second is blue. Of more channels WritePNG draws the mean. An
// example of several frames has a row for the first, the middle and the last frame.
//
// It is an error if nothing was kept. After an error every file is as before or complete.
func (r *Report) WritePNG(folder string) error {
	if r.Kept == nil || len(r.Kept.Indices) == 0 {
		return fmt.Errorf("attack: %s: %w", folder, errNothingKept)
	}
	if err := r.writePNG(folder); err != nil {
		return fmt.Errorf("attack: write pictures: %w", err)
	}
	return nil
}

func (r *Report) writePNG(folder string) error {
	face, err := newFace()
	if err != nil {
		return err
	}
	defer face.Close()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for i, o := range r.Attacks {
		var rows []row
		for k := range r.Kept.Indices {
			rows = append(rows, r.row(i, k))
		}
		perPage := min(max(pageHeight/rows[0].height(), 1), 10)
		pages := slices.Collect(slices.Chunk(rows, perPage))
		for p, page := range pages {
			name := fmt.Sprintf("%d-%s-%0*d.png", i+1, fileName(o.Name), len(fmt.Sprint(len(pages))), p+1)
			sheet := drawPage(face, o.title(), page)
			err := atomicfile.Write(filepath.Join(folder, name), func(w io.Writer) error { return png.Encode(w, sheet) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// title returns the line above an attack's images.
func (o Outcome) title() string {
	if o.Norm == "none" {
		return o.Name
	}
	return fmt.Sprintf("%s, within %s %s", o.Name, o.Norm, radius(o.Eps))
}

// row is what a picture shows of one image.
type row struct {
	clean, adversarial tensor.NCHW // one example
	enlarge            float64     // factor of the difference
	caption            []line
}

// line is a line of text.
type line struct {
	text  string
	wrong bool // whether it tells a class other than the label
}

// row returns the row of kept image k under attack i.
func (r *Report) row(i, k int) row {
	o, index, at := r.Attacks[i], r.Kept.Indices[k], r.Kept.position(k)
	x, adv := r.Kept.Clean.Slice(k, k+1), r.Kept.Adversarial[i].Slice(k, k+1)
	largest := LInf{}.Distance(adv.Data, x.Data)
	enlarge := 1.0
	if largest > 0 {
		enlarge = max(1, math.Floor(0.5/largest))
	}
	class := func(c int) string {
		if c < len(r.ClassNames) {
			return fmt.Sprintf("%d %s", c, r.ClassNames[c])
		}
		return fmt.Sprint(c)
	}
	y, unperturbed, attacked := r.Labels[at], r.Clean.Predicted[at], o.Predicted[at]
	caption := []line{
		{fmt.Sprintf("image %d, label %s", index, class(y)), false},
		{"clean: " + class(unperturbed), unperturbed != y},
		{"attacked: " + class(attacked), attacked != y},
		{fmt.Sprintf("L∞ distance %.4g, L2 %.4g", largest, L2{}.Distance(adv.Data, x.Data)), false},
		{fmt.Sprintf("difference ×%v", enlarge), false},
	}
	if o.Target != nil && o.Target[at] >= 0 {
		caption[2].text += ", target " + class(o.Target[at])
	}
	if shown := shownFrames(x); len(shown) > 1 {
		names := make([]string, len(shown))
		for i, f := range shown {
			names[i] = fmt.Sprint(f)
		}
		caption = append(caption, line{fmt.Sprintf("frames %s of %d", strings.Join(names, ", "), x.Shape().Steps), false})
	}
	return row{x, adv, enlarge, caption}
}

// shownFrames returns the frames of an example that a picture shows, from 0.
func shownFrames(x tensor.NCHW) []int {
	n := x.Shape().Steps
	return slices.Compact([]int{0, n / 2, n - 1})
}

// scale returns the number of pixels for a pixel of an image, in each direction.
func scale(x tensor.NCHW) int {
	side := max(x.H, x.W)
	return max(1, (smallest+side-1)/side)
}

func (r row) height() int {
	return max(len(shownFrames(r.clean))*(r.clean.H*scale(r.clean)+gap), len(r.caption)*lineHeight+gap)
}

// drawPage draws rows of images of one shape below a title.
func drawPage(face font.Face, title string, rows []row) image.Image {
	headings := [3]string{"original", "adversarial", "difference"}
	panel := rows[0].clean.W * scale(rows[0].clean)
	measure := func(text string) int { return font.MeasureString(face, text).Ceil() }
	column := panel
	for _, h := range headings {
		column = max(column, measure(h))
	}
	column += gap
	width, height := measure(title), margin+2*lineHeight+gap
	for _, r := range rows {
		height += r.height()
		for _, l := range r.caption {
			width = max(width, 3*column+measure(l.text))
		}
	}
	sheet := image.NewRGBA(image.Rect(0, 0, 2*margin+width, height+margin))
	draw.Draw(sheet, sheet.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	write := func(x, y int, c color.Color, text string) {
		d := font.Drawer{Dst: sheet, Src: image.NewUniform(c), Face: face, Dot: fixed.P(x, y+textSize)}
		d.DrawString(text)
	}
	write(margin, margin, color.Black, title)
	for i, h := range headings {
		write(margin+i*column, margin+lineHeight, color.Black, h)
	}
	y := margin + 2*lineHeight + gap
	for _, r := range rows {
		for i := range headings {
			r.drawPanels(sheet, margin+i*column, y, scale(r.clean), gap, i)
		}
		for i, l := range r.caption {
			c := color.RGBA{A: 255}
			if l.wrong {
				c.R = 200
			}
			write(margin+3*column, y+i*lineHeight, c, l.text)
		}
		y += r.height()
	}
	return sheet
}

// Picture is what a report shows of a kept image. A pixel of an image is a pixel here.
type Picture struct {
	// The frames that are shown are one below the other.
	Original, Adversarial, Difference image.Image
	Enlarged                          float64 // factor of Difference, which is around grey
}

// Picture returns the pictures of kept image k under attack i, in the colors and frames of
// [Report.WritePNG].
func (r *Report) Picture(i, k int) Picture {
	row := r.row(i, k)
	n := row.clean
	var panels [3]*image.RGBA
	for j := range panels {
		panels[j] = image.NewRGBA(image.Rect(0, 0, n.W, n.H*len(shownFrames(n))))
		row.drawPanels(panels[j], 0, 0, 1, 0, j)
	}
	return Picture{panels[0], panels[1], panels[2], row.enlarge}
}

// drawPanels draws the shown frames of the original (0), the adversarial image (1) or their
// difference (2), with squares of s pixels for each pixel.
func (r row) drawPanels(sheet *image.RGBA, left, top, s, gap, panel int) {
	n := r.clean
	plane := n.H * n.W
	value := [3]func(x, adv float32) float64{
		func(x, _ float32) float64 { return float64(x) },
		func(_, adv float32) float64 { return float64(adv) },
		func(x, adv float32) float64 { return 0.5 + r.enlarge*(float64(adv)-float64(x)) },
	}[panel]
	blank := 0.0 // of a color that the image does not have
	if panel == 2 {
		blank = 0.5
	}
	for j, f := range shownFrames(n) {
		top := top + j*(n.H*s+gap)
		for p := range plane {
			rgb := [3]float64{blank, blank, blank}
			mean := 0.0
			for c := range n.C {
				at := (f*n.C+c)*plane + p
				v := value(n.Data[at], r.adversarial.Data[at])
				mean += v / float64(n.C)
				switch n.C {
				case 2:
					rgb[2*c] = v
				case 3:
					rgb[c] = v
				}
			}
			if n.C != 2 && n.C != 3 {
				rgb = [3]float64{mean, mean, mean}
			}
			c := color.RGBA{level(rgb[0]), level(rgb[1]), level(rgb[2]), 255}
			for i := range s * s {
				sheet.SetRGBA(left+p%n.W*s+i%s, top+p/n.W*s+i/s, c)
			}
		}
	}
}

// level returns a value in [0,1] in 8 bits.
func level(v float64) uint8 { return uint8(math.Round(255 * min(max(v, 0), 1))) }

// newFace returns the font of the text.
func newFace() (font.Face, error) {
	f, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return nil, err
	}
	return opentype.NewFace(f, &opentype.FaceOptions{Size: textSize, DPI: 72, Hinting: font.HintingFull})
}

// fileName returns an attack's name without what a file's name may not have on some system,
// and at most 40 letters of it.
func fileName(attack string) string {
	name := []rune(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-+=.,()", r) {
			return r
		}
		return '_'
	}, attack))
	return string(name[:min(len(name), 40)])
}
