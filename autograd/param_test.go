package autograd_test

import (
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Export undoes Import, Len counts what they carry, and padding stays zero.
func TestParamRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		extent := rapid.IntRange(1, 35)
		shape := [][]int{
			{extent.Draw(t, "c")},
			{extent.Draw(t, "out"), extent.Draw(t, "in")},
			{extent.Draw(t, "cout"), extent.Draw(t, "cin"), rapid.IntRange(1, 3).Draw(t, "kh"), rapid.IntRange(1, 3).Draw(t, "kw")},
		}[rapid.IntRange(0, 2).Draw(t, "dimensions")]
		p := autograd.NewParam(shape...)
		require.Equal(t, product(shape), p.Len())
		v := make([]float32, p.Len())
		for i := range v {
			v[i] = float32(i + 1)
		}
		before := p.Version()
		p.Import(v)
		require.NotEqual(t, before, p.Version())
		require.Equal(t, v, p.Export())
		nonzero := 0
		for _, x := range p.Data() {
			if x != 0 {
				nonzero++
			}
		}
		require.Equal(t, p.Len(), nonzero)
	})
}

// PaddingIsZero is true for a parameter whose values alone are set, and false as soon as one
// other element of Data is.
func TestPaddingIsZero(t *testing.T) {
	for _, shape := range [][]int{{}, {1}, {16}, {17}, {3, 5}, {16, 32}, {16, 5}, {20, 16}, {5, 3, 3, 3}, {17, 18, 1, 2}, {32, 16, 3, 3}} {
		p := autograd.NewParam(shape...)
		ones := make([]float32, p.Len())
		for i := range ones {
			ones[i] = 1
		}
		p.Import(ones)
		assert.True(t, p.PaddingIsZero(), "%v", shape)
		for i, v := range p.Data() {
			if v == 0 {
				p.MutableData()[i] = 2
				assert.False(t, p.PaddingIsZero(), "%v, element %d", shape, i)
				p.MutableData()[i] = 0
			}
		}
	}
}

// A gradient that does not fit is a panic that names the parameter, before it is written.
func TestParamAddGradRefuses(t *testing.T) {
	for want, p := range map[string]*autograd.Param{
		"autograd: AddGrad: 2 values for tau of shape [3]: expected a shape of at most one dimension, and 3 values":   autograd.NewParam(3),
		"autograd: AddGrad: 2 values for tau of shape [2 1]: expected a shape of at most one dimension, and 2 values": autograd.NewParam(2, 1),
	} {
		p.Name = "tau"
		require.PanicsWithValue(t, want, func() { p.AddGrad(make([]float64, 2)) })
		require.Nil(t, p.Grad())
	}
}
