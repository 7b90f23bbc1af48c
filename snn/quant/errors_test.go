package quant_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// model returns a network of 1×2×2 images with the given layers.
func model(t testing.TB, layers ...snn.Layer) *snn.Model {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 2, Width: 2, Steps: 2}, snn.NewSequential(layers...))
	require.NoError(t, err)
	m.Init(rng.New(1))
	return m
}

// swap is a layer that package quant does not know.
type swap struct{ snn.Flatten }

// overflows returns a network whose integers could overflow.
func overflows(t testing.TB) *snn.Model {
	m, err := snn.NewModel(snn.Config{Channels: 64, Height: 2, Width: 2, Steps: 4096}, snn.NewSequential(snn.NewConv2D(64, 2, 1, 1, 0, true), snn.NewIF(), snn.Flatten{}, snn.NewLinear(8, 2, true)))
	require.NoError(t, err)
	m.Init(rng.New(1))
	m.Params()[0].Fill(func(int) (float32, error) { return -1, nil })
	return m
}

func TestConvertRefuses(t *testing.T) {
	fc := func() snn.Layer { return snn.NewLinear(4, 3, true) }
	last := func() snn.Layer { return snn.NewLinear(3, 2, true) }
	lif := func(change func(*snn.LIF)) snn.Layer { n := snn.NewLIF(0.5); change(n); return n }
	bits := quant.DefaultConfig()
	for _, c := range []struct {
		m    *snn.Model
		cfg  func(*quant.Config)
		want string
	}{
		{m: model(t, snn.Flatten{}, fc(), snn.NewPLIF(2), last()), want: "layer 2: neurons of type *snn.GLIF have no form in integers"},
		{m: model(t, snn.Flatten{}, fc(), &snn.NoisyLIF{LIF: snn.NewIF(), Std: 1}, last()), want: "layer 2: neurons of type *snn.NoisyLIF"},
		{m: model(t, snn.Flatten{}, fc(), lif(func(n *snn.LIF) { n.Reset = -1 }), last()), want: "layer 2: reset to -1, start at 0"},
		{m: model(t, snn.Flatten{}, fc(), lif(func(n *snn.LIF) { n.Start = 0.5 }), last()), want: "layer 2: reset to 0, start at 0.5"},
		{m: model(t, snn.Flatten{}, fc(), last()), want: "layer 2: expected neurons between it and the linear layer before it"},
		{m: model(t, snn.NewIF(), snn.Flatten{}, fc()), want: "layer 0: neurons of spikes or of the image"},
		{m: model(t, snn.NewBatchNorm(1), snn.Flatten{}, fc()), want: "after image: batch norm of spikes or of the image"},
		{m: model(t, snn.NewConv2D(1, 4, 1, 1, 0, false), snn.AvgPool{K: 2}, snn.NewIF(), snn.Flatten{}, fc()), want: "average pooling of currents"},
		{m: model(t, snn.AvgPool{K: 2}, snn.NewConv2D(1, 4, 1, 1, 0, false)), want: "average pooling of currents or of the image"},
		{m: model(t, snn.NewConv2D(1, 4, 1, 1, 0, false), snn.MaxPool{K: 2}), want: "maximum pooling: expected spikes"},
		{m: model(t, snn.NewConv2D(1, 4, 1, 1, 0, false), snn.NewIF(), snn.MaxPool{K: 1}, snn.AvgPool{K: 2}, snn.MaxPool{K: 1}), want: "after 1: maximum pooling"},
		{m: model(t, snn.NewConv2D(1, 2, 1, 1, 0, false), snn.Flatten{}, snn.NewBatchNorm(8), snn.NewIF(), snn.NewLinear(8, 2, true)), want: "after image: batch norm behind flattening: expected a linear layer between them"},
		{m: model(t, snn.NewConv2D(1, 2, 1, 1, 0, false), snn.NewIF(), snn.Flatten{}, snn.AvgPool{}, snn.NewLinear(8, 2, true)), want: "after 1: average pooling behind flattening"},
		{m: model(t, snn.NewConv2D(1, 2, 1, 1, 0, false), snn.NewIF(), snn.Flatten{}, snn.MaxPool{K: 1}, snn.NewLinear(8, 2, true)), want: "after 1: maximum pooling behind flattening"},
		{m: model(t, snn.NewConv2D(1, 2, 1, 1, 0, false), snn.Flatten{}, snn.NewIF(), snn.NewConv2D(8, 2, 1, 1, 0, true)), want: "after 2: a convolution behind flattening"},
		{m: overflows(t), want: "the membrane potential could overflow"},
		{m: model(t, swap{}, fc()), want: "a layer of type quant_test.swap has no form in integers"},
		{m: model(t, snn.Flatten{}, fc()), cfg: func(c *quant.Config) { c.Bits = 9 }, want: "Bits 9: expected 2 to 8"},
		{m: model(t, snn.Flatten{}, fc()), cfg: func(c *quant.Config) { c.LeakBits = 0 }, want: "LeakBits 0: expected 1 to 15"},
	} {
		cfg := bits
		if c.cfg != nil {
			c.cfg(&cfg)
		}
		_, err := quant.Convert(c.m, cfg)
		assert.ErrorContains(t, err, c.want)
		assert.ErrorContains(t, quant.Round(c.m, cfg), c.want)
	}
	m := model(t, snn.Flatten{}, fc())
	m.Encoder = snn.Poisson{}
	_, err := quant.Convert(m, bits)
	assert.ErrorContains(t, err, "encoder snn.Poisson: expected snn.Direct")
	l := snn.NewLinear(4, 3, true)
	m = model(t, snn.Flatten{}, l)
	l.Weight.Fill(func(int) (float32, error) { return float32(math.Inf(1)), nil })
	_, err = quant.Convert(m, bits)
	assert.ErrorContains(t, err, "1.weight: value 0 is +Inf")
	r, err := quant.NewRounding(bits)
	require.NoError(t, err)
	assert.ErrorContains(t, r.Apply(l.Weight, rng.Key{}, 1), "1.weight: value 0 is +Inf")
	_, err = quant.NewRounding(quant.Config{Bits: 1, LeakBits: 8})
	assert.ErrorContains(t, err, "Bits 1")
}

// tiny returns a network by hand: a convolution of the image, neurons, a pool and a linear layer.
func tiny() *quant.Network {
	return &quant.Network{
		Channels: 1, Height: 2, Width: 2, Steps: 4, Bias: []int32{1, -1}, Scale: 0.5,
		Layers: []quant.Layer{
			&quant.Conv{Name: "conv", Input: quant.Image, Cout: 2, Cin: 1, KH: 1, KW: 1, Stride: 1, Weight: []int8{3, -2}, Scale: []float32{1, 1}},
			&quant.Neurons{Name: "n", Input: "conv", Bias: []int32{0, 9}, Threshold: []int32{100, 7}, Leak: 1},
			&quant.SumPool{Name: "pool", Input: "n", KH: 2, KW: 2},
			&quant.Conv{Name: "fc", Input: "pool", Cout: 2, Cin: 2, KH: 1, KW: 1, Stride: 1, Weight: []int8{1, 2, 3, 4}, Scale: []float32{1, 1}},
		},
	}
}

// The network by hand, computed by hand.
func TestByHand(t *testing.T) {
	x := tensor.NewNCHW(1, 1, 2, 2)
	copy(x.Data, []float32{0, 20. / 255, 34. / 255, 1})
	got, err := tiny().Logits(x)
	require.NoError(t, err)
	// Channel 0 gets 0, 60, 102 and 765 a step. It fires 0, 2, 4 and 4 times in 4 steps. Channel 1
	// gets 9, −31, −59 and −501, and fires 4 times at the first pixel.
	assert.Equal(t, []int32{1 + 10*1 + 4*2, -1 + 10*3 + 4*4}, got)
	p, err := tiny().Predict(x)
	require.NoError(t, err)
	assert.Equal(t, []int{1}, p)
	r, err := tiny().Ranges("conv")
	require.NoError(t, err)
	assert.Equal(t, []quant.Range{{Min: 0, Max: 3 * 255}, {Min: -2 * 255, Max: 0}}, r)
	r, err = tiny().Ranges("fc")
	require.NoError(t, err)
	assert.Equal(t, []quant.Range{{Min: 0, Max: 12}, {Min: 0, Max: 28}}, r)
	n := tiny() // without neurons, the currents of the image count at each of the 4 steps
	n.Layers = n.Layers[:1]
	c := n.Layers[0].(*quant.Conv)
	c.KH, c.KW, c.Weight = 2, 2, []int8{1, 2, 3, 4, -1, 0, 0, 0}
	got, err = n.Logits(x)
	require.NoError(t, err)
	assert.Equal(t, []int32{1 + 4*(2*20+3*34+4*255), -1}, got)
	_, err = tiny().Ranges("x")
	assert.ErrorContains(t, err, `no layer "x"`)
	for v, want := range map[float32]uint8{0: 0, 0.499 / 255: 0, 0.501 / 255: 1, 1: 255, 254.4 / 255: 254} {
		assert.Equal(t, want, quant.Pixel(v))
	}
}

func TestValidate(t *testing.T) {
	require.NoError(t, tiny().Validate())
	conv := func(n *quant.Network) *quant.Conv { return n.Layers[0].(*quant.Conv) }
	neurons := func(n *quant.Network) *quant.Neurons { return n.Layers[1].(*quant.Neurons) }
	pool := func(n *quant.Network) *quant.SumPool { return n.Layers[2].(*quant.SumPool) }
	for want, change := range map[string]func(n *quant.Network){
		"images of [1 0 2]":                    func(n *quant.Network) { n.Height = 0 },
		"0 steps":                              func(n *quant.Network) { n.Steps = 0 },
		"no layers":                            func(n *quant.Network) { n.Layers = nil },
		"layer 1 is nil":                       func(n *quant.Network) { n.Layers[1] = nil },
		`layer "n": input "x"`:                 func(n *quant.Network) { neurons(n).Input = "x" },
		`layer "conv": expected a name`:        func(n *quant.Network) { neurons(n).Name = "conv" },
		`layer "conv": 3 weights`:              func(n *quant.Network) { conv(n).Weight = make([]int8, 3) },
		`layer "conv": channel 1: weight -128`: func(n *quant.Network) { conv(n).Weight[1] = -128 },
		`layer "conv": 2 input channels`:       func(n *quant.Network) { conv(n).Cin = 2 },
		`layer "conv": stride 0`:               func(n *quant.Network) { conv(n).Stride = 0 },
		`layer "conv": a window of 3×3`:        func(n *quant.Network) { conv(n).KH, conv(n).KW = 3, 3 },
		`layer "conv": channels and window`:    func(n *quant.Network) { conv(n).KH = 1 << 30 },
		`layer "conv": gains [1 0]`:            func(n *quant.Network) { conv(n).Gain = []int32{1, 0} },
		`layer "conv": 2 values of the border`: func(n *quant.Network) { conv(n).Border = make([]uint8, 2) },
		`layer "fc": 2 values of the border`:   func(n *quant.Network) { n.Layers[3].(*quant.Conv).Border = make([]uint8, 2) },
		`layer "conv": 1 scales`:               func(n *quant.Network) { conv(n).Scale = conv(n).Scale[:1] },
		`layer "conv": channel 0: scale NaN`:   func(n *quant.Network) { conv(n).Scale[0] = float32(math.NaN()) },
		`layer "conv": add "n"`:                func(n *quant.Network) { conv(n).Add = "n" },
		`layer "fc": add "conv" is currents of 2×2×2: expected currents of 2×1×1`: func(n *quant.Network) { n.Layers[3].(*quant.Conv).Add = "conv" },
		`layer "n": channel 1: threshold 0`:                                       func(n *quant.Network) { neurons(n).Threshold[1] = 0 },
		`layer "n": channel 0: gain 2`:                                            func(n *quant.Network) { neurons(n).Gain = []int32{2, 1} },
		`layer "n": 1 biases`:                                                     func(n *quant.Network) { neurons(n).Bias = []int32{1} },
		`layer "n": leak 5/2^2`:                                                   func(n *quant.Network) { neurons(n).Leak, neurons(n).LeakShift = 5, 2 },
		`layer "n": the input is bytes`:                                           func(n *quant.Network) { neurons(n).Input = quant.Image },
		`layer "fc": the input is currents`:                                       func(n *quant.Network) { n.Layers[3].(*quant.Conv).Input = "conv" },
		`layer "pool": windows of 3×2`:                                            func(n *quant.Network) { pool(n).KH = 3 },
		`layer "pool": windows of 2×1`:                                            func(n *quant.Network) { pool(n).KW = 1 },
		`layer "pool": windows of 1×2: expected squares, or one window for the whole input`: func(n *quant.Network) {
			n.Height, n.Width, pool(n).KH = 1, 3, 1 // readers move a window by its height
		},
		`layer "pool": a sum of 2×2 values could be 1020`: func(n *quant.Network) { pool(n).Input = quant.Image },
		`layer "pool": the input is currents`:             func(n *quant.Network) { pool(n).Input = "conv" },
		`layer "m": the input is bytes`: func(n *quant.Network) {
			n.Layers[2] = &quant.MaxPool{Name: "m", Input: quant.Image, K: 2}
		},
		`layer "n": 65536 steps of 4097 channels: expected at most 268435456 of all neurons, and they have 268500992`: func(n *quant.Network) {
			const channels = 4097
			n.Steps = 1 << 16
			c := conv(n)
			c.Cout, c.Weight, c.Scale = channels, make([]int8, channels), slices.Repeat([]float32{1}, channels)
			neurons(n).Bias, neurons(n).Threshold = slices.Repeat([]int32{-1}, channels), slices.Repeat([]int32{1}, channels)
		},
		`layer "16": 17825792 channels of all layers: expected at most 16777216`: func(n *quant.Network) {
			n.Channels, n.Layers = 1<<20, nil
			for i := range 64 {
				n.Layers = append(n.Layers, &quant.SumPool{Name: strconv.Itoa(i), Input: quant.Image, KH: 1, KW: 1})
			}
		},
		"the last layer has currents of 2×1×1, and there are 3 biases": func(n *quant.Network) { n.Bias = make([]int32, 3) },
		"scale -1":                          func(n *quant.Network) { n.Scale = -1 },
		"1 names for 2 classes":             func(n *quant.Network) { n.ClassNames = []string{"a"} },
		"logit 0, the sum over 4 steps":     func(n *quant.Network) { n.Bias[0] = math.MaxInt32 },
		`channel 1: the membrane potential`: func(n *quant.Network) { neurons(n).Bias[1] = math.MinInt32 / 4 },
		`channel 0: currents from 0 to 2155938300 could overflow`: func(n *quant.Network) { conv(n).Gain = []int32{math.MaxInt32 / 762, 1} },
	} {
		n := tiny()
		change(n)
		assert.ErrorContains(t, n.Validate(), want)
		_, err := n.Logits(tensor.NewNCHW(1, 1, 2, 2))
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, n.Write(&bytes.Buffer{}), want)
	}
	n := tiny()
	for want, x := range map[string]tensor.NCHW{
		"expected N×1×2×2":     tensor.NewNCHW(1, 2, 2, 2),
		"3 frames for 4 steps": tensor.NewFrames(tensor.Shape{N: 1, Steps: 3, C: 1, H: 2, W: 2}),
		"outside [0, 1]":       {N: 1, C: 1, H: 2, W: 2, Data: []float32{0, 0, 2, 0}},
		"not a number":         {N: 1, C: 1, H: 2, W: 2, Data: []float32{0, 0, 0, float32(math.NaN())}},
		"with 3 values":        {N: 1, C: 1, H: 2, W: 2, Data: make([]float32, 3)},
	} {
		_, err := n.Logits(x)
		assert.ErrorContains(t, err, want)
	}
}

// The largest potentials that Validate allows do not overflow: neurons with the largest and the
// smallest currents behave as in int64.
func TestOverflowIsRefusedInTime(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	allowed, refused := 0, 0
	for range 2000 {
		n := tiny()
		steps := 1 + r.IntN(12)
		n.Steps = steps
		l := n.Layers[1].(*quant.Neurons)
		l.LeakShift = uint(r.IntN(16))
		l.Leak = int32(r.IntN(1<<l.LeakShift + 1))
		l.SoftReset = r.IntN(2) == 0
		b := int32(1) << (10 + r.IntN(21))
		l.Bias = []int32{b - int32(r.IntN(1000)), -b * int32(r.IntN(2))}
		l.Threshold = []int32{1 + int32(r.IntN(1<<(1+r.IntN(30)))), 1}
		fits := true
		for c, gain := range []int64{3, -2} {
			for _, pixel := range []int64{0, 255} {
				m := int64(0)
				for range steps {
					p := m * int64(l.Leak)
					m = p>>l.LeakShift + gain*pixel + int64(l.Bias[c])
					fits = fits && p == int64(int32(p)) && m == int64(int32(m))
					if m >= int64(l.Threshold[c]) {
						m -= int64(l.Threshold[c])
						if !l.SoftReset {
							m = 0
						}
					}
				}
			}
		}
		if n.Validate() == nil {
			allowed++
			require.True(t, fits, "%+v", l)
		} else if !fits {
			refused++
		}
	}
	assert.Greater(t, allowed, 150)
	assert.Greater(t, refused, 150)
}

// Damaged files are refused with an error, and never crash the reader.
func TestParseRefuses(t *testing.T) {
	var file bytes.Buffer
	bordered := tiny()
	bordered.Layers[0].(*quant.Conv).Border = []uint8{7}
	require.NoError(t, bordered.Write(&file))
	good := file.Bytes()
	n, err := quant.Parse(good)
	require.NoError(t, err)
	assert.Equal(t, bordered.Layers, n.Layers)
	// edit returns the file with a changed header.
	edit := func(change func(header map[string]any, net map[string]any)) []byte {
		size := binary.LittleEndian.Uint64(good)
		header, net := map[string]any{}, map[string]any{}
		require.NoError(t, json.Unmarshal(good[8:8+size], &header))
		meta := header["__metadata__"].(map[string]any)
		require.NoError(t, json.Unmarshal([]byte(meta["snnrat.quant"].(string)), &net))
		change(header, net)
		text, err := json.Marshal(net)
		require.NoError(t, err)
		if _, ok := meta["snnrat.quant"]; ok {
			meta["snnrat.quant"] = string(text)
		}
		text, err = json.Marshal(header)
		require.NoError(t, err)
		return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), good[8+size:]...)
	}
	layer := func(net map[string]any, i int) map[string]any { return net["layers"].([]any)[i].(map[string]any) }
	for want, b := range map[string][]byte{
		"not a safetensors file":                                                            good[:len(good)-1],
		`no metadata "snnrat.quant"`:                                                        edit(func(h, _ map[string]any) { delete(h["__metadata__"].(map[string]any), "snnrat.quant") }),
		`metadata "snnrat.quant": version 2`:                                                edit(func(_, n map[string]any) { n["version"] = 2 }),
		`metadata "snnrat.quant": json: unknown field "leak"`:                               edit(func(_, n map[string]any) { n["leak"] = 0.5 }),
		`metadata "snnrat.quant": json`:                                                     edit(func(_, n map[string]any) { n["steps"] = "four" }),
		"no tensor bias: expected one of type I32":                                          edit(func(h, _ map[string]any) { h["b"] = h["bias"]; delete(h, "bias") }),
		"tensor conv.weight is of type U8 with shape [2 1 1 1]: expected I8 with 4 extents": edit(func(h, _ map[string]any) { h["conv.weight"].(map[string]any)["dtype"] = "U8" }),
		"tensor conv.weight is of type I8 with shape [2 1 1]":                               edit(func(h, _ map[string]any) { h["conv.weight"].(map[string]any)["shape"] = []int{2, 1, 1} }),
		`layer 0, "x": no tensor x.weight`:                                                  edit(func(_, n map[string]any) { layer(n, 0)["name"] = "x" }),
		`layer 0, "conv": type "sponge"`:                                                    edit(func(_, n map[string]any) { layer(n, 0)["type"] = "sponge" }),
		"tensor n.bias: expected none of this name":                                         edit(func(_, n map[string]any) { layer(n, 1)["type"], layer(n, 1)["window"] = "max_pool", []int{1, 1} }),
		`layer 2, "pool": window [2]`:                                                       edit(func(_, n map[string]any) { layer(n, 2)["window"] = []int{2} }),
		`layer 2, "pool": maximum pooling of windows that`:                                  edit(func(_, n map[string]any) { layer(n, 2)["type"], layer(n, 2)["window"] = "max_pool", []int{1, 2} }),
		`layer 1, "n": soft 2`:                                                              edit(func(_, n map[string]any) { layer(n, 1)["soft"] = 2 }),
		`layer "n": leak 3/2^0`:                                                             edit(func(_, n map[string]any) { layer(n, 1)["leak"] = 3 }),
		`layer "conv": stride 1 and padding -1`:                                             edit(func(_, n map[string]any) { layer(n, 0)["pad"] = -1 }),
		`quant: scale 0 of the logits`:                                                      edit(func(_, n map[string]any) { delete(n, "scale") }),
		`tensor conv.weight is of type I8 with shape [2 1 1 1 1`:                            edit(func(h, _ map[string]any) { h["conv.weight"].(map[string]any)["shape"] = []int{2, 1, 1, 1, 1} }),
		"tensor conv.border: value 0 is 16777223: expected 0 to 255":                        bytes.Replace(good, []byte{7, 0, 0, 0}, []byte{7, 0, 0, 1}, 1),
	} {
		_, err := quant.Parse(b)
		assert.ErrorContains(t, err, want)
	}
	r := rand.New(rand.NewPCG(5, 5))
	for range 1500 {
		b := bytes.Clone(good)
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] = byte(r.IntN(256))
		}
		if n, err := quant.Parse(b); err == nil {
			_, err := n.Logits(tensor.NewNCHW(1, n.Channels, n.Height, n.Width))
			require.NoError(t, err)
		}
	}
	_, err = quant.Load("no/such/file")
	assert.ErrorContains(t, err, "quant: load: ")
	assert.True(t, strings.Contains(err.Error(), "no/such/file"))
}

// Rounding adds updates to the weights before rounding, and rounds to 2·most + 1 levels.
func TestRounding(t *testing.T) {
	p := autograd.NewParam(2, 3)
	p.Import([]float32{7, 1.2, -3.4, 0, 0, 0})
	cfg := quant.DefaultConfig()
	cfg.Bits = 4 // −7 to 7
	r, err := quant.NewRounding(cfg)
	require.NoError(t, err)
	require.NoError(t, r.Apply(p, rng.Key{}, 1))
	assert.Equal(t, []float32{7, 1, -3, 0, 0, 0}, p.Export())
	for range 2 { // two updates of 0.2, each of which rounding alone would lose
		v := p.Export()
		v[1] += 0.2
		p.Import(v)
		require.NoError(t, r.Apply(p, rng.Key{}, 1))
	}
	assert.Equal(t, []float32{7, 2, -3, 0, 0, 0}, p.Export())
}

// Round leaves a network whose integers are the same, and whose weights are on the grid.
func TestRoundKeepsIntegers(t *testing.T) {
	for name, m := range networks(t) {
		cfg := quant.DefaultConfig()
		cfg.Bits = 5
		n, err := quant.Convert(m, cfg)
		require.NoError(t, err)
		require.NoError(t, quant.Round(m, cfg))
		again, err := quant.Convert(m, cfg)
		require.NoError(t, err)
		for i, l := range n.Layers {
			if c, ok := l.(*quant.Conv); ok && name != "residual" { // whose units depend on all weights of a sum
				assert.Equal(t, c.Weight, again.Layers[i].(*quant.Conv).Weight, "%s: %s", name, c.Name)
			}
		}
	}
}
