package quant_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// images returns n images of a model, of 8 bits.
func images(m *snn.Model, n int, r *rand.Rand) tensor.NCHW {
	x := tensor.NewNCHW(n, m.Channels, m.Height, m.Width)
	for i := range x.Data {
		x.Data[i] = float32(r.IntN(256)) / 255
	}
	return x
}

// shake gives batch norm random parameters and statistics. Some of its factors are negative.
func shake(m *snn.Model, r *rand.Rand) {
	for _, row := range m.Summary().Rows {
		b, ok := row.Layer.(*snn.BatchNorm)
		if !ok {
			continue
		}
		set := func(p *autograd.Param, lo, hi float32) {
			p.Fill(func(int) (float32, error) { return lo + (hi-lo)*r.Float32(), nil })
		}
		set(b.Weight, -0.5, 2)
		set(b.Bias, -0.5, 1)
		set(b.RunningMean, -0.2, 0.2)
		set(b.RunningVar, 0.05, 0.5)
	}
}

// small returns a small random network of zoo.
func small(t testing.TB, arch string, seed uint64, change func(*zoo.Config)) *snn.Model {
	cfg := zoo.Default(arch)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Steps, cfg.Classes = 2, 9, 10, 3, 4
	cfg.Mean, cfg.Std = []float32{0.3, 0.6}, []float32{0.25, 0.4}
	if change != nil {
		change(&cfg)
	}
	m, err := zoo.New(cfg, rng.New(seed))
	require.NoError(t, err)
	shake(m, rand.New(rand.NewPCG(seed, 2)))
	return m
}

// networks are random networks with every part that can be converted.
func networks(t testing.TB) map[string]*snn.Model {
	return map[string]*snn.Model{
		"averages": small(t, "conv17 A conv20 A | fc19 fc", 1, nil),
		"maxima":   small(t, "conv8 M conv16 M | fc", 2, nil),
		"leaky":    small(t, "conv8 conv16 A | fc", 3, func(c *zoo.Config) { c.Decay = 0.7 }),
		"soft":     small(t, "conv8 conv16 A | fc", 4, func(c *zoo.Config) { c.Decay, c.SoftReset = 0.9, true }),
		"plain":    small(t, "conv8 conv9 | fc", 5, func(c *zoo.Config) { c.BatchNorm = false; c.Mean, c.Std = nil, nil }),
		"residual": small(t, "WRN widths 8,8,16,16, 2 blocks a group, strides 1,2,1", 6, func(c *zoo.Config) { c.Height, c.Width = 8, 8 }),
	}
}

func TestReader(t *testing.T) {
	dir := t.TempDir()
	reader := filepath.Join(dir, "reader.exe")
	out, err := exec.Command("go", "build", "-o", reader, "./reader").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Run("lines", func(t *testing.T) {
		text, err := os.ReadFile("reader/main.go")
		require.NoError(t, err)
		assert.LessOrEqual(t, bytes.Count(text, []byte("\n")), 100)
	})
	sameLogits(t, func(file string) *exec.Cmd { return exec.Command(reader, file) })
}

// The program of the page runs too.
func TestPython(t *testing.T) {
	if err := exec.Command("python3", "-c", "import numpy").Run(); err != nil {
		t.Skipf("python3 with NumPy: %v", err)
	}
	page, err := os.ReadFile("../../docs/quant.md")
	require.NoError(t, err)
	code := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, code)
	program := filepath.Join(t.TempDir(), "reader.py")
	require.NoError(t, os.WriteFile(program, code[1], 0o600))
	sameLogits(t, func(file string) *exec.Cmd { return exec.Command("python3", program, file) })
}

// sameLogits compares the logits of networks with those that a program prints for their files.
func sameLogits(t *testing.T, program func(file string) *exec.Cmd) {
	for name, m := range networks(t) {
		n, err := quant.Convert(m, quant.DefaultConfig())
		require.NoError(t, err, name)
		x := images(m, 3, rand.New(rand.NewPCG(7, 7)))
		logits, err := n.Logits(x)
		require.NoError(t, err)
		var want strings.Builder
		for i := range x.N {
			fmt.Fprintln(&want, logits[i*len(n.Bias):(i+1)*len(n.Bias)])
		}
		file := filepath.Join(t.TempDir(), name+".safetensors")
		require.NoError(t, n.Save(file))
		cmd := program(file)
		raw := make([]byte, len(x.Data))
		for i, v := range x.Data {
			raw[i] = quant.Pixel(v)
		}
		cmd.Stdin = bytes.NewReader(raw)
		got, err := cmd.Output()
		require.NoError(t, err, name)
		assert.Equal(t, want.String(), string(got), name)
	}
}

// The logits do not depend on the batch, on threads, or on being saved.
func TestLogitsRepeat(t *testing.T) {
	for name, m := range networks(t) {
		n, err := quant.Convert(m, quant.DefaultConfig())
		require.NoError(t, err)
		x := images(m, 50, rand.New(rand.NewPCG(8, 8)))
		logits, err := n.Logits(x)
		require.NoError(t, err)
		var file bytes.Buffer
		require.NoError(t, n.Write(&file))
		for _, threads := range []int{1, 3} {
			n, err := quant.Parse(file.Bytes())
			require.NoError(t, err)
			n.Threads = threads
			again, err := n.Logits(x)
			require.NoError(t, err)
			assert.Equal(t, logits, again, name)
			alone, err := n.Logits(x.Slice(49, 50))
			require.NoError(t, err)
			assert.Equal(t, logits[49*len(n.Bias):], alone, name)
		}
		frames := tensor.NewFrames(x.Shape().WithSteps(n.Steps)) // the same at every step
		for i := range x.N * n.Steps {
			copy(frames.Data[i*x.Pixels():], x.Image(i/n.Steps))
		}
		again, err := n.Logits(frames)
		require.NoError(t, err)
		assert.Equal(t, logits, again, name)
		differ := false
		for i := range logits[len(n.Bias):] {
			differ = differ || logits[i] != logits[i+len(n.Bias)]
		}
		assert.True(t, differ, "%s: all images have the same logits", name)
	}
}

// grid sets the weights of a network to multiples of 1/64 which 8 bits hold exactly, with 127 as
// the largest of each channel, and batch norm's factors to powers of two.
func grid(m *snn.Model, r *rand.Rand) {
	for _, p := range m.Params() {
		if len(p.Shape) < 2 {
			p.Fill(func(int) (float32, error) { return float32(r.IntN(64)) / 8, nil }) // a bias
			continue
		}
		row := p.Len() / p.Shape[0]
		p.Fill(func(i int) (float32, error) {
			if i%row == 0 {
				return 127. / 64, nil
			}
			return float32(r.IntN(255)-127) / 64, nil
		})
	}
	for _, row := range m.Summary().Rows {
		if b, ok := row.Layer.(*snn.BatchNorm); ok {
			b.Eps = 0x1p-20
			b.RunningVar.Fill(func(int) (float32, error) { return 1 - 0x1p-20, nil })
			b.Weight.Fill(func(int) (float32, error) { return []float32{-1, 0.5, 1, 2}[r.IntN(4)], nil })
			b.RunningMean.Fill(func(int) (float32, error) { return float32(r.IntN(64)) / 64, nil })
			b.Bias.Fill(func(int) (float32, error) { return float32(r.IntN(64)) / 8, nil })
		}
	}
	for _, p := range m.ConvexParams() {
		p.Import([]float32{0.5, 0.25})
	}
}

// Where integers hold the float network exactly, its logits are those of the integers.
func TestExactWhereIntegersAreExact(t *testing.T) {
	for name, arch := range map[string]string{
		"averages": "conv5 A conv17 | fc6 fc", "maxima": "conv8 M conv20 A | fc",
		"residual": "WRN widths 8,8,16,16, 2 blocks a group, strides 1,2,1",
	} {
		for _, soft := range []bool{false, true} {
			m := small(t, arch, 1, func(c *zoo.Config) {
				c.Channels, c.Height, c.Width = 2, 8, 8
				c.Mean, c.Std, c.SoftReset, c.Threshold = nil, nil, soft, 16
				if soft { // the border is 255 in one channel
					c.Mean, c.Std = []float32{1, 0}, []float32{0.5, 0.5}
				}
			})
			r := rand.New(rand.NewPCG(9, 9))
			grid(m, r)
			n, err := quant.Convert(m, quant.DefaultConfig())
			require.NoError(t, err)
			x := tensor.NewNCHW(40, 2, 8, 8) // black and white: products with them are exact
			for i := range x.Data {
				x.Data[i] = float32(r.IntN(2))
			}
			want, err := m.Logits(snn.Pass{}, x)
			require.NoError(t, err)
			got, err := n.Logits(x)
			require.NoError(t, err)
			for i, v := range got {
				require.InDelta(t, want[i], n.Scale*float64(v), 1e-5*math.Abs(float64(want[i]))+1e-5, "%s %v", name, soft)
			}
		}
	}
}

// A leak is the nearest ratio. Where the current counts 1 − λ times, the threshold is 1/(1 − λ)
// times as large.
func TestLeak(t *testing.T) {
	convert := func(n *snn.LIF, change func(*quant.Config)) *quant.Neurons {
		m := model(t, snn.Flatten{}, snn.NewLinear(4, 3, true), n, snn.NewLinear(3, 2, true))
		cfg := quant.DefaultConfig()
		if change != nil {
			change(&cfg)
		}
		q, err := quant.Convert(m, cfg)
		require.NoError(t, err)
		return q.Layers[1].(*quant.Neurons)
	}
	n := convert(snn.NewLIF(0.7), nil)
	assert.Equal(t, []int{179, 8}, []int{int(n.Leak), int(n.LeakShift)}) // 0.7·256 = 179.2
	n = convert(snn.NewLIF(0.7), func(c *quant.Config) { c.LeakBits = 3 })
	assert.Equal(t, []int{6, 3}, []int{int(n.Leak), int(n.LeakShift)})
	n = convert(snn.NewIF(), nil)
	assert.Equal(t, []int{1, 0}, []int{int(n.Leak), int(n.LeakShift)})
	input, twice := snn.NewLIF(0.5), snn.NewLIF(0.5)
	input.DecayInput, twice.Threshold = true, 2
	assert.Equal(t, convert(twice, nil), convert(input, nil))
}

// Weights take about a quarter of the memory of float32.
func TestMemory(t *testing.T) {
	m := small(t, "conv64 conv128 A | fc", 1, nil)
	q, err := quant.Convert(m, quant.DefaultConfig())
	require.NoError(t, err)
	float, integer := 0, 0
	for _, p := range m.Params() {
		float += 4 * p.Len()
	}
	for _, l := range q.Layers {
		switch l := l.(type) {
		case *quant.Conv:
			integer += len(l.Weight) + 4*(len(l.Scale)+len(l.Gain)) + len(l.Border)
		case *quant.Neurons:
			integer += 4 * (len(l.Bias) + len(l.Threshold) + len(l.Gain))
		}
	}
	assert.LessOrEqual(t, float64(integer), 0.27*float64(float))
}

// The logits of a random network and of its integers are close, if it has few layers. In more
// layers, the first spikes that differ change all that follow.
func TestLogitsAreClose(t *testing.T) {
	for name, m := range networks(t) {
		if name != "leaky" && name != "soft" && name != "plain" {
			continue
		}
		n, err := quant.Convert(m, quant.DefaultConfig())
		require.NoError(t, err)
		x := images(m, 200, rand.New(rand.NewPCG(11, 11)))
		want, err := m.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		got, err := n.Logits(x)
		require.NoError(t, err)
		var difference, spread float64
		classes := m.Classes()
		for i, v := range want {
			mean := 0.
			for k := range x.N {
				mean += float64(want[k*classes+i%classes]) / float64(x.N)
			}
			difference += math.Pow(n.Scale*float64(got[i])-float64(v), 2)
			spread += math.Pow(float64(v)-mean, 2)
		}
		t.Log(name, difference/spread)
		assert.Less(t, difference, 0.2*spread, name)
	}
}
