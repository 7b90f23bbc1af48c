package kernel

import "unsafe"

// The argument blocks of the routines of neurons. Strides are in bytes.

// neuronRun is a run of pixels of one unit of neurons, over all steps. Vectors are
// 16 lanes of one pixel at one step; those of a step lie side by side.
type neuronRun struct {
	x, s     unsafe.Pointer // inputs and spikes: float32 vectors, and words
	a, b     unsafe.Pointer // vectors: currents are a·x + b
	mem      unsafe.Pointer // membranes before the reset, [steps][pixels] vectors
	slope    unsafe.Pointer // as mem: surrogate derivatives; nil for a triangle
	dout, dx unsafe.Pointer // gradients of spikes and of inputs
	scale    unsafe.Pointer // vector: dx is scale·dcur
	mean     unsafe.Pointer // vector
	sums     unsafe.Pointer // [2] vectors of float64, or nil

	pixels, steps                  uint64
	xStep, sStep, doutStep, dxStep uint64 // from a step to the next
	memStep                        uint64

	leak, threshold float32
	width, height   float32 // the triangle is max(0, width − |u|)·height
	soft            uint32  // 1 if the reset lowers the membrane by the threshold
	detach          uint32  // 1 if the reset carries no gradient
	add             uint32  // 1 if dx is added to
	_               uint32
}
