package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/internal/regular"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// check is the comparison with one expected tensor.
type check struct {
	Name   string  `json:"name"`
	Err    float64 `json:"relative_error"`          // largest error, divided by the tensor's largest magnitude
	Spikes *int    `json:"spikes_differ,omitempty"` // for rates: a lower bound of the number
	Images *int    `json:"images_differ,omitempty"` // for other tensors: by more than 1e-4 of the image's largest magnitude
}

// loadPeer reads the network and the images.
func loadPeer(m *snn.Model, dir string) (x tensor.NCHW, y []int, err error) {
	if err := m.Load(filepath.Join(dir, "state.safetensors")); err != nil {
		return x, nil, err
	}
	path := filepath.Join(dir, "batch.safetensors")
	f, err := golden.Read(path)
	if err != nil {
		return x, nil, err
	}
	t, err := f.Floats("x", 4)
	if err != nil {
		return x, nil, fmt.Errorf("%s: %w", path, err)
	}
	x = tensor.NCHW{N: t.Shape[0], C: t.Shape[1], H: t.Shape[2], W: t.Shape[3], Data: t.Floats}
	if err := m.ValidateImages(x); err != nil {
		return x, nil, fmt.Errorf("%s: x: %w", path, err)
	}
	if y = f.Tensors["y"].Ints; len(y) != x.N {
		return x, nil, fmt.Errorf("%s: %d labels y for %d images", path, len(y), x.N)
	}
	for i, label := range y {
		if label < 0 || label >= m.Classes() {
			return x, nil, fmt.Errorf("%s: label %d of image %d: expected 0 to %d", path, label, i, m.Classes()-1)
		}
	}
	return x, y, nil
}

// compare checks logits, firing rates and input gradients against expected ones.
func compare(m *snn.Model, x tensor.NCHW, y []int, path string) (cs []check, err error) {
	f, err := golden.Read(path)
	if err != nil {
		return nil, err
	}
	var counts, sizes []float64
	logits, err := m.Logits(snn.Pass{OnSpikes: func(_ string, s *tensor.Spikes) {
		counts = append(counts, float64(s.Count()))
		sizes = append(sizes, float64(s.Frames()*s.Neurons()))
	}}, x)
	if err != nil {
		return nil, err
	}
	want := f.Tensors["rates"].Floats
	if len(want) != len(counts) {
		return nil, fmt.Errorf("%s: %d rates for %d layers of neurons", path, len(want), len(counts))
	}
	add := func(name string, got []float32) error {
		c, err := difference(name, got, f.Tensors[name].Floats, x.N)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		cs = append(cs, c)
		return nil
	}
	if err := add("logits", logits); err != nil {
		return nil, err
	}
	spikes, err := rateDifference(counts, sizes, want)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	cs = append(cs, spikes)
	for _, g := range gradients {
		dx, err := m.InputGradient(snn.Pass{Gradient: g.Gradient}, x, loss(y))
		if err != nil {
			return nil, err
		}
		if err := add("grad_x."+g.name, dx.Data); err != nil {
			return nil, err
		}
	}
	return cs, nil
}

// rateDifference compares the numbers of spikes of the layers with expected firing rates.
// sizes has neurons·steps of each layer. Differences of opposite sign cancel, so more spikes
// may differ than it counts.
func rateDifference(counts, sizes []float64, want []float32) (check, error) {
	n, worst, largest := 0, 0.0, 0.0
	for i, rate := range want {
		r := float64(rate)
		if !(r >= 0 && r <= 1) {
			return check{}, fmt.Errorf("rates: %v of layer %d: expected a number in [0, 1]", rate, i)
		}
		n += int(math.Abs(math.Round(r*sizes[i]) - counts[i]))
		worst, largest = max(worst, math.Abs(r-counts[i]/sizes[i])), max(largest, r)
	}
	return check{Name: "rates", Err: relative(worst, largest), Spikes: &n}, nil
}

// relative returns worst/scale. The result is finite, and 0 if both are 0.
func relative(worst, scale float64) float64 {
	return worst / max(scale, math.SmallestNonzeroFloat32)
}

// difference compares a tensor of n images. One spike or ReLU on the other side of its
// threshold changes all later values of its image, and none of the other images. So the
// result also has the number of images that differ.
func difference(name string, got, want []float32, n int) (check, error) {
	if len(got) != len(want) {
		return check{}, fmt.Errorf("%s: %d values: expected a float32 tensor of %d", name, len(want), len(got))
	}
	size := len(got) / n
	images, worst, scale := 0, 0.0, 0.0
	for i := range n {
		var imageWorst, imageScale float64
		for j := i * size; j < (i+1)*size; j++ {
			g, w := float64(got[j]), float64(want[j])
			if d := g - w; math.IsNaN(d) || math.IsInf(d, 0) {
				return check{}, fmt.Errorf("%s: value %d of image %d is %v, and %v here: expected finite numbers", name, j-i*size, i, w, g)
			}
			imageWorst, imageScale = max(imageWorst, math.Abs(g-w)), max(imageScale, math.Abs(w))
		}
		if imageWorst > 1e-4*imageScale {
			images++
		}
		worst, scale = max(worst, imageWorst), max(scale, imageScale)
	}
	return check{Name: name, Err: relative(worst, scale), Images: &images}, nil
}

// printChecks prints a table. what says which results were compared.
func printChecks(stdout io.Writer, what string, cs []check) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\trelative error\tspikes that differ\timages that differ\t\n", what)
	number := func(n *int) string {
		if n == nil {
			return ""
		}
		return fmt.Sprint(*n)
	}
	for _, c := range cs {
		fmt.Fprintf(w, "%s\t%.1e\t%s\t%s\t\n", c.Name, c.Err, number(c.Spikes), number(c.Images))
	}
	fmt.Fprintln(w)
	return w.Flush()
}

// readFigures reads a file of figures.
func readFigures(path string) (*report, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > figuresBudget {
		return nil, fmt.Errorf("%s has %d bytes: expected at most %d", path, size, figuresBudget)
	}
	r := new(report)
	b, err := io.ReadAll(io.LimitReader(f, figuresBudget))
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// figuresBudget is the largest size in bytes of a file of figures.
const figuresBudget = 1 << 20

// sameTask returns an error that says what r is of if it is of another task than want.
func (r *report) sameTask(want *report) error {
	if plain(r.Arch) != plain(want.Arch) || r.T != want.T || r.Batch != want.Batch || r.Threads != want.Threads {
		return fmt.Errorf("%q, T %d, batch %d, %d threads: expected %q, %d, %d, %d",
			r.Arch, r.T, r.Batch, r.Threads, want.Arch, want.T, want.Batch, want.Threads)
	}
	if r.Width != 0 && want.Width != 0 && r.Width != want.Width {
		return fmt.Errorf("width %v: expected %v", r.Width, want.Width)
	}
	return nil
}

// plain returns an architecture's name in lower case and without dashes, because the other
// side may spell it differently.
func plain(arch string) string { return strings.ReplaceAll(strings.ToLower(arch), "-", "") }
