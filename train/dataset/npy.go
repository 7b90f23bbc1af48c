package dataset

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/org/snnrat/internal/npyheader"
	"github.com/org/snnrat/tensor"
)

// ReadNPY reads a set from two NumPy files, as CIFAR-10-C stores its images. The images are
// bytes of shape [N][H][W][C], or [N][H][W] if they are grey. An array of five axes holds
// frames, [N][T][C][H][W]. They are float32 numbers in [0,1], bool values (0 and 1), or
// bytes, which stand for value/255. The labels are integers of shape [N]. The format has no names of classes, so [Set.ClassNames] is nil;
// [Set.WithClasses] adds them. The images are kept in memory.
//
// ReadNPY returns an error that names the file if it cannot be read, is not a regular file,
// or is truncated or corrupt. It does the same if the array has another shape, type or
// order (Fortran), or if the file holds more than its header says or than [Limits] allow.
// It also returns an error if the numbers of images and labels differ, if a label is not
// below classes, or if classes is below 1.
func ReadNPY(imagesPath, labelsPath string, classes int, limits ...Limits) (*Set, error) {
	images, err := decodeFile(imagesPath, decodeNPYImages, limits)
	if err != nil {
		return nil, err
	}
	labels, err := decodeFile(labelsPath, decodeNPYLabels, limits)
	if err != nil {
		return nil, err
	}
	return newNPYSet(imagesPath, labelsPath, images, labels, classes)
}

// newNPYSet returns the set of what decodeNPYImages and decodeNPYLabels returned.
func newNPYSet(imagesName, labelsName string, images any, labels []int, classes int) (*Set, error) {
	if classes < 1 {
		return nil, fmt.Errorf("dataset: %s: %d classes, want at least 1", labelsName, classes)
	}
	if frames, ok := images.(FrameSource); ok {
		return newFrameSet(imagesName, labelsName, frames, labels, classes, nil)
	}
	return newSet(imagesName, labelsName, images.(PixelSource), labels, classes, nil)
}

// decodeNPYImages reads images, whose values of a pixel lie together, to a [PixelSource]
// with one plane for each channel. It reads an array of five axes to a [FrameSource].
func decodeNPYImages(name string, r io.Reader, limits ...Limits) (any, error) {
	shape, dtype, data, err := decodeNPY(r, limits, func(shape []int, dtype string) bool {
		return dtype == "u1" && (len(shape) == 3 || len(shape) == 4) || frameTypes[dtype] && len(shape) == 5
	}, "bytes of shape [N][H][W][C] or [N][H][W], or bytes, bool or <f4 of shape [N][T][C][H][W]", 1)
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", name, err)
	}
	if len(shape) == 5 {
		frames, err := decodeFrames(tensor.Shape{N: shape[0], Steps: shape[1], C: shape[2], H: shape[3], W: shape[4]}, dtype, data)
		if err != nil {
			return nil, fmt.Errorf("dataset: %s: %w", name, err)
		}
		return frames, nil
	}
	h, w, c := shape[1], shape[2], 1
	if len(shape) == 4 {
		c = shape[3]
	}
	pixels := make([]uint8, len(data))
	for i := 0; i < len(data); i += c * h * w {
		from, to := data[i:], pixels[i:]
		for k := range h * w {
			for channel := range c {
				to[channel*h*w+k] = from[k*c+channel]
			}
		}
	}
	return NewMemory(c, h, w, pixels), nil
}

// frameTypes are NumPy's names of the types that frames can have.
var frameTypes = map[string]bool{"u1": true, "b1": true, "<f4": true}

// decodeFrames returns the frames of an array of one of frameTypes.
func decodeFrames(s tensor.Shape, dtype string, data []uint8) (FrameSource, error) {
	switch dtype {
	case "u1":
		return NewFrames(s, data), nil
	case "b1":
		binary := make([]bool, len(data))
		for i, v := range data {
			binary[i] = v != 0
		}
		return NewFrames(s, binary), nil
	}
	x := tensor.NewFrames(s)
	for i := range x.Data {
		x.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	if err := x.ValidateRange(0, 1); err != nil {
		return nil, err
	}
	return NewFrames(s, x.Data), nil
}

// decodeNPYLabels reads integers of 1 to 8 bytes.
func decodeNPYLabels(name string, r io.Reader, limits ...Limits) ([]int, error) {
	_, dtype, data, err := decodeNPY(r, limits, func(shape []int, dtype string) bool {
		return len(shape) == 1 && integerTypes[dtype] != 0
	}, "integers of shape [N]", labelBytes)
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", name, err)
	}
	size := integerTypes[dtype]
	labels := make([]int, len(data)/size)
	for i := range labels {
		var word [8]byte // the value, little-endian, with its sign in the bytes above it
		for k := range size {
			at := k
			if dtype[0] == '>' {
				at = size - 1 - k
			}
			word[k] = data[i*size+at]
		}
		if strings.Contains(dtype, "i") && word[size-1] >= 0x80 {
			for k := size; k < len(word); k++ {
				word[k] = 0xff
			}
		}
		y := binary.LittleEndian.Uint64(word[:])
		if y > 1<<31-1 { // a negative one has its upper bits set
			return nil, fmt.Errorf("dataset: %s: label of image %d is negative or above %d", name, i, 1<<31-1)
		}
		labels[i] = int(y)
	}
	return labels, nil
}

// typeBytes returns the size of a value of a type that this package reads.
func typeBytes(dtype string) int64 {
	if dtype == "<f4" {
		return 4
	}
	return int64(max(integerTypes[dtype], 1))
}

// integerTypes are the names and sizes of NumPy's integers.
var integerTypes = map[string]int{
	"u1": 1, "i1": 1, "<u2": 2, "<i2": 2, "<u4": 4, "<i4": 4, "<u8": 8, "<i8": 8,
	">u2": 2, ">i2": 2, ">u4": 4, ">i4": 4, ">u8": 8, ">i8": 8,
}

// decodeNPY reads a NumPy file to its end. Fits says whether its shape and type are those
// that want describes. Each of its values takes memory bytes more.
func decodeNPY(r io.Reader, limits []Limits, fits func(shape []int, dtype string) bool, want string, memory int64) (shape []int, dtype string, data []uint8, err error) {
	l, err := chosen(limits)
	if err != nil {
		return nil, "", nil, err
	}
	buffered := bufio.NewReader(r)
	header, err := npyheader.Read(buffered)
	if err != nil {
		return nil, "", nil, err
	}
	shape, dtype = header.Descr.Shape, strings.TrimLeft(header.Descr.Type, "|=")
	if len(dtype) == 3 && dtype[2] == '1' { // a byte has no order
		dtype = dtype[1:]
	}
	if header.Descr.Fortran || !fits(shape, dtype) {
		return nil, "", nil, fmt.Errorf("an array of type %s and shape %v, Fortran order %v: want %s in C order", header.Descr.Type, shape, header.Descr.Fortran, want)
	}
	factors := []int64{typeBytes(dtype)}
	for _, d := range shape {
		if d < 1 {
			return nil, "", nil, fmt.Errorf("an array of shape %v, want at least 1 in each dimension", shape)
		}
		factors = append(factors, int64(d))
	}
	size, ok := l.product(factors...)
	if ok {
		_, ok = l.product(size, 1+memory)
	}
	if !ok {
		return nil, "", nil, fmt.Errorf("an array of shape %v, want at most %d bytes, which Limits.Bytes allows", shape, l.Bytes)
	}
	data, err = io.ReadAll(io.LimitReader(buffered, size+1))
	switch {
	case err == nil && int64(len(data)) < size:
		err = fmt.Errorf("want %d bytes by its header, but after %d bytes: %w", size, len(data), io.ErrUnexpectedEOF)
	case err == nil && int64(len(data)) > size:
		err = fmt.Errorf("trailing data after the %d bytes that its header says", size)
	}
	return shape, dtype, data, err
}
