package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// distances are values of u of all sizes, n of them.
func distances(n int) []float32 {
	r := rand.New(rand.NewPCG(11, uint64(n)))
	u := make([]float32, n)
	for i := range u {
		u[i] = float32(r.NormFloat64() * math.Pow(10, float64(r.IntN(4)-2)))
	}
	return u
}

// slopeCases are the functions of surrogate derivatives, each with itself in float64.
var slopeCases = []struct {
	name string
	do   func(dst, u []float32)
	want func(u float64) float64
}{
	{"SigmoidSlope", func(dst, u []float32) { SigmoidSlope(dst, u, 4) }, func(u float64) float64 {
		e := math.Exp(-4 * math.Abs(u))
		return 4 * e / (1 + e) / (1 + e)
	}},
	{"ExponentialSlope", func(dst, u []float32) { ExponentialSlope(dst, u, 0.25, 3) }, func(u float64) float64 {
		return 0.25 * math.Exp(-3*math.Abs(u))
	}},
	{"ArctanSlope", func(dst, u []float32) { ArctanSlope(dst, u, 2) }, func(u float64) float64 {
		return 1 / (1 + math.Pi*u*math.Pi*u)
	}},
	{"FastSigmoidSlope", func(dst, u []float32) { FastSigmoidSlope(dst, u, 25) }, func(u float64) float64 {
		return 1 / (1 + 25*math.Abs(u)) / (1 + 25*math.Abs(u))
	}},
	{"TriangleSlope", func(dst, u []float32) { TriangleSlope(dst, u, 2) }, func(u float64) float64 { return max(0, 2-math.Abs(u)) / 4 }},
	{"GaussianSlope", func(dst, u []float32) {
		sigma := channels(nil, 0, 1.25)
		v := make([]float32, (len(u)+Lanes-1)/Lanes*Lanes)
		copy(v, u)
		GaussianSlope(v, &sigma)
		copy(dst, v)
	}, func(u float64) float64 {
		return math.Exp(-(u-0.625)*(u-0.625)/(2*1.25*1.25)) / (1.25 * math.Sqrt(2*math.Pi))
	}},
}

func TestSlopeParity(t *testing.T) {
	for n := range 131 {
		u := distances(n)
		if n > 0 {
			wild(rand.New(rand.NewPCG(12, uint64(n))), u)
		}
		for _, c := range slopeCases {
			parity(t, c.name, func(dst func(int) []float32, _ func(int) []uint16) { c.do(dst(n), u) })
			parity(t, c.name+" in place", func(dst func(int) []float32, _ func(int) []uint16) {
				d := dst(n)
				copy(d, u)
				c.do(d, d)
			})
		}
		parity(t, "AdaptiveSlope", func(dst func(int) []float32, _ func(int) []uint16) {
			v, m, d := dst(n*Lanes), dst(n*Lanes), dst(n*Lanes)
			copy(v, wild(rand.New(rand.NewPCG(13, uint64(n))), distances(n*Lanes)))
			theta := [Lanes]float32(distances(Lanes))
			AdaptiveSlope(v, m, d, 3.25, &theta)
		})
	}
}

// The relative error of surrogate derivatives is what package kernel says.
func TestSlopeAccuracy(t *testing.T) {
	var u []float32
	for i := -40000; i <= 40000; i++ {
		u = append(u, float32(i)*1e-3, float32(i)*1e-5)
	}
	u = append(u, 0, 1e-30, -1e-30, 1e30, -1e30, math.MaxFloat32)
	for _, l := range Levels() {
		at(t, l, func() {
			for _, c := range slopeCases {
				got := make([]float32, len(u))
				c.do(got, u)
				for i, g := range got {
					want := c.want(float64(u[i]))
					bound := 1e-6
					switch c.name {
					case "SigmoidSlope", "ExponentialSlope", "GaussianSlope":
						bound *= 1 + max(0, math.Log(4)-math.Log(want))/4 // the derivatives are at most 4·e⁻ˣ
					}
					if e := math.Abs(float64(g) - want); e > bound*want && want > 1e-36 || g != g || g < 0 {
						t.Fatalf("%s(%v) is %v, want %v", c.name, u[i], g, want)
					}
				}
			}
		})
	}
}

// AdaptiveSlope follows its equation, over several updates, for a threshold of each lane.
func TestAdaptiveSlope(t *testing.T) {
	const n, a = 70 * Lanes, 1.5
	var theta [Lanes]float32
	for i := range theta {
		theta[i] = 0.5 + float32(i)/4
	}
	m, d := make([]float32, n), make([]float32, n)
	wantM, wantD := make([]float64, n), make([]float64, n)
	for i := range m {
		m[i], wantM[i] = 1, 1
	}
	for update := range 4 {
		u := distances(n + update)[:n]
		got, fresh := append([]float32(nil), u...), append([]float32(nil), u...)
		AdaptiveSlope(got, m, d, a, &theta)
		AdaptiveSlope(fresh, nil, nil, a, &theta)
		for i := range u {
			th := float64(theta[i%Lanes])
			w := math.Abs(float64(u[i])) / th
			slope := func(m, d float64) float64 {
				alpha := a / (m + 1.5*d + 1e-4)
				z := math.Pi * alpha * w / 2
				return alpha / 2 / (1 + z*z) / th
			}
			wantM[i] = 0.9*wantM[i] + 0.1*w
			wantD[i] = 0.9*wantD[i] + 0.1*math.Abs(w-wantM[i])
			for what, v := range map[string][2]float64{
				"slope": {float64(got[i]), slope(wantM[i], wantD[i])}, "mean": {float64(m[i]), wantM[i]}, "deviation": {float64(d[i]), wantD[i]},
				"slope without state": {float64(fresh[i]), slope(0.9+0.1*w, 0.1*math.Abs(w-0.9-0.1*w))},
			} {
				if math.Abs(v[0]-v[1]) > 2e-6*v[1]+1e-7*w { // |w − m| has the rounding error of w
					t.Fatal(fmt.Sprint(what, " of ", u[i], " is ", v[0], ", want ", v[1]))
				}
			}
		}
	}
}
