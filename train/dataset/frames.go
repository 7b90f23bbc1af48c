package dataset

import (
	"fmt"

	"github.com/org/snnrat/tensor"
)

// FrameSource is a source of examples with several frames, the values of a [Set]. Its
// methods must be safe for concurrent use.
type FrameSource interface {
	// Shape returns the number of examples and the frames, channels, rows and columns of
	// each.
	Shape() tensor.Shape
	// ReadFrames writes example i, in [0, N), to dst, [Steps][C][H][W], as values in [0,1].
	ReadFrames(dst []float32, i int) error
}

// Frames is frames kept in memory: real values in [0,1] (float32), bytes, which stand for
// value/255 (uint8), or binary values such as spikes and events (bool).
type Frames[V float32 | uint8 | bool] struct {
	shape tensor.Shape
	data  []V // [N][Steps][C][H][W]
}

// NewFrames returns the frames that data holds, [N][Steps][C][H][W]. It keeps data. It
// panics if an extent of shape is less than 1 or data has another number of values.
func NewFrames[V float32 | uint8 | bool](shape tensor.Shape, data []V) *Frames[V] {
	if shape.N < 1 || shape.Steps < 1 || shape.C < 1 || shape.H < 1 || shape.W < 1 || len(data) != shape.Frames()*shape.Neurons() {
		panic(fmt.Sprintf("dataset: NewFrames: %d values for frames of shape %v", len(data), shape))
	}
	return &Frames[V]{shape, data}
}

// Shape implements [FrameSource].
func (f *Frames[V]) Shape() tensor.Shape { return f.shape }

// ReadFrames implements [FrameSource]; it never fails.
func (f *Frames[V]) ReadFrames(dst []float32, i int) error {
	size := f.shape.Steps * f.shape.Neurons()
	switch src := any(f.data[i*size:][:size]).(type) {
	case []float32:
		copy(dst, src)
	case []uint8:
		fromBytes(dst, src)
	case []bool:
		for k, fires := range src {
			dst[k] = 0
			if fires {
				dst[k] = 1
			}
		}
	}
	return nil
}

// fromBytes writes the bytes of src to dst as value/255.
func fromBytes(dst []float32, src []uint8) {
	for i, v := range src {
		dst[i] = float32(v) / 255
	}
}

// NewFrameSet returns a set of examples of several frames, with one label for each example.
// classNames lists the classes. NewFrameSet keeps its arguments. Its errors are those of
// [New].
//
// A network has as many time steps as the set has frames. It can have any number of time
// steps if the set has one frame.
func NewFrameSet(name string, frames FrameSource, labels []int, classNames []string) (*Set, error) {
	return newFrameSet(name, name, frames, labels, len(classNames), classNames)
}

// newFrameSet is [NewFrameSet] for frames and labels from different files, with a number of
// classes that may have no names.
func newFrameSet(framesName, labelsName string, frames FrameSource, labels []int, classes int, classNames []string) (*Set, error) {
	s := frames.Shape()
	if s.N < 1 || s.Steps < 1 || s.C < 1 || s.H < 1 || s.W < 1 {
		return nil, fmt.Errorf("dataset: %s: frames of shape %v, want at least 1 in each extent", framesName, s)
	}
	set := &Set{
		N: s.N, Steps: s.Steps, C: s.C, H: s.H, W: s.W, Classes: classes, Labels: labels,
		frames: frames, classNames: classNames, provenance: framesName,
	}
	if err := set.validate(framesName, labelsName); err != nil {
		return nil, err
	}
	return set, nil
}
