package dataset

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
)

// The magic numbers of the IDX files of MNIST and its kin: two zero bytes, the type
// (8 is unsigned bytes) and the number of dimensions.
const (
	idxImages = 0x00000803 // [N][H][W]
	idxLabels = 0x00000801 // [N]
)

// maxSide is the largest height and width of an IDX image.
const maxSide = 1 << 14

// ReadIDX reads the set that MNIST, Fashion-MNIST and their kin store as two IDX
// files, one of grey images and one of labels, each plain or gzipped, whatever its
// name. The classes are named by their numbers.
//
// It returns an error that names the file when one cannot be read, is truncated,
// corrupt or not an IDX file of its kind, holds nothing, or holds more than its
// header says; when the numbers of images and labels differ; when a label is not
// below classes; and when classes is not in [1, 256].
func ReadIDX(imagesPath, labelsPath string, classes int) (*Set, error) {
	if classes < 1 || classes > 256 {
		return nil, fmt.Errorf("dataset: %s: %d classes, want 1 to 256", labelsPath, classes)
	}
	images, err := decodeFile(imagesPath, DecodeIDXImages)
	if err != nil {
		return nil, err
	}
	labels, err := decodeFile(labelsPath, DecodeIDXLabels)
	if err != nil {
		return nil, err
	}
	return newSet(imagesPath, labelsPath, images, labels, numbered(classes))
}

func decodeFile[T any](path string, decode func(string, io.Reader) (T, error)) (T, error) {
	f, err := os.Open(path)
	if err != nil {
		var none T
		return none, fmt.Errorf("dataset: %w", err)
	}
	defer f.Close()
	return decode(path, f)
}

// DecodeIDXImages reads an IDX file of images, plain or gzipped, to its end, which
// must come right after the last pixel. Images are grey, so C is 1. Errors begin
// with name.
func DecodeIDXImages(name string, r io.Reader) (*Memory, error) {
	dims, data, err := decodeIDX(r, idxImages, "images")
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", name, err)
	}
	return NewMemory(1, dims[1], dims[2], data), nil
}

// DecodeIDXLabels reads an IDX file of labels, plain or gzipped, to its end, which
// must come right after the last label. Errors begin with name.
func DecodeIDXLabels(name string, r io.Reader) ([]int, error) {
	_, data, err := decodeIDX(r, idxLabels, "labels")
	if err != nil {
		return nil, fmt.Errorf("dataset: %s: %w", name, err)
	}
	labels := make([]int, len(data))
	for i, b := range data {
		labels[i] = int(b)
	}
	return labels, nil
}

// decodeIDX reads an IDX file of unsigned bytes with the given magic number: its
// dimensions and its data, which is as long as their product.
func decodeIDX(r io.Reader, magic uint32, what string) (dims []int, data []uint8, err error) {
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
	size := int64(1)
	for at := 4; at < len(header); at += 4 {
		d := binary.BigEndian.Uint32(header[at:])
		name, limit := what, uint32(math.MaxInt32)
		if at > 4 {
			name, limit = [...]string{"rows", "columns"}[at/4-2], maxSide
		}
		if d < 1 || d > limit {
			return nil, nil, fmt.Errorf("%d %s by its header, want 1 to %d", d, name, limit)
		}
		size *= int64(d) // at most 2³¹·2¹⁴·2¹⁴
		dims = append(dims, int(d))
	}
	if size > math.MaxInt32 {
		return nil, nil, fmt.Errorf("%d bytes of %s by its header, want at most %d", size, what, math.MaxInt32)
	}
	// ReadAll grows with what is there, so that a corrupt header cannot claim memory.
	// One byte more finds trailing data, or else the end, where a gzip stream has its
	// checksum verified.
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
