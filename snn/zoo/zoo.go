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
//	Parse       does the same with a file's content
//	LoadTorch   reads PyTorch's files
//	SaveTorch   writes files for PyTorch
package zoo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	Neuron          string    `json:"neuron,omitempty"`       // "" for snn.LIF, or "plif" for those of snn.NewPLIF, which begin with Decay = 1 − 1/τ
	Decay           float32   `json:"decay"`                  // λ in (0,1]
	Threshold       float32   `json:"threshold"`              // θ > 0
	SoftReset       bool      `json:"soft_reset,omitempty"`   // as in snn.LIF
	Detach          bool      `json:"detach_reset,omitempty"` // DetachReset of snn.LIF
	Surrogate       string    `json:"surrogate"`              // a name of snn.NewSurrogate
	SurrogateParam  float32   `json:"surrogate_param"`        // the parameter of snn.NewSurrogate
	BatchNorm       bool      `json:"batch_norm"`             // batch norm after the convolutions of a VGG, before the neurons of a WRN
	Dropout         float32   `json:"dropout,omitempty"`      // probability in [0,1): after the neurons behind a VGG's convolutions, or before the second convolution of a WRN's block; 0 for a VGG with BatchNorm
	Poisson         bool      `json:"poisson,omitempty"`      // Poisson encoding of images, instead of direct
	Levels          int       `json:"levels,omitempty"`       // those of snn.StochasticQuantization of images, at least 1; 0 is none
	Frequencies     bool      `json:"frequencies,omitempty"`  // snn.FrequencyEncoding of images, instead of direct
	Noise           float32   `json:"noise,omitempty"`        // Std of snn.NoisyLIF, of all neurons; 0 is snn.LIF
	ClassNames      []string  `json:"class_names,omitempty"`  // [Classes], in the order of the labels; nil if unknown
	Mean            []float32 `json:"mean"`                   // [Channels], by which images are normalized; nil for none
	Std             []float32 `json:"std"`                    // [Channels], positive; nil for none
}

// UnmarshalJSON implements [json.Unmarshaler]. It also accepts the older keys "leak" of Decay
// and "surrogate_width" of SurrogateParam. Other keys that no field has are an error.
func (c *Config) UnmarshalJSON(text []byte) error {
	type plain Config
	old := struct {
		*plain
		Leak  *float32 `json:"leak"`
		Width *float32 `json:"surrogate_width"`
	}{plain: (*plain)(c)}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // a file of a later version may have a setting without which the network is another
	if err := d.Decode(&old); err != nil {
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

// For returns c with the examples and classes of a data set: Channels, Height, Width,
// ClassNames, Mean and Std, as far as the data set knows them. Classes stays as it is if
// the data set does not know its number of classes. Steps becomes the number of frames if
// an example has several.
func (c Config) For(set snn.Dataset) Config {
	s, info := set.Shape(), snn.InfoOf(set)
	c.Channels, c.Height, c.Width = s.C, s.H, s.W
	if s.Steps > 1 {
		c.Steps = s.Steps
	}
	if info.Classes > 0 {
		c.Classes = info.Classes
	}
	c.ClassNames, c.Mean, c.Std = info.ClassNames, info.Mean, info.Std
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
// are Steps, Poisson, Levels, Frequencies and ClassNames of the Config, and its fields for neurons
// if all layers of neurons are the same. The rest of the Config is what New was given.
//
// Load returns an error that names the file if the file is damaged, has no Config, or does not
// hold the tensors of the network that its Config describes.
func Load(path string) (*snn.Model, Config, error) { return LoadWith(path, snn.LoadOptions{}) }

// LoadWith is like Load, with options.
func LoadWith(path string, o snn.LoadOptions) (*snn.Model, Config, error) {
	var cfg Config
	f, err := paramfile.Open(path, paramfile.Options{Budget: o.Budget})
	if err != nil {
		return nil, cfg, fmt.Errorf("load model: %s: %w", path, err)
	}
	m, err := rebuild(f, &cfg)
	f.Close()
	if err != nil {
		return nil, cfg, fmt.Errorf("load model: %s: %w", path, err)
	}
	if err := m.LoadWith(path, o); err != nil {
		return nil, cfg, err
	}
	return m, cfg, nil
}

// Parse is like Load, but takes the content of the file. Its errors do not name a file.
func Parse(file []byte) (*snn.Model, Config, error) {
	var cfg Config
	f, err := paramfile.Parse(file, paramfile.Options{})
	if err != nil {
		return nil, cfg, fmt.Errorf("zoo: %w", err)
	}
	m, err := rebuild(f, &cfg)
	if err == nil {
		err = m.SetState(file)
	}
	if err != nil {
		return nil, cfg, fmt.Errorf("zoo: %w", err)
	}
	return m, cfg, nil
}

// rebuild returns the network that a file's metadata describe, without its parameters. It
// checks the shapes of the file's tensors before it allocates a layer.
func rebuild(f *paramfile.File, cfg *Config) (*snn.Model, error) {
	text, ok := f.Meta[metaKey]
	if !ok {
		return nil, fmt.Errorf("%w under %q; LoadTorch reads files of PyTorch, Model.Load those of networks that are built otherwise", ErrNoDescription, metaKey)
	}
	if err := json.Unmarshal([]byte(text), cfg); err != nil {
		return nil, fmt.Errorf("metadata %q: %w", metaKey, err)
	}
	if replacesDropout(*cfg) {
		cfg.Dropout = 0 // files of earlier versions can have one, which had no effect
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
	quantized, _ := m.Encoder.(snn.StochasticQuantization)
	c.Levels = quantized.Levels
	_, c.Frequencies = m.Encoder.(snn.FrequencyEncoding)
	c.Steps, c.ClassNames = m.Steps, m.ClassNames()
	var noise []float32 // of each layer
	for _, r := range m.Summary().Rows {
		if l, ok := r.Layer.(*snn.NoisyLIF); ok {
			noise = append(noise, l.Std)
		}
	}
	if noise != nil && slices.Min(noise) == slices.Max(noise) {
		c.Noise = noise[0]
	}
	var first *snn.LIF
	for _, r := range m.Summary().Rows {
		var n snn.LIF
		switch l := r.Layer.(type) {
		case *snn.LIF:
			n = *l
		case *snn.GLIF: // its trained decay began at c.Decay
			n = snn.LIF{Decay: c.Decay, Threshold: l.Threshold.Data()[0], SoftReset: l.SoftReset, DetachReset: l.DetachReset, Surrogate: l.Surrogate}
		default:
			continue
		}
		switch {
		case first == nil:
			first = &n
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

// Names returns the names of Architectures in alphabetical order, separated by commas.
func Names() string {
	var ns []string
	for n := range Architectures {
		ns = append(ns, n)
	}
	slices.Sort(ns)
	return strings.Join(ns, ", ")
}
