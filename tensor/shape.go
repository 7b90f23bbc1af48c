package tensor

import "fmt"

// Lanes is the number of channels in a block.
const Lanes = 16

// Shape is the logical shape of a value: N images, Steps time steps each (1
// when the value is the same at every step), C channels of H × W.
type Shape struct {
	N, Steps, C, H, W int
}

// Blocks returns the number of 16-channel blocks.
func (s Shape) Blocks() int { return (s.C + Lanes - 1) / Lanes }

// Frames returns N·Steps.
func (s Shape) Frames() int { return s.N * s.Steps }

// Pixels returns H·W.
func (s Shape) Pixels() int { return s.H * s.W }

// Words returns the number of 16-lane blocks of values, which is the length of
// the value's spikes.
func (s Shape) Words() int { return s.Blocks() * s.Frames() * s.Pixels() }

// Floats returns the length of the value's dense data, padding included.
func (s Shape) Floats() int { return s.Words() * Lanes }

// Neurons returns C·H·W, the number of logical elements a frame has.
func (s Shape) Neurons() int { return s.C * s.H * s.W }

// WithSteps returns s with another number of steps.
func (s Shape) WithSteps(t int) Shape { s.Steps = t; return s }

// Index returns the position in dense data of image n, step t, channel c, row y
// and column x.
func (s Shape) Index(n, t, c, y, x int) int {
	return ((((c/Lanes)*s.Frames()+n*s.Steps+t)*s.H+y)*s.W+x)*Lanes + c%Lanes
}

// String formats the shape as N×T×C×H×W.
func (s Shape) String() string {
	return fmt.Sprintf("%d×%d×%d×%d×%d", s.N, s.Steps, s.C, s.H, s.W)
}

func (s Shape) check(op string) {
	if s.N < 0 || s.Steps < 1 || s.C < 1 || s.H < 1 || s.W < 1 {
		panic(fmt.Sprintf("tensor: %s: invalid shape %v", op, s))
	}
}
