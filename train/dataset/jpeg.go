package dataset

import "image"

// rgbOfYCbCr writes the pixels of a JPEG image to dst, [3][H][W], as libjpeg-turbo computes
// them from the same samples. Chroma of half the rows or columns (4:2:0, 4:2:2, 4:4:0) is
// interpolated linearly; this is libjpeg's "fancy upsampling". Chroma of a quarter of the
// columns (4:1:1, 4:1:0) is repeated. The package image/jpeg leaves this step to its caller,
// and package image repeats chroma always.
//
// The samples of image/jpeg differ by at most 1 from libjpeg-turbo's, as the two round
// differently in the inverse cosine transform. The values of dst therefore differ by at most 3.
func rgbOfYCbCr(dst []uint8, img *image.YCbCr) {
	h, w := img.Rect.Dy(), img.Rect.Dx()
	cb := make([]uint8, w) // [W], one row at full width
	cr := make([]uint8, w)
	start := img.COffset(img.Rect.Min.X, img.Rect.Min.Y)
	rows, columns := chromaRatio(img.SubsampleRatio)
	up := upsampler{h: h, w: w, rows: rows, columns: columns, stride: img.CStride}
	for y := range h {
		up.row(cb, img.Cb[start:], y)
		up.row(cr, img.Cr[start:], y)
		luma := img.Y[img.YOffset(img.Rect.Min.X, img.Rect.Min.Y+y):][:w]
		for x := range w {
			i := y*w + x
			dst[i], dst[h*w+i], dst[2*h*w+i] = rgbOf(int(luma[x]), int(cb[x])-128, int(cr[x])-128)
		}
	}
}

// rgbOf converts one pixel by the equations of JFIF in fixed point, rounded to the nearest.
// Chroma u and v is in [-128, 127].
func rgbOf(y, u, v int) (r, g, b uint8) {
	const half = 1 << 15
	clamp := func(x int) uint8 { return uint8(min(max(x, 0), 255)) }
	return clamp(y + (91881*v+half)>>16), // 1.402
		clamp(y + (-22554*u-46802*v+half)>>16), // -0.34414, -0.71414
		clamp(y + (116130*u+half)>>16) // 1.772
}

// chromaRatio returns the number of pixel rows and columns for each chroma sample.
func chromaRatio(r image.YCbCrSubsampleRatio) (rows, columns int) {
	switch r {
	case image.YCbCrSubsampleRatio422:
		return 1, 2
	case image.YCbCrSubsampleRatio420:
		return 2, 2
	case image.YCbCrSubsampleRatio440:
		return 2, 1
	case image.YCbCrSubsampleRatio411:
		return 1, 4
	case image.YCbCrSubsampleRatio410:
		return 2, 4
	}
	return 1, 1
}

// upsampler enlarges planes of chroma to an image of h×w pixels.
type upsampler struct {
	h, w          int
	rows, columns int // pixels for each sample
	stride        int // of the plane of chroma
}

// row writes row y of the enlarged plane to dst, [W].
//
// A sample lies in the middle of its pixels. A pixel is 3/4 of the nearest sample and 1/4 of
// the next one, in each direction that is halved; at the border the two are the same sample.
func (u *upsampler) row(dst, plane []uint8, y int) {
	samples := (u.w + u.columns - 1) / u.columns
	near := plane[y/u.rows*u.stride:][:samples]
	interpolated := u.columns == 2 && samples > 2 || u.columns == 1 && u.rows == 2
	if !interpolated {
		for x := range dst {
			dst[x] = near[x/u.columns]
		}
		return
	}
	far := near
	if u.rows == 2 {
		far = plane[neighbour(y, (u.h+1)/2)*u.stride:][:samples]
	}
	// In fixed point; libjpeg-turbo alternates the rounding of halves so that it has no bias.
	column := func(x int) int { return 3*int(near[x]) + int(far[x]) } // 4 times the value
	for x := range dst {
		switch {
		case u.columns == 1:
			dst[x] = uint8((column(x) + 1 + y%2) >> 2)
		case u.rows == 1:
			dst[x] = uint8((3*int(near[x/2]) + int(near[neighbour(x, samples)]) + 1 + x%2) >> 2)
		default:
			dst[x] = uint8((3*column(x/2) + column(neighbour(x, samples)) + 8 - x%2) >> 4)
		}
	}
}

// neighbour returns the index of the second nearest of n samples to pixel x, where each
// sample stands for two pixels.
func neighbour(x, n int) int { return min(max(x/2+2*(x%2)-1, 0), n-1) }
