package kernel

import (
	"testing"

	"github.com/org/snnrat/internal/race"
)

// The kernels of a forward pass allocate no memory with one thread, at any level.
func TestForwardAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("with the race detector, sync.Pool drops what is put into it")
	}
	conv := func(k, stride int) Conv {
		c := Conv{Frames: 1, Cin: 17, Hin: 8, Win: 8, Cout: 20, KH: k, KW: k, Stride: stride, Pad: k / 2}
		c.Hout, c.Wout = (8+2*c.Pad-k)/stride+1, (8+2*c.Pad-k)/stride+1
		return c
	}
	same, one, strided := conv(3, 1), conv(1, 1), conv(3, 2)
	x, zeros, y := make([]float32, 2*64*Lanes), make([]float32, 2*64*Lanes), make([]float32, 2*64*Lanes)
	s, fired := make([]uint16, 2*64), make([]uint16, 2*64)
	w := make([]float32, same.WeightLen())
	for i := range x {
		x[i] = float32(i%3) + 1
		if i%5 == 0 {
			zeros[i] = 1
		}
	}
	for i := range s {
		s[i] = uint16(i * 77)
	}
	pool := Pool{Planes: 2, Hin: 8, Win: 8, Hout: 4, Wout: 4, KH: 2, KW: 2, Stride: 2}
	scan := Scan{Units: 2, Images: 1, Pixels: 64, Steps: 1, CurrentSteps: 1}
	neuron := Neuron{Decay: 1, Threshold: 1}
	coefficients := make([]float32, 2*Lanes)
	for i := range coefficients {
		coefficients[i] = 1
	}
	glif := &GLIF{Decay: coefficients, Threshold: coefficients, SynapticDecay: coefficients, Adaptation: coefficients}
	state := NewGLIFState(glif, scan)
	var random Random
	var chances Chances
	chances.Set(x[:64*Lanes], 3)
	for _, l := range Levels() {
		at(t, l, func() {
			for name, fn := range map[string]func(){
				"Random.Draw":             func() { random.Seed([32]byte{}); random.Draw(fired[:64], &chances) },
				"Affine":                  func() { Affine(y, x, x, x, 2, 64, 1) },
				"AXPY":                    func() { AXPY(y, 2, x, true, 1) },
				"Combine":                 func() { Combine(y, 2, x, 3, x, 1) },
				"Densify":                 func() { Densify(y, s, 1) },
				"AvgPool":                 func() { AvgPool(y, x, pool, 1) },
				"AvgPoolSpikes":           func() { AvgPoolSpikes(y, s, pool, 1) },
				"MaxPool":                 func() { MaxPool(y, x, pool, 1) },
				"MaxPoolSpikes":           func() { MaxPoolSpikes(fired, s, pool, 1) },
				"Finite":                  func() { Finite(x, 1) },
				"NeuronForward":           func() { NeuronForward(fired, x, Norm{}, neuron, scan, 1) },
				"NeuronStep":              func() { NeuronStep(fired, x, Norm{}, neuron, scan, y, 1) },
				"GLIFForward":             func() { GLIFForward(fired, x, Norm{}, glif, scan, state, 1) },
				"Flatten":                 func() { Flatten(y, x, 1, 17, 64, 1) },
				"FlattenSpikes":           func() { FlattenSpikes(fired, s, 1, 17, 64, 1) },
				"ConvSpikes, 3×3":         func() { ConvSpikes(y, s, w, nil, same, 1) },
				"ConvSpikes, 1×1":         func() { ConvSpikes(y, s, w, nil, one, 1) },
				"ConvSpikes, stride 2":    func() { ConvSpikes(y, s, w, nil, strided, 1) },
				"ConvDense, 3×3":          func() { ConvDense(y, x, w, nil, same, 1) },
				"ConvDense, mostly zeros": func() { ConvDense(y, zeros, w, nil, same, 1) },
				"ConvDense, 1×1":          func() { ConvDense(y, x, w, nil, one, 1) },
				"ConvDense, stride 2":     func() { ConvDense(y, x, w, nil, strided, 1) },
			} {
				if n := testing.AllocsPerRun(100, fn); n != 0 {
					t.Errorf("%s at %v allocates %v times a call", name, l, n)
				}
			}
		})
	}
}
