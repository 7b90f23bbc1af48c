package dataset

import "math/rand/v2"

// view is a crop that begins dy rows further down and dx columns further right than the image,
// mirrored left to right if flip. The zero view is the image itself.
type view struct {
	dy, dx int
	flip   bool
}

// randomView draws the standard augmentation of CIFAR: a crop of the original size from the
// image padded on all sides, and a flip with probability 1/2.
func randomView(r *rand.Rand, padding int, flip bool) view {
	var v view
	if padding > 0 {
		v.dy = r.IntN(2*padding+1) - padding
		v.dx = r.IntN(2*padding+1) - padding
	}
	if flip {
		v.flip = r.IntN(2) == 1
	}
	return v
}

// render writes the view v of src, an image of h×w in [C][H][W] order, to dst as value/255.
// Pixels outside of src are 0.
func (v view) render(dst []float32, src []uint8, h, w int) {
	clear(dst)
	for i := range len(src) / w { // rows of all channels
		row := dst[i*w:][:w]
		y := i%h + v.dy
		if y < 0 || y >= h {
			continue
		}
		from := src[(i+v.dy)*w:][:w]
		for x := range row {
			at := x + v.dx
			if v.flip {
				at = w - 1 - x + v.dx
			}
			if at >= 0 && at < w {
				row[x] = float32(from[at]) / 255
			}
		}
	}
}
