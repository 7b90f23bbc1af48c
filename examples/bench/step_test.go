package main

import (
	"testing"

	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// BenchmarkStep times the parts of a RAT step of 16 images, T = 8, on random images.
func BenchmarkStep(b *testing.B) {
	for _, arch := range []string{"small", "wrn-16-4", "vgg11"} {
		b.Run(arch, func(b *testing.B) {
			m, err := zoo.New(zoo.Default(arch), rng.New(1))
			if err != nil {
				b.Fatal(err)
			}
			x, y := randomImages(16, m)
			if err := warmUp(m, x, y); err != nil {
				b.Fatal(err)
			}
			jobs, err := newJobs(b.Context(), m, x, y)
			if err != nil {
				b.Fatal(err)
			}
			for _, part := range parts {
				job, ok := jobs[part]
				if !ok {
					continue
				}
				b.Run(part, func(b *testing.B) {
					for b.Loop() {
						if err := job(); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}
