package event

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/org/snnrat/tensor"
)

// Mirror returns the recording mirrored left to right. The width must be known. The events are a
// copy.
func (r Recording) Mirror() Recording {
	if r.Width < 1 {
		panic("event: Mirror: a recording of unknown width")
	}
	r.Events = slices.Clone(r.Events)
	for i := range r.Events {
		r.Events[i].X = uint16(r.Width-1) - r.Events[i].X
	}
	return r
}

// Shift returns the recording with its events dx pixels to the right and dy pixels down. Events
// that leave the sensor are left out. The size of the sensor must be known. The events are a
// copy.
func (r Recording) Shift(dx, dy int) Recording {
	if r.Width < 1 || r.Height < 1 {
		panic("event: Shift: a recording of a sensor of unknown size")
	}
	var kept []Event
	for _, e := range r.Events {
		x, y := int(e.X)+dx, int(e.Y)+dy
		if x >= 0 && x < r.Width && y >= 0 && y < r.Height {
			e.X, e.Y = uint16(x), uint16(y)
			kept = append(kept, e)
		}
	}
	r.Events = kept
	return r
}

// Drop returns the recording without a share of its events, in [0, 1]: each one is left out with
// that probability. The random numbers are those of random. The events are a copy.
func (r Recording) Drop(share float64, random *rand.Rand) Recording {
	var kept []Event
	for _, e := range r.Events {
		if random.Float64() >= share {
			kept = append(kept, e)
		}
	}
	r.Events = kept
	return r
}

// These augmentations of frames are for a [dataset.Loader], with dataset.Flip, which mirrors, and
// dataset.Crop, which shifts. The loader gives each example a random stream of its own.

// DropEvents sets values of frames to zero, each with probability Share. In binary frames a value
// is an event.
type DropEvents struct{ Share float64 } // in [0, 1]

// Validate returns an error if Share is out of range.
func (d DropEvents) Validate(tensor.Shape) error { return validateShare("DropEvents", d.Share) }

// Augment implements [dataset.Augmentation].
func (d DropEvents) Augment(x tensor.NCHW, r *rand.Rand) {
	for i, v := range x.Data {
		if v != 0 && r.Float64() < d.Share {
			x.Data[i] = 0
		}
	}
}

// DropTime sets a run of whole frames to zero (Gu et al. 2021, "EventDrop"). Its length is random
// from 0 to Share of the frames.
type DropTime struct{ Share float64 } // in [0, 1]

// Validate returns an error if Share is out of range.
func (d DropTime) Validate(tensor.Shape) error { return validateShare("DropTime", d.Share) }

// Augment implements [dataset.Augmentation].
func (d DropTime) Augment(x tensor.NCHW, r *rand.Rand) {
	steps := max(x.Steps, 1)
	n := r.IntN(int(d.Share*float64(steps)) + 1)
	at := r.IntN(steps - n + 1)
	frame := x.Pixels() / steps
	clear(x.Data[at*frame : (at+n)*frame])
}

// DropArea sets a rectangle to zero in all frames (Gu et al. 2021, "EventDrop"). Its sides are
// random from 0 to Share of the frame's.
type DropArea struct{ Share float64 } // in [0, 1]

// Validate returns an error if Share is out of range.
func (d DropArea) Validate(tensor.Shape) error { return validateShare("DropArea", d.Share) }

// Augment implements [dataset.Augmentation].
func (d DropArea) Augment(x tensor.NCHW, r *rand.Rand) {
	h, w := r.IntN(int(d.Share*float64(x.H))+1), r.IntN(int(d.Share*float64(x.W))+1)
	top, left := r.IntN(x.H-h+1), r.IntN(x.W-w+1)
	for plane := x.Data; len(plane) > 0; plane = plane[x.H*x.W:] {
		for y := top; y < top+h; y++ {
			clear(plane[y*x.W+left:][:w])
		}
	}
}

func validateShare(name string, share float64) error {
	if !(share >= 0 && share <= 1) {
		return fmt.Errorf("%s.Share is %v, want 0 to 1", name, share)
	}
	return nil
}
