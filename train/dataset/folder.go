package dataset

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	_ "image/jpeg" // the formats that image.Decode knows
	_ "image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/org/snnrat/internal/parallel"
)

// ReadFolder reads a set of PNG and JPEG images, all of one size, from a folder that
// has one subfolder a class. Classes are sorted by name, images by class and then by
// name. The set has one channel, grey, if every file is a grey image, and else three,
// red, green and blue. Of 16 bits a value the upper 8 are used.
//
// A class's label is its place among the subfolders of this folder: in a test folder that
// lacks a class, those after it have other labels than in the training folder. Compare
// the sets' ClassNames().
//
// Files that lie beside the subfolders, and names that begin with a dot, are left out.
// Every image is decoded once to check it, and again whenever it is asked for; the
// files must not change meanwhile.
//
// It returns an error that names the file when one is not a PNG or a JPEG image by its
// extension (.png, .jpg, .jpeg) or by its content, is broken, transparent or of another
// size than the first; and one that names the folder when it has no subfolder or a
// subfolder has no image.
func ReadFolder(path string) (*Set, error) {
	images := &folder{}
	var labels []int
	var classNames []string
	entries, err := list(path)
	if err != nil {
		return nil, err
	}
	for _, class := range entries {
		if !class.IsDir() {
			continue
		}
		names, err := imageNames(filepath.Join(path, class.Name()))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			images.paths = append(images.paths, filepath.Join(path, class.Name(), name))
			labels = append(labels, len(classNames))
		}
		classNames = append(classNames, class.Name())
	}
	if len(classNames) == 0 {
		return nil, fmt.Errorf("dataset: %s: no subfolders, want one for each class", path)
	}
	if err := images.check(); err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	return New(path, images, labels, classNames)
}

// imageNames returns the sorted names of the images in the folder of a class.
func imageNames(path string) (names []string, err error) {
	entries, err := list(path)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		extension := strings.ToLower(filepath.Ext(entry.Name()))
		if entry.IsDir() || !slices.Contains([]string{".png", ".jpg", ".jpeg"}, extension) {
			return nil, fmt.Errorf("dataset: %s: want nothing but .png, .jpg and .jpeg files in the folder of a class", filepath.Join(path, entry.Name()))
		}
		names = append(names, entry.Name())
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("dataset: %s: no images", path)
	}
	return names, nil
}

// list returns what is in a folder, sorted by name, or what a link there stands for,
// but not what is hidden.
func list(path string) (infos []fs.FileInfo, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(path, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("dataset: %w", err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// folder is images in files, decoded when they are read.
type folder struct {
	paths   []string
	c, h, w int
}

// check decodes all images and sets their shape.
func (f *folder) check() error {
	sizes := make([]image.Point, len(f.paths))
	grey := make([]bool, len(f.paths))
	errs := make([]error, len(f.paths))
	parallel.For(0, len(f.paths), func(i int) {
		img, err := decodeImage(f.paths[i])
		if err != nil {
			errs[i] = err
			return
		}
		sizes[i], grey[i] = img.Bounds().Size(), isGrey(img)
	})
	f.c, f.h, f.w = 1, sizes[0].Y, sizes[0].X
	for i, path := range f.paths {
		if errs[i] != nil {
			return errs[i]
		}
		if sizes[i] != sizes[0] {
			return fmt.Errorf("%s: an image of %d×%d, want %d×%d as %s", path, sizes[i].Y, sizes[i].X, f.h, f.w, f.paths[0])
		}
		if !grey[i] {
			f.c = 3
		}
	}
	return nil
}

// Shape implements [PixelSource].
func (f *folder) Shape() (n, c, h, w int) { return len(f.paths), f.c, f.h, f.w }

// ReadImage implements [PixelSource].
func (f *folder) ReadImage(dst []uint8, i int) error {
	img, err := decodeImage(f.paths[i])
	if err != nil {
		return err
	}
	if size := img.Bounds().Size(); size != image.Pt(f.w, f.h) || f.c == 1 && !isGrey(img) {
		return fmt.Errorf("%s: now another kind of image than when the folder was read", f.paths[i])
	}
	rgba := image.NewRGBA(image.Rect(0, 0, f.w, f.h))
	draw.Draw(rgba, rgba.Rect, img, img.Bounds().Min, draw.Src)
	for c := range f.c { // a grey image has the same value in all
		for k := range f.h * f.w {
			dst[c*f.h*f.w+k] = rgba.Pix[4*k+c]
		}
	}
	return nil
}

// decodeImage returns the image in a file, with at least one pixel.
func decodeImage(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The header first, so that a corrupt one cannot claim memory.
	header, _, err := image.DecodeConfig(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if min(header.Width, header.Height) < 1 || max(header.Width, header.Height) > maxSide {
		return nil, fmt.Errorf("%s: an image of %d×%d, want 1 to %d rows and columns", path, header.Height, header.Width, maxSide)
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
	return img, nil
}

func isGrey(img image.Image) bool {
	return img.ColorModel() == color.GrayModel || img.ColorModel() == color.Gray16Model
}
