package train

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// The weights of an average sum to 1 in float32, too. Otherwise an average over many updates would be
// smaller, or larger, than all that it is of.
func TestAverageOfManyUpdates(t *testing.T) {
	const decay = 0.9999
	p := autograd.NewParam(64)
	a := newAverage(decay, []*autograd.Param{p})
	tr := &Trainer{model: &snn.Model{Threads: 1}, updater: &Updater{Steps: 1 << 20}}
	r := rng.New(1).Rand()
	mean, want := make([]float32, p.Len()), make([]float64, p.Len())
	for i := range mean {
		mean[i] = float32(r.NormFloat64())
		want[i] = float64(mean[i])
	}
	p.Import(mean)
	a.begin()
	values := make([]float32, p.Len())
	for range 50000 {
		for i, m := range mean {
			values[i] = m + float32(r.NormFloat64()) // far larger than what is rounded
			want[i] = decay*want[i] + (1-decay)*float64(values[i])
		}
		p.Import(values)
		a.update(tr)
	}
	var got, of float64
	for i, v := range a.mean[0].Export() {
		got += float64(v) * want[i]
		of += want[i] * want[i]
	}
	assert.InDelta(t, 1, got/of, 1e-5)
}
