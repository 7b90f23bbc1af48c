package dataset

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	if len(classes) == 0 {
		return nil, fmt.Errorf("dataset: %s: no classes to read it with, want at least one", path)
	}
	for i, name := range classes {
		if slices.Contains(classes[:i], name) {
			return nil, fmt.Errorf("dataset: %s: class %q is twice in the list of classes", path, name)
		}
	}
	return readFolder(path, slices.Clone(classes), limits)
}

// readFolder reads a folder with the given classes, or with those of its subfolders for nil.
func readFolder(path string, classes []string, limits []Limits) (*Set, error) {
	l, err := chosen(limits)
	if err != nil {
		return nil, err
	}
	images := &folder{limits: l}
	var labels []int
	entries, err := list(path)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e fs.FileInfo) bool { return !e.IsDir() })
	if len(entries) == 0 {
		return nil, fmt.Errorf("dataset: %s: no subfolders, want one for each class", path)
	}
	given := classes != nil
	for _, class := range entries {
		if !given {
			classes = append(classes, class.Name())
		}
		subfolder := filepath.Join(path, class.Name())
		label := slices.Index(classes, class.Name())
		if label < 0 {
			return nil, fmt.Errorf("dataset: %s: a folder of none of the %d classes, want one of %q", subfolder, len(classes), abridged(classes))
		}
		names, err := imageNames(subfolder)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			images.paths = append(images.paths, filepath.Join(subfolder, name))
			labels = append(labels, label)
		}
	}
	if err := images.check(); err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	set, err := New(path, images, labels, classes)
	if err != nil {
		return nil, err
	}
	set.provenance = path + ": " + images.provenance()
	return set, nil
}

// abridged returns at most ten of the names, for an error.
func abridged(names []string) []string {
	if len(names) > 10 {
		return append(slices.Clone(names[:10]), "…")
	}
	return names
}

// imageNames returns the sorted names of the images in the folder of a class.
func imageNames(path string) (names []string, err error) {
	entries, err := list(path)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		file := filepath.Join(path, entry.Name())
		extension := strings.ToLower(filepath.Ext(entry.Name()))
		if entry.IsDir() || !slices.Contains([]string{".png", ".jpg", ".jpeg"}, extension) {
			return nil, fmt.Errorf("dataset: %s: want nothing but .png, .jpg and .jpeg files in the folder of a class", file)
		}
		names = append(names, entry.Name())
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("dataset: %s: no images", path)
	}
	return names, nil
}

// list returns what is in a folder, sorted by name. It follows links and leaves out names
// that begin with a dot.
func list(path string) (infos []fs.FileInfo, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("dataset: %s: want a folder", path)
	}
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
