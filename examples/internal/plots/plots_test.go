package plots

import (
	"image/png"
	"math"
	"os"
	"path/filepath"
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

// A logarithmic axis of one value has room on both sides of it.
func TestLogAxisOfOneValue(t *testing.T) {
	f := Figure{XTicks: []float64{0.01}, LogX: true, Lines: []Line{{Name: "one", X: []float64{0.01}, Y: []float64{50}}}}
	require.NoError(t, f.Save(t.TempDir(), "one"))
}
