package dataset

import (
	"fmt"
	"math"
)

// Limits bounds the memory that a reader uses for one data set. A reader compares the sizes
// that a file claims with the limits before it allocates memory. It counts unpacked bytes
// while it unpacks.
//
// Every reader takes limits as its last arguments. Without them, [DefaultLimits] apply. If
// there are several, the last one applies.
type Limits struct {
	// Bytes bounds the data of a set that is held in memory: its unpacked files, its pixels,
	// and 8 bytes for each label. It is in [1, math.MaxInt].
	Bytes int64
	// ImageBytes bounds the memory that decodes one PNG or JPEG image, at 16 bytes a pixel.
	// It is in [1, math.MaxInt].
	ImageBytes int64
}

// DefaultLimits returns 2 GiB - 1 for a set and 256 MiB, 4096×4096 pixels, for an image.
func DefaultLimits() Limits { return Limits{Bytes: 1<<31 - 1, ImageBytes: 256 << 20} }

// chosen returns the limits that hold, and an error if one is out of its range.
func chosen(limits []Limits) (Limits, error) {
	l := DefaultLimits()
	if len(limits) > 0 {
		l = limits[len(limits)-1]
	}
	if l.Bytes < 1 || l.Bytes > math.MaxInt {
		return l, fmt.Errorf("dataset: Limits.Bytes is %d, want 1 to %d", l.Bytes, math.MaxInt)
	}
	if l.ImageBytes < 1 || l.ImageBytes > math.MaxInt {
		return l, fmt.Errorf("dataset: Limits.ImageBytes is %d, want 1 to %d", l.ImageBytes, math.MaxInt)
	}
	return l, nil
}

// product returns the product of the factors, which are not negative, and whether it is at
// most Limits.Bytes.
func (l Limits) product(factors ...int64) (int64, bool) {
	p := int64(1)
	for _, f := range factors {
		if f > 0 && p > l.Bytes/f {
			return 0, false
		}
		p *= f
	}
	return p, true
}
