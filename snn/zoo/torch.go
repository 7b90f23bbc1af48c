package zoo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/paramfile"
	"github.com/org/snnrat/snn"
)

// LoadTorch returns the network that cfg describes, with the parameters of a PyTorch state
// dict. The page docs/pytorch.md shows how to use it.
//
// The file is one of these. LoadTorch executes nothing in it.
//
//   - a zip archive that torch.save wrote (PyTorch 1.6 or later) of model.state_dict(), or of
//     a dict that holds it under state_dict, model_state_dict, model or net, or as its only
//     entry with tensors;
//   - a safetensors file.
//
// The file holds weights only. The number of steps, the neurons and the normalization come
// from cfg.
//
// # Names
//
// The layers have the names of the reference implementation of Ding et al. 2022
// (github.com/putshua/SNN-RAT), or those of SpikingJelly's spiking_vgg. The first are
//
//	here                                reference implementation
//	features.N                          layerG.M
//	classifier.N                        classifier.(N+1)
//	blocks.N.{bn1,conv1,bn2,conv2}      blockG.I.{bn1,conv1,bn2,conv2}
//	blocks.N.convex.comb                blockG.I.convex.comb
//	blocks.N.short                      blockG.I.convShortcut
//	bn                                  bn1
//	conv1, fc                           conv1, fc
//
// Group G = 1, 2, … of a VGG ends with a pooling layer. Each convolution of a group takes three
// places M, with or without batch norm. Block I = 0, 1, … of group G is block
// N = (G−1)·blocks + I.
//
// SpikingJelly's networks spiking_vgg11 to spiking_vgg19_bn have an Arch of the same name,
// without _bn. They have the names of torchvision:
//
//	here             spiking_vgg
//	features.N       features.N
//	classifier.2·I   classifier.3·I
//
// Their ParametricLIFNode is Config.Neuron "plif". They pool to 7×7 pixels before the classifier. LoadTorch multiplies that pooling into the
// weights of the first linear layer, so images may have any size.
//
// # What is converted and what is ignored
//
// LoadTorch rounds values of type F64 to the nearest float32, and widens F16 and BF16. It
// ignores
//
//   - a prefix that all names of the network share, such as module. of DataParallel,
//     _orig_mod. of torch.compile or model. of Lightning, and tensors without that prefix;
//   - num_batches_tracked, n_averaged, and a profiler's total_ops and total_params.
//
// To be told of each case, call [LoadTorchWith] with [snn.LoadOptions].Note.
//
// LoadTorch compares some tensors with cfg, by the last part of their names. It compares beta with
// Decay, and threshold, mean and std with the fields of those names. It compares snnTorch's
// reset_mechanism_val and graded_spikes_factor with the neurons.
//
// # Errors
//
// LoadTorch returns an error that names the file if the file cannot be read, is damaged, or
// needs more memory than the budget. It also returns an error if the file belongs to
// another architecture or other settings, or if [snn.Model.ValidateParams] refuses its
// values. That error names the tensor too, and the two shapes or values that differ.
func LoadTorch(path string, cfg Config) (*snn.Model, error) {
	return LoadTorchWith(path, cfg, snn.LoadOptions{})
}

// LoadTorchWith is like LoadTorch, with options. A file from PyTorch has no settings to take, so
// [snn.LoadOptions].Settings changes nothing.
func LoadTorchWith(path string, cfg Config, o snn.LoadOptions) (*snn.Model, error) {
	m, err := loadTorch(path, cfg, o)
	if err != nil {
		return nil, fmt.Errorf("load PyTorch model: %s: %w", path, err)
	}
	return m, nil
}

// loadTorch is LoadTorchWith, without the file's name in errors.
func loadTorch(path string, cfg Config, o snn.LoadOptions) (*snn.Model, error) {
	m, err := build(cfg, nil)
	if err != nil {
		return nil, err
	}
	f, err := paramfile.Open(path, paramfile.Options{Budget: o.Budget, Note: o.Note, Settings: settings(cfg)})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	params, finish := torchParams(m, cfg), func() {}
	spiking := isSpikingVGG(f.Names(), cfg)
	if cfg.Neuron != "" && !spiking {
		return nil, fmt.Errorf("neuron %s: the reference implementation has none; expected a file of SpikingJelly's spiking_vgg", cfg.Neuron)
	}
	if spiking {
		if params, finish, err = spikingVGGParams(f.Names(), m, cfg); err != nil {
			return nil, err
		}
	}
	check := func() error { finish(); return m.ValidateParams() }
	if err := f.ImportChecked(params, check); err != nil {
		return nil, err
	}
	return m, nil
}

// settings returns the settings in cfg that a state dict can hold as buffers, by the last
// part of their names.
func settings(cfg Config) map[string][]float32 {
	s := map[string][]float32{
		"beta": {cfg.Decay}, "threshold": {cfg.Threshold}, // snnTorch's neurons
		"graded_spikes_factor": {1}, "reset_mechanism_val": {1}, // value of a spike; 1 for hard and 0 for soft reset
		"mean": cfg.Mean, "std": cfg.Std, // layers that normalize
	}
	if cfg.SoftReset {
		s["reset_mechanism_val"] = []float32{0}
	}
	if cfg.Mean == nil {
		s["mean"], s["std"] = []float32{0}, []float32{1}
	}
	return s
}

// SaveTorch writes the parameters of a network to a safetensors file, under the names of the
// reference implementation of Ding et al. 2022. The network comes from New or Load. In Python,
// a network of the reference implementation reads them by
//
//	model.load_state_dict(safetensors.torch.load_file(path))
//
// SaveTorch replaces an existing file only once the new one is complete. It returns an error
// if m has no Config in its metadata, if its neurons have parameters, or if writing fails.
func SaveTorch(path string, m *snn.Model) error {
	var cfg Config
	if m.Meta[metaKey] == "" {
		return fmt.Errorf("save PyTorch model: the model has no metadata %q: expected a network that New or Load built", metaKey)
	}
	if err := json.Unmarshal([]byte(m.Meta[metaKey]), &cfg); err != nil {
		return fmt.Errorf("save PyTorch model: metadata %q of the model: %w", metaKey, err)
	}
	if cfg.Neuron != "" {
		return fmt.Errorf("save PyTorch model: neuron %s: the reference implementation has none", cfg.Neuron)
	}
	err := atomicfile.Write(path, func(w io.Writer) error {
		return paramfile.Write(w, torchParams(m, cfg), nil)
	})
	if err != nil {
		return fmt.Errorf("save PyTorch model: %w", err)
	}
	return nil
}

// torchParams returns the parameters and buffers of a network of cfg under the names of the
// reference implementation. It leaves out the normalization, which has no names there.
func torchParams(m *snn.Model, cfg Config) map[string]*autograd.Param {
	layers := torchLayers(cfg)
	params := map[string]*autograd.Param{}
	for _, p := range m.State() {
		if i := strings.LastIndex(p.Name, "."); i >= 0 {
			params[layers[p.Name[:i]]+p.Name[i:]] = p
		}
	}
	return params
}

// torchLayers returns the names of the reference implementation for the layers with
// parameters, by their names here.
func torchLayers(cfg Config) map[string]string {
	names := map[string]string{}
	arch := resolve(cfg.Arch)
	if strings.HasPrefix(arch, "WRN") {
		shape, _ := parseWRN(arch) // build has
		for _, layer := range []string{"conv1", "fc"} {
			names[layer] = layer
		}
		names["bn"] = "bn1"
		for n := range 3 * shape.blocks {
			here := fmt.Sprintf("blocks.%d.", n)
			there := fmt.Sprintf("block%d.%d.", n/shape.blocks+1, n%shape.blocks)
			for _, layer := range []string{"bn1", "conv1", "bn2", "conv2", "convex"} {
				names[here+layer] = there + layer
			}
			names[here+"short"] = there + "convShortcut"
		}
		return names
	}
	features, classifier, _ := strings.Cut(arch, "|")
	n, group, m := 0, 1, 0
	for _, word := range strings.Fields(features) {
		if !strings.HasPrefix(word, "conv") {
			n, group, m = n+1, group+1, 0
			continue
		}
		here := func(i int) string { return fmt.Sprintf("features.%d", n+i) }
		names[here(0)] = fmt.Sprintf("layer%d.%d", group, m)
		n += 2
		switch {
		case cfg.BatchNorm:
			names[here(-1)] = fmt.Sprintf("layer%d.%d", group, m+1)
			n++
		case cfg.Dropout > 0:
			n++
		}
		m += 3
	}
	for i := range strings.Fields(classifier) {
		names[fmt.Sprintf("classifier.%d", 2*i)] = fmt.Sprintf("classifier.%d", 2*i+1)
	}
	return names
}
