package autograd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/stretchr/testify/assert"
)

// Losses and gradients against the definition, in float64, and its differences.
func TestCrossEntropy(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	definition := func(z []float64, label int, smoothing float64) float64 {
		total, loss := 0.0, 0.0
		for _, v := range z {
			total += math.Exp(v)
		}
		for k, v := range z {
			q := smoothing / float64(len(z))
			if k == label {
				q += 1 - smoothing
			}
			loss -= q * math.Log(math.Exp(v)/total)
		}
		return loss
	}
	for _, classes := range []int{1, 2, 10, 33} {
		for _, smoothing := range []float64{0, 0.1, 0.5} {
			t.Run(fmt.Sprintf("%d classes, smoothing %v", classes, smoothing), func(t *testing.T) {
				const n = 5
				z := normals(r, n*classes)
				labels := make([]int, n)
				for i := range labels {
					labels[i] = r.IntN(classes)
				}
				loss, grad := make([]float64, n), make([]float32, n*classes)
				autograd.CrossEntropy(loss, grad, float32s(z), labels, smoothing)
				for i, label := range labels {
					row := z[i*classes:][:classes]
					assert.InDelta(t, definition(row, label, smoothing), loss[i], 1e-12)
					for k, v := range row {
						const h = 1e-6
						row[k] = v + h
						up := definition(row, label, smoothing)
						row[k] = v - h
						down := definition(row, label, smoothing)
						row[k] = v
						assert.InDelta(t, (up-down)/(2*h), grad[i*classes+k], 1e-7)
					}
				}
				autograd.CrossEntropy(nil, nil, float32s(z), labels, smoothing)
			})
		}
	}
}

// Logits whose exponentials overflow have the loss of their differences.
func TestCrossEntropyOfLargeLogits(t *testing.T) {
	loss, grad := make([]float64, 2), make([]float32, 4)
	autograd.CrossEntropy(loss, grad, []float32{1e30, -1e30, 1000, 1001}, []int{0, 0}, 0)
	assert.Equal(t, 0.0, loss[0])
	assert.InDelta(t, math.Log(1+math.E), loss[1], 1e-12)
	assert.Equal(t, []float32{0, 0}, grad[:2])
	assert.InDelta(t, 1/(1+math.E)-1, grad[2], 1e-7)
	for name, labels := range map[string][]int{"label 2 of 2 classes": {0, 2}, "label -1 of 2": {-1, 0}, "4 logits for 3": {0, 0, 0}, "for 0 labels": {}} {
		func() {
			defer func() { assert.Contains(t, fmt.Sprint(recover()), name) }()
			autograd.CrossEntropy(loss, grad, make([]float32, 4), labels, 0)
		}()
	}
}
