// Package zoo builds the networks of Ding et al. 2022 and similar ones.
//
//	cfg := zoo.Default("vgg11").For(set)
//	m, err := zoo.New(cfg, rng.New(1))
//
// Here set is the training set. The network takes the shape, the classes and the
// normalization of its images.
//
// # Architectures
//
// Config.Arch is a name of [Architectures], or a network in one of two notations:
//
//	conv64 A conv128 conv256 A | fc4096 fc10
//	WRN widths 16,64,128,256, 2 blocks a group, strides 1,2,2
//
// The first is a VGG, and its words are
//
//	convN   3×3 convolution with N channels, batch norm, neurons
//	A       2×2 average pooling
//	M       2×2 max pooling
//	|       end of the features, start of the classifier
//	fcN     linear layer with N features, then neurons except after the last one
//	fc      fcN with one feature for each class
//
// The second is a wide residual network (Zagoruyko and Komodakis 2016) with pre-activation
// and learned convex combinations.
//
// # Files
//
//	m.Save      writes a network of New
//	Load        reads it again, without a Config
//	LoadTorch   reads PyTorch's files
//	SaveTorch   writes files for PyTorch
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
	"github.com/org/snnrat/internal/paramfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// Architectures holds networks by name. The package comment explains the notation.
//
//   - vgg5 to vgg16, wrn-16-4 and wrn-28-10 have the sizes of the reference implementation
//     of Ding et al. 2022.
//   - spiking_vgg11 to spiking_vgg19 are those of SpikingJelly.
//   - small is the network of examples/rat.
var Architectures = map[string]string{
	"small":         "conv16 A conv32 A conv32 | fc",
	"vgg5":          "conv64 A conv128 conv128 A | fc4096 fc4096 fc",
	"vgg11":         "conv64 A conv128 conv256 A conv512 conv512 conv512 A conv512 conv512 | fc4096 fc4096 fc",
	"vgg13":         "conv64 conv64 A conv128 conv128 A conv256 conv256 A conv512 conv512 A conv512 conv512 A | fc4096 fc4096 fc",
	"vgg16":         "conv64 conv64 A conv128 conv128 A conv256 conv256 conv256 A conv512 conv512 conv512 A conv512 conv512 conv512 A | fc4096 fc4096 fc",
	"spiking_vgg11": "conv64 M conv128 M conv256 conv256 M conv512 conv512 M conv512 conv512 M | fc4096 fc4096 fc",
	"spiking_vgg13": "conv64 conv64 M conv128 conv128 M conv256 conv256 M conv512 conv512 M conv512 conv512 M | fc4096 fc4096 fc",
	"spiking_vgg16": "conv64 conv64 M conv128 conv128 M conv256 conv256 conv256 M conv512 conv512 conv512 M conv512 conv512 conv512 M | fc4096 fc4096 fc",
	"spiking_vgg19": "conv64 conv64 M conv128 conv128 M conv256 conv256 conv256 conv256 M conv512 conv512 conv512 conv512 M conv512 conv512 conv512 conv512 M | fc4096 fc4096 fc",
	"wrn-16-4":      "WRN widths 16,64,128,256, 2 blocks a group, strides 1,2,2",
	"wrn-28-10":     "WRN widths 16,160,320,640, 4 blocks a group, strides 1,2,2",
}

// Config describes a network. Model.Save stores it in the file.
type Config struct {
	Arch            string    `json:"arch"`             // a name of Architectures, or a network in their notation
	WidthMultiplier float64   `json:"width_multiplier"` // factor of the channels and features of all layers but the last, in (0,64]
	Channels        int       `json:"channels"`
	Height          int       `json:"height"`
	Width           int       `json:"width"`
	Classes         int       `json:"classes"`
	Steps           int       `json:"steps"`                  // T, the number of time steps
	Decay           float32   `json:"decay"`                  // λ in (0,1]
	Threshold       float32   `json:"threshold"`              // θ > 0
	SoftReset       bool      `json:"soft_reset,omitempty"`   // as in snn.Neuron
	Detach          bool      `json:"detach_reset,omitempty"` // DetachReset of snn.Neuron
	Surrogate       string    `json:"surrogate"`              // a name of snn.NewSurrogate
	SurrogateParam  float32   `json:"surrogate_param"`        // the parameter of snn.NewSurrogate
	BatchNorm       bool      `json:"batch_norm"`             // batch norm after the convolutions of a VGG, before the neurons of a WRN
	Dropout         float32   `json:"dropout,omitempty"`      // probability in [0,1): after a VGG's neurons if BatchNorm is false, before the second convolution of a WRN's block
	Poisson         bool      `json:"poisson,omitempty"`      // Poisson encoding of images, instead of direct
	ClassNames      []string  `json:"class_names,omitempty"`  // [Classes], in the order of the labels; nil if unknown
	Mean            []float32 `json:"mean"`                   // [Channels], by which images are normalized; nil for none
	Std             []float32 `json:"std"`                    // [Channels], positive; nil for none
}

// UnmarshalJSON implements [json.Unmarshaler]. It also accepts the older keys "leak" of Decay
// and "surrogate_width" of SurrogateParam.
func (c *Config) UnmarshalJSON(text []byte) error {
	type plain Config
	old := struct {
		*plain
		Leak  *float32 `json:"leak"`
		Width *float32 `json:"surrogate_width"`
	}{plain: (*plain)(c)}
	if err := json.Unmarshal(text, &old); err != nil {
		return err
	}
	if old.Leak != nil {
		c.Decay = *old.Leak
	}
	if old.Width != nil {
		c.SurrogateParam = *old.Width
	}
	return nil
}

// Default returns the paper's settings for an architecture: T = 8, IF neurons with θ = 1, a
// triangle surrogate of width 1, and batch norm. Images are 3×32×32 in 10 classes, and are
// not normalized. [Config.For] takes shape, classes and normalization from a data set.
func Default(arch string) Config {
	return Config{
		Arch: arch, WidthMultiplier: 1, Channels: 3, Height: 32, Width: 32, Classes: 10,
		Steps: 8, Decay: 1, Threshold: 1, Surrogate: "triangle", SurrogateParam: 1, BatchNorm: true,
	}
}

// Images describes the images and classes of a data set. A *dataset.Set implements it.
type Images interface {
	// Shape returns the number of images and the channels, rows and columns of each.
	Shape() (n, c, h, w int)
	// NumClasses returns the number of classes.
	NumClasses() int
	// ClassNames returns the names of the classes, or nil if they are unknown.
	ClassNames() []string
	// Normalization returns the mean and the standard deviation of each channel, by which
	// networks normalize the images. Both are nil for none.
	Normalization() (mean, std []float32)
}

// For returns c with the images and classes of a data set: Channels, Height, Width, Classes,
// ClassNames, Mean and Std.
func (c Config) For(set Images) Config {
	_, c.Channels, c.Height, c.Width = set.Shape()
	c.Classes, c.ClassNames = set.NumClasses(), set.ClassNames()
	c.Mean, c.Std = set.Normalization()
	return c
}

// RateCoded returns the settings of rate-coded networks for an architecture (Sharmin et al.,
// Inherent adversarial robustness of deep spiking neural networks, ECCV 2020). That paper
// reports them as robust without adversarial training. They have Poisson input over T = 100
// steps, and leaky neurons with soft reset and Decay 0.99, which is one of several values in
// the paper. All else is as in Default.
//
// The gradient of an image is the gradient of its Poisson spikes, summed over time. Images
// are not normalized, so the first layer computes only where there are spikes. [Config.For]
// sets a normalization, so set Mean and Std to nil after calling it.
//
// The networks of the paper have no batch norm. They start from the weights of a converted
// ReLU network.
func RateCoded(arch string) Config {
	cfg := Default(arch)
	cfg.Steps, cfg.Poisson, cfg.Decay, cfg.SoftReset = 100, true, 0.99, true
	return cfg
}

// metaKey is the key in Model.Meta of a network's Config as JSON.
const metaKey = "snnrat"

// New returns the network that cfg describes, with random parameters. All random numbers
// come from key. New returns an error that names the field or the layer that does not fit.
func New(cfg Config, key rng.Key) (*snn.Model, error) {
	m, err := build(cfg, nil)
	if err != nil {
		return nil, fmt.Errorf("zoo: %w", err)
	}
	m.Init(key)
	return m, nil
}

// ErrNoDescription is the error of Load for a file without the Config of its network. Files
// from PyTorch have none; LoadTorch reads them.
var ErrNoDescription = errors.New("no description of the network in the file's metadata")

// Load returns the network in a file that Model.Save wrote for a network of New. Its
// parameters, number of steps, encoder and layer settings are those at the time of Save. So
// are Steps, Poisson and ClassNames of the Config, and its fields for neurons if all layers of
// neurons are the same. The rest of the Config is what New was given.
//
// Load returns an error that names the file if the file is damaged, has no Config, or does not
// hold the tensors of the network that its Config describes.
func Load(path string) (*snn.Model, Config, error) { return LoadWith(path, snn.LoadOptions{}) }

// LoadWith is like Load, with options.
func LoadWith(path string, o snn.LoadOptions) (*snn.Model, Config, error) {
	var cfg Config
	m, err := rebuild(path, &cfg, o)
	if err != nil {
		return nil, cfg, fmt.Errorf("load model: %s: %w", path, err)
	}
	if err := m.LoadWith(path, o); err != nil {
		return nil, cfg, err
	}
	return m, cfg, nil
}

// rebuild returns the network that a file's metadata describe, without its parameters. It
// checks the shapes of the file's tensors before it allocates a layer.
func rebuild(path string, cfg *Config, o snn.LoadOptions) (*snn.Model, error) {
	f, err := paramfile.Open(path, paramfile.Options{Budget: o.Budget})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, ok := f.Meta[metaKey]
	if !ok {
		return nil, fmt.Errorf("%w under %q; LoadTorch reads files of PyTorch, Model.Load those of networks that are built otherwise", ErrNoDescription, metaKey)
	}
	if err := json.Unmarshal([]byte(text), cfg); err != nil {
		return nil, fmt.Errorf("metadata %q: %w", metaKey, err)
	}
	m, err := build(*cfg, f.Shape)
	if err != nil {
		return nil, err
	}
	if err := m.SetSettings(f.Meta); err != nil {
		return nil, err
	}
	cfg.update(m)
	return m, nil
}

// update sets the fields of c that can change in a network of c to those of m.
func (c *Config) update(m *snn.Model) {
	_, c.Poisson = m.Encoder.(snn.Poisson)
	c.Steps, c.ClassNames = m.Steps, m.ClassNames()
	var first *snn.Neuron
	for _, r := range m.Summary().Rows {
		n, ok := r.Layer.(*snn.Neuron)
		switch {
		case !ok:
		case first == nil:
			first = n
		case n.Decay != first.Decay || n.Threshold != first.Threshold || n.SoftReset != first.SoftReset ||
			n.DetachReset != first.DetachReset || n.Surrogate != first.Surrogate:
			return
		}
	}
	if first == nil {
		return
	}
	c.Decay, c.Threshold, c.SoftReset, c.Detach = first.Decay, first.Threshold, first.SoftReset, first.DetachReset
	fmt.Sscan(first.Surrogate.String(), &c.Surrogate, &c.SurrogateParam) // one of NewSurrogate's, as SetSettings read it
}

// resolve returns the notation of a named network, and any other text as it is.
func resolve(arch string) string {
	if a, ok := Architectures[strings.ToLower(arch)]; ok {
		return a
	}
	return arch
}

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
	s, err := snn.NewSurrogate(cfg.Surrogate, cfg.SurrogateParam)
	if err != nil {
		return nil, err
	}
	neuron := snn.Neuron{Decay: cfg.Decay, Threshold: cfg.Threshold, SoftReset: cfg.SoftReset, DetachReset: cfg.Detach, Surrogate: s}
	if err := neuron.Validate(); err != nil {
		return nil, err
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

// Names returns the names of Architectures in alphabetical order, separated by commas.
func Names() string {
	var ns []string
	for n := range Architectures {
		ns = append(ns, n)
	}
	slices.Sort(ns)
	return strings.Join(ns, ", ")
}

// builder builds the layers of a Config.
type builder struct {
	Config
	neuron snn.Neuron
	shape  func(name string) ([]int, bool) // shape of a weight in a file; nil without a file
}

// neurons returns a new layer of neurons.
func (b *builder) neurons() *snn.Neuron { n := b.neuron; return &n }

// wide returns n channels times the width multiplier, rounded, and at least 1.
func (b *builder) wide(n int) int { return max(1, int(float64(n)*b.WidthMultiplier+0.5)) }

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
		return fmt.Errorf("tensor %s has shape %v: expected %v, as the network that the file describes", name, has, shape)
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
