package snn

import (
	"fmt"
	"math"
	"strings"

	"github.com/org/snnrat/autograd"
)

// Surrogate stands in for the derivative of the Heaviside step that a neuron fires
// by. Each has one parameter, Width > 0; u is the membrane potential minus the
// threshold.
type Surrogate interface {
	autograd.Surrogate
	fmt.Stringer
}

// Triangle is max(0, Width − |u|)/Width² (Bellec et al. 2018; Ding et al. 2022).
type Triangle struct{ Width float32 }

// Rectangle is 1[|u| < Width/2]/Width (Wu et al. 2018).
type Rectangle struct{ Width float32 }

// Sigmoid is Width·σ(Width·u)·(1 − σ(Width·u)), σ the logistic function.
type Sigmoid struct{ Alpha float32 }

// Arctan is (Width/2)/(1 + (π·Width·u/2)²) (Fang et al. 2021).
type Arctan struct{ Alpha float32 }

// FastSigmoid is 1/(1 + Width·|u|)² (Zenke and Ganguli 2018).
type FastSigmoid struct{ Slope float32 }

// NewSurrogate returns the surrogate of that name: triangle, rectangle, sigmoid,
// arctan or fast_sigmoid. It returns an error for another name and for a width that
// is not positive and finite.
func NewSurrogate(name string, width float32) (Surrogate, error) {
	var s Surrogate
	switch name {
	case "triangle":
		s = Triangle{width}
	case "rectangle":
		s = Rectangle{width}
	case "sigmoid":
		s = Sigmoid{width}
	case "arctan":
		s = Arctan{width}
	case "fast_sigmoid":
		s = FastSigmoid{width}
	default:
		return nil, fmt.Errorf("surrogate %q: expected triangle, rectangle, sigmoid, arctan or fast_sigmoid", name)
	}
	if err := checkSurrogate(s); err != nil {
		return nil, err
	}
	return s, nil
}

// checkSurrogate returns an error if the width is not positive and finite: the derivative is
// zero then, or points down, and whatever it attacks looks robust.
func checkSurrogate(s Surrogate) error {
	var width float32
	switch s := s.(type) {
	case Triangle:
		width = s.Width
	case Rectangle:
		width = s.Width
	case Sigmoid:
		width = s.Alpha
	case Arctan:
		width = s.Alpha
	case FastSigmoid:
		width = s.Slope
	default:
		return nil
	}
	if !(width > 0) || math.IsInf(float64(width), 0) {
		name, _, _ := strings.Cut(s.String(), " ")
		return fmt.Errorf("surrogate %s: width %v: expected a positive number", name, width)
	}
	return nil
}

// Derivative implements [autograd.Surrogate].
func (s Triangle) Derivative(dst, u []float32) {
	scale := 1 / (s.Width * s.Width)
	for i, v := range u {
		if v < 0 {
			v = -v
		}
		dst[i] = max(0, s.Width-v) * scale
	}
}

// TriangleWidth returns Width; the kernels compute the triangle inline.
func (s Triangle) TriangleWidth() float32 { return s.Width }

// Support returns Width.
func (s Triangle) Support() float32 { return s.Width }

// Derivative implements [autograd.Surrogate].
func (s Rectangle) Derivative(dst, u []float32) {
	half, high := s.Width/2, 1/s.Width
	for i, v := range u {
		dst[i] = 0
		if -half < v && v < half {
			dst[i] = high
		}
	}
}

// Support returns Width/2.
func (s Rectangle) Support() float32 { return s.Width / 2 }

// Derivative implements [autograd.Surrogate].
func (s Sigmoid) Derivative(dst, u []float32) {
	for i, v := range u {
		p := 1 / (1 + math.Exp(float64(-s.Alpha*v)))
		dst[i] = float32(float64(s.Alpha) * p * (1 - p))
	}
}

// Derivative implements [autograd.Surrogate].
func (s Arctan) Derivative(dst, u []float32) {
	for i, v := range u {
		x := math.Pi / 2 * s.Alpha * v
		dst[i] = s.Alpha / 2 / (1 + x*x)
	}
}

// Derivative implements [autograd.Surrogate].
func (s FastSigmoid) Derivative(dst, u []float32) {
	for i, v := range u {
		if v < 0 {
			v = -v
		}
		d := 1 + s.Slope*v
		dst[i] = 1 / (d * d)
	}
}

// String returns the name and the width, as NewSurrogate takes them.
func (s Triangle) String() string { return fmt.Sprintf("triangle %v", s.Width) }

// String returns the name and the width, as NewSurrogate takes them.
func (s Rectangle) String() string { return fmt.Sprintf("rectangle %v", s.Width) }

// String returns the name and the width, as NewSurrogate takes them.
func (s Sigmoid) String() string { return fmt.Sprintf("sigmoid %v", s.Alpha) }

// String returns the name and the width, as NewSurrogate takes them.
func (s Arctan) String() string { return fmt.Sprintf("arctan %v", s.Alpha) }

// String returns the name and the width, as NewSurrogate takes them.
func (s FastSigmoid) String() string { return fmt.Sprintf("fast_sigmoid %v", s.Slope) }
