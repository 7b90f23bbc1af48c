package snn_test

import (
	"math"
	"math/cmplx"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// lowPass returns |F⁻¹(mask·F(x))| by sums over all pixels. The mask is a square around the
// frequency 0 in an array whose frequencies rise.
func lowPass(x []float64, h, w, step, steps int) []float64 {
	spectrum := make([]complex128, h*w)
	masked := func(u, n int) bool { // index u of the rising frequencies
		half := int(math.Ceil(float64(n*(steps-step)) / float64(2*steps)))
		return u >= n/2-half && u < n/2+half
	}
	wave := func(sign float64, u, v, i, k int) complex128 {
		angle := 2 * math.Pi * (float64((u-h/2)*i)/float64(h) + float64((v-w/2)*k)/float64(w))
		return cmplx.Exp(complex(0, sign*angle))
	}
	for u := range h {
		for v := range w {
			for i := range h {
				for k := range w {
					if masked(u, h) && masked(v, w) {
						spectrum[u*w+v] += complex(x[i*w+k], 0) * wave(-1, u, v, i, k)
					}
				}
			}
		}
	}
	y := make([]float64, h*w)
	for i := range h {
		for k := range w {
			var z complex128
			for u := range h {
				for v := range w {
					z += spectrum[u*w+v] * wave(1, u, v, i, k)
				}
			}
			y[i*w+k] = cmplx.Abs(z) / float64(h*w)
		}
	}
	return y
}

// Every step has the frequencies that it keeps, of images and of frames. The gradient is that of
// the formula, at any number of threads.
func TestFrequencyEncoding(t *testing.T) {
	const images, channels, steps = 2, 17, 4
	r := rng.New(1).Rand()
	for _, c := range []struct{ frames, h, w int }{{1, 8, 6}, {1, 5, 7}, {steps, 6, 5}} {
		x := tensor.NewFrames(tensor.Shape{N: images, Steps: c.frames, C: channels, H: c.h, W: c.w})
		for i := range x.Data {
			x.Data[i] = r.Float32()
		}
		out := tensor.Shape{N: images, Steps: steps, C: channels, H: c.h, W: c.w}
		seed, coefficient := tensor.NewDense(out), tensor.NewFrames(out)
		for i := range coefficient.Data {
			coefficient.Data[i] = r.Float32() - 0.5
		}
		seed.Pack(coefficient)
		run := func(threads int) (y, dx tensor.NCHW) {
			tape := &autograd.Tape{Threads: threads}
			leaf := tape.Leaf(x, true)
			v := snn.FrequencyEncoding{}.Encode(&snn.Pass{Tape: tape, Steps: steps, Threads: threads}, leaf)
			y = v.Dense().Unpack()
			tape.BackwardFrom(v, seed)
			require.NoError(t, tape.Err())
			return y, leaf.Grad().Unpack()
		}
		y, dx := run(1)
		pixels := c.h * c.w
		for n := range images {
			for ch := range channels {
				for step := range steps {
					from := ((n*c.frames+step%c.frames)*channels + ch) * pixels
					at := ((n*steps+step)*channels + ch) * pixels
					plane := make([]float64, pixels)
					for i := range plane {
						plane[i] = float64(x.Data[from+i])
					}
					if step == 0 {
						require.Equal(t, x.Data[from:][:pixels], y.Data[at:][:pixels])
					}
					for i, want := range lowPass(plane, c.h, c.w, step, steps) {
						require.InDelta(t, want, y.Data[at+i], 1e-6)
					}
				}
			}
		}
		for range 20 { // central differences
			n, ch, i := r.IntN(images), r.IntN(channels), r.IntN(pixels)
			frame := r.IntN(c.frames)
			loss := func(change float64) (sum float64) {
				for step := range steps {
					if step%c.frames != frame {
						continue
					}
					from := ((n*c.frames+frame)*channels + ch) * pixels
					at := ((n*steps+step)*channels + ch) * pixels
					plane := make([]float64, pixels)
					for k := range plane {
						plane[k] = float64(x.Data[from+k])
					}
					plane[i] += change
					for k, v := range lowPass(plane, c.h, c.w, step, steps) {
						sum += v * float64(coefficient.Data[at+k])
					}
				}
				return sum
			}
			const h = 1e-5
			want := (loss(h) - loss(-h)) / (2 * h)
			require.InDelta(t, want, dx.Data[((n*c.frames+frame)*channels+ch)*pixels+i], 1e-5)
		}
		again, grad := run(3)
		assert.Equal(t, y, again)
		assert.Equal(t, dx, grad)
	}
}

// The gradient is finite for an image of subnormal values.
func TestFrequencyEncodingOfTinyValues(t *testing.T) {
	x := tensor.NewNCHW(1, 1, 6, 6)
	x.Data[7], x.Data[15] = 1e-40, 3e-42
	tape := &autograd.Tape{}
	leaf := tape.Leaf(x, true)
	v := snn.FrequencyEncoding{}.Encode(&snn.Pass{Tape: tape, Steps: 3}, leaf)
	seed := tensor.NewDense(v.Shape())
	for i := range 36 * 3 {
		seed.Data[i*tensor.Lanes] = 1
	}
	tape.BackwardFrom(v, seed)
	for i, g := range leaf.Grad().Unpack().Data {
		require.True(t, math.Abs(float64(g)) < 10, "pixel %d: %v", i, g)
	}
}

// A network of the zoo keeps the encoder in its file. A stream refuses it.
func TestFrequencyEncodingOfZoo(t *testing.T) {
	m, x := noisyModel(t, noisyVGG, func(c *zoo.Config) { c.Frequencies = true })
	path := filepath.Join(t.TempDir(), "frequencies")
	require.NoError(t, m.Save(path))
	loaded, cfg, err := zoo.Load(path)
	require.NoError(t, err)
	assert.True(t, cfg.Frequencies)
	assert.Equal(t, snn.FrequencyEncoding{}, loaded.Encoder)
	logits := func(m *snn.Model) []float32 {
		z, err := m.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		return z
	}
	want := logits(m)
	assert.Equal(t, want, logits(loaded))
	m.Encoder = snn.Direct{}
	assert.NotEqual(t, want, logits(m))
	_, err = loaded.NewStream(snn.StreamConfig{})
	assert.ErrorContains(t, err, "encoder snn.FrequencyEncoding: expected an snn.StepEncoder")
	c := zoo.Default(noisyVGG)
	c.Frequencies, c.Poisson = true, true
	_, err = zoo.New(c, rng.New(1))
	assert.EqualError(t, err, "zoo: frequency encoding and another one, stochastic quantization or Poisson: expected one of them")
}
