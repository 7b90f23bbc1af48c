package kernel

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"unsafe"
)

// Random is the generator ChaCha8 of [math/rand/v2], for many numbers at a time. Its numbers
// are the same at every level.
type Random struct {
	level    Level
	portable rand.ChaCha8
	seed     [seedNumbers]uint64 // of the numbers after buf, except at level Portable
	buf      [MaxRandom + epoch + seedNumbers]uint64
	from, to int // buf[from:to] are the next numbers
}

// 16 blocks of ChaCha8 from one seed are the numbers of an epoch, and the next seed.
const (
	seedNumbers = 4
	epoch       = 16*8 - seedNumbers
)

// MaxRandom is the largest number of random numbers that Next returns.
const MaxRandom = 1024

// Seed begins the stream of a key.
func (r *Random) Seed(key [32]byte) {
	r.level, r.from, r.to = CurrentLevel(), 0, 0
	if r.level == NEON {
		r.level = Portable // math/rand/v2 has assembly of its own
	}
	if r.level == Portable {
		r.portable.Seed(key)
		return
	}
	for i := range r.seed {
		r.seed[i] = binary.LittleEndian.Uint64(key[8*i:])
	}
}

// Next returns the next n numbers. They are valid until the next call.
func (r *Random) Next(n int) []uint64 {
	if r.to-r.from < n {
		r.from, r.to = 0, copy(r.buf[:], r.buf[r.from:r.to])
		for ; r.to < n; r.to += epoch {
			dst := r.buf[r.to:][:epoch+seedNumbers]
			r.level.random(r, &dst[0])
			copy(r.seed[:], dst[epoch:])
		}
	}
	r.from += n
	return r.buf[r.from-n : r.from]
}

// randomPortable writes the numbers of an epoch.
func randomPortable(r *Random, dst *uint64) {
	numbers := unsafe.Slice(dst, epoch)
	for i := range numbers {
		numbers[i] = r.portable.Uint64()
	}
}

// Chances are the probabilities of the pixels of a block, prepared for [Random.Draw]. Four of
// them are in one number of 64 bits, as in a random number. Pixels are in groups of 16. The last
// group has fewer pixels, rounded up to a multiple of four.
type Chances struct {
	channels int
	limits   []uint64 // [groups][channels][pixels of the group / 4]: 2¹⁶ times each probability below 1
	always   []uint16 // [pixels]: where the probability is 1
}

// Set prepares the probabilities p [pixels][16] of the given number of channels. It rounds them
// to multiples of 2⁻¹⁶. Those above 1 become 1, and those below 0 and NaN become 0.
func (c *Chances) Set(p []float32, channels int) {
	pixels := len(p) / Lanes
	size := fours(pixels) * channels
	c.channels = channels
	c.limits = slices.Grow(c.limits[:0], size)[:size]
	c.always = slices.Grow(c.always[:0], pixels)[:pixels]
	CurrentLevel().limits(c.always, c.limits, p, channels)
}

// fours returns how many numbers of 64 bits hold one of 16 bits for each pixel.
func fours(pixels int) int { return (pixels + 3) / 4 }

// Draw fills s [pixels] with independent spikes. It draws as many random numbers as c has
// limits.
func (r *Random) Draw(s []uint16, c *Chances) {
	l := CurrentLevel()
	limits, always := c.limits, c.always
	for chunk := 4 * MaxRandom / c.channels / Lanes * Lanes; len(s) > 0; {
		n := min(chunk, len(s))
		random := r.Next(fours(n) * c.channels)
		l.draw(s[:n], always, limits, random, c.channels)
		s, always, limits = s[n:], always[n:], limits[len(random):]
	}
}

// limitsPortable writes the limits and the bits of always of the probabilities p [pixels][16].
func limitsPortable(always []uint16, limits []uint64, p []float32, channels int) {
	for len(always) > 0 {
		n := min(Lanes, len(always))
		clear(always[:n])
		for lane := range channels {
			clear(limits[:fours(n)])
			for i := range n {
				v := p[i*Lanes+lane]*(1<<16) + 0.5
				if !(v > 0) {
					v = 0
				}
				limit := uint32(min(v, 1<<16))
				limits[i/4] |= uint64(uint16(limit)) << (i % 4 * 16)
				always[i] |= uint16(limit>>16) << lane
			}
			limits = limits[fours(n):]
		}
		always, p = always[n:], p[n*Lanes:]
	}
}

// drawPortable sets the bits of s to those of always, and to 1 where a random number of 16 bits
// is below its limit.
func drawPortable(s, always []uint16, limits, random []uint64, channels int) {
	// The even and the odd numbers get fields of 32 bits. In such a field, bit 16 of
	// limit + (2¹⁶ − 1) − number is set if number < limit.
	const even, one = 0x0000ffff_0000ffff, 0x00000001_00000001
	for len(s) > 0 {
		n := min(Lanes, len(s))
		var spikes [Lanes / 4]uint64 // four pixels each
		size := fours(n)
		for lane := range channels {
			numbers := random[:size]
			for i, l := range limits[:size] {
				r := numbers[i]
				spikes[i&3] |= ((l&even+even-r&even)>>16&one | (l>>16&even+even-r>>16&even)&(one<<16)) << (lane & 15)
			}
			limits, random = limits[size:], random[size:]
		}
		dst, fixed := s[:n], always[:n]
		for i := range dst {
			dst[i] = fixed[i] | uint16(spikes[i/4&3]>>(i%4*16))
		}
		s, always = s[n:], always[n:]
	}
}
