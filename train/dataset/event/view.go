package event

import (
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io"

	"github.com/org/snnrat/tensor"
)

// The colours of the pictures: white without events, blue for OFF, orange for ON and black for
// both, which readers who are colour-blind can tell apart. Frames of one channel are grey.
var (
	colourOff = color.RGBA{0, 114, 178, 255}
	colourOn  = color.RGBA{213, 94, 0, 255}
)

// most pixels of a picture.
const mostPixels = 1 << 26

// Strip writes a PNG picture of frames: a row for each example, with its frames from left to right.
// A pixel of a frame is scale × scale pixels of the picture. x has one or two channels and values
// in [0,1].
//
// It returns an error if x has another number of channels, scale is below 1, the picture has more
// than 2²⁶ pixels, or w fails.
func Strip(w io.Writer, x tensor.NCHW, scale int) error {
	s := x.Shape()
	width, height := s.Steps*(s.W*scale+scale)-scale, s.N*(s.H*scale+scale)-scale
	if err := checkPicture(x, scale, width, height); err != nil {
		return err
	}
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range m.Pix {
		m.Pix[i] = 0xcc // between frames
		if i%4 == 3 {
			m.Pix[i] = 0xff
		}
	}
	for n := range s.N {
		for t := range s.Steps {
			x0, y0 := t*(s.W+1)*scale, n*(s.H+1)*scale
			for y := range s.H * scale {
				for k := range s.W * scale {
					m.SetRGBA(x0+k, y0+y, colourAt(x, n, t, y/scale, k/scale))
				}
			}
		}
	}
	return png.Encode(w, m)
}

// GIF writes an animated picture of one example's frames, each shown for delay hundredths of a
// second, over and over. The rest is as in [Strip]. x must have one example.
func GIF(w io.Writer, x tensor.NCHW, scale, delay int) error {
	s := x.Shape()
	if s.N != 1 || delay < 1 || delay > 1<<15 {
		return fmt.Errorf("event: GIF of %d examples with a delay of %d, want one example and 1 to %d", s.N, delay, 1<<15)
	}
	if err := checkPicture(x, scale, s.W*scale, s.H*scale*s.Steps); err != nil {
		return err
	}
	// 16 levels of each channel, which are mixed.
	var palette color.Palette
	for off := range 16 {
		for on := range 16 {
			palette = append(palette, mix(float32(off)/15, float32(on)/15, s.C == 1))
		}
	}
	g := &gif.GIF{}
	for t := range s.Steps {
		m := image.NewPaletted(image.Rect(0, 0, s.W*scale, s.H*scale), palette)
		for y := range s.H * scale {
			for k := range s.W * scale {
				off, on := valuesAt(x, 0, t, y/scale, k/scale)
				m.Pix[y*m.Stride+k] = uint8(off*15+0.5)<<4 | uint8(on*15+0.5)
			}
		}
		g.Image = append(g.Image, m)
		g.Delay = append(g.Delay, delay)
	}
	return gif.EncodeAll(w, g)
}

func checkPicture(x tensor.NCHW, scale, width, height int) error {
	if x.C != 1 && x.C != 2 {
		return fmt.Errorf("event: a picture of frames with %d channels, want 1 or 2", x.C)
	}
	if scale < 1 || scale > 256 || width < 1 || height < 1 || width > mostPixels || height > mostPixels/width {
		return fmt.Errorf("event: a picture of %d×%d pixels at scale %d, want a scale of 1 to 256 and at most %d pixels", width, height, scale, mostPixels)
	}
	if err := x.ValidateRange(0, 1); err != nil {
		return fmt.Errorf("event: a picture of %w", err)
	}
	return nil
}

// valuesAt returns the values of a pixel. That of one channel counts as both.
func valuesAt(x tensor.NCHW, n, t, row, column int) (off, on float32) {
	frame := x.Image(n)[t*x.C*x.H*x.W:]
	off = frame[row*x.W+column]
	if x.C == 1 {
		return off, off
	}
	return off, frame[(x.H+row)*x.W+column]
}

func colourAt(x tensor.NCHW, n, t, row, column int) color.RGBA {
	off, on := valuesAt(x, n, t, row, column)
	return mix(off, on, x.C == 1)
}

// mix returns white with so much of the colours for OFF and ON taken away from it.
func mix(off, on float32, grey bool) color.RGBA {
	if grey {
		v := uint8(255*(1-off) + 0.5)
		return color.RGBA{v, v, v, 255}
	}
	channel := func(a, b uint8) uint8 {
		return uint8(255*(1-off*(1-float32(a)/255))*(1-on*(1-float32(b)/255)) + 0.5)
	}
	return color.RGBA{channel(colourOff.R, colourOn.R), channel(colourOff.G, colourOn.G), channel(colourOff.B, colourOn.B), 255}
}
