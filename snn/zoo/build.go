package zoo

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// build returns the network that cfg describes. If shape is not nil, it returns the shape of
// a weight in a file by name; build returns an error if the network's differ.
func build(cfg Config, shape func(name string) ([]int, bool)) (*snn.Model, error) {
	arch := resolve(cfg.Arch)
	if !strings.Contains(arch, "|") && !strings.HasPrefix(arch, "WRN") {
		return nil, fmt.Errorf("unknown architecture %q: expected %s, or a network written out, such as %q",
			cfg.Arch, Names(), Architectures["small"])
	}
	if !(cfg.WidthMultiplier > 0 && cfg.WidthMultiplier <= 64) {
		return nil, fmt.Errorf("width multiplier %v: expected a number in (0, 64]", cfg.WidthMultiplier)
	}
	for _, field := range []struct {
		name string
		v    int
	}{{"image channels", cfg.Channels}, {"image height", cfg.Height}, {"image width", cfg.Width}, {"classes", cfg.Classes}} {
		if field.v < 1 || field.v > largest {
			return nil, fmt.Errorf("%s %d: expected a number from 1 to %d", field.name, field.v, largest)
		}
	}
	if err := fits("images of shape", cfg.Channels, cfg.Height, cfg.Width); err != nil {
		return nil, err
	}
	if !(cfg.Dropout >= 0 && cfg.Dropout < 1) {
		return nil, fmt.Errorf("dropout %v: expected a number in [0, 1)", cfg.Dropout)
	}
	if cfg.Dropout > 0 && replacesDropout(cfg) {
		return nil, fmt.Errorf("dropout %v of a VGG with batch norm, which has none: expected 0", cfg.Dropout)
	}
	s, err := snn.NewSurrogate(cfg.Surrogate, cfg.SurrogateParam)
	if err != nil {
		return nil, err
	}
	neuron := snn.LIF{Decay: cfg.Decay, Threshold: cfg.Threshold, SoftReset: cfg.SoftReset, DetachReset: cfg.Detach, Surrogate: s}
	if err := neuron.Validate(); err != nil {
		return nil, err
	}
	switch {
	case cfg.Neuron != "" && cfg.Neuron != "plif":
		return nil, fmt.Errorf("neuron %q: expected plif, or none for LIF", cfg.Neuron)
	case cfg.Neuron == "plif" && cfg.Decay == 1:
		return nil, fmt.Errorf("neuron plif with decay 1: expected a decay below 1, at which its training begins")
	}
	switch noisy := (&snn.NoisyLIF{LIF: &neuron, Std: cfg.Noise}).Validate(); {
	case noisy != nil:
		return nil, noisy
	case cfg.Noise > 0 && cfg.Neuron != "":
		return nil, fmt.Errorf("noise %v of neurons %s: expected 0, or LIF neurons", cfg.Noise, cfg.Neuron)
	case cfg.Levels < 0 || cfg.Levels > largest:
		return nil, fmt.Errorf("stochastic quantization to %d levels: expected a number from 1 to %d, or 0 for none", cfg.Levels, largest)
	case cfg.Levels > 0 && cfg.Poisson:
		return nil, fmt.Errorf("stochastic quantization to %d levels and Poisson encoding: expected one of them", cfg.Levels)
	case cfg.Frequencies && (cfg.Levels > 0 || cfg.Poisson):
		return nil, errors.New("frequency encoding and another one, stochastic quantization or Poisson: expected one of them")
	}
	b := builder{cfg, neuron, shape}
	var body *snn.Sequential
	if strings.HasPrefix(arch, "WRN") {
		body, err = b.wrn(arch)
	} else {
		body, err = b.vgg(arch)
	}
	if err != nil {
		return nil, fmt.Errorf("architecture %q: %w", cfg.Arch, err)
	}
	mc := snn.Config{Channels: cfg.Channels, Height: cfg.Height, Width: cfg.Width, Steps: cfg.Steps, Mean: cfg.Mean, Std: cfg.Std, ClassNames: cfg.ClassNames}
	if cfg.Poisson {
		mc.Encoder = snn.Poisson{}
	}
	if cfg.Levels > 0 {
		mc.Encoder = snn.StochasticQuantization{Levels: cfg.Levels}
	}
	if cfg.Frequencies {
		mc.Encoder = snn.FrequencyEncoding{}
	}
	m, err := snn.NewModel(mc, body)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	m.Meta = map[string]string{metaKey: string(text)}
	return m, nil
}

// replacesDropout reports whether cfg is a VGG that has batch norm in place of dropout.
func replacesDropout(cfg Config) bool {
	return cfg.BatchNorm && !strings.HasPrefix(resolve(cfg.Arch), "WRN")
}

// builder builds the layers of a Config.
type builder struct {
	Config
	neuron snn.LIF
	shape  func(name string) ([]int, bool) // shape of a weight in a file; nil without a file
}

// neurons returns a new layer of neurons.
func (b *builder) neurons() snn.Neuron {
	n := b.neuron
	if b.Noise > 0 {
		return &snn.NoisyLIF{LIF: &n, Std: b.Noise}
	}
	if b.Neuron == "" {
		return &n
	}
	p := snn.NewPLIF(1 / (1 - n.Decay))
	p.Threshold.Import([]float32{n.Threshold})
	p.SoftReset, p.DetachReset, p.Surrogate = n.SoftReset, n.DetachReset, n.Surrogate
	return p
}

// wide returns n channels times the width multiplier, rounded, and at least 1.
func (b *builder) wide(n int) int { return max(1, int(float64(float64(n)*b.WidthMultiplier)+0.5)) }

// Limits of a configuration, which may come from a file.
const (
	largest    = 1 << 16 // of a number
	mostValues = 1 << 28 // of the values of an image or of a layer's weights
)

// fits returns an error if shape, the shape of what, has more than mostValues values.
func fits(what string, shape ...int) error {
	n := 1.0
	for _, d := range shape {
		n *= float64(d)
	}
	if n > mostValues {
		return fmt.Errorf("%s %v: expected at most %d values", what, shape, mostValues)
	}
	return nil
}

// weights checks the shape of a layer's weights before the layer is built. It returns an
// error if they are too large, or if the file, if there is one, has others.
func (b *builder) weights(layer string, shape ...int) error {
	if err := fits("a layer with weights", shape...); err != nil {
		return err
	}
	if b.shape == nil {
		return nil
	}
	name := layer + ".weight"
	has, ok := b.shape(name)
	if !ok {
		return fmt.Errorf("the file lacks tensor %s of the network that it describes", name)
	}
	if !slices.Equal(has, shape) {
		return fmt.Errorf("tensor %s has shape %.200s: expected %v, as the network that the file describes", name, fmt.Sprint(has), shape)
	}
	return nil
}

// size returns the number that follows prefix in a word, such as 64 in conv64.
func (b *builder) size(word, prefix string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(word, prefix))
	if err != nil || n < 1 || n > largest {
		return 0, fmt.Errorf("%q: expected a number from 1 to %d after %q", word, largest, prefix)
	}
	return n, nil
}

// vgg returns the layers of the first notation.
func (b *builder) vgg(arch string) (*snn.Sequential, error) {
	left, right, ok := strings.Cut(arch, "|")
	if !ok {
		return nil, fmt.Errorf("expected features | classifier")
	}
	var features, classifier []snn.Layer
	c, h, w := b.Channels, b.Height, b.Width
	drop := func() []snn.Layer {
		if b.Dropout == 0 {
			return nil
		}
		return []snn.Layer{&snn.Dropout{P: b.Dropout}}
	}
	for _, word := range strings.Fields(left) {
		switch {
		case word == "A":
			features = append(features, snn.AvgPool{K: 2})
			h, w = h/2, w/2
		case word == "M":
			features = append(features, snn.MaxPool{K: 2})
			h, w = h/2, w/2
		case strings.HasPrefix(word, "conv"):
			n, err := b.size(word, "conv")
			if err != nil {
				return nil, err
			}
			n = b.wide(n)
			if err := b.weights(fmt.Sprintf("features.%d", len(features)), n, c, 3, 3); err != nil {
				return nil, err
			}
			features = append(features, snn.NewConv2D(c, n, 3, 1, 1, true))
			if b.BatchNorm {
				features = append(features, snn.NewBatchNorm(n), b.neurons())
			} else {
				features = append(features, b.neurons())
				features = append(features, drop()...)
			}
			c = n
		default:
			return nil, fmt.Errorf("%q: expected convN, A or M left of the bar", word)
		}
		if h < 1 || w < 1 {
			return nil, fmt.Errorf("images of %d×%d are too small for its pooling layers", b.Height, b.Width)
		}
	}
	if err := fits("a classifier of values", c, h, w); err != nil {
		return nil, err
	}
	in := c * h * w
	words := strings.Fields(right)
	for i, word := range words {
		if !strings.HasPrefix(word, "fc") {
			return nil, fmt.Errorf("%q: expected fcN right of the bar", word)
		}
		last := i == len(words)-1
		n := b.Classes
		if word != "fc" {
			v, err := b.size(word, "fc")
			if err != nil {
				return nil, err
			}
			if last && v != b.Classes {
				return nil, fmt.Errorf("%q: the last layer has %d classes", word, b.Classes)
			}
			if n = v; !last {
				n = b.wide(v)
			}
		}
		if err := b.weights(fmt.Sprintf("classifier.%d", len(classifier)), n, in); err != nil {
			return nil, err
		}
		classifier = append(classifier, snn.NewLinear(in, n, true))
		if !last {
			classifier = append(classifier, b.neurons())
		}
		in = n
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("expected fcN right of the bar")
	}
	return (&snn.Sequential{}).Append("features", snn.NewSequential(features...)).
		Append("", snn.Flatten{}).Append("classifier", snn.NewSequential(classifier...)), nil
}

// wrnShape is the shape of a wide residual network.
type wrnShape struct {
	widths  [4]int // channels of the first convolution and of each group
	blocks  int    // in each group
	strides [3]int // of each group
}

// parseWRN reads the notation of a wide residual network.
func parseWRN(arch string) (s wrnShape, err error) {
	ws, ss := &s.widths, &s.strides
	const format = "WRN widths %d,%d,%d,%d, %d blocks a group, strides %d,%d,%d"
	_, err = fmt.Sscanf(arch, format, &ws[0], &ws[1], &ws[2], &ws[3], &s.blocks, &ss[0], &ss[1], &ss[2])
	numbers := []int{ws[0], ws[1], ws[2], ws[3], s.blocks, ss[0], ss[1], ss[2]}
	// Sscanf ignores text after the last number.
	whole := arch == fmt.Sprintf(format, ws[0], ws[1], ws[2], ws[3], s.blocks, ss[0], ss[1], ss[2])
	if err != nil || !whole || slices.Min(numbers) < 1 || slices.Max(numbers) > largest {
		return s, fmt.Errorf("expected %q with numbers from 1 to %d", Architectures["wrn-16-4"], largest)
	}
	return s, nil
}

// wrn returns the layers of the second notation.
func (b *builder) wrn(arch string) (*snn.Sequential, error) {
	shape, err := parseWRN(arch)
	if err != nil {
		return nil, err
	}
	ws, blocks, strides := shape.widths, shape.blocks, shape.strides
	for i := range ws {
		ws[i] = b.wide(ws[i])
	}
	widest := max(b.Channels, slices.Max(ws[:]))
	if err := fits("a layer with weights", widest, widest, 3, 3); err != nil {
		return nil, err
	}
	if err := cmp.Or(b.weights("conv1", ws[0], b.Channels, 3, 3), b.weights("fc", b.Classes, ws[3])); err != nil {
		return nil, err
	}
	body := (&snn.Sequential{}).Append("conv1", snn.NewConv2D(b.Channels, ws[0], 3, 1, 1, false))
	var group []snn.Layer
	c := ws[0]
	for g := range 3 {
		for i := range blocks {
			stride := 1
			if i == 0 {
				stride = strides[g]
			}
			if stride > 1 && c == ws[g+1] {
				return nil, fmt.Errorf("group %d has stride %d and %d channels as the one before: its shortcut needs another width", g+1, stride, c)
			}
			name := fmt.Sprintf("blocks.%d.", len(group))
			if err := cmp.Or(b.weights(name+"conv1", ws[g+1], c, 3, 3), b.weights(name+"conv2", ws[g+1], ws[g+1], 3, 3)); err != nil {
				return nil, err
			}
			group = append(group, b.block(c, ws[g+1], stride))
			c = ws[g+1]
		}
	}
	body.Append("blocks", snn.NewSequential(group...))
	if b.BatchNorm {
		body.Append("bn", snn.NewBatchNorm(c))
	}
	return body.Append("n", b.neurons()).Append("pool", snn.AvgPool{}).Append("fc", snn.NewLinear(c, b.Classes, true)), nil
}

// block returns a residual block from cin to cout channels.
func (b *builder) block(cin, cout, stride int) *snn.Residual {
	r := &snn.Residual{
		N1: b.neurons(), Conv1: snn.NewConv2D(cin, cout, 3, stride, 1, false),
		N2: b.neurons(), Conv2: snn.NewConv2D(cout, cout, 3, 1, 1, false),
		Comb: autograd.NewParam(2),
	}
	if b.BatchNorm {
		r.BN1, r.BN2 = snn.NewBatchNorm(cin), snn.NewBatchNorm(cout)
	}
	if b.Dropout > 0 {
		r.Drop = &snn.Dropout{P: b.Dropout}
	}
	if cin != cout {
		r.Short = snn.NewConv2D(cin, cout, 1, stride, 0, false)
	}
	return r
}
