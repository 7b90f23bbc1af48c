package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/internal/classfolder"
	"github.com/org/snnrat/tensor"
)

// PixelSource is a source of images of one shape, the pixels of a [Set]. Its methods must be
// safe for concurrent use.
type PixelSource interface {
	// Shape returns the number of images and the channels, rows and columns of each.
	Shape() (n, c, h, w int)
	// ReadImage writes image i, in [0, n), to dst as C·H·W bytes in [C][H][W] order.
	ReadImage(dst []uint8, i int) error
}

// Memory is images kept in memory, one byte a value.
type Memory struct {
	n, c, h, w int
	data       []uint8 // [N][C][H][W]
}

// NewMemory returns the images of c channels, h rows and w columns that data holds one after
// another in [C][H][W] order. It keeps data. It panics if a size is not positive or data is
// not a whole number of images.
func NewMemory(c, h, w int, data []uint8) *Memory {
	if c < 1 || h < 1 || w < 1 || len(data)%(c*h*w) != 0 {
		panic(fmt.Sprintf("dataset: NewMemory: %d bytes for images of %d×%d×%d", len(data), c, h, w))
	}
	return &Memory{len(data) / (c * h * w), c, h, w, data}
}

// Shape implements [PixelSource].
func (m *Memory) Shape() (n, c, h, w int) { return m.n, m.c, m.h, m.w }

// ReadImage implements [PixelSource]; it never fails.
func (m *Memory) ReadImage(dst []uint8, i int) error {
	size := m.c * m.h * m.w
	copy(dst, m.data[i*size:][:size])
	return nil
}

// Set is labelled images, or labelled examples of several frames, at least one. It is
// read-only once made, and safe for concurrent use. It is an [snn.Dataset].
type Set struct {
	N, C, H, W int   // number of images; channels, rows and columns of each
	Steps      int   // frames of each; 1 for images
	Classes    int   // number of classes
	Labels     []int // [N], each in [0, Classes)

	images     PixelSource // nil for a set of frames
	frames     FrameSource // nil for a set of images
	indices    []int       // [N], of the source's examples, or nil for all of them
	classNames []string    // [Classes], or nil
	mean, std  []float32   // [C] each, or nil
	provenance string
}

// New returns a set of images with one label for each image. classNames lists the classes.
// New keeps its arguments.
//
// New returns an error if there are no images or no classes, if the numbers of images and
// labels differ, or if a label is not in [0, len(classNames)). The error begins with name,
// such as the file that the data came from.
func New(name string, images PixelSource, labels []int, classNames []string) (*Set, error) {
	return newSet(name, name, images, labels, len(classNames), classNames)
}

// newSet is [New] for images and labels from different files, with a number of classes that
// may have no names.
func newSet(imagesName, labelsName string, images PixelSource, labels []int, classes int, classNames []string) (*Set, error) {
	n, c, h, w := images.Shape()
	set := &Set{N: n, Steps: 1, C: c, H: h, W: w, Classes: classes, Labels: labels, images: images, classNames: classNames, provenance: imagesName}
	if n < 1 || c < 1 || h < 1 || w < 1 {
		return nil, fmt.Errorf("dataset: %s: %d images of %d×%d×%d, want at least one of at least 1×1×1", imagesName, n, c, h, w)
	}
	if err := set.validate(imagesName, labelsName); err != nil {
		return nil, err
	}
	return set, nil
}

// validate returns an error that names the file if the labels do not fit the set.
func (s *Set) validate(imagesName, labelsName string) error {
	switch {
	case len(s.Labels) != s.N:
		return fmt.Errorf("dataset: %s: %d labels for the %d images of %s, want one each", labelsName, len(s.Labels), s.N, imagesName)
	case s.Classes == 0:
		return fmt.Errorf("dataset: %s: no classes, want at least one", labelsName)
	}
	for i, y := range s.Labels {
		if y < 0 || y >= s.Classes {
			return fmt.Errorf("dataset: %s: image %d has label %d, want 0 to %d", labelsName, i, y, s.Classes-1)
		}
	}
	return nil
}

// ClassNames returns the names of the classes, [Classes], or nil if the source has no
// names. IDX and .npy files have none. The caller must not change the names.
func (s *Set) ClassNames() []string { return s.classNames }

// className returns a class's number, and its name if it has one.
func (s *Set) className(y int) string {
	if s.classNames == nil {
		return fmt.Sprint(y)
	}
	return fmt.Sprintf("%d (%s)", y, s.classNames[y])
}

// Provenance says in one line what the set was read from and how: the path, the format and,
// for JPEG images, the decoder whose pixels they have.
func (s *Set) Provenance() string { return s.provenance }

// Normalization returns the mean and the standard deviation of each channel, [C], by which
// models normalize the set's images, as values in [0,1]. They are those that are published
// with the set, or those of [Set.WithNormalization]. Both are nil if neither exists.
// [Moments] of the training set then computes them.
func (s *Set) Normalization() (mean, std []float32) {
	return slices.Clone(s.mean), slices.Clone(s.std)
}

// WithNormalization returns the set with another normalization. A test set, for example,
// gets that of the training set. It returns an error if mean or std does not have C values,
// a mean is not finite, or a standard deviation is not positive and finite.
func (s *Set) WithNormalization(mean, std []float32) (*Set, error) {
	if len(mean) != s.C || len(std) != s.C {
		return nil, fmt.Errorf("dataset: %d means and %d standard deviations, want %d each, one for each channel", len(mean), len(std), s.C)
	}
	for c := range mean {
		if m, d := float64(mean[c]), float64(std[c]); math.IsNaN(m) || math.IsInf(m, 0) || !(d > 0) || math.IsInf(d, 0) {
			return nil, fmt.Errorf("dataset: channel %d: mean %v and standard deviation %v, want a finite and a positive finite number", c, mean[c], std[c])
		}
	}
	set := *s
	set.mean, set.std = slices.Clone(mean), slices.Clone(std)
	return &set, nil
}

// WithClasses returns the set with another list of classes. The label of an image is the
// place of its class's name in names. A network of these classes can then classify the set.
// A set without names gets these names and keeps its labels.
//
// WithClasses returns an error if a class of the set is not in names, if a name is in names
// twice, or if the set has no names and another number of classes.
func (s *Set) WithClasses(names []string) (*Set, error) {
	label := map[string]int{}
	for k, name := range names {
		if _, twice := label[name]; twice {
			return nil, fmt.Errorf("dataset: class %q is twice in the list of classes", name)
		}
		label[name] = k
	}
	set := *s
	set.Classes, set.classNames = len(names), slices.Clone(names)
	if s.classNames == nil {
		if len(names) != s.Classes {
			return nil, fmt.Errorf("dataset: names of %d classes for a set of %d classes without names", len(names), s.Classes)
		}
		return &set, nil
	}
	for y, name := range s.classNames {
		if _, ok := label[name]; !ok {
			return nil, fmt.Errorf("dataset: class %s is none of the %d classes %q", s.className(y), len(names), classfolder.Abridged(names))
		}
	}
	set.Labels = make([]int, s.N)
	for i, y := range s.Labels {
		set.Labels[i] = label[s.classNames[y]]
	}
	return &set, nil
}

// Shape returns the number of images and the frames, channels, rows and columns of each.
func (s *Set) Shape() tensor.Shape {
	return tensor.Shape{N: s.N, Steps: s.Steps, C: s.C, H: s.H, W: s.W}
}

// NumClasses returns the number of classes.
func (s *Set) NumClasses() int { return s.Classes }

// Label returns the label of image i in [0, N).
func (s *Set) Label(i int) int { return s.Labels[i] }

// Fill writes image indices[k] to image k of dst, with values in [0,1]. A byte becomes
// value/255. Fill panics if dst does not have the set's shape with N = len(indices), or an
// index is not in [0, N). It returns the error of the source if an image cannot be read;
// part of dst is written then.
func (s *Set) Fill(dst tensor.NCHW, indices []int) error {
	want := s.Shape()
	if want.N = len(indices); dst.Shape() != want {
		panic(fmt.Sprintf("dataset: Fill: destination of %v for %v", dst.Shape(), want))
	}
	read := s.reader()
	for k, i := range indices {
		if i < 0 || i >= s.N {
			panic(fmt.Sprintf("dataset: Fill: image %d of %d", i, s.N))
		}
		if err := read(dst.Image(k), i); err != nil {
			return fmt.Errorf("dataset: image %d: %w", i, err)
		}
	}
	return nil
}

// reader returns a function that writes image i to dst. It is for one goroutine.
func (s *Set) reader() func(dst []float32, i int) error {
	if s.frames != nil {
		return func(dst []float32, i int) error { return s.frames.ReadFrames(dst, s.source(i)) }
	}
	src := make([]uint8, s.C*s.H*s.W) // [C][H][W]
	return func(dst []float32, i int) error {
		err := s.images.ReadImage(src, s.source(i))
		fromBytes(dst, src)
		return err
	}
}

// source returns the index of image i in its source.
func (s *Set) source(i int) int {
	if s.indices == nil {
		return i
	}
	return s.indices[i]
}

// First returns the first n images. It returns an error if n is not in [1, N].
func (s *Set) First(n int) (*Set, error) {
	if n < 1 || n > s.N {
		return nil, fmt.Errorf("dataset: the first %d images of %d, want 1 to %d", n, s.N, s.N)
	}
	indices := make([]int, n)
	for i := range indices {
		indices[i] = i
	}
	return s.Subset(indices)
}

// PerClass returns the first n images of each class, in the order of s. It returns an error
// if n < 1 or a class has fewer images.
func (s *Set) PerClass(n int) (*Set, error) {
	if n < 1 {
		return nil, fmt.Errorf("dataset: %d images a class, want at least 1", n)
	}
	count := make([]int, s.Classes)
	var indices []int
	for i, y := range s.Labels {
		if count[y] < n {
			count[y]++
			indices = append(indices, i)
		}
	}
	for y, have := range count {
		if have < n {
			return nil, fmt.Errorf("dataset: %d images a class, but class %s has %d", n, s.className(y), have)
		}
	}
	return s.Subset(indices)
}

// Only returns the images of some classes, in the order of s, as a set of these classes
// alone. Class k of the result is class classes[k] of s. It returns an error if there are
// no classes, if one is not in [0, Classes) or comes twice, or if the set has no images of
// them.
func (s *Set) Only(classes ...int) (*Set, error) {
	label := map[int]int{} // the new one of an old one
	var names []string
	for k, y := range classes {
		if y < 0 || y >= s.Classes {
			return nil, fmt.Errorf("dataset: only class %d, want 0 to %d", y, s.Classes-1)
		}
		if _, twice := label[y]; twice {
			return nil, fmt.Errorf("dataset: only class %d, twice", y)
		}
		label[y] = k
		if s.classNames != nil {
			names = append(names, s.classNames[y])
		}
	}
	var indices []int
	for i, y := range s.Labels {
		if _, ok := label[y]; ok {
			indices = append(indices, i)
		}
	}
	if len(indices) == 0 {
		return nil, fmt.Errorf("dataset: only classes %d, of which there are no images", classes)
	}
	sub, err := s.Subset(indices)
	if err != nil {
		return nil, err
	}
	for i, y := range sub.Labels {
		sub.Labels[i] = label[y]
	}
	sub.Classes, sub.classNames = len(classes), names
	return sub, nil
}

// Subset returns the set whose image i is image indices[i] of s. It shares the source of s
// and keeps all its classes. It returns an error if there are no indices or one is not in
// [0, N).
func (s *Set) Subset(indices []int) (*Set, error) {
	if len(indices) == 0 {
		return nil, fmt.Errorf("dataset: a subset of no images, want at least one index")
	}
	labels, from := make([]int, len(indices)), make([]int, len(indices))
	for k, i := range indices {
		if i < 0 || i >= s.N {
			return nil, fmt.Errorf("dataset: index %d of a subset, want 0 to %d", i, s.N-1)
		}
		labels[k], from[k] = s.Labels[i], s.source(i)
	}
	sub := *s
	sub.N, sub.Labels, sub.indices = len(indices), labels, from
	return &sub, nil
}

// Fingerprint returns a digest of the set, 32 hexadecimal digits, to tell sets apart. It
// covers all labels and the values of at most 256 images, spread over the set. It returns
// an error if an image cannot be read.
func (s *Set) Fingerprint() (string, error) {
	var b []byte
	for _, y := range s.Labels {
		b = binary.LittleEndian.AppendUint64(b, uint64(y))
	}
	one := s.Shape()
	one.N = 1
	x := tensor.NewFrames(one)
	for i := 0; i < s.N; i += (s.N + 255) / 256 {
		if err := s.Fill(x, []int{i}); err != nil {
			return "", err
		}
		for _, v := range x.Data {
			if s.frames != nil {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			} else {
				b = append(b, uint8(float32(v*255)+0.5))
			}
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16]), nil
}
