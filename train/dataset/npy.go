package dataset

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sbinet/npyio/npy"
)

// ReadNPY reads a set from two NumPy files, as CIFAR-10-C stores its images. The images are
// bytes of shape [N][H][W][C], or [N][H][W] if they are grey. The labels are integers of
// shape [N]. The format has no names of classes, so [Set.ClassNames] is nil;
// [Set.WithClasses] adds them. The images are kept in memory.
//
// ReadNPY returns an error that names the file if it cannot be read, is not a regular file,
// or is truncated or corrupt. It does the same if the array has another shape, type or
// order (Fortran), or if the file holds more than its header says or than [Limits] allow.
// It also returns an error if the numbers of images and labels differ, if a label is not
// below classes, or if classes is below 1.
func ReadNPY(imagesPath, labelsPath string, classes int, limits ...Limits) (*Set, error) {
	if classes < 1 {
		return nil, fmt.Errorf("dataset: %s: %d classes, want at least 1", labelsPath, classes)
	}
	images, err := decodeFile(imagesPath, decodeNPYImages, limits)
	if err != nil {
		return nil, err
	}
	labels, err := decodeFile(labelsPath, decodeNPYLabels, limits)
	if err != nil {
		return nil, err
	}
	return newSet(imagesPath, labelsPath, images, labels, classes, nil)
}

// decodeNPYImages reads images, whose values of a pixel lie together, to one plane for each
// channel.
func decodeNPYImages(name string, r io.Reader, limits ...Limits) (*Memory, error) {
	shape, _, data, err := decodeNPY(r, limits, func(shape []int, dtype string) bool {
		return dtype == "u1" && (len(shape) == 3 || len(shape) == 4)
	}, "bytes of shape [N][H][W][C] or [N][H][W]", 1)
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", name, err)
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
	header, err := npyHeader(buffered)
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
	factors := []int64{int64(max(integerTypes[dtype], 1))}
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

// npyHeader reads the header of a NumPy file.
func npyHeader(r *bufio.Reader) (h npy.Header, err error) {
	// The package npy believes the length that version 2 has as 4 bytes, and panics on some
	// malformed headers.
	start, err := r.Peek(12)
	if err != nil {
		return h, fmt.Errorf("want the header of a NumPy file: %w", err)
	}
	if start[6] == 2 && binary.LittleEndian.Uint32(start[8:]) > 1<<16 {
		return h, errors.New("a header of more than 64 KiB")
	}
	defer func() {
		if recover() != nil {
			err = errors.New("malformed header of a NumPy file")
		}
	}()
	reader, err := npy.NewReader(r)
	if err != nil {
		return h, fmt.Errorf("want a NumPy file: %w", err)
	}
	return reader.Header, nil
}
