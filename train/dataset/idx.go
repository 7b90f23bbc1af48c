package dataset

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/org/snnrat/internal/regular"
)

// The magic numbers of the IDX files of MNIST and its kin: two zero bytes, the type
// (8 is unsigned bytes) and the number of dimensions.
const (
	idxImages = 0x00000803 // [N][H][W]
	idxLabels = 0x00000801 // [N]
)

// ReadIDX reads a set in the format of MNIST and Fashion-MNIST: two IDX files, one of grey
// images and one of labels. A file may be plain or gzipped, whatever its name. The format
// has no names of classes, so [Set.ClassNames] is nil.
//
// ReadIDX returns an error that names the file if it cannot be read, is not a regular file,
// or is truncated or corrupt. It does the same if the file is not an IDX file of its kind,
// holds nothing, or holds more than its header says or than [Limits] allow. It also returns
// an error if the numbers of images and labels differ, if a label is not below classes, or
// if classes is not in [1, 256].
func ReadIDX(imagesPath, labelsPath string, classes int, limits ...Limits) (*Set, error) {
	if classes < 1 || classes > 256 {
		return nil, fmt.Errorf("dataset: %s: %d classes, want 1 to 256", labelsPath, classes)
	}
	images, err := decodeFile(imagesPath, DecodeIDXImages, limits)
	if err != nil {
		return nil, err
	}
	labels, err := decodeFile(labelsPath, DecodeIDXLabels, limits)
	if err != nil {
		return nil, err
	}
	return newSet(imagesPath, labelsPath, images, labels, classes, nil)
}

func decodeFile[T any](path string, decode func(string, io.Reader, ...Limits) (T, error), limits []Limits) (none T, err error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return none, fmt.Errorf("dataset: %w", err)
	}
	defer f.Close()
	return decode(path, f, limits...)
}

// DecodeIDXImages reads an IDX file of images, plain or gzipped. It returns an error if
// data follows the last pixel. Images are grey, so C is 1. Errors begin with name.
func DecodeIDXImages(name string, r io.Reader, limits ...Limits) (*Memory, error) {
	dims, data, err := decodeIDX(r, idxImages, "images", limits)
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", name, err)
	}
	return NewMemory(1, dims[1], dims[2], data), nil
}

// DecodeIDXLabels reads an IDX file of labels, plain or gzipped. It returns an error if
// data follows the last label. Errors begin with name.
func DecodeIDXLabels(name string, r io.Reader, limits ...Limits) ([]int, error) {
	_, data, err := decodeIDX(r, idxLabels, "labels", limits)
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", name, err)
	}
	labels := make([]int, len(data))
	for i, b := range data {
		labels[i] = int(b)
	}
	return labels, nil
}

// labelBytes is the memory of a label.
const labelBytes = 8

// decodeIDX reads an IDX file of unsigned bytes with the given magic number. It returns the
// file's dimensions and its data, which is as long as their product.
func decodeIDX(r io.Reader, magic uint32, what string, limits []Limits) (dims []int, data []uint8, err error) {
	l, err := chosen(limits)
	if err != nil {
		return nil, nil, err
	}
	r, err = gunzip(r)
	if err != nil {
		return nil, nil, err
	}
	header := make([]byte, 4+4*(magic&0xff))
	if n, err := io.ReadFull(r, header); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, fmt.Errorf("want a header of %d bytes, but after %d bytes: %w", len(header), n, err)
	}
	if got := binary.BigEndian.Uint32(header); got != magic {
		return nil, nil, fmt.Errorf("magic number %#08x, want %#08x for IDX %s", got, magic, what)
	}
	var factors []int64
	for at := 4; at < len(header); at += 4 {
		d := int64(binary.BigEndian.Uint32(header[at:]))
		if d < 1 {
			return nil, nil, fmt.Errorf("0 %s by its header, want at least 1", [...]string{what, "rows", "columns"}[at/4-1])
		}
		factors = append(factors, d)
	}
	size, ok := l.product(factors...)
	if ok && magic == idxLabels {
		_, ok = l.product(size, labelBytes)
	}
	if !ok {
		return nil, nil, fmt.Errorf("dimensions %v of %s by its header, want at most %d bytes, which Limits.Bytes allows", factors, what, l.Bytes)
	}
	for _, d := range factors {
		dims = append(dims, int(d))
	}
	// ReadAll grows with what is there, so that a corrupt header cannot claim memory. One byte
	// more finds trailing data, or the end, where a gzip stream has its checksum verified.
	data, err = io.ReadAll(io.LimitReader(r, size+1))
	if err == nil && int64(len(data)) < size {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("want %d bytes of %s and then the end, but after %d bytes: %w", size, what, len(data), err)
	case int64(len(data)) > size:
		return nil, nil, fmt.Errorf("trailing data after the %d bytes of %s that its header says", size, what)
	}
	return dims, data, nil
}

// gunzip returns what r holds, unpacked if it begins as a gzip stream does.
func gunzip(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	if start, err := buffered.Peek(2); err != nil || start[0] != 0x1f || start[1] != 0x8b {
		return buffered, nil // an error comes again when the header is read
	}
	unzipped, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("gzip header: %w", err)
	}
	return unzipped, nil
}
