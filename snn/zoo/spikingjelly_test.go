package zoo_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// spikingVGG returns the settings of the network of testdata/spiking_vgg.py, whose neurons
// are LIFNode(tau=2, v_threshold=0.25).
func spikingVGG(size int) zoo.Config {
	return zoo.Config{
		Arch:            "conv4 M conv6 M conv8 conv8 M conv8 conv8 M conv8 conv8 M | fc10 fc12 fc",
		WidthMultiplier: 1, Channels: 3, Height: size, Width: size, Classes: 5, Steps: 4, BatchNorm: true,
		Decay: 0.5, Threshold: 0.5, Surrogate: "sigmoid", SurrogateParam: 2,
	}
}

// A spiking_vgg11_bn that SpikingJelly saved has the logits that it had there, on images
// whose features its adaptive pooling repeats (32 to 96 pixels), leaves (224) and averages.
func TestLoadTorchSpikingVGG(t *testing.T) {
	f, err := golden.Read("testdata/spiking_vgg_outputs.safetensors")
	require.NoError(t, err)
	for _, size := range []int{32, 64, 96, 224, 256} {
		m, err := zoo.LoadTorch("testdata/spiking_vgg.pth", spikingVGG(size))
		require.NoError(t, err)
		x := tensor.NewNCHW(2, 3, size, size)
		for i := range x.Data {
			x.Data[i] = float32(uint32(i)*2654435761>>24) / 255
		}
		want := f.Tensors[fmt.Sprintf("logits.%d", size)].Floats
		grad, err := m.InputGradient(snn.Pass{}, x, func(logits []float32) []float32 {
			assert.InDeltaSlice(t, want, logits, 1e-5, "%d pixels", size)
			return f.Tensors["seed"].Floats
		})
		require.NoError(t, err)
		if size == 32 {
			assert.InDeltaSlice(t, f.Tensors["grad.32"].Floats, grad.Data, 1e-6)
		}
	}
}

// A network of ParametricLIFNode has the logits and the gradients that it had in SpikingJelly,
// also after it was saved and loaded here.
func TestLoadTorchSpikingPLIF(t *testing.T) {
	f, err := golden.Read("testdata/spiking_plif_outputs.safetensors")
	require.NoError(t, err)
	cfg := spikingVGG(32)
	cfg.Neuron, cfg.Threshold, cfg.SurrogateParam = "plif", 0.25, 4
	loaded, err := zoo.LoadTorch("testdata/spiking_plif.pth", cfg)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "m.safetensors")
	require.NoError(t, loaded.Save(path))
	again, got, err := zoo.Load(path)
	require.NoError(t, err)
	assert.Equal(t, cfg, got)
	for _, m := range []*snn.Model{loaded, again} {
		x := tensor.NewNCHW(2, 3, 32, 32)
		for i := range x.Data {
			x.Data[i] = float32(uint32(i)*2654435761>>24) / 255
		}
		grad, err := m.Gradients(snn.Pass{}, x, func(logits []float32) []float32 {
			assert.InDeltaSlice(t, f.Tensors["logits.32"].Floats, logits, 1e-5)
			return f.Tensors["seed"].Floats
		})
		require.NoError(t, err)
		assert.InDeltaSlice(t, f.Tensors["grad.32"].Floats, grad.Data, 1e-6)
		compared := 0
		for _, p := range m.Params() {
			if layer, ok := strings.CutSuffix(p.Name, ".w"); ok {
				var i int
				if n, _ := fmt.Sscanf(layer, "classifier.%d", &i); n == 1 { // SpikingJelly has dropout there
					layer = fmt.Sprintf("classifier.%d", i/2*3+1)
				}
				assert.InDelta(t, f.Tensors["w."+layer].Floats[0], p.ExportGrad()[0], 1e-5, p.Name)
				compared++
			}
		}
		assert.Equal(t, 10, compared)
	}
	assert.ErrorContains(t, zoo.SaveTorch(path, again), "neuron plif: the reference implementation has none")
	cfg.Decay = 1
	_, err = zoo.New(cfg, rng.New(1))
	assert.ErrorContains(t, err, "neuron plif with decay 1")
	cfg.Neuron = "izhikevich"
	_, err = zoo.New(cfg, rng.New(1))
	assert.ErrorContains(t, err, `neuron "izhikevich": expected plif`)
	reference := vgg()
	reference.Neuron, reference.Decay = "plif", 0.5
	_, err = zoo.LoadTorch("testdata/vgg.pth", reference)
	assert.ErrorContains(t, err, "neuron plif: the reference implementation has none")
}

// The named networks have SpikingJelly's layers. Its make_layers and torchvision count
// them: 8, 10, 13 and 16 convolutions, and the last batch norm at that place.
func TestSpikingVGGNames(t *testing.T) {
	for arch, last := range map[string]int{"spiking_vgg11": 26, "spiking_vgg13": 32, "spiking_vgg16": 41, "spiking_vgg19": 50} {
		cfg := zoo.Default(arch)
		cfg.WidthMultiplier = 0.05
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		names := map[string]bool{}
		for _, p := range m.State() {
			names[p.Name] = true
		}
		assert.True(t, names[fmt.Sprintf("features.%d.running_var", last)], arch)
		assert.False(t, names[fmt.Sprintf("features.%d.weight", last+3)], arch)
		assert.True(t, names["classifier.4.weight"], arch)
	}
}

func TestLoadTorchSpikingVGGRefuses(t *testing.T) {
	const file = "testdata/spiking_vgg.pth"
	wide, deep, plain, drop, residual := spikingVGG(32), spikingVGG(32), spikingVGG(32), spikingVGG(32), wrn()
	wide.Arch = "conv4 M conv6 M conv8 conv8 M conv8 conv8 M conv8 conv8 M | fc11 fc12 fc"
	deep.Arch = "conv4 M conv6 M conv8 conv8 M conv8 conv8 M conv8 conv8 M | fc10 fc12 fc12 fc"
	plain.BatchNorm = false
	drop.BatchNorm, drop.Dropout = false, 0.5
	huge := spikingVGG(32)
	huge.Arch = "conv4 M conv6 M conv8 conv8 M conv8 conv8 M conv8 conv4096 M | fc4096 fc12 fc"
	for _, c := range []struct {
		cfg  zoo.Config
		want string
	}{
		{wide, "tensor classifier.0.bias has shape [10]: expected [11]"},
		{deep, "it lacks classifier.9.bias, classifier.9.weight of the model's tensors, and has none"},
		{plain, "it lacks features.13.bias, features.13.weight"},
		{drop, "dropout 0.5: expected 0"},
		{residual, "it lacks block1.0.bn1.bias"},
		{huge, "a layer with weights [4096 4096 7 7]: expected at most 268435456"},
	} {
		m, err := zoo.LoadTorch(file, c.cfg)
		assert.ErrorContains(t, err, c.want)
		assert.ErrorContains(t, err, "load PyTorch model: "+file)
		assert.Nil(t, m)
	}
	// A learned time constant needs neurons that have one.
	views := tensors(t, "testdata/vgg.safetensors")
	path := filepath.Join(t.TempDir(), "plif.safetensors")
	w := views["layer1.0.bias"]
	b, err := safetensors.Serialize(map[string]safetensors.TensorView{"features.0.weight": w, "features.2.w": w}, nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, b, 0o644))
	_, err = zoo.LoadTorch(path, spikingVGG(32))
	assert.ErrorContains(t, err, "tensor features.2.w: the learned time constant of a ParametricLIFNode")
}
