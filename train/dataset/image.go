package dataset

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/draw"
	_ "image/jpeg" // the formats that image.Decode knows
	_ "image/png"
	"io"

	"github.com/org/snnrat/internal/regular"
)

// picture is a decoded image file.
type picture struct {
	image.Image
	format string // png or jpeg
	grey   bool   // one value a pixel, whatever the file stores
}

// size returns the number of rows and columns.
func (p *picture) size() (h, w int) { return p.Bounds().Dy(), p.Bounds().Dx() }

// decodedPixel is the memory for one pixel while a file is decoded: the coefficients of a
// progressive JPEG image with three full planes, and the planes.
const decodedPixel = 16

// decodePicture returns the image in a file. It has at least one pixel and is opaque.
func decodePicture(path string, l Limits) (*picture, error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The header is read first, as it says what memory the rest takes.
	header, format, err := image.DecodeConfig(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if format != "png" && format != "jpeg" { // the program may import others
		return nil, fmt.Errorf("%s: an image of format %s, want png or jpeg", path, format)
	}
	h, w := int64(header.Height), int64(header.Width)
	if h < 1 || w < 1 {
		return nil, fmt.Errorf("%s: an image of %d×%d, want at least one pixel", path, h, w)
	}
	if w > l.ImageBytes/decodedPixel/h {
		return nil, fmt.Errorf("%s: an image of %d×%d, want at most %d pixels, which Limits.ImageBytes allows", path, h, w, l.ImageBytes/decodedPixel)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	img, _, err := image.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if o, ok := img.(interface{ Opaque() bool }); ok && !o.Opaque() {
		return nil, fmt.Errorf("%s: a transparent image, want an opaque one", path)
	}
	grey := isGrey(img)
	if format == "png" && !grey {
		if grey, err = isGreyPNG(f); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return &picture{img, format, grey}, nil
}

// isGrey returns whether an image has one value a pixel by its type or by all the colours of
// its palette that it uses.
func isGrey(img image.Image) bool {
	switch img := img.(type) {
	case *image.Gray, *image.Gray16:
		return true
	case *image.Paletted:
		var used [256]bool
		for y := range img.Rect.Dy() {
			for _, i := range img.Pix[y*img.Stride:][:img.Rect.Dx()] {
				used[i] = true
			}
		}
		for i, c := range img.Palette {
			if r, g, b, _ := c.RGBA(); used[i] && (r != g || g != b) {
				return false
			}
		}
		return true
	}
	return false
}

// isGreyPNG returns whether the header of a PNG file says grey, with or without an alpha
// channel. Grey with any transparency is decoded to the type of a coloured image.
func isGreyPNG(f io.ReaderAt) (bool, error) {
	var header [26]byte // signature, length, IHDR, width, height, depth, colour type
	if _, err := f.ReadAt(header[:], 0); err != nil {
		return false, err
	}
	const ihdr = 0x49484452
	colour := header[25]
	return binary.BigEndian.Uint32(header[12:]) == ihdr && (colour == 0 || colour == 4), nil
}

// pixels writes the image to dst, [c][H][W] with c 1 or 3. Of 16 bits a value it takes the
// upper 8. A grey image has the same values in all channels.
func (p *picture) pixels(dst []uint8, c int) {
	if img, ok := p.Image.(*image.YCbCr); ok && c == 3 {
		rgbOfYCbCr(dst, img)
		return
	}
	h, w := p.size()
	rgba := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(rgba, rgba.Rect, p.Image, p.Bounds().Min, draw.Src)
	for k := range c {
		for i := range h * w {
			dst[k*h*w+i] = rgba.Pix[4*i+k]
		}
	}
}
