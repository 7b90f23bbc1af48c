package plots

import (
	"encoding/xml"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSave(t *testing.T) {
	f := Figure{
		Title: "accuracy against ε", Note: "of 100 images", X: "ε (255ths)", Y: "accuracy (%)",
		XTicks: []float64{0, 8, 16, 24}, YTicks: []float64{0, 20, 40, 60, 80, 100},
		Lines: []Line{
			{Name: "RAT, white-box", X: []float64{0, 8, 24}, Y: []float64{85, 80, 60}},
			{Name: "vanilla, white-box", X: []float64{0, 8, 24}, Y: []float64{88, 60, 10}, Color: 1},
			{Name: "vanilla, black-box", X: []float64{0, 8, 24}, Y: []float64{88, 70, 30}, Color: 1, Dashed: true},
		},
	}
	folder := t.TempDir()
	require.NoError(t, f.Save(folder, "curves"))
	svg, err := os.ReadFile(filepath.Join(folder, "curves.svg"))
	require.NoError(t, err)
	texts := []string{f.Title, f.Note, f.X, f.Y, "0", "8", "16", "24", "20", "40", "60", "80", "100"}
	for _, l := range f.Lines {
		texts = append(texts, l.Name)
	}
	for _, text := range texts {
		assert.Contains(t, strings.ReplaceAll(string(svg), ">\n", ">"), ">"+text+"<")
	}
	file, err := os.Open(filepath.Join(folder, "curves.png"))
	require.NoError(t, err)
	defer file.Close()
	img, err := png.Decode(file)
	require.NoError(t, err)
	assert.Greater(t, img.Bounds().Dx(), 600)

	assert.ErrorContains(t, f.Save(filepath.Join(folder, "none"), "curves"), "figure curves: ")
	f.Lines[1].Y[2] = math.NaN()
	assert.ErrorContains(t, f.Save(folder, "nan"), "figure nan: vanilla, white-box: ")
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, files, 2, "nothing half-written")
}

// An inline figure is one element that refers to nothing outside, with its description.
func TestInline(t *testing.T) {
	f := Figure{Title: "title", X: "a <b> & c", XTicks: []float64{1, 10}, LogX: true, Lines: []Line{{Name: "one", X: []float64{1, 10}, Y: []float64{50, 20}}}}
	svg, err := f.Inline(`says "x < y"`)
	require.NoError(t, err)
	var root struct {
		XMLName xml.Name
		Attrs   []xml.Attr `xml:",any,attr"`
	}
	require.NoError(t, xml.Unmarshal(svg, &root))
	attrs := map[string]string{}
	for _, a := range root.Attrs {
		attrs[a.Name.Local] = a.Value
	}
	assert.Equal(t, "svg", root.XMLName.Local)
	assert.Equal(t, map[string]string{"viewBox": "0 0 340.16 226.77", "role": "img", "aria-label": `says "x < y"`}, attrs)
	assert.NotContains(t, string(svg), "://")
	assert.NotContains(t, string(svg), "title")
	assert.Contains(t, string(svg), ">a &lt;b&gt; &amp; c<")
	assert.Equal(t, "#0072b2", Color(0))
	f.Lines[0].Y[0] = math.NaN()
	_, err = f.Inline("bad")
	assert.ErrorContains(t, err, "figure bad: one: ")
}

// A logarithmic axis of one value has room on both sides of it.
func TestLogAxisOfOneValue(t *testing.T) {
	f := Figure{XTicks: []float64{0.01}, LogX: true, Lines: []Line{{Name: "one", X: []float64{0.01}, Y: []float64{50}}}}
	require.NoError(t, f.Save(t.TempDir(), "one"))
}

// Labels of an axis do not touch each other, however many ticks there are.
func TestThin(t *testing.T) {
	for _, c := range []struct {
		f    Figure
		want []string
	}{
		{Figure{XTicks: []float64{0, 2, 4, 6, 8, 12, 16, 24}}, []string{"0", "2", "4", "6", "8", "12", "16", "24"}},
		{Figure{XTicks: []float64{0, 0.5, 1, 2, 255}}, []string{"0", "255"}},
		{Figure{XTicks: []float64{1, 2, 4, 64, 65}, LogX: true}, []string{"1", "2", "4", "64"}},
		{Figure{XTicks: []float64{3}}, []string{"3"}},
	} {
		p, err := c.f.plot()
		require.NoError(t, err)
		var labels []string
		for _, m := range p.X.Tick.Marker.Ticks(0, 1) {
			if m.Label != "" {
				labels = append(labels, m.Label)
			}
		}
		assert.Equal(t, c.want, labels)
	}
	f := Figure{}
	for epoch := range 1000 {
		f.XTicks = append(f.XTicks, float64(epoch+1))
	}
	p, err := f.plot()
	require.NoError(t, err)
	labels := 0
	for _, m := range p.X.Tick.Marker.Ticks(0, 1) {
		labels += len(m.Label)
	}
	assert.Less(t, labels, 50)
	assert.Greater(t, labels, 15)
}

// Lines of the same color have different points.
func TestGlyphs(t *testing.T) {
	draw := func(index int) string {
		folder := t.TempDir()
		f := Figure{Lines: []Line{{Name: "one", X: []float64{1, 10}, Y: []float64{50, 20}, Color: index}}}
		require.NoError(t, f.Save(folder, "one"))
		svg, err := os.ReadFile(filepath.Join(folder, "one.svg"))
		require.NoError(t, err)
		return string(svg)
	}
	assert.Equal(t, Color(0), Color(len(palette)))
	assert.NotEqual(t, draw(0), draw(len(palette)))
}

// Long names and notes are within the picture, beside the axes.
func TestLongTexts(t *testing.T) {
	f := Figure{Note: strings.Repeat("note ", 60), Lines: []Line{{Name: strings.Repeat("name ", 25), X: []float64{1, 10}, Y: []float64{50, 20}}}}
	folder := t.TempDir()
	require.NoError(t, f.Save(folder, "long"))
	b, err := os.ReadFile(filepath.Join(folder, "long.svg"))
	require.NoError(t, err)
	sizes := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?s)<text x="([^"]*)".*?font-size:([\d.]*)px">(....)?`).FindAllStringSubmatch(string(b), -1) {
		x, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		assert.Positive(t, x)
		sizes[m[3]], err = strconv.ParseFloat(m[2], 64)
		require.NoError(t, err)
	}
	const width = 18 / 2.54 * 72
	assert.Less(t, sizes["note"]*0.45*float64(len(f.Note)), width) // of a character, in sizes
	assert.Less(t, sizes["name"]*0.45*float64(len(f.Lines[0].Name)), width/2)
}
