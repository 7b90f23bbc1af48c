package attack_test

import (
	"context"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/sbinet/npyio/npz"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func every(int) bool { return true }

// kept returns images as a report keeps them.
func kept(bright ...int) tensor.NCHW {
	x := pixels(bright...)
	x.Steps = 1
	return x
}

// The report keeps the images that Keep chooses, at any size of a batch.
func TestKeep(t *testing.T) {
	r := evaluated(t, func(i int) bool { return i == 1 || i == 3 }) // of batches of 3 and 1
	k := r.Kept
	assert.Equal(t, []int{1, 3}, k.Indices)
	assert.Equal(t, kept(1, 0), k.Clean)
	require.Len(t, k.Adversarial, len(r.Attacks))
	assert.Equal(t, kept(1, 1), k.Adversarial[1])
	assert.Equal(t, kept(1, 0), k.Adversarial[2])
	for i, o := range r.Attacks {
		assert.Equal(t, []int{2, 1, 1, 3}, []int{k.Adversarial[i].N, k.Adversarial[i].C, k.Adversarial[i].H, k.Adversarial[i].W}, o.Name)
		if o.Norm == "L∞" && o.Name != "mix" {
			assert.InDelta(t, map[bool]float32{true: o.Eps}[o.ZeroGradient == nil && o.Name != "dim"], attack.LInf{}.Distance(k.Adversarial[i].Data, k.Clean.Data), 1e-7, o.Name)
		}
	}

	assert.Nil(t, evaluated(t, nil).Kept)
	assert.Equal(t, []int{0, 1, 2, 3}, evaluated(t, every).Kept.Indices)
	empty := evaluated(t, func(int) bool { return false }).Kept
	assert.Empty(t, empty.Indices)

	text, err := json.Marshal(r)
	require.NoError(t, err)
	var back attack.Report
	require.NoError(t, json.Unmarshal(text, &back))
	r.Kept = nil
	assert.Equal(t, *r, back)
}

// Every network's report keeps the images that it was shown, also if the evaluation ends early.
func TestKeepOfSeveralNetworks(t *testing.T) {
	data := set{x: pixels(0, 1, 2), y: []int{0, 1, 2}}
	cfg := attack.DefaultConfig()
	cfg.Batch, cfg.Threat, cfg.Source, cfg.Keep = 2, whole, brightest(t), every
	stop, cancel := context.WithCancel(ctx)
	cfg.Progress = func(p attack.Progress) {
		if p.Done == 4 { // clean and attack on the first batch
			cancel()
		}
	}
	models := []*snn.Model{brightest(t), brightest(t)}
	reports, err := attack.EvaluateAll(stop, models, data, []attack.Named{{Name: "made", Attack: made{pixels(2, 2, 1)}}}, cfg)
	require.ErrorIs(t, err, context.Canceled)
	for _, r := range reports {
		assert.Equal(t, &attack.Kept{Indices: []int{0, 1}, Clean: kept(0, 1), Adversarial: []tensor.NCHW{kept(2, 2)}}, r.Kept)
	}
	reports[0].Kept.Clean.Data[0] = 0.5
	assert.EqualValues(t, 1, reports[1].Kept.Clean.Data[0], "memory of its own")

	// An adversary may return the same memory at every call.
	cfg.Source, cfg.Progress = nil, nil
	again := &reusing{tensor.NewNCHW(3, 1, 1, 3), -1}
	cfg.Batch = 3
	reports, err = attack.EvaluateAll(ctx, models, data, []attack.Named{{Name: "a", Attack: again}, {Name: "b", Attack: again}}, cfg)
	require.NoError(t, err)
	for i, r := range reports {
		for k := range r.Attacks {
			brightness := float32(2*k+i) / 4
			assert.Equal(t, []float32{brightness, brightness}, []float32{r.Kept.Adversarial[k].Data[0], r.Kept.Adversarial[k].Data[8]})
		}
	}
}

// reusing is an adversary whose images are the same memory, brighter by a quarter at every
// call.
type reusing struct {
	x    tensor.NCHW
	call float32
}

func (a *reusing) Perturb(context.Context, *snn.Model, tensor.NCHW, []int, []uint64, rng.Key) (tensor.NCHW, error) {
	a.call++
	for i := range a.x.Data {
		a.x.Data[i] = a.call / 4
	}
	return a.x, nil
}

// The archive is read back by npyio. NumPy 2.4.6 reads it as
//
//	z = numpy.load(path); z["first/adversarial"].shape
func TestWriteNPZ(t *testing.T) {
	r := evaluated(t, func(i int) bool { return i > 0 })
	path := filepath.Join(t.TempDir(), "images.npz")
	require.NoError(t, r.WriteNPZ(path))
	z, err := npz.Open(path)
	require.NoError(t, err)
	defer z.Close()
	assert.Len(t, z.Keys(), 4+2*len(r.Attacks))
	floats := func(name string, shape ...int) (v []float32) {
		require.NoError(t, z.Read(name+".npy", &v), name)
		assert.Equal(t, shape, z.Header(name+".npy").Descr.Shape, name)
		return v
	}
	ints := func(name string) (v []int64) {
		require.NoError(t, z.Read(name+".npy", &v), name)
		assert.Equal(t, []int{3}, z.Header(name+".npy").Descr.Shape, name)
		return v
	}
	assert.Equal(t, pixels(1, 2, 0).Data, floats("clean", 3, 1, 1, 3))
	assert.Equal(t, []int64{1, 2, 3}, ints("indices"))
	assert.Equal(t, []int64{1, 2, 1}, ints("labels"))
	assert.Equal(t, []int64{1, 2, 0}, ints("predicted"))
	assert.Equal(t, pixels(1, 0, 0).Data, floats("dim/adversarial", 3, 1, 1, 3))
	assert.Equal(t, []int64{1, 0, 0}, ints("dim/predicted"))
	for i, o := range r.Attacks {
		assert.Equal(t, r.Kept.Adversarial[i].Data, floats(o.Name+"/adversarial", 3, 1, 1, 3))
	}
}

// moving is a network for examples of two frames of 2 channels, and a report on three of them.
func moving(t *testing.T) *attack.Report {
	t.Helper()
	cfg := zoo.Default("| fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps, cfg.Mean, cfg.Std = 2, 3, 4, 3, 2, nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	x := tensor.NewFrames(tensor.Shape{N: 3, Steps: 2, C: 2, H: 3, W: 4})
	for i := range x.Data {
		x.Data[i] = float32(i%7) / 7
	}
	c := attack.DefaultConfig()
	c.Batch, c.Keep = 2, every
	r, err := attack.Evaluate(ctx, m, set{x: x, y: []int{0, 1, 2}}, []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.125, snn.BPTT{})}}, c)
	require.NoError(t, err)
	assert.Equal(t, x, r.Kept.Clean)
	return r
}

// Examples of several frames keep their axes.
func TestWriteNPZFrames(t *testing.T) {
	r := moving(t)
	path := filepath.Join(t.TempDir(), "images.npz")
	require.NoError(t, r.WriteNPZ(path))
	z, err := npz.Open(path)
	require.NoError(t, err)
	defer z.Close()
	for name, want := range map[string]tensor.NCHW{"clean.npy": r.Kept.Clean, "FGSM/adversarial.npy": r.Kept.Adversarial[0]} {
		var v []float32
		require.NoError(t, z.Read(name, &v))
		assert.Equal(t, want.Data, v)
		assert.Equal(t, []int{3, 2, 2, 3, 4}, z.Header(name).Descr.Shape)
	}
}

// Nothing is written without images or at a path that takes no file, and what was there
// stays.
func TestWriteErrors(t *testing.T) {
	dir := t.TempDir()
	for _, r := range []*attack.Report{{}, evaluated(t, nil), evaluated(t, func(int) bool { return false })} {
		const want = ": the report holds no images: expected an evaluation whose Config.Keep chooses some"
		assert.EqualError(t, r.WriteNPZ(filepath.Join(dir, "a.npz")), "attack: "+filepath.Join(dir, "a.npz")+want)
		assert.EqualError(t, r.WritePNG(filepath.Join(dir, "png")), "attack: "+filepath.Join(dir, "png")+want)
	}
	r := evaluated(t, every)
	assert.ErrorContains(t, r.WriteNPZ(filepath.Join(dir, "missing", "a.npz")), "attack: write images: ")
	assert.ErrorContains(t, r.WriteNPZ(dir), dir+" is a folder: expected a regular file")
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o644))
	assert.ErrorContains(t, r.WritePNG(file), "attack: write pictures: mkdir "+file)
	assert.ErrorContains(t, r.WritePNG(filepath.Join(file, "png")), file)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "old", string(text))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)

	// A folder has the name of the second picture.
	pictures := filepath.Join(dir, "pictures")
	require.NoError(t, os.MkdirAll(filepath.Join(pictures, "2-first-1.png", "inner"), 0o755))
	assert.ErrorContains(t, r.WritePNG(pictures), "2-first-1.png is a folder: expected a regular file")
	entries, err = os.ReadDir(pictures)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "the first picture and the folder")
	decode(t, filepath.Join(pictures, "1-FGSM-1.png"))
}

func decode(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	picture, err := png.Decode(f)
	require.NoError(t, err)
	return picture
}

// rgb returns the color of a pixel in 8 bits.
func rgb(p image.Image, x, y int) [3]uint8 {
	c := color.NRGBAModel.Convert(p.At(x, y)).(color.NRGBA)
	return [3]uint8{c.R, c.G, c.B}
}

// red tells whether a picture has a red letter in a rectangle.
func red(p image.Image, x0, y0, x1, y1 int) bool {
	for y := y0; y < y1; y++ {
		for x := x0; x < x1; x++ {
			if c := rgb(p, x, y); c == [3]uint8{200, 0, 0} {
				return true
			}
		}
	}
	return false
}
