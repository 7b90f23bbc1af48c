package main

import (
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor/rng"
)

// scaling is REG without the orthogonality: W ← W·(1 + β − β·s²) for the root mean square s of the
// singular values. It brings s to 1, as REG does with each of them, and keeps their ratios.
type scaling struct {
	beta float32
}

// Apply scales the weight p once. It returns an error, and does not change p, if its weights are too
// large, or not finite.
func (s scaling) Apply(p *autograd.Param, _ rng.Key, _ int) error {
	sum := 0.0
	for _, v := range p.Data() {
		sum += float64(v) * float64(v)
	}
	rows := p.Shape[0]
	beta := float64(s.beta)
	factor := 1 + beta*(1-sum/float64(min(rows, p.Len()/rows)))
	if !(factor > 0) {
		return fmt.Errorf("method %s: %s%v: its sum of squares is %v: expected one that β = %v brings down", scaled.Name, p.Name, p.Shape, sum, s.beta)
	}
	data := p.MutableData()
	for i := range data {
		data[i] *= float32(factor)
	}
	return nil
}
