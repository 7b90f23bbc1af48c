package smooth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/lipschitz/smooth"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

var (
	_ smooth.Method = smooth.Gaussian{}
	_ smooth.Method = smooth.Windows{}
	_ snn.Adversary = smooth.Windows{}
)

// brightness is a network of one pixel, whose class is 1 above 0.5.
func brightness() *snn.Model {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1},
		snn.NewSequential(snn.Flatten{}, snn.NewLinear(1, 2, true)))
	if err != nil {
		panic(err)
	}
	m.Params()[0].Import([]float32{0, 1})
	m.Params()[1].Import([]float32{0.5, 0})
	return m
}

func ExampleGaussian() {
	image := tensor.NewNCHW(1, 1, 1, 1)
	image.Data[0] = 1 // 0.5 from the boundary

	method := smooth.DefaultGaussian(0.25)
	list, err := method.Certify(context.Background(), brightness(), image, nil, rng.New(1))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("class %d within an L2 distance of %.2f\n", list[0].Class, list[0].Radius)
	// Output: class 1 within an L2 distance of 0.47
}

func ExampleWindows() {
	image := tensor.NewFrames(tensor.Shape{N: 1, Steps: 8, C: 1, H: 1, W: 1})
	copy(image.Data, []float32{0, 1, 1, 1, 1, 1, 1, 1})
	m := brightness()
	m.Steps = 8
	m.Params()[1].Import([]float32{0.05, 0}) // of 8 steps, one spike is enough

	for _, shift := range []int{0, 2} {
		method := smooth.Windows{Axis: smooth.Time, Size: 1, Stride: 1, MaxShift: shift}
		list, err := method.Certify(context.Background(), m, image, nil, rng.New(1))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("moves by at most %d: class %d after any %v edits\n", shift, list[0].Class, list[0].Radius)
	}
	// Output:
	// moves by at most 0: class 1 after any 3 edits
	// moves by at most 2: class 1 after any 1 edits
}

// pixels is a data set of one-pixel images.
type pixels []float32

func (p pixels) Shape() tensor.Shape { return tensor.Shape{N: len(p), Steps: 1, C: 1, H: 1, W: 1} }
func (p pixels) Label(i int) int     { return 1 }
func (p pixels) Fill(dst tensor.NCHW, indices []int) error {
	for k, i := range indices {
		dst.Data[k] = p[i]
	}
	return nil
}

// An image of 0 has the other class, and two images have it with a radius: Cohen's theorem is sharp
// for a network that is linear, with the radius x − 0.5.
func TestEvaluate(t *testing.T) {
	ctx, data := context.Background(), pixels{1, 0, 204. / 255, 127. / 255}
	g := smooth.Gaussian{Sigma: 0.25, Levels: 255, Samples0: 10, Samples: 4000, Alpha: 0.001}
	var done []int
	cfg := smooth.Config{Key: rng.New(3), Progress: func(n, total int) { done = append(done, n, total) }}
	r, err := smooth.Evaluate(ctx, brightness(), data, g, cfg)
	require.NoError(t, err)
	assert.Equal(t, []int{1, 4, 2, 4, 3, 4, 4, 4}, done)
	assert.Equal(t, []int{1, 1, 1, 1}, r.Labels)
	for i, want := range []int{1, 0, 1, smooth.Abstain} {
		assert.Equal(t, want, r.Certificates[i].Class, "image %d", i)
	}
	assert.InDelta(t, 0.45, r.Certificates[0].Radius, 0.05) // less than 0.5 by the bound from samples
	assert.InDelta(t, 0.28, r.Certificates[2].Radius, 0.02)
	assert.Equal(t, []int{2, 2, 1, 0}, []int{r.Correct(0), r.Correct(0.2), r.Correct(0.4), r.Correct(0.6)})
	assert.Equal(t, 1, r.Abstained())
	assert.InDelta(t, (r.Certificates[0].Radius+r.Certificates[2].Radius)/4, r.AverageRadius(), 1e-15)

	// The result for an image is that of its id alone.
	x := tensor.NewNCHW(1, 1, 1, 1)
	require.NoError(t, data.Fill(x, []int{2}))
	alone, err := g.Certify(ctx, brightness(), x, []uint64{2}, cfg.Key)
	require.NoError(t, err)
	assert.Equal(t, r.Certificates[2:3], alone)

	text, err := json.Marshal(r)
	require.NoError(t, err)
	read := new(smooth.Report)
	require.NoError(t, json.Unmarshal(text, read))
	assert.Equal(t, r, read)

	// Clopper and Pearson's interval of 2 in 4 is [0.0676, 0.9324].
	assert.Contains(t, r.Table(0.2), "\n0.2            50.0        6.8  93.2       2\n")
	assert.Contains(t, r.String(), "σ = 0.25 on the grid of 1/255, 10 + 4000 samples, α = 0.001")
	assert.Contains(t, r.String(), "Images: 4, of which it abstains on 1.")
}

func TestEvaluateStops(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	g := smooth.DefaultGaussian(0.25)
	cfg := smooth.Config{Progress: func(n, total int) {
		if n == 2 {
			stop()
		}
	}}
	r, err := smooth.Evaluate(ctx, brightness(), pixels{1, 1, 1}, g, cfg)
	assert.ErrorIs(t, err, context.Canceled)
	require.NotNil(t, r)
	assert.Equal(t, 2, r.Images)
	assert.Len(t, r.Certificates, 2)

	r, err = smooth.Evaluate(context.Background(), brightness(), pixels{1, 0.3}, g, smooth.Config{})
	assert.Nil(t, r)
	assert.ErrorContains(t, err, "image 1 of the data: smooth: image 0, value 0: 0.3 is no multiple of 1/255")
	_, err = smooth.Evaluate(context.Background(), brightness(), pixels{}, g, smooth.Config{})
	assert.ErrorContains(t, err, "no images")
}
