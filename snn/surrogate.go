package snn

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
)

// Surrogate is a function that replaces the derivative of a spike with respect to the
// membrane potential. Its argument u is the membrane potential minus the threshold. String
// returns its name, with its settings.
//
// Every pass checks surrogates at a few values of u. The pass returns an error if the
// function is not positive at u = 0, not finite at one of the others, or not what a method
// TriangleWidth or Support says.
type Surrogate interface {
	autograd.Surrogate
	fmt.Stringer
}

// Triangle is max(0, Width − |u|)/Width² (Bellec et al. 2018; Ding et al. 2022). It is zero
// for |u| ≥ Width.
type Triangle struct{ Width float32 }

// Rectangle is 1/Width for |u| < Width/2, and 0 otherwise (Wu et al. 2018).
type Rectangle struct{ Width float32 }

// Sigmoid is Alpha·σ(Alpha·u)·(1 − σ(Alpha·u)), where σ is the logistic function. A larger
// Alpha is steeper. SpikingJelly's Sigmoid(alpha) is the same.
type Sigmoid struct{ Alpha float32 }

// Arctan is (Alpha/2)/(1 + (π·Alpha·u/2)²) (Fang et al. 2021). A larger Alpha is steeper.
// SpikingJelly's ATan(alpha) is the same.
type Arctan struct{ Alpha float32 }

// FastSigmoid is 1/(1 + Slope·|u|)² (Zenke and Ganguli 2018). A larger Slope is steeper.
// snnTorch's fast_sigmoid(slope) is the same.
type FastSigmoid struct{ Slope float32 }

// Exponential is exp(−Alpha·|u|) (Shrestha and Orchard 2018, without their factor). A larger
// Alpha is steeper.
type Exponential struct{ Alpha float32 }

// DampenedExponential is 0.3·exp(−Alpha·|u|). It is the dampened exponential in the ensemble of
// Özdenizci and Legenstein (2024), where [Exponential] is the other one.
type DampenedExponential struct{ Alpha float32 }

// StraightThrough is 1 everywhere, the straight-through estimator (Bengio et al. 2013).
type StraightThrough struct{}

// NewSurrogate returns the surrogate with a name and a parameter:
//
//	triangle, rectangle                 parameter is Width
//	sigmoid, arctan                     parameter is Alpha
//	exponential, dampened_exponential   parameter is Alpha
//	fast_sigmoid                        parameter is Slope
//	straight_through                    parameter is 1
//
// NewSurrogate returns an error if it does not know the name or if the parameter is not
// positive. It also returns one if the surrogate would not be finite, or not positive at u
// = 0.
func NewSurrogate(name string, parameter float32) (Surrogate, error) {
	var s Surrogate
	switch name {
	case "triangle":
		s = Triangle{parameter}
	case "rectangle":
		s = Rectangle{parameter}
	case "sigmoid":
		s = Sigmoid{parameter}
	case "arctan":
		s = Arctan{parameter}
	case "fast_sigmoid":
		s = FastSigmoid{parameter}
	case "exponential":
		s = Exponential{parameter}
	case "dampened_exponential":
		s = DampenedExponential{parameter}
	case "straight_through":
		if parameter != 1 {
			return nil, fmt.Errorf("surrogate straight_through %v: expected 1, its derivative", parameter)
		}
		s = StraightThrough{}
	default:
		return nil, fmt.Errorf("surrogate %q: expected triangle, rectangle, sigmoid, arctan, fast_sigmoid, exponential, dampened_exponential or straight_through", name)
	}
	if err := validateSurrogate(s); err != nil {
		return nil, err
	}
	return s, nil
}

// validateSurrogate returns an error if s is not positive at u = 0, not finite at one of a
// few values of u, or contradicts its own methods there. An attack with such a surrogate
// finds no gradient, and the network looks robust.
func validateSurrogate(s Surrogate) error {
	if v := reflect.ValueOf(s); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("no surrogate: expected one such as Triangle{1}")
	}
	if p, ok := s.(interface{ parameter() float32 }); ok && !(p.parameter() > 0 && p.parameter() <= math.MaxFloat32) {
		return fmt.Errorf("surrogate %v: expected a positive number", s)
	}
	u := [...]float32{0, 1e-30, -1e-30, 1e-6, -1e-6, 0.1, -0.1, 0.5, -0.5, 1, -1, 10, -10, 1e3, -1e3, 1e30, -1e30}
	var d [len(u)]float32
	s.Derivative(d[:], u[:])
	if !(d[0] > 0) {
		return fmt.Errorf("surrogate %v: its derivative at the threshold is %v: expected a positive number", s, d[0])
	}
	for i, v := range d {
		if v-v != 0 {
			return fmt.Errorf("surrogate %v: its derivative at %v from the threshold is %v: expected a finite number", s, u[i], v)
		}
	}
	// A type that embeds one of the surrogates has its methods. Kernels believe them.
	if t, ok := s.(interface{ TriangleWidth() float32 }); ok {
		var want [len(u)]float32
		Triangle{t.TriangleWidth()}.Derivative(want[:], u[:])
		for i, v := range d {
			if math.Abs(float64(v-want[i])) > 1e-5*float64(want[i]) {
				return fmt.Errorf("surrogate %v: its derivative at %v from the threshold is %v: expected %v, that of the triangle of its TriangleWidth", s, u[i], v, want[i])
			}
		}
	}
	if c, ok := s.(interface{ Support() float32 }); ok {
		for i, v := range d {
			if v != 0 && max(u[i], -u[i]) >= c.Support() {
				return fmt.Errorf("surrogate %v: its derivative at %v from the threshold is %v: expected 0, since its Support is %v", s, u[i], v, c.Support())
			}
		}
	}
	return nil
}

// Derivative implements [autograd.Surrogate].
func (s Triangle) Derivative(dst, u []float32) { kernel.TriangleSlope(dst, u, s.Width) }

// TriangleWidth returns Width. Kernels recognize a triangle by this method. They then
// compute it themselves and do not call Derivative.
func (s Triangle) TriangleWidth() float32 { return s.Width }

// Support returns Width. The surrogate is zero for |u| ≥ Width.
func (s Triangle) Support() float32 { return s.Width }

// Derivative implements [autograd.Surrogate].
func (s Rectangle) Derivative(dst, u []float32) {
	const sign = 1 << 31
	half, high := math.Float32bits(s.Width/2), math.Float32bits(1/s.Width)
	dst = dst[:len(u)]
	for i, v := range u { // positive numbers are ordered as their bits; no branch
		inside := int32(math.Float32bits(v)&^sign-half) >> 31
		dst[i] = math.Float32frombits(high & uint32(inside))
	}
}

// Support returns Width/2. The surrogate is zero for |u| ≥ Width/2.
func (s Rectangle) Support() float32 { return s.Width / 2 }

// Derivative implements [autograd.Surrogate].
func (s Sigmoid) Derivative(dst, u []float32) { kernel.SigmoidSlope(dst, u, s.Alpha) }

// Derivative implements [autograd.Surrogate].
func (s Arctan) Derivative(dst, u []float32) { kernel.ArctanSlope(dst, u, s.Alpha) }

// Derivative implements [autograd.Surrogate].
func (s Exponential) Derivative(dst, u []float32) { kernel.ExponentialSlope(dst, u, 1, s.Alpha) }

// Derivative implements [autograd.Surrogate].
func (s DampenedExponential) Derivative(dst, u []float32) {
	kernel.ExponentialSlope(dst, u, 0.3, s.Alpha)
}

// Derivative implements [autograd.Surrogate].
func (StraightThrough) Derivative(dst, u []float32) {
	if len(u) == 0 {
		return
	}
	dst = dst[:len(u)]
	dst[0] = 1
	for n := 1; n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
}

// Derivative implements [autograd.Surrogate].
func (s FastSigmoid) Derivative(dst, u []float32) { kernel.FastSigmoidSlope(dst, u, s.Slope) }

// parameter returns the only parameter of a surrogate. Pointers to these types, and types
// that embed them, have the method too.
func (s Triangle) parameter() float32            { return s.Width }
func (s Rectangle) parameter() float32           { return s.Width }
func (s Sigmoid) parameter() float32             { return s.Alpha }
func (s Arctan) parameter() float32              { return s.Alpha }
func (s FastSigmoid) parameter() float32         { return s.Slope }
func (s Exponential) parameter() float32         { return s.Alpha }
func (s DampenedExponential) parameter() float32 { return s.Alpha }

// String returns the name and the parameter that NewSurrogate takes.
func (s Triangle) String() string { return fmt.Sprintf("triangle %v", s.Width) }

// String returns the name and the parameter that NewSurrogate takes.
func (s Rectangle) String() string { return fmt.Sprintf("rectangle %v", s.Width) }

// String returns the name and the parameter that NewSurrogate takes.
func (s Sigmoid) String() string { return fmt.Sprintf("sigmoid %v", s.Alpha) }

// String returns the name and the parameter that NewSurrogate takes.
func (s Arctan) String() string { return fmt.Sprintf("arctan %v", s.Alpha) }

// String returns the name and the parameter that NewSurrogate takes.
func (s FastSigmoid) String() string { return fmt.Sprintf("fast_sigmoid %v", s.Slope) }

// String returns the name and the parameter that NewSurrogate takes.
func (s Exponential) String() string { return fmt.Sprintf("exponential %v", s.Alpha) }

// String returns the name and the parameter that NewSurrogate takes.
func (s DampenedExponential) String() string { return fmt.Sprintf("dampened_exponential %v", s.Alpha) }

// String returns the name and the parameter that NewSurrogate takes.
func (StraightThrough) String() string { return "straight_through 1" }
