//lint:file-ignore U1000 some fields are for assembly only

package kernel

import "unsafe"

// This file holds the argument blocks of the routines of neurons, windows and optimisers.
// Strides are in bytes.

// neuronRun is a run of pixels of one unit of neurons, over all steps. A vector holds the 16
// lanes of one pixel. The vectors of a step are neighbours in memory. Routines go step by
// step, since steps that lie a power of two apart use the same sets of the caches.
type neuronRun struct {
	x, s     unsafe.Pointer // inputs and spikes: vectors of float32, and words
	a, b     unsafe.Pointer // vectors: currents are a·x + b
	state    unsafe.Pointer // [pixels] vectors, zero at first: membranes, or ∂q
	mem      unsafe.Pointer // membranes before the reset, [steps][pixels] vectors
	slope    unsafe.Pointer // as mem: surrogate derivatives; nil for a triangle
	dout, dx unsafe.Pointer // gradients of spikes and of inputs; dx may be nil
	scale    unsafe.Pointer // vector: dx is scale·dcur
	total    unsafe.Pointer // [pixels] vectors, to which dcur is added; or nil
	sums     unsafe.Pointer // [2][16]float64: sums of dcur and of dcur·(x − mean), added to; or nil
	mean     unsafe.Pointer // [16]float64, or nil
	check    unsafe.Pointer // vector, which stays zero while all membranes before the reset are finite

	pixels, steps                  uint64
	xStep, sStep, doutStep, dxStep uint64 // from a step to the next
	memStep                        uint64

	leak, threshold float32
	width, height   float32 // the triangle is max(0, width − |u|)·height; a support is |u| < width
	soft            uint32  // 1 if the reset lowers the membrane by the threshold
	detach          uint32  // 1 if the reset carries no gradient
	add             uint32  // 1 if dx is added to
	_               uint32
}

// glifRun is a run of pixels of one unit of GLIF neurons, over all steps, as neuronRun.
type glifRun struct {
	x, s       unsafe.Pointer // inputs and spikes: vectors of float32, and words
	membrane   unsafe.Pointer // [pixels] vectors
	carry      unsafe.Pointer // alike; nil without a synaptic current
	adaptation unsafe.Pointer // alike; nil without adaptation
	history    unsafe.Pointer // [steps][pixels][4] vectors: i(t), m(t−1), a(t−1) and one not in use
	adjoint    unsafe.Pointer // [pixels][4] vectors, zero at first: ∂i, ∂m, ∂a and one not in use
	slope      unsafe.Pointer // [steps][pixels] vectors: p − θ, then surrogate derivatives; nil for a triangle
	dout, dx   unsafe.Pointer // gradients of spikes and of inputs; dx may be nil
	total      unsafe.Pointer // [pixels] vectors, to which ∂i is added; or nil
	sums       unsafe.Pointer // [sumRows] vectors, added to; or nil
	check      unsafe.Pointer // vector, which stays zero while all p − θ are finite

	pixels, steps                  uint64
	xStep, sStep, doutStep, dxStep uint64 // from a step to the next
	slopeStep, historyStep         uint64

	width  float32 // a support is |p − θ| < width
	soft   uint32  // 1 if the reset lowers the membrane by the threshold
	detach uint32  // 1 if the spike of the reset carries no gradient
	add    uint32  // 1 if dx is added to

	k [glifRows][16]float32 // the rows below
}

// Rows of glifRun.k. Recurrence and Jump are negative: subtracting 0 changes no bit.
const (
	rowA, rowB         = 0, 1 // currents are a·x + b
	rowSynapticDecay   = 2    // α
	rowRecurrence      = 3    // −v
	rowGain            = 4    // κ
	rowDecay           = 5    // λ
	rowThreshold       = 6    // θ₀
	rowAdaptation      = 7    // β
	rowAdaptationDecay = 8    // ρ
	rowJump            = 9    // ρ − 1
	rowReset           = 10   // V_r
	rowWidth           = 11   // the triangle is max(0, width − |u|)·height
	rowHeight          = 12
	glifRows           = 13
)

// Rows of glifRun.sums. Those of the threshold and the adaptation are negative.
const (
	sumGain = iota
	sumDecay
	sumThreshold
	sumReset
	sumSynapticDecay
	sumRecurrence
	sumAdaptation
	sumAdaptationDecay
	sumRows
)

// windowRun is a run over rows of pooling windows, with n windows in a row. Each window has
// count positions, at offsets from its corner.
type windowRun struct {
	out, in         unsafe.Pointer // the side with an element a window, without gaps; the other
	offsets         unsafe.Pointer // [count]int64, into in
	count           uint64
	n, rows         uint64
	pixel, row      uint64 // in in: from a window to the next, and from a row of windows to the next
	scale           float32
	add             uint32
	rowsLeft, rowAt uint64 // the routine's own
}

// sgdStep holds the factors of a step of SGD.
type sgdStep struct{ lr, momentum, decay float32 }

// AdamStep holds the factors of step t of Adam, with the learning rate lr.
type AdamStep struct {
	Beta1, Beta2 float32
	Rest1, Rest2 float32 // 1 − Beta1, 1 − Beta2
	Size         float32 // lr/(1 − Beta1ᵗ)
	Correction   float32 // √(1 − Beta2ᵗ)
	Eps, Decay   float32
}
