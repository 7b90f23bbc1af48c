package main

import (
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// With -certify, the report has the certified accuracy by ε, and the largest certified ε of each
// image. A certified image stands under the attacks.
func TestCertify(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "net.safetensors")
	trained(t, path, 1)
	out := filepath.Join(folder, "out")
	stdout, stderr, code := clitest.Run(t, append(small(out, path), "-certify", "1/256,1/32,1", "-curve", "1/32,1")...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stderr, "net: certificates (", "proofs can take long")
	n := read(t, out).Networks[0]
	assert.Contains(t, stdout, "net: certified "+percent(n.Certified[0].Accuracy)+" % at ε × 1/256\n")

	require.Len(t, n.Certified, 3)
	require.Len(t, n.CertifiedEps, 12)
	require.Positive(t, n.Certified[0].Accuracy, "the test needs certified images")
	for i, c := range n.Certified {
		proven := 0
		for _, e := range n.CertifiedEps {
			if e >= c.Eps {
				proven++
			}
		}
		assert.Equal(t, 12, c.Images)
		assert.Equal(t, float64(proven)/12, c.Accuracy)
		if i > 0 {
			assert.LessOrEqual(t, c.Accuracy, n.Certified[i-1].Accuracy)
		}
	}
	assert.Equal(t, float32(16./255), n.Certified[2].Eps)
	assert.LessOrEqual(t, n.Certified[2].Accuracy, n.WorstCase)
	for _, c := range n.Report.Checks {
		if c.Point == 11 {
			assert.Equal(t, attack.OK, c.Status, c.Text)
		}
	}
	for _, r := range n.Report.Results {
		if n.CertifiedEps[r.Index] >= 0 {
			assert.NotEqual(t, attack.Misclassified, r.BrokenBy)
		}
	}

	f, err := os.Open(filepath.Join(out, "images.csv"))
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	last := len(rows[0]) - 1
	assert.Equal(t, "certified_eps", rows[0][last])
	for i, row := range rows[1:] {
		e, err := strconv.ParseFloat(row[last], 32)
		require.NoError(t, err)
		assert.Equal(t, n.CertifiedEps[i], float32(e))
	}
	page, err := os.ReadFile(filepath.Join(out, "report.html"))
	require.NoError(t, err)
	assert.Contains(t, string(page), "Certified accuracy "+percent(n.Certified[0].Accuracy)+" % at ε × 1/256")
}

// An attack that breaks a certified image is an error that names the image.
func TestContradiction(t *testing.T) {
	s := &subject{identity: identity{File: "net.safetensors"}}
	p := &progress{Certified: []float32{0.25, uncertified, 0.5, 0.125}}
	report := func(index, by int) *attack.BatteryReport {
		return &attack.BatteryReport{
			Attacks: []attack.BatteryAttack{{Name: "first"}, {Name: "second"}},
			Results: []attack.ImageResult{{Index: 3, BrokenBy: attack.Survived}, {Index: index, BrokenBy: by}},
		}
	}
	var j job
	for _, c := range []struct {
		index, by int
		eps       float32
		want      string
	}{
		{0, 1, 0.25, "-net net.safetensors: image 0 is certified at ε = 0.25, but the attack second breaks it at ε = 0.25: the certificate or the attack is wrong"},
		{2, 0, 0.3, "-net net.safetensors: image 2 is certified at ε = 0.5, but the attack first breaks it at ε = 0.3: the certificate or the attack is wrong"},
		{0, attack.Misclassified, 0.9, "-net net.safetensors: image 0 is certified at ε = 0.25, but the network misclassifies it: the certificate is wrong"},
		{0, 1, 0.26, ""},
		{1, 1, 0.01, ""},
		{1, attack.Misclassified, 0.01, ""},
		{2, attack.Survived, 0.1, ""},
		{4, 1, 0.01, ""}, // not certified yet
	} {
		err := j.contradiction(s, p, report(c.index, c.by), c.eps)
		if c.want == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, c.want)
		}
	}
}

// noise is a data set of random images, with the classes that a network gives them.
type noise struct {
	tensor.NCHW
	labels []int
}

func (d noise) Shape() tensor.Shape { return d.NCHW.Shape() }
func (d noise) Label(i int) int     { return d.labels[i] }

func (d noise) Fill(x tensor.NCHW, indices []int) error {
	for k, i := range indices {
		copy(x.Image(k), d.Image(i))
	}
	return nil
}

// The battery breaks no image at a radius at which it is certified. The networks are of the kinds of
// the examples. The radius of each image is almost the largest that the bounds can prove.
func TestBatteryBreaksNoCertifiedImage(t *testing.T) {
	kinds := map[string]func(c *zoo.Config){
		"VGG":            func(c *zoo.Config) { c.Arch = "conv6 A conv8 A conv8 | fc" },
		"max pooling":    func(c *zoo.Config) { c.Arch = "conv6 M conv8 M | fc12 fc" },
		"no batch norm":  func(c *zoo.Config) { c.Arch, c.BatchNorm, c.Threshold = "conv6 A conv8 A | fc12 fc", false, 0.1 },
		"WRN":            func(c *zoo.Config) { c.Arch = "WRN widths 4,4,6,8, 1 blocks a group, strides 1,2,2" },
		"leak":           func(c *zoo.Config) { c.Arch, c.Decay = "conv6 A conv8 A | fc", 0.9 },
		"soft reset":     func(c *zoo.Config) { c.Arch, c.SoftReset, c.Decay = "conv6 A conv8 A | fc", true, 0.5 },
		"parametric LIF": func(c *zoo.Config) { c.Arch, c.Neuron, c.Decay, c.Threshold = "conv6 A conv8 A | fc", "plif", 0.5, 0.1 },
		"normalized":     func(c *zoo.Config) { c.Arch, c.Mean, c.Std = "A conv6 A | fc", []float32{0.3}, []float32{0.35} },
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			images := 3
			if testing.Short() {
				images = 1
			}
			cfg := zoo.Default("")
			cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps, cfg.Threshold = 1, 8, 8, 4, 3, 0.4 // all layers fire
			kind(&cfg)
			m, err := zoo.New(cfg, rng.New(5))
			require.NoError(t, err)
			d := noise{NCHW: tensor.NewNCHW(images, 1, 8, 8)}
			r := rng.New(3).Rand()
			for i := range d.Data {
				d.Data[i] = r.Float32()
			}
			logits, err := m.Logits(snn.Pass{}, d.NCHW)
			require.NoError(t, err)
			for i := range images {
				d.labels = append(d.labels, largest(logits[4*i:][:4]))
			}
			certified := 0
			for i := range images {
				x := d.NCHW.Slice(i, i+1)
				eps, ok := certifiedRadius(t, m, x, d.labels[i])
				if !ok {
					continue
				}
				certified++
				t.Logf("image %d: ε = %v", i, eps)
				one := noise{x, d.labels[i : i+1]}
				battery := attack.Quick(attack.Threat{Norm: attack.LInf{}, Eps: eps})
				cfg := attack.DefaultBatteryConfig()
				cfg.Unchecked = true
				report, err := battery.Evaluate(t.Context(), m, one, cfg)
				require.NoError(t, err)
				require.Positive(t, report.Results[0].CleanMargin)
				require.Equal(t, attack.Survived, report.Results[0].BrokenBy, "image %d, ε = %v", i, eps)
			}
			require.Positive(t, certified)
		})
	}
}

// certifiedRadius returns a radius at which x is certified, at most a part in 16 below one at which
// it is not.
func certifiedRadius(t *testing.T, m *snn.Model, x tensor.NCHW, label int) (eps float32, ok bool) {
	certified := func(eps float32) bool {
		r, err := certify.Certify(context.Background(), m, x, []int{label}, certify.Config{Epsilon: float64(eps)})
		require.NoError(t, err)
		return r[0].Verdict == certify.Certified
	}
	lo, hi := float32(0), float32(0.25)
	for range 20 {
		if mid := (lo + hi) / 2; certified(mid) {
			lo = mid
		} else {
			hi = mid
		}
		if hi-lo < hi/16 {
			break
		}
	}
	return lo, lo > 0
}
