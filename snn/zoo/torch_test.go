package zoo_test

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
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

// reference returns the settings of the networks of testdata/reference.py.
func reference(arch string, size int) zoo.Config {
	cfg := cifar10(arch)
	cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = size, size, 5, 4
	return cfg
}

func vgg() zoo.Config { return reference("conv8 A conv12 conv17 A conv8 | fc20 fc20 fc", 8) }

func wrn() zoo.Config {
	return reference("WRN widths 4,5,6,7, 2 blocks a group, strides 1,2,2", 32)
}

// The networks that PyTorch saved say of images what they said there.
func TestLoadTorchAgrees(t *testing.T) {
	bare := vgg()
	bare.BatchNorm, bare.Dropout = false, 0.1
	still := bare
	still.Dropout = 0
	for _, c := range []struct {
		file, outputs string
		cfg           zoo.Config
	}{
		{"vgg.pth", "vgg", vgg()},
		{"vgg.safetensors", "vgg", vgg()},
		{"vgg_nobn.pth", "vgg_nobn", bare},
		{"vgg_nobn.pth", "vgg_nobn", still},
		{"wrn.pth", "wrn", wrn()},
		{"wrn_checkpoint.pth", "wrn", wrn()},
	} {
		f, err := golden.Read("testdata/" + c.outputs + "_outputs.safetensors")
		require.NoError(t, err)
		images, want := f.Tensors["images"], f.Tensors["logits"].Floats
		x := tensor.NCHW{N: images.Shape[0], C: 3, H: images.Shape[2], W: images.Shape[3], Data: images.Floats}
		m, err := zoo.LoadTorch("testdata/"+c.file, c.cfg)
		require.NoError(t, err)
		got, err := m.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		largest := 0.0
		for i, z := range want {
			largest = math.Max(largest, math.Abs(float64(z-got[i])))
		}
		t.Logf("%s: largest difference %.1e", c.file, largest)
		assert.Less(t, largest, 1e-4, c.file)

		// What was read is saved and read again as one of ours.
		path := filepath.Join(t.TempDir(), "model.safetensors")
		require.NoError(t, m.Save(path))
		again, cfg, err := zoo.Load(path)
		require.NoError(t, err)
		assert.Equal(t, c.cfg, cfg)
		same, err := again.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		assert.Equal(t, got, same)
	}
}

// SaveTorch writes the tensors that PyTorch wrote: names, types, shapes and bits.
func TestSaveTorch(t *testing.T) {
	m, err := zoo.LoadTorch("testdata/vgg.pth", vgg())
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "vgg.safetensors")
	require.NoError(t, zoo.SaveTorch(path, m))
	want, got := tensors(t, "testdata/vgg.safetensors"), tensors(t, path)
	for name := range want {
		if strings.HasSuffix(name, ".num_batches_tracked") {
			delete(want, name)
		}
	}
	assert.NotEmpty(t, want)
	assert.Equal(t, want, got)

	m, err = zoo.LoadTorch("testdata/wrn.pth", wrn())
	require.NoError(t, err)
	require.NoError(t, zoo.SaveTorch(path, m))
	again, err := zoo.LoadTorch(path, wrn())
	require.NoError(t, err)
	for i, p := range m.State() {
		assert.Equal(t, p.Data(), again.State()[i].Data(), p.Name)
	}

	m.Meta = nil
	assert.ErrorContains(t, zoo.SaveTorch(path, m), `the model has no metadata "snnrat": expected a network that New or Load built`)
	m, err = zoo.New(vgg(), rng.New(1))
	require.NoError(t, err)
	assert.ErrorContains(t, zoo.SaveTorch(filepath.Join(path, "under a file"), m), "save PyTorch model: ")
}

// tensors returns a safetensors file's tensors by name.
func tensors(t *testing.T, path string) map[string]safetensors.TensorView {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := safetensors.Deserialize(b)
	require.NoError(t, err)
	views := map[string]safetensors.TensorView{}
	for _, v := range f.Tensors() {
		views[v.Name] = v.TensorView
	}
	return views
}

// Every layer with parameters of every named network has a name of its own there, and
// those of the largest networks are as the reference implementation has them.
func TestTorchNames(t *testing.T) {
	for arch := range zoo.Architectures {
		for _, norm := range []bool{true, false} {
			cfg := cifar10(arch)
			cfg.WidthMultiplier, cfg.BatchNorm = 0.1, norm
			m, err := zoo.New(cfg, rng.New(1))
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "model.safetensors")
			require.NoError(t, zoo.SaveTorch(path, m))
			names := slices.Sorted(maps.Keys(tensors(t, path)))
			assert.Len(t, names, len(m.State())-2, arch)
			for _, name := range map[string][]string{
				"vgg5":     {"layer1.0.weight", "layer2.0.weight", "layer2.3.bias", "classifier.1.weight", "classifier.5.bias"},
				"vgg11":    {"layer1.0.weight", "layer2.3.weight", "layer3.6.weight", "layer4.3.bias", "classifier.3.weight"},
				"vgg16":    {"layer1.3.weight", "layer3.6.weight", "layer5.6.bias"},
				"wrn-16-4": {"conv1.weight", "block1.0.convShortcut.weight", "block3.1.conv2.weight", "block2.0.convex.comb", "fc.bias"},
			}[arch] {
				assert.Contains(t, names, name, arch)
			}
			if norm && arch == "vgg11" {
				assert.Contains(t, names, "layer3.7.running_var")
			}
			if norm && arch == "wrn-16-4" {
				assert.Contains(t, names, "bn1.weight")
				assert.Contains(t, names, "block1.1.bn2.running_mean")
			}
			for _, name := range names {
				assert.False(t, strings.HasPrefix(name, "."), name)
			}
		}
	}
}

func TestLoadTorchRefuses(t *testing.T) {
	wide, deep, more, plain := vgg(), vgg(), vgg(), vgg()
	wide.Arch = "conv8 A conv12 conv16 A conv8 | fc20 fc20 fc"
	deep.Arch = "conv8 A conv12 conv17 A conv8 conv8 | fc20 fc20 fc"
	more.Classes = 10
	plain.BatchNorm = false
	bad := vgg()
	bad.Arch = "vgg12"
	dir := t.TempDir()
	text := filepath.Join(dir, "text.pth")
	require.NoError(t, os.WriteFile(text, []byte("<!DOCTYPE html><html>"), 0o644))
	whole, err := os.ReadFile("testdata/vgg.pth")
	require.NoError(t, err)
	cut := filepath.Join(dir, "cut.pth")
	require.NoError(t, os.WriteFile(cut, whole[:len(whole)/2], 0o644))
	for _, c := range []struct {
		path string
		cfg  zoo.Config
		want string
	}{
		{"testdata/vgg.pth", wide, "tensor layer2.3.bias has shape [17]: expected [16]"},
		{"testdata/vgg.pth", more, "tensor classifier.5.bias has shape [5]: expected [10]"},
		{"testdata/vgg.pth", deep, "it lacks layer3.3.bias, layer3.3.weight, layer3.4.bias, layer3.4.running_mean, layer3.4.running_var, layer3.4.weight of the model's tensors, and has none"},
		{"testdata/vgg.pth", plain, "it lacks none of the model's tensors, and has layer1.1.bias, layer1.1.running_mean,"},
		{"testdata/wrn.pth", vgg(), "it lacks classifier.1.bias, "},
		{"testdata/wrn_checkpoint.pth", vgg(), "it lacks classifier.1.bias, "},
		{"testdata/vgg.pth", bad, `unknown architecture "vgg12"`},
		{"testdata/missing.pth", vgg(), "no such file"},
		{text, vgg(), "not a safetensors file"},
		{cut, vgg(), "not a PyTorch state dict: zip: not a valid zip file"},
	} {
		m, err := zoo.LoadTorch(c.path, c.cfg)
		require.ErrorContains(t, err, c.want)
		assert.ErrorContains(t, err, "load PyTorch model: ")
		assert.ErrorContains(t, err, c.path[strings.LastIndex(c.path, "/")+1:])
		assert.NotContains(t, err.Error(), "\n")
		assert.Nil(t, m)
	}
	_, _, err = zoo.Load("testdata/vgg.pth")
	assert.ErrorContains(t, err, "LoadTorch reads files of PyTorch")
}
