package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// check compares one expected tensor.
type check struct {
	Name   string  `json:"name"`
	Err    float64 `json:"relative_error"` // of the tensor's largest magnitude
	Spikes int     `json:"spikes_differ"`  // at least so many
	Images int     `json:"images_differ"`  // by more than 1e-4 of the image's largest magnitude
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
	if err := m.CheckImages(x); err != nil {
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
	logits, err := m.Evaluate(snn.Pass{Observe: func(_ string, s *tensor.Spikes) {
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
	spikes := check{Name: "rates"}
	for i, r := range want {
		spikes.Spikes += int(math.Abs(math.Round(float64(r)*sizes[i]) - counts[i]))
		spikes.Err = max(spikes.Err, math.Abs(float64(r)-counts[i]/sizes[i]))
	}
	cs = append(cs, difference("logits", logits, f.Tensors["logits"].Floats, x.N), spikes)
	for _, g := range gradients {
		dx, err := m.Run(snn.Pass{Gradient: g.Gradient}, x, loss(y))
		if err != nil {
			return nil, err
		}
		cs = append(cs, difference("grad_x."+g.name, dx.Data, f.Tensors["grad_x."+g.name].Floats, x.N))
	}
	for _, c := range cs {
		if math.IsInf(c.Err, 1) {
			return nil, fmt.Errorf("%s: no tensor %s of the network's size", path, c.Name)
		}
	}
	return cs, nil
}

// difference compares a tensor of n images. A spike that falls on the other side of its
// threshold, or a ReLU that does, changes all that follows in its image, and nothing
// in the others: so images are counted, too.
func difference(name string, got, want []float32, n int) check {
	c := check{Name: name, Err: math.Inf(1)}
	if len(got) != len(want) || len(got) == 0 {
		return c
	}
	size := len(got) / n
	var worst, scale float64
	for i := range n {
		var imageWorst, imageScale float64
		for j := i * size; j < (i+1)*size; j++ {
			imageWorst = max(imageWorst, math.Abs(float64(got[j]-want[j])))
			imageScale = max(imageScale, math.Abs(float64(want[j])))
		}
		if imageWorst > 1e-4*imageScale {
			c.Images++
		}
		worst, scale = max(worst, imageWorst), max(scale, imageScale)
	}
	c.Err = worst / scale
	return c
}

func printChecks(cs []check) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "against the other side\trelative error\tspikes that differ\timages that differ\t")
	for _, c := range cs {
		fmt.Fprintf(w, "%s\t%.1e\t%d\t%d\t\n", c.Name, c.Err, c.Spikes, c.Images)
	}
	w.Flush()
	fmt.Println()
}

// readFigures reads the figures that the other side printed, for the same task as r;
// nil if there is no path.
func readFigures(path string, r *report) (*report, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("-peer-json: %w", err)
	}
	peer := new(report)
	if err := json.Unmarshal(b, peer); err != nil {
		return nil, fmt.Errorf("-peer-json: %s: %w", path, err)
	}
	if plain(peer.Arch) != plain(r.Arch) || peer.T != r.T || peer.Batch != r.Batch || peer.Threads != r.Threads {
		return nil, fmt.Errorf("-peer-json: %s: figures of %q, T %d, batch %d, %d threads: expected %q, %d, %d, %d",
			path, peer.Arch, peer.T, peer.Batch, peer.Threads, r.Arch, r.T, r.Batch, r.Threads)
	}
	return peer, nil
}

// plain is an architecture's name without case and dashes: the other side may spell it
// differently.
func plain(arch string) string { return strings.ReplaceAll(strings.ToLower(arch), "-", "") }
