package smooth

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// mostLevels bounds Gaussian.Levels. A level is then 64 times as coarse as the rounding of a
// float32 near 1.
const mostLevels = 1 << 17

// noise draws noisy images whose values are on the grid k/Levels. A pixel of level k becomes
// clip(k + N) with N = round(Levels·ε) and ε from N(0, σ²), that is
//
//	P(|N| ≤ n) = erf((n + ½)/(√2·σ·Levels))
//
// The draw inverts this function with 63 random bits. The 64th is the sign.
type noise struct {
	values     []float32 // [Levels+1], the value of each level
	thresholds []uint64  // 2⁶³·P(|N| ≤ n) for n = 0, 1, …; the last one is above all draws
	guide      []int32   // [1<<guideBits], the least n for draws with these top bits
}

const guideBits = 12

func newNoise(sigma float64, levels int) *noise {
	z := &noise{values: make([]float32, levels+1), guide: make([]int32, 1<<guideBits)}
	for k := range z.values {
		z.values[k] = float32(k) / float32(levels)
	}
	for n := 0; n < levels; n++ { // |N| ≥ levels clips to 0 or 1 whatever it is
		p := math.Erf((float64(n) + 0.5) / (math.Sqrt2 * sigma * float64(levels)))
		if p == 1 {
			break
		}
		z.thresholds = append(z.thresholds, uint64(math.Ldexp(p, 63)))
	}
	z.thresholds = append(z.thresholds, math.MaxUint64)
	n := int32(0)
	for i := range z.guide {
		for z.thresholds[n] <= uint64(i)<<(63-guideBits) {
			n++
		}
		z.guide[i] = n
	}
	return z
}

// slack bounds the total variation distance between the noisy images that z draws and those of
// the definition, for images of so many pixels. A draw differs from that of the exact thresholds
// only if it falls between a threshold and the exact one.
//
// A threshold is wrong by less than 2⁻⁵⁰ of the whole. erf and its argument are accurate to a few
// units of 2⁻⁵³. The derivative of erf(t) with respect to log t is below ½, and the conversion
// rounds by 2⁻⁶³. Where the thresholds end, 1 − p is less than 2⁻⁵³.
func (z *noise) slack(pixels int) float64 {
	return math.Ldexp(float64(pixels)*float64(len(z.thresholds)), -50)
}

// levelsOf returns the level of each value of image i of x, and the L2 distance of the image from
// them. It returns an error if a value is further than 2⁻²² from every level.
func (z *noise) levelsOf(x tensor.NCHW, i int) (levels []int32, off float64, err error) {
	most := len(z.values) - 1
	levels = make([]int32, x.Pixels())
	for j, v := range x.Image(i) {
		k := int(math.Round(float64(v) * float64(most)))
		d := float64(v) - float64(k)/float64(most)
		if math.Abs(d) > 1.0/(1<<22) {
			return nil, 0, fmt.Errorf("%s: %v is no multiple of 1/%d: expected an image on the grid of Levels", x.Place(i*x.Pixels()+j, 0), v, most)
		}
		levels[j] = int32(k)
		off += float64(d * d)
	}
	return levels, math.Sqrt(off) * (1 + 1e-9), nil
}

// drawTo writes a noisy version of an image to dst. All random numbers come from key.
func (z *noise) drawTo(dst []float32, levels []int32, key rng.Key) {
	source := rand.NewChaCha8(key)
	most := int32(len(z.values) - 1)
	for j, k := range levels {
		u := source.Uint64()
		sign := 2*int32(u&1) - 1 // a branch would be mispredicted every second time
		k = max(0, min(k+sign*z.magnitude(u>>1), most))
		dst[j] = z.values[k]
	}
}

// magnitude returns |N| for a draw in [0, 2⁶³): the number of thresholds that are at most u.
func (z *noise) magnitude(u uint64) int32 {
	n := z.guide[u>>(63-guideBits)]
	for u >= z.thresholds[n] {
		n++
	}
	return n
}
