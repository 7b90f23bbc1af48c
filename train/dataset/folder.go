package dataset

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/org/snnrat/internal/classfolder"
	"github.com/org/snnrat/internal/parallel"
)

// ReadFolder reads a set of PNG and JPEG images, all of one size, from a folder that has one
// subfolder for each class. Classes are sorted by name. Images are sorted by class and then
// by name.
//
// The set has one channel if every file is a grey image. It has three channels, red, green
// and blue, otherwise. A PNG file is grey if it is stored as grey, with or without an alpha
// channel, or if its palette's colours are greys. For values of 16 bits, the upper 8 bits
// are used.
//
// Pixels of grey and YCbCr JPEG files differ by at most 3 of 255 levels from those of
// libjpeg-turbo, which Pillow and torchvision use. As in libjpeg-turbo, chroma of half the
// rows or columns is interpolated. The package image/jpeg decodes the rare RGB and CMYK
// files. It repeats their chroma if it is subsampled. [Set.Provenance] says how many images
// of each format there are.
//
// The label of a class is its place among the subfolders. A test folder that lacks a class
// therefore has other labels than the training folder; [ReadFolderAs] reads it with the
// classes of the training folder.
//
// Files beside the subfolders, and names that begin with a dot, are left out. Every image
// is decoded once as a check, and again each time it is needed. The files must not change
// while the set is in use.
//
// ReadFolder returns an error that names the file in these cases:
//
//   - Its extension is not .png, .jpg or .jpeg, or its content is not PNG or JPEG.
//   - It is not a regular file, or it is broken or transparent.
//   - It has another size than the first image, or is larger than [Limits] allow.
//
// The error names the folder if it has no subfolder or a subfolder has no image.
func ReadFolder(path string, limits ...Limits) (*Set, error) { return readFolder(path, nil, limits) }

// ReadFolderAs reads a folder as [ReadFolder] does, with a given list of classes: the label
// of a class is its place in classes. The classes of a test folder are those of the training
// set:
//
//	test, err := dataset.ReadFolderAs("data/test", train.ClassNames())
//
// A class of the list may have no subfolder. ReadFolderAs returns an error that names the
// subfolder if one is not in the list, and an error if the list is empty or has a name twice.
func ReadFolderAs(path string, classes []string, limits ...Limits) (*Set, error) {
	return readFolder(path, append([]string{}, classes...), limits)
}

// readFolder reads a folder with the given classes, or with those of its subfolders for nil.
func readFolder(path string, classes []string, limits []Limits) (*Set, error) {
	l, err := chosen(limits)
	if err != nil {
		return nil, err
	}
	files, err := classfolder.List(path, classes, "images", func(file string, info fs.FileInfo) error {
		if info.IsDir() || !slices.Contains([]string{".png", ".jpg", ".jpeg"}, strings.ToLower(filepath.Ext(file))) {
			return fmt.Errorf("%s: want nothing but .png, .jpg and .jpeg files in the folder of a class", file)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	images := &folder{limits: l, paths: files.Paths}
	if err := images.check(); err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	set, err := New(path, images, files.Labels, files.Classes)
	if err != nil {
		return nil, err
	}
	set.provenance = path + ": " + images.provenance()
	return set, nil
}

// folder is images in files, decoded when they are read.
type folder struct {
	paths   []string
	c, h, w int
	formats map[string]int // number of images of each format
	limits  Limits
}

// check decodes all images, sets their shape and counts their formats.
func (f *folder) check() error {
	type properties struct {
		h, w   int
		grey   bool
		format string
	}
	images := make([]properties, len(f.paths))
	errs := make([]error, len(f.paths))
	parallel.For(0, len(f.paths), func(i int) {
		p, err := decodePicture(f.paths[i], f.limits)
		if err != nil {
			errs[i] = err
			return
		}
		h, w := p.size()
		images[i] = properties{h, w, p.grey, p.format}
	})
	f.c, f.h, f.w = 1, images[0].h, images[0].w
	f.formats = map[string]int{}
	for i, path := range f.paths {
		if errs[i] != nil {
			return errs[i]
		}
		if h, w := images[i].h, images[i].w; h != f.h || w != f.w {
			return fmt.Errorf("%s: an image of %d×%d, want %d×%d as %s", path, h, w, f.h, f.w, f.paths[0])
		}
		if !images[i].grey {
			f.c = 3
		}
		f.formats[images[i].format]++
	}
	return nil
}

// provenance says what the images were read from and how.
func (f *folder) provenance() string {
	var parts []string
	if n := f.formats["png"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d PNG images", n))
	}
	if n := f.formats["jpeg"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d JPEG images (chroma interpolated as libjpeg-turbo does)", n))
	}
	return strings.Join(parts, ", ")
}

// Shape implements [PixelSource].
func (f *folder) Shape() (n, c, h, w int) { return len(f.paths), f.c, f.h, f.w }

// ReadImage implements [PixelSource].
func (f *folder) ReadImage(dst []uint8, i int) error {
	p, err := decodePicture(f.paths[i], f.limits)
	if err != nil {
		return err
	}
	if h, w := p.size(); h != f.h || w != f.w || f.c == 1 && !p.grey {
		return fmt.Errorf("%s: now another kind of image than when the folder was read", f.paths[i])
	}
	p.pixels(dst, f.c)
	return nil
}
