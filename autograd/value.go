package autograd

import (
	"fmt"

	"github.com/org/snnrat/tensor"
)

// Value is a value on a tape. It holds either dense values or spikes. It belongs to its
// tape and is valid until [Tape.Reset] or [Tape.Release].
type Value struct {
	shape  tensor.Shape
	dense  []float32 // [⌈C/16⌉][N·Steps][H][W][16], or nil
	spikes []uint16  // [⌈C/16⌉][N·Steps][H][W], or nil

	// The gradient has gradSteps steps: shape.Steps, or 1 if it is the same at every
	// step. The gradient of a value with Steps = 1 is the sum over time.
	grad      []float32 // [⌈C/16⌉][N·gradSteps][H][W][16], or nil
	gradSteps int

	fusion

	// winograd lets forward convolutions of v use Winograd's algorithm, see AllowWinograd.
	winograd bool

	tape      *Tape
	layer     string // Tape.Layer when the value was made
	needsGrad bool   // whether the gradient of this value is needed
	refs      int    // the forward pass, if it may still read the value, and the ops that keep it
	owners    int    // the Release calls after which the forward pass reads the value no more
}

// mustBeOwned panics if the forward pass has released v.
func (v *Value) mustBeOwned(op string) {
	if v.owners == 0 {
		panic(fmt.Sprintf("autograd: %s%s: %v was released; Tape.Retain keeps one that is read later", op, inLayer(v.tape.Layer), v))
	}
}

// inLayer returns a layer's name for a message, or nothing if it is empty.
func inLayer(name string) string {
	if name == "" {
		return ""
	}
	return " in layer " + name
}

// String returns the value's shape, and the layer in which it was made.
func (v *Value) String() string { return fmt.Sprintf("value %v%s", v.shape, inLayer(v.layer)) }

// Shape returns the value's shape.
func (v *Value) Shape() tensor.Shape { return v.shape }

// NeedsGrad reports whether a gradient passes through v.
func (v *Value) NeedsGrad() bool { return v.needsGrad }

// IsSpikes reports whether v holds spikes, and not dense values.
func (v *Value) IsSpikes() bool { return v.spikes != nil }

// Dense returns the dense data of v, which shares the tape's memory. It returns nil if v
// holds spikes. It panics if v was let go.
func (v *Value) Dense() *tensor.Dense {
	if v.spikes != nil {
		return nil
	}
	return &tensor.Dense{Shape: v.shape, Data: v.tape.Floats(v)}
}

// Spikes returns the spikes of v, which share the tape's memory. It returns nil if v is
// dense. It panics if v was let go.
func (v *Value) Spikes() *tensor.Spikes {
	if bits := v.tape.Words(v); bits != nil {
		return &tensor.Spikes{Shape: v.shape, Bits: bits}
	}
	return nil
}

// AllowWinograd lets convolutions that read v use Winograd's algorithm in the forward pass. So may
// those that read a pooling or a dropout of v. AllowWinograd does nothing if v holds spikes, whose
// sums stay exact.
//
// The convolutions are those whose input gradient may use the algorithm, at all levels but NEON.
// They have a 3×3 window, stride 1, padding 1 and at least 64 channels on both sides. Tiles of 4×4
// pixels save half of the products of their images, which have 10×10 pixels and more, or 4×4, 7×7
// or 8×8.
//
// Rounding errors are then about twice as large, and the instruction sets differ by more than the
// rounding of a product. A potential near its threshold would make another spike of such a
// difference. AllowWinograd is therefore for networks without spikes, such as the ReLU network of
// snn.CBA.
func (v *Value) AllowWinograd() { v.winograd = v.spikes == nil }

// Grad returns the gradient of a leaf after a backward pass. It shares the tape's memory.
// Its Steps is that of the leaf, or 1 if the gradient is the same at every step. Grad
// returns nil if there is no gradient.
func (v *Value) Grad() *tensor.Dense {
	if v.grad == nil {
		return nil
	}
	return &tensor.Dense{Shape: v.shape.WithSteps(v.gradSteps), Data: v.grad}
}
