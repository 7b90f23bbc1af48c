package autograd

import (
	"fmt"
	"iter"
	"slices"

	"github.com/org/snnrat/tensor"
)

// Param is a parameter or buffer of a network. [Param.Export] and [Param.Import] convert
// its values to and from PyTorch's row-major order. Data holds them in the layout that the
// kernels read:
//
//   - weights of Shape [Cout, Cin] or [Cout, Cin, KH, KW] as
//     [⌈Cout/16⌉][Cin rounded up to 16][KH·KW][16], where lanes are output channels,
//   - a vector of Shape [C] in order, with C rounded up to 16,
//   - one value of Shape [] as a vector of Shape [1].
//
// Padding is zero and must stay zero.
type Param struct {
	Name      string `json:"-"` // unique in a model, in PyTorch's style, such as features.0.weight
	Shape     []int  `json:"-"` // as in PyTorch: [] for one value, [C], [Cout, Cin] or [Cout, Cin, KH, KW]
	Trainable bool   `json:"-"` // false for buffers, such as batch norm's running statistics

	data    []float32
	grad    []float32
	hasGrad bool
	version uint64
}

// NewParam returns a trainable parameter of zeros. It panics unless shape has no, one, two or
// four extents, all positive.
func NewParam(shape ...int) *Param {
	n := 0
	switch len(shape) {
	case 0:
		n = roundUp(1)
	case 1:
		n = roundUp(shape[0])
	case 2:
		n = roundUp(shape[0]) * roundUp(shape[1])
	case 4:
		n = roundUp(shape[0]) * roundUp(shape[1]) * shape[2] * shape[3]
	}
	if n <= 0 || len(shape) > 0 && slices.Min(shape) < 1 {
		panic(fmt.Sprintf("autograd: NewParam: shape %v is not that of a value, a vector, a matrix or a 2-D convolution", shape))
	}
	return &Param{Shape: slices.Clone(shape), Trainable: true, data: make([]float32, n)}
}

// NewBuffer returns a buffer of zeros. A buffer is saved with a model but not trained.
// NewBuffer panics as NewParam does.
func NewBuffer(shape ...int) *Param {
	p := NewParam(shape...)
	p.Trainable = false
	return p
}

func roundUp(c int) int { return (c + tensor.Lanes - 1) / tensor.Lanes * tensor.Lanes }

// Len returns the number of values without padding.
func (p *Param) Len() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}

// Data returns the values, padding included. The caller must not change them.
func (p *Param) Data() []float32 { return p.data }

// MutableData returns the values, padding included, and changes the version. The caller may
// write the values. Padding must stay zero.
func (p *Param) MutableData() []float32 { p.version++; return p.data }

// PaddingIsZero reports whether all padding is zero. It takes time for padding alone.
func (p *Param) PaddingIsZero() bool {
	zero := func(v []float32) bool { return !slices.ContainsFunc(v, func(v float32) bool { return v != 0 }) }
	if len(p.Shape) < 2 {
		return zero(p.data[p.Len():])
	}
	rows, cin := p.Shape[0], p.Shape[1]
	block := len(p.data) / (roundUp(rows) / tensor.Lanes) // [Cin rounded up to 16][KH·KW][16]
	for b := range roundUp(rows) / tensor.Lanes {
		data := p.data[b*block:][:block]
		used := block / roundUp(cin) * cin // of the block; the other input channels are padding
		if !zero(data[used:]) {
			return false
		}
		if lanes := rows - b*tensor.Lanes; lanes < tensor.Lanes {
			for at := 0; at < used; at += tensor.Lanes {
				if !zero(data[at+lanes : at+tensor.Lanes]) {
					return false
				}
			}
		}
	}
	return true
}

// Version returns a number that changes whenever the values may have changed.
func (p *Param) Version() uint64 { return p.version }

// Grad returns the gradient in the layout of Data. It returns nil if no backward pass has
// added to the gradient since ClearGrad.
func (p *Param) Grad() []float32 {
	if !p.hasGrad {
		return nil
	}
	return p.grad
}

// ClearGrad discards the gradient. The next backward pass overwrites it instead of adding
// to it.
func (p *Param) ClearGrad() { p.hasGrad = false }

// SwapGrad makes g the memory of the gradient, and returns the memory it had. has says
// whether g holds a gradient, and had whether the returned memory does. Without a gradient, g
// may be nil. A caller that sums up gradients in an order of its own uses it. SwapGrad panics
// if g is neither nil nor as long as Data.
func (p *Param) SwapGrad(g []float32, has bool) (old []float32, had bool) {
	if len(g) != len(p.data) && (g != nil || has) {
		panic(fmt.Sprintf("autograd: SwapGrad: %d values for %s, expected %d", len(g), p.Name, len(p.data)))
	}
	old, had = p.grad, p.hasGrad
	p.grad, p.hasGrad = g, has
	return old, had
}

// OpenGrad returns the memory of the gradient, in the layout of Data, and whether the
// caller must add to it instead of overwriting it. It is for the Backward of an [Op].
func (p *Param) OpenGrad() (g []float32, add bool) {
	if p.grad == nil {
		p.grad = make([]float32, len(p.data))
	}
	add = p.hasGrad
	p.hasGrad = true
	return p.grad, add
}

// AddGrad adds v to the gradient of a parameter of Shape [C] or []. v has at least C values,
// or one. It is for the Backward of an [Op]. AddGrad panics if the shape has two or more
// dimensions, whose gradient OpenGrad takes, or if v is too short.
func (p *Param) AddGrad(v []float64) {
	if len(p.Shape) > 1 || len(v) < p.Len() {
		panic(fmt.Sprintf("autograd: AddGrad: %d values for %s of shape %v: expected a shape of at most one dimension, and %d values", len(v), p.Name, p.Shape, p.Len()))
	}
	g, add := p.OpenGrad()
	for i := range p.Len() {
		if add {
			g[i] += float32(v[i])
		} else {
			g[i] = float32(v[i])
		}
	}
}

// index returns, for every value, its position in row-major order and in p.data.
func (p *Param) index() iter.Seq2[int, int] {
	return func(yield func(i, at int) bool) {
		rows, cin, k := 1, 1, 1
		if len(p.Shape) > 0 {
			rows = p.Shape[0]
		}
		if len(p.Shape) > 1 {
			cin = p.Shape[1]
		}
		for _, d := range p.Shape[min(2, len(p.Shape)):] {
			k *= d
		}
		stored := len(p.data) / (roundUp(rows) * k) // channels, padding included
		i := 0
		for o := range rows {
			for c := range cin {
				at := (o/tensor.Lanes*stored+c)*k*tensor.Lanes + o%tensor.Lanes
				for range k {
					if !yield(i, at) {
						return
					}
					i++
					at += tensor.Lanes
				}
			}
		}
	}
}

// Export returns a copy of the values in row-major order.
func (p *Param) Export() []float32 { return p.export(p.data) }

// ExportGrad returns a copy of the gradient in row-major order. It returns nil if Grad
// returns nil.
func (p *Param) ExportGrad() []float32 {
	if !p.hasGrad {
		return nil
	}
	return p.export(p.grad)
}

func (p *Param) export(data []float32) []float32 {
	v := make([]float32, p.Len())
	for i, at := range p.index() {
		v[i] = data[at]
	}
	return v
}

// Values iterates over the values in row-major order.
func (p *Param) Values() iter.Seq[float32] {
	return func(yield func(float32) bool) {
		for _, at := range p.index() {
			if !yield(p.data[at]) {
				return
			}
		}
	}
}

// Import copies v, in row-major order, to the values. It panics if the length of v is not
// Len.
func (p *Param) Import(v []float32) {
	if len(v) != p.Len() {
		panic(fmt.Sprintf("autograd: Import: %d values for %s of shape %v", len(v), p.Name, p.Shape))
	}
	data := p.MutableData()
	for i, at := range p.index() {
		data[at] = v[i]
	}
}

// Fill sets each value to value(i), where i is its position in row-major order. It stops
// at the first error and returns it.
func (p *Param) Fill(value func(i int) (float32, error)) (err error) {
	data := p.MutableData()
	for i, at := range p.index() {
		if data[at], err = value(i); err != nil {
			return err
		}
	}
	return nil
}

// MoveFrom moves the values of q to p without copying them. q must not be used again.
// MoveFrom panics if the shapes of p and q differ.
func (p *Param) MoveFrom(q *Param) {
	if !slices.Equal(p.Shape, q.Shape) {
		panic(fmt.Sprintf("autograd: MoveFrom: values of shape %v for %s of shape %v", q.Shape, p.Name, p.Shape))
	}
	p.data, q.data = q.data, nil
	p.version++
}
