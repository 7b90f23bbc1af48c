package zoo_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/regular"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// described returns a file of one small tensor that describes a network.
func described(t testing.TB, description string) []byte {
	meta, err := json.Marshal(map[string]string{"snnrat": description})
	require.NoError(t, err)
	header := fmt.Sprintf(`{"features.0.weight":{"dtype":"F32","shape":[1,1,3,3],"data_offsets":[0,36]},"__metadata__":%s}`, meta)
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	return append(b, make([]byte, 36)...)
}

// load loads a file of that content, and returns the bytes that it allocates.
func load(t testing.TB, b []byte) (uint64, error) {
	path := filepath.Join(t.TempDir(), "model.safetensors")
	require.NoError(t, os.WriteFile(path, b, 0o644))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := zoo.Load(path)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// A small file that describes a huge network is refused before it is built.
func TestLoadBuildsNothingForClaims(t *testing.T) {
	for _, c := range []struct {
		change func(c *zoo.Config)
		want   string
	}{
		{func(c *zoo.Config) { c.Arch = "conv4096 conv4096 conv4096 | fc" }, "tensor features.0.weight has shape [1 1 3 3]: expected [4096 3 3 3], as the network that the file describes"},
		{func(c *zoo.Config) { c.Arch, c.Channels, c.Mean, c.Std = "conv1 conv4096 conv4096 | fc", 1, nil, nil }, "the file lacks tensor features.3.weight of the network that it describes"},
		{func(c *zoo.Config) { c.Arch, c.Channels, c.Mean, c.Std = "conv1 | fc8192 fc8192 fc", 1, nil, nil }, "the file lacks tensor classifier.0.weight"},
		{func(c *zoo.Config) { c.Arch = "WRN widths 1,1,1,1, 65536 blocks a group, strides 1,1,1" }, "the file lacks tensor conv1.weight"},
		{func(c *zoo.Config) { c.Arch, c.WidthMultiplier = "wrn-28-10", 4 }, "the file lacks tensor conv1.weight"},
		{func(c *zoo.Config) { c.Height, c.Width = 65536, 65536 }, "images of shape [3 65536 65536]: expected at most 268435456 values"},
		{func(c *zoo.Config) { c.Arch, c.Channels, c.Height, c.Width = "A A A conv65536 | fc", 65536, 64, 64 }, "a layer with weights [65536 65536 3 3]: expected at most"},
		{func(c *zoo.Config) { c.Arch, c.Channels, c.Height, c.Width = "conv1 | fc", 1, 16384, 16384 }, "a layer with weights [10 268435456]: expected at most"},
	} {
		cfg := zoo.Default("small")
		c.change(&cfg)
		text, err := json.Marshal(cfg)
		require.NoError(t, err)
		b := described(t, string(text))
		require.Less(t, len(b), 700)
		taken, err := load(t, b)
		assert.ErrorContains(t, err, c.want)
		assert.Less(t, taken, uint64(1<<20), c.want)
	}
}

// A number of steps that no memory holds is refused, in the description and in the
// settings.
func TestLoadRefusesSteps(t *testing.T) {
	const huge = 1<<31 - 1
	cfg := checkpoint()
	cfg.Steps = huge
	_, err := zoo.New(cfg, rng.New(1))
	assert.EqualError(t, err, "zoo: snn: 2147483647 time steps: expected at most 65536")
	m, err := zoo.New(checkpoint(), rng.New(1))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	m.Steps = huge
	require.NoError(t, m.Save(path))
	_, _, err = zoo.Load(path)
	assert.ErrorContains(t, err, "2147483647 time steps: expected at most 65536")
	m.Steps = 4
	m.Meta["snnrat"] = strings.Replace(m.Meta["snnrat"], `"steps":4`, `"steps":2147483647`, 1)
	require.NoError(t, m.Save(path))
	_, _, err = zoo.Load(path)
	assert.ErrorContains(t, err, "2147483647 time steps: expected at most 65536")
}

// The budget of a load is the caller's.
func TestLoadWithin(t *testing.T) {
	m, err := zoo.New(checkpoint(), rng.New(1))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	require.NoError(t, m.Save(path))
	_, _, err = zoo.LoadWith(path, snn.LoadOptions{Budget: 1000})
	assert.ErrorContains(t, err, path+": not a safetensors file: a header of")
	assert.ErrorContains(t, err, "expected at most 1000, the reader's budget, which can be raised")
	_, _, err = zoo.LoadWith(path, snn.LoadOptions{Budget: 1 << 20})
	require.NoError(t, err)
	_, err = zoo.LoadTorchWith("testdata/checkpoints/zipped.pth", checkpoint(), snn.LoadOptions{Budget: 20_000})
	assert.ErrorContains(t, err, "the structure of the tensors takes")
}

func TestLoadRefusesFolders(t *testing.T) {
	dir := t.TempDir()
	_, _, err := zoo.Load(dir)
	assert.ErrorIs(t, err, regular.ErrNotRegular)
	_, err = zoo.LoadTorch(dir, checkpoint())
	assert.ErrorIs(t, err, regular.ErrNotRegular)
	m, err := zoo.New(checkpoint(), rng.New(1))
	require.NoError(t, err)
	assert.ErrorIs(t, m.Load(dir), regular.ErrNotRegular)
}

// Nothing that a file says of its network makes Load panic, or build what it does not
// hold.
func FuzzMetadata(f *testing.F) {
	for _, arch := range []string{"conv1 | fc", "conv1 A M conv2 | fc3 fc", "wrn-16-4", "WRN widths 1,2,3,4, 2 blocks a group, strides 1,2,2", "vgg11"} {
		cfg := zoo.Default(arch)
		cfg.Channels, cfg.Mean, cfg.Std = 1, []float32{0.5}, []float32{0.25}
		text, err := json.Marshal(cfg)
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Add(`{"arch":"conv1|","leak":1,"surrogate_width":1}`)
	f.Fuzz(func(t *testing.T, description string) {
		b := described(t, description)
		taken, err := load(t, b)
		if err == nil {
			t.Fatal("a network of one tensor was loaded")
		}
		if most := uint64(1<<20 + 200*len(b)); taken > most {
			t.Fatalf("%d bytes allocated for a file of %d", taken, len(b))
		}
	})
}
