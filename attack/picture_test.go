package attack_test

import (
	"fmt"
	"image"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/tensor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// one returns the report of an evaluation of images under one attack, which fools the network
// on the odd ones.
func one(x, adv tensor.NCHW) *attack.Report {
	r := &attack.Report{
		Images: x.N, Labels: make([]int, x.N), ClassNames: []string{"cat", "dog"},
		Clean:   attack.Outcome{Name: "clean", Predicted: make([]int, x.N)},
		Attacks: []attack.Outcome{{Name: "PGD", Norm: "L∞", Eps: 0.125, Predicted: make([]int, x.N)}},
		Kept:    &attack.Kept{Clean: x, Adversarial: []tensor.NCHW{adv}},
	}
	for i := range x.N {
		r.Kept.Indices = append(r.Kept.Indices, i)
		r.Attacks[0].Predicted[i] = i % 2
	}
	return r
}

// draw returns the only picture of a report.
func draw(t *testing.T, r *attack.Report) image.Image {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new", "folder")
	require.NoError(t, r.WritePNG(dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	return decode(t, filepath.Join(dir, entries[0].Name()))
}

// The color of one pixel with different numbers of channels: original, adversarial and
// difference. 0.25 + 0.125 is the adversarial value of channel 0, 0.75 − 0.0625 that of
// channel 1. The largest whole factor that keeps 0.125 within half the range is 4.
func TestPictureColors(t *testing.T) {
	gray := func(v uint8) [3]uint8 { return [3]uint8{v, v, v} }
	clean, change := []float32{0.25, 0.75, 1, 0}, []float32{0.125, -0.0625, 0, 0}
	for channels, want := range map[int][3][3]uint8{
		1: {gray(64), gray(96), gray(255)},
		2: {{64, 0, 191}, {96, 0, 175}, {255, 128, 64}},
		3: {{64, 191, 255}, {96, 175, 255}, {255, 64, 128}},
		4: {gray(128), gray(131), gray(143)}, // the means 0.5, 0.515625 and 0.5 + 4·0.015625
	} {
		x := tensor.NewNCHW(1, channels, 1, 1)
		adv := x.Clone()
		for c := range channels {
			x.Data[c], adv.Data[c] = clean[c], clean[c]+change[c]
		}
		p := draw(t, one(x, adv))
		for i, color := range want { // panels of 96×96, 8 apart
			for _, corner := range []image.Point{{0, 0}, {95, 95}} {
				assert.Equal(t, color, rgb(p, 12+104*i+corner.X, 54+corner.Y), "%d channels, panel %d", channels, i)
			}
			assert.Equal(t, gray(230), rgb(p, 12+104*i+96, 54), "paper")
		}
	}
}

// Every pixel of a row is where it belongs, and each image in its row.
func TestPicturePixels(t *testing.T) {
	racetest.Costly(t)
	const n, h, w, scale = 3, 3, 4, 24
	x := tensor.NewNCHW(n, 1, h, w)
	adv := x.Clone()
	for i := range x.Data {
		x.Data[i] = float32(7*i%97) / 128
		adv.Data[i] = x.Data[i] + float32(i%3)/16
	}
	r := one(x, adv)
	p := draw(t, r)
	for i := range n {
		small := r.Picture(0, i)
		assert.Equal(t, 4.0, small.Enlarged)
		top := 54 + i*(5*17+8) // five lines of text are higher than 3·24 + 8
		for k := range h * w {
			v, a := float64(x.Image(i)[k]), float64(adv.Image(i)[k])
			for j, value := range []float64{v, a, 0.5 + 4*(a-v)} {
				got := rgb(p, 12+104*j+k%w*scale+scale/2, top+k/w*scale+scale/2)
				assert.InDelta(t, 255*value, float64(got[0]), 0.5+1e-9, "image %d, pixel %d, panel %d", i, k, j)
				panel := []image.Image{small.Original, small.Adversarial, small.Difference}[j]
				assert.Equal(t, got, rgb(panel, k%w, k/w))
			}
		}
		// The line of the attack is red where the network is fooled, that of clean never.
		line := func(l int) bool { return red(p, 324, top+l*17, p.Bounds().Dx(), top+(l+1)*17) }
		assert.Equal(t, []bool{false, false, i == 1, false}, []bool{line(0), line(1), line(2), line(3)}, i)
	}
	r.Clean.Predicted[0] = 1
	assert.True(t, red(draw(t, r), 324, 54+17, 500, 54+2*17))

	// Another class, target, distance or index is another text.
	before := draw(t, r)
	for name, change := range map[string]func(){
		"class name": func() { r.ClassNames[0] = "owl" },
		"target":     func() { r.Attacks[0].Target = []int{1, -1, -1} },
		"index":      func() { r.Kept.Indices, r.Labels = []int{2, 1, 0}, []int{0, 0, 0} },
		"attack":     func() { r.Attacks[0].Name = "BIM" },
	} {
		change()
		after := draw(t, r)
		assert.NotEqual(t, before, after, name)
		before = after
	}
}

// An image that did not change has a grey difference.
func TestPictureWithoutChange(t *testing.T) {
	x := tensor.NewNCHW(1, 1, 96, 96)
	p := draw(t, one(x, x))
	assert.Equal(t, [3]uint8{128, 128, 128}, rgb(p, 12+2*104, 54))
}

// Of an example of several frames the first, the middle and the last are shown.
func TestPictureFrames(t *testing.T) {
	racetest.Costly(t)
	for steps, want := range map[int][]int{1: {0}, 2: {0, 1}, 3: {0, 1, 2}, 10: {0, 5, 9}} {
		x := tensor.NewFrames(tensor.Shape{N: 2, Steps: steps, C: 2, H: 100, W: 100})
		for i := range x.Data {
			x.Data[i] = float32(i/20000) / 20 // the frame, from 0
		}
		adv := x.Clone()
		for i := range adv.Data {
			adv.Data[i] += 0.05
		}
		p := draw(t, one(x, adv))
		rowHeight := max(len(want)*108, 5*17+8)
		for i := range 2 {
			for j, f := range want {
				for panel, shift := range []float64{0, 0.05} {
					v := float64(steps*i+f)/20 + shift
					got := rgb(p, 12+108*panel+50, 54+i*rowHeight+j*108+50)
					assert.InDelta(t, 255*v, float64(got[0]), 0.51)
					assert.Equal(t, [3]uint8{got[0], 0, got[0]}, got)
				}
			}
		}
		assert.Equal(t, 54+2*rowHeight+12, p.Bounds().Dy())
	}
	p := draw(t, moving(t))
	assert.Equal(t, 54+3*160+12, p.Bounds().Dy())
}

// Ten images go on a page, fewer if they are large. Names of attacks become names of files.
func TestPicturePages(t *testing.T) {
	racetest.Costly(t)
	for _, c := range []struct {
		n, side int
		name    string
		want    []string
	}{
		{23, 8, "PGD", []string{"1-PGD-1.png", "1-PGD-2.png", "1-PGD-3.png"}},
		{4, 1000, "PGD", []string{"1-PGD-1.png", "1-PGD-2.png"}},
		{1, 8, `../PGD ε=8/255: "a"\*`, []string{"1-.._PGD_ε=8_255___a___-1.png"}},
		{1, 8, "éééééééééééééééééééééééééééééééééééééééééééééééé", []string{"1-éééééééééééééééééééééééééééééééééééééééé-1.png"}},
	} {
		x := tensor.NewNCHW(c.n, 1, c.side, c.side)
		r := one(x, x)
		r.Attacks[0].Name = c.name
		dir := t.TempDir()
		require.NoError(t, r.WritePNG(dir))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		assert.Equal(t, c.want, names)
	}

	// Each attack has files of its own, though the names differ in one sign alone.
	r := evaluated(t, every)
	r.Attacks[1].Name, r.Attacks[2].Name = "a/b", "a:b"
	dir := t.TempDir()
	require.NoError(t, r.WritePNG(dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, len(r.Attacks))
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	assert.True(t, slices.Contains(names, "2-a_b-1.png") && slices.Contains(names, "3-a_b-1.png"), fmt.Sprint(names))
}
