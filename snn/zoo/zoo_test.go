package zoo_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Every architecture builds, narrow, with and without batch norm, for other images
// and classes, and runs.
func TestArchitectures(t *testing.T) {
	for arch := range zoo.Architectures {
		for _, norm := range []bool{true, false} {
			for _, c := range []struct{ channels, height, width, classes int }{{3, 32, 32, 10}, {1, 35, 41, 7}} {
				t.Run(fmt.Sprint(arch, norm, c), func(t *testing.T) {
					cfg := cifar10(arch)
					cfg.WidthMultiplier, cfg.BatchNorm, cfg.Steps = 0.125, norm, 2
					cfg.Channels, cfg.Height, cfg.Width, cfg.Classes = c.channels, c.height, c.width, c.classes
					cfg.Mean, cfg.Std = nil, nil
					m, err := zoo.New(cfg, rng.New(1))
					require.NoError(t, err)
					assert.Equal(t, c.classes, m.Classes())
					for _, r := range m.Summary().Rows {
						assert.False(t, !norm && r.Kind == "batch norm")
					}
					x := tensor.NewNCHW(2, c.channels, c.height, c.width)
					for i := range x.Data {
						x.Data[i] = float32(i%10) / 10
					}
					logits, err := m.Logits(snn.Pass{}, x)
					require.NoError(t, err)
					assert.Len(t, logits, 2*c.classes)
				})
			}
		}
	}
}

// Every setting of the configuration is one of the network: a change of it changes
// what a step of training computes.
func TestEverySettingMatters(t *testing.T) {
	run := func(change func(c *zoo.Config)) []float32 {
		cfg := cifar10("wrn-16-4")
		cfg.WidthMultiplier, cfg.Steps, cfg.Height, cfg.Width = 0.125, 4, 8, 8
		change(&cfg)
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		x := tensor.NewNCHW(2, 3, 8, 8)
		for i := range x.Data {
			x.Data[i] = float32(i*i%11) / 10
		}
		var out []float32
		err = m.ParamGradients(snn.Pass{Train: true}, x, func(logits []float32) []float32 {
			out = append(out, logits...)
			return logits
		})
		require.NoError(t, err)
		return append(out, m.Params()[0].ExportGrad()...)
	}
	base := run(func(*zoo.Config) {})
	assert.Equal(t, base, run(func(*zoo.Config) {}))
	for name, change := range map[string]func(c *zoo.Config){
		"steps":           func(c *zoo.Config) { c.Steps = 5 },
		"decay":           func(c *zoo.Config) { c.Decay = 0.8 },
		"threshold":       func(c *zoo.Config) { c.Threshold = 0.8 },
		"soft reset":      func(c *zoo.Config) { c.SoftReset = true },
		"detached reset":  func(c *zoo.Config) { c.Detach = true },
		"surrogate":       func(c *zoo.Config) { c.Surrogate = "sigmoid" },
		"surrogate width": func(c *zoo.Config) { c.SurrogateParam = 0.5 },
		"batch norm":      func(c *zoo.Config) { c.BatchNorm = false },
		"dropout":         func(c *zoo.Config) { c.Dropout = 0.5 },
		"poisson":         func(c *zoo.Config) { c.Poisson = true },
		"mean":            func(c *zoo.Config) { c.Mean = []float32{0, 0, 0} },
		"std":             func(c *zoo.Config) { c.Std = []float32{1, 1, 1} },
	} {
		assert.NotEqual(t, base, run(change), name)
	}
}

// A rate-coded network's first layer sees spikes, its neurons leak and keep what is over
// the threshold.
func TestRateCoded(t *testing.T) {
	cfg := zoo.RateCoded("vgg5")
	cfg.WidthMultiplier = 0.1
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	assert.Equal(t, 100, m.Steps)
	assert.Equal(t, snn.Poisson{}, m.Encoder)
	assert.Nil(t, m.Mean)
	for _, r := range m.Summary().Rows {
		if r.Neurons > 0 {
			assert.Equal(t, "LIF λ=0.99", r.Kind)
		}
	}
	assert.True(t, cfg.SoftReset)
}

// Widths are rounded to the nearest, and at least 1.
func TestWidthMultiplier(t *testing.T) {
	for multiplier, want := range map[float64]string{0.1: "2 3 3", 0.01: "1 1 1", 1.03: "16 33 33", 2: "32 64 64"} {
		cfg := cifar10("small")
		cfg.WidthMultiplier = multiplier
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		var widths []string
		for _, r := range m.Summary().Rows {
			if strings.HasPrefix(r.Kind, "conv") {
				widths = append(widths, fmt.Sprint(r.Out.C))
			}
		}
		assert.Equal(t, want, strings.Join(widths, " "))
		assert.Equal(t, 10, m.Classes())
	}
}

// counts sums a summary's columns.
func counts(m *snn.Model) (params, macs, neurons int) {
	for _, p := range m.Params() {
		params += p.Len()
	}
	for _, r := range m.Summary().Rows {
		macs, neurons = macs+r.MACs, neurons+r.Neurons
	}
	return params, macs, neurons
}

// The sizes of VGG-11 and WRN-16-4, layer by layer from their definitions.
func TestSummaryOfVGG11(t *testing.T) {
	m, err := zoo.New(cifar10("vgg11"), rng.New(1))
	require.NoError(t, err)
	var params, macs, neurons int
	conv := func(in, out, size int) { // with bias, batch norm and neurons
		params += 9*in*out + out + 2*out
		macs += 9 * in * out * size * size
		neurons += out * size * size
	}
	conv(3, 64, 32)
	conv(64, 128, 16)
	conv(128, 256, 16)
	for _, in := range []int{256, 512, 512} {
		conv(in, 512, 8)
	}
	conv(512, 512, 4)
	conv(512, 512, 4)
	for _, l := range [][2]int{{512 * 4 * 4, 4096}, {4096, 4096}, {4096, 10}} {
		params += l[0]*l[1] + l[1]
		macs += l[0] * l[1]
	}
	neurons += 2 * 4096
	checkSummary(t, m, params, macs, neurons)
}

func TestSummaryOfWRN16x4(t *testing.T) {
	m, err := zoo.New(cifar10("wrn-16-4"), rng.New(1))
	require.NoError(t, err)
	params, macs, neurons := 9*3*16, 9*3*16*32*32, 0
	in, size := 16, 32
	for _, out := range []int{64, 128, 256} {
		for i := range 2 {
			before := size
			if i == 0 && out > 64 {
				size /= 2
			}
			params += 2*in + 9*in*out + 2*out + 9*out*out + 2 // bn1, conv1, bn2, conv2, comb
			macs += (9*in*out + 9*out*out) * size * size
			if in != out {
				params += in * out
				macs += in * out * size * size
			}
			neurons += in*before*before + out*size*size
			in = out
		}
	}
	params += 2*256 + 256*10 + 10
	macs += 256 * 10
	neurons += 256 * 8 * 8
	checkSummary(t, m, params, macs, neurons)
	assert.Len(t, m.ConvexParams(), 6)
}

func checkSummary(t *testing.T, m *snn.Model, params, macs, neurons int) {
	t.Helper()
	p, c, n := counts(m)
	assert.Equal(t, params, p, "parameters")
	assert.Equal(t, macs, c, "multiply-accumulates")
	assert.Equal(t, neurons, n, "neurons")
	lines := strings.Split(strings.TrimSpace(m.Summary().String()), "\n")
	assert.Len(t, lines, 2+len(m.Summary().Rows))
	total := regexp.MustCompile(`[\d,]+`).FindAllString(lines[len(lines)-1], -1)
	var got []string
	for _, v := range total {
		got = append(got, strings.ReplaceAll(v, ",", ""))
	}
	assert.Equal(t, []string{fmt.Sprint(params), fmt.Sprint(macs), fmt.Sprint(neurons)}, got)
	for _, v := range total {
		assert.Regexp(t, `^\d{1,3}(,\d{3})*$`, v)
	}
}

// Parameters are numbered as PyTorch's Sequential numbers its modules, neurons, pools
// and batch norm included.
func TestNames(t *testing.T) {
	names := func(arch string, norm bool, dropout float32) (all []string) {
		cfg := cifar10(arch)
		cfg.WidthMultiplier, cfg.BatchNorm, cfg.Dropout = 0.0625, norm, dropout
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		for _, p := range m.Params() {
			all = append(all, p.Name)
		}
		return all
	}
	// conv bn n A | conv bn n | conv bn n A
	assert.Equal(t, strings.Fields(`
		features.0.weight features.0.bias features.1.weight features.1.bias
		features.4.weight features.4.bias features.5.weight features.5.bias
		features.7.weight features.7.bias features.8.weight features.8.bias
		classifier.0.weight classifier.0.bias classifier.2.weight classifier.2.bias classifier.4.weight classifier.4.bias`),
		names("vgg5", true, 0))
	// conv n drop A | conv n drop | conv n drop A
	assert.Equal(t, strings.Fields(`
		features.0.weight features.0.bias features.4.weight features.4.bias features.7.weight features.7.bias
		classifier.0.weight classifier.0.bias classifier.2.weight classifier.2.bias classifier.4.weight classifier.4.bias`),
		names("vgg5", false, 0.1))
	wrn := names("wrn-16-4", true, 0)
	assert.Equal(t, "conv1.weight", wrn[0])
	for _, name := range strings.Fields(`blocks.0.bn1.weight blocks.0.conv1.weight blocks.0.bn2.bias blocks.0.conv2.weight
		blocks.0.short.weight blocks.5.convex.comb bn.weight fc.bias`) {
		assert.Contains(t, wrn, name)
	}
	assert.NotContains(t, wrn, "blocks.1.short.weight") // the width stays
}

// A saved network is rebuilt from its file alone, with all of its configuration.
func TestLoad(t *testing.T) {
	for _, arch := range []string{"small", "wrn-16-4", "conv4 M conv6 | fc12 fc3", "WRN widths 4,8,8,16, 1 blocks a group, strides 1,1,2"} {
		cfg := cifar10(arch)
		cfg.WidthMultiplier, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 0.25, 12, 16, 3, 3
		cfg.Decay, cfg.Threshold, cfg.SoftReset, cfg.Detach = 0.9, 0.7, true, true
		cfg.Surrogate, cfg.SurrogateParam, cfg.Poisson, cfg.BatchNorm = "arctan", 2.5, true, arch != "small"
		if !strings.HasPrefix(arch, "conv") {
			cfg.Dropout = 0.25
		}
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "model.safetensors")
		require.NoError(t, m.Save(path))
		got, gotCfg, err := zoo.Load(path)
		require.NoError(t, err)
		assert.Equal(t, cfg, gotCfg)

		x := tensor.NewNCHW(2, 3, 12, 16)
		for i := range x.Data {
			x.Data[i] = float32(i%10) / 10
		}
		run := func(m *snn.Model) (out []float32) {
			seed := func(l []float32) []float32 { out = append(out, l...); return l }
			grad, err := m.InputGradient(snn.Pass{}, x, seed)
			require.NoError(t, err)
			return append(out, grad.Data...)
		}
		assert.Equal(t, run(m), run(got))

		file, err := os.ReadFile(path)
		require.NoError(t, err)
		parsed, gotCfg, err := zoo.Parse(file)
		require.NoError(t, err)
		assert.Equal(t, cfg, gotCfg)
		assert.Equal(t, run(m), run(parsed))
		assert.Equal(t, got.Meta, parsed.Meta)
	}
}

// A network with the tensors of a file and other layers does not become that of the file when it is
// saved.
func TestLoadIntoAnotherNetwork(t *testing.T) {
	cfg := cifar10("conv4 A | fc")
	cfg.Height, cfg.Width = 4, 4
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	m.Meta["note"] = "trained for an hour"
	path := filepath.Join(t.TempDir(), "m.safetensors")
	require.NoError(t, m.Save(path))
	body := (&snn.Sequential{}).
		Append("features", snn.NewSequential(snn.NewConv2D(3, 4, 3, 1, 1, true), snn.NewBatchNorm(4), snn.NewIF(), snn.MaxPool{K: 2})).
		Append("", snn.Flatten{}).Append("classifier", snn.NewSequential(snn.NewLinear(16, 10, true)))
	other, err := snn.NewModel(m.Config, body)
	require.NoError(t, err)
	require.NoError(t, other.Load(path))
	assert.Equal(t, map[string]string{"note": "trained for an hour"}, other.Meta)
	require.NoError(t, other.Save(path))
	_, _, err = zoo.Load(path)
	assert.ErrorIs(t, err, zoo.ErrNoDescription)
}

// Dropout of a VGG with batch norm, which has none, is refused. A file of an earlier version, where it
// had no effect, is read without it.
func TestDropoutBesideBatchNorm(t *testing.T) {
	for _, arch := range []string{"small", "SPIKING_VGG11", "conv4 | fc"} {
		cfg := cifar10(arch)
		cfg.WidthMultiplier = 0.0625
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		old := cfg
		old.Dropout = 0.25
		_, err = zoo.New(old, rng.New(1))
		assert.ErrorContains(t, err, "zoo: dropout 0.25 of a VGG with batch norm, which has none: expected 0")
		_, err = zoo.LoadTorch("testdata/vgg.pth", old)
		assert.ErrorContains(t, err, "testdata/vgg.pth: dropout 0.25 of a VGG with batch norm")

		text, err := json.Marshal(old)
		require.NoError(t, err)
		m.Meta["snnrat"] = string(text)
		path := filepath.Join(t.TempDir(), "m.safetensors")
		require.NoError(t, m.Save(path))
		got, gotCfg, err := zoo.Load(path)
		require.NoError(t, err)
		assert.Equal(t, cfg, gotCfg)
		require.NoError(t, got.Save(path))
		_, _, err = zoo.Load(path)
		assert.NoError(t, err)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	m, err := zoo.New(cifar10("small"), rng.New(1))
	require.NoError(t, err)
	write := func(name string, meta map[string]string) string {
		path := filepath.Join(dir, name)
		m.Meta = meta
		require.NoError(t, m.Save(path))
		return path
	}
	text := m.Meta["snnrat"]
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o644))
	bare, err := safetensors.Serialize(map[string]safetensors.TensorView{}, map[string]string{"snnrat": text})
	require.NoError(t, err)
	stripped := filepath.Join(dir, "stripped")
	require.NoError(t, os.WriteFile(stripped, bare, 0o644))
	for message, path := range map[string]string{
		"no such file":                       filepath.Join(dir, "missing"),
		"not a safetensors file":             empty,
		"the file lacks tensor features.0":   stripped,
		"no description of the network":      write("bare", nil),
		`metadata "snnrat": unexpected`:      write("json", map[string]string{"snnrat": "{"}),
		`unknown architecture "vgg12"`:       write("arch", map[string]string{"snnrat": strings.Replace(text, "small", "vgg12", 1)}),
		"image height 0: expected":           write("height", map[string]string{"snnrat": strings.Replace(text, `"height":32`, `"height":0`, 1)}),
		"has shape [16 3 3 3]: expected [65": write("huge", map[string]string{"snnrat": strings.Replace(text, `small`, `conv65536 conv65536 | fc`, 1)}),
		"has shape [16 3 3 3]: expected [32": write("other", map[string]string{"snnrat": strings.Replace(text, `"width_multiplier":1`, `"width_multiplier":2`, 1)}),
		`"snnrat": json: unknown field "r`:   write("later", map[string]string{"snnrat": strings.Replace(text, `{`, `{"refractory":2,`, 1)}),
		"0 time steps: expected at least":    write("steps", map[string]string{"snnrat": strings.Replace(text, `"steps":8`, `"steps":0`, 1)}),
	} {
		_, _, err := zoo.Load(path)
		require.ErrorContains(t, err, message)
		assert.ErrorContains(t, err, path)
		assert.NotContains(t, err.Error(), "\n")
		if file, err := os.ReadFile(path); err == nil {
			_, _, err := zoo.Parse(file)
			assert.ErrorContains(t, err, message)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	nan := math.NaN()
	for message, change := range map[string]func(c *zoo.Config){
		`unknown architecture "vgg7": expected small, spiking_vgg11, spiking_vgg13, spiking_vgg16, spiking_vgg19, vgg11, vgg13, vgg16, vgg5, wrn-16-4, wrn-28-10`: func(c *zoo.Config) { c.Arch = "vgg7" },
		`unknown architecture ""`:                       func(c *zoo.Config) { c.Arch = "" },
		`"pool": expected convN, A or M`:                func(c *zoo.Config) { c.Arch = "conv4 pool | fc" },
		`"conv": expected a number from 1 to 65536`:     func(c *zoo.Config) { c.Arch = "conv | fc" },
		`"conv0": expected a number`:                    func(c *zoo.Config) { c.Arch = "conv0 | fc" },
		`"conv-3": expected a number`:                   func(c *zoo.Config) { c.Arch = "conv-3 | fc" },
		`"conv99999": expected a number`:                func(c *zoo.Config) { c.Arch = "conv99999 | fc" },
		`"A": expected fcN right of the bar`:            func(c *zoo.Config) { c.Arch = "conv4 | A" },
		`expected fcN right of the bar`:                 func(c *zoo.Config) { c.Arch = "conv4 |" },
		`"fcx": expected a number`:                      func(c *zoo.Config) { c.Arch = "conv4 | fcx fc" },
		`"fc5": the last layer has 10 classes`:          func(c *zoo.Config) { c.Arch = "conv4 | fc5" },
		"32×32 are too small for its pooling layers":    func(c *zoo.Config) { c.Arch = "A A A A A A conv4 | fc" },
		`"WRN 16": expected "WRN widths`:                func(c *zoo.Config) { c.Arch = "WRN 16" },
		"2,2 more\": expected \"WRN widths":             func(c *zoo.Config) { c.Arch = zoo.Architectures["wrn-16-4"] + " more" },
		"2,25x\": expected \"WRN widths":                func(c *zoo.Config) { c.Arch = zoo.Architectures["wrn-16-4"] + "5x" },
		"0 blocks a group, strides 1,2,2\": expected":   func(c *zoo.Config) { c.Arch = "WRN widths 4,4,8,8, 0 blocks a group, strides 1,2,2" },
		"with numbers from 1 to 65536":                  func(c *zoo.Config) { c.Arch = "WRN widths 4,4,8,8, 99999 blocks a group, strides 1,2,2" },
		"group 3 has stride 2 and 8 channels":           func(c *zoo.Config) { c.Arch = "WRN widths 4,4,8,8, 1 blocks a group, strides 1,2,2" },
		"weights [65536 65536 3 3]: expected at most":   func(c *zoo.Config) { c.Arch = "WRN widths 4,4,8,65536, 1 blocks a group, strides 1,2,2" },
		"weights [65536 16384]: expected at most 26":    func(c *zoo.Config) { c.Arch = "conv16 | fc65536 fc" },
		"width multiplier 0: expected":                  func(c *zoo.Config) { c.WidthMultiplier = 0 },
		"width multiplier NaN":                          func(c *zoo.Config) { c.WidthMultiplier = nan },
		"width multiplier 100":                          func(c *zoo.Config) { c.WidthMultiplier = 100 },
		"image channels 0: expected a number from 1":    func(c *zoo.Config) { c.Channels = 0 },
		"image height -1":                               func(c *zoo.Config) { c.Height = -1 },
		"image width 0":                                 func(c *zoo.Config) { c.Width = 0 },
		"image width 1000000: expected a number from 1": func(c *zoo.Config) { c.Width = 1_000_000 },
		"classes 0":                            func(c *zoo.Config) { c.Classes = 0 },
		"0 time steps":                         func(c *zoo.Config) { c.Steps = 0 },
		"decay 1.5":                            func(c *zoo.Config) { c.Decay = 1.5 },
		"threshold 0":                          func(c *zoo.Config) { c.Threshold = 0 },
		`surrogate "relu"`:                     func(c *zoo.Config) { c.Surrogate = "relu" },
		"surrogate triangle 0":                 func(c *zoo.Config) { c.SurrogateParam = 0 },
		"dropout 1: expected":                  func(c *zoo.Config) { c.Dropout = 1 },
		"dropout -0.5: expected":               func(c *zoo.Config) { c.Dropout = -0.5 },
		"dropout NaN":                          func(c *zoo.Config) { c.Dropout = float32(nan) },
		"2 means and 3 standard deviations":    func(c *zoo.Config) { c.Mean = c.Mean[:2] },
		"channel 2: mean 0.4465, standard dev": func(c *zoo.Config) { c.Std = []float32{1, 1, -1} },
	} {
		for _, arch := range []string{"vgg5", "wrn-16-4"} {
			cfg := cifar10(arch)
			change(&cfg)
			_, err := zoo.New(cfg, rng.New(1))
			require.ErrorContains(t, err, message)
			assert.NotContains(t, err.Error(), "\n")
		}
	}
}

// Files whose metadata have the keys of before the neurons' decay and the surrogates'
// parameters had their names are read.
func TestOldKeys(t *testing.T) {
	want := cifar10("small")
	want.Decay, want.SurrogateParam = 0.5, 2
	text, err := json.Marshal(want)
	require.NoError(t, err)
	old := strings.NewReplacer(`"decay":`, `"leak":`, `"surrogate_param":`, `"surrogate_width":`).Replace(string(text))
	require.NotEqual(t, string(text), old)
	for _, s := range []string{string(text), old} {
		var got zoo.Config
		require.NoError(t, json.Unmarshal([]byte(s), &got))
		assert.Equal(t, want, got)
	}
}

// cifar10 is the default configuration with CIFAR-10's normalization.
func cifar10(arch string) zoo.Config {
	c := zoo.Default(arch)
	c.Mean, c.Std = []float32{0.4914, 0.4822, 0.4465}, []float32{0.2023, 0.1994, 0.2010}
	return c
}

// set describes the images of a data set.
type set struct{}

func (set) Shape() tensor.Shape                  { return tensor.Shape{N: 7, Steps: 1, C: 1, H: 5, W: 6} }
func (set) Label(int) int                        { return 0 }
func (set) Fill(tensor.NCHW, []int) error        { return nil }
func (set) NumClasses() int                      { return 2 }
func (set) ClassNames() []string                 { return []string{"cat", "dog"} }
func (set) Normalization() (mean, std []float32) { return []float32{0.3}, []float32{0.2} }

// A network for a data set has its shape, classes and normalization, and keeps them in
// its file.
func TestFor(t *testing.T) {
	c := zoo.Default("conv2 A | fc").For(set{})
	m, err := zoo.New(c, rng.New(1))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "m.safetensors")
	require.NoError(t, m.Save(path))
	m, got, err := zoo.Load(path)
	require.NoError(t, err)
	assert.Equal(t, c, got)
	assert.Equal(t, []int{1, 5, 6, 2}, []int{m.Channels, m.Height, m.Width, m.Classes()})
	assert.Equal(t, []string{"cat", "dog"}, m.ClassNames())
	assert.Equal(t, []float32{0.3}, m.Mean)
	assert.Equal(t, 8, m.Steps)

	c = zoo.Default("conv2 A | fc").For(frames{})
	assert.Equal(t, 5, c.Steps)
	assert.Equal(t, 10, c.Classes, "unknown to the set")
	assert.Nil(t, c.Mean)
}

// frames is a data set of frames that knows nothing of its classes.
type frames struct{}

func (frames) Shape() tensor.Shape           { return tensor.Shape{N: 7, Steps: 5, C: 2, H: 4, W: 4} }
func (frames) Label(int) int                 { return 0 }
func (frames) Fill(tensor.NCHW, []int) error { return nil }

// What was changed after New is saved and loaded.
func TestChangedSettingsAreLoaded(t *testing.T) {
	c := zoo.Default("conv2 A | fc4 fc").For(set{})
	m, err := zoo.New(c, rng.New(1))
	require.NoError(t, err)
	m.Steps = 3
	for i, r := range m.Summary().Rows {
		if n, ok := r.Layer.(*snn.LIF); ok {
			n.Decay, n.Threshold, n.Surrogate = 0.5, float32(i), snn.Sigmoid{Alpha: 4}
		}
	}
	x := tensor.NewNCHW(2, 1, 5, 6)
	for i := range x.Data {
		x.Data[i] = float32(i%7) / 7
	}
	grad := func(m *snn.Model) (out []float32) {
		g, err := m.InputGradient(snn.Pass{}, x, func(logits []float32) []float32 { out = append(out, logits...); return logits })
		require.NoError(t, err)
		return append(out, g.Data...)
	}
	path := filepath.Join(t.TempDir(), "m.safetensors")
	require.NoError(t, m.Save(path))
	loaded, got, err := zoo.Load(path)
	require.NoError(t, err)
	assert.Equal(t, grad(m), grad(loaded))
	want := c
	want.Steps = 3
	assert.Equal(t, want, got, "the neurons of the two layers differ")

	for _, r := range m.Summary().Rows {
		if n, ok := r.Layer.(*snn.LIF); ok {
			n.Threshold, n.SoftReset, n.DetachReset = 0.7, true, true
		}
	}
	m.Encoder, m.Config.ClassNames = snn.Poisson{}, []string{"owl", "fox"}
	require.NoError(t, m.Save(path))
	again, got, err := zoo.Load(path)
	require.NoError(t, err)
	want.Decay, want.Threshold, want.SoftReset, want.Detach, want.Surrogate, want.SurrogateParam = 0.5, 0.7, true, true, "sigmoid", 4
	want.Poisson, want.ClassNames = true, []string{"owl", "fox"}
	assert.Equal(t, want, got)
	assert.Equal(t, want.ClassNames, again.ClassNames())
	original, err := zoo.New(c, rng.New(1))
	require.NoError(t, err)
	assert.NotEqual(t, grad(original), grad(loaded))
}

// The settings of PLIF neurons that were changed after New are in the Config of a loaded file.
func TestChangedSettingsOfPLIF(t *testing.T) {
	c := zoo.Default("conv2 A | fc4 fc").For(set{})
	c.Neuron, c.Decay = "plif", 0.5
	m, err := zoo.New(c, rng.New(1))
	require.NoError(t, err)
	for _, r := range m.Summary().Rows {
		if n, ok := r.Layer.(*snn.GLIF); ok {
			n.Threshold.Import([]float32{0.7})
			n.W.Import([]float32{0.25})
			n.SoftReset, n.DetachReset, n.Surrogate = true, true, snn.Sigmoid{Alpha: 4}
		}
	}
	path := filepath.Join(t.TempDir(), "m.safetensors")
	require.NoError(t, m.Save(path))
	_, got, err := zoo.Load(path)
	require.NoError(t, err)
	c.Threshold, c.SoftReset, c.Detach, c.Surrogate, c.SurrogateParam = 0.7, true, true, "sigmoid", 4
	assert.Equal(t, c, got)
}
