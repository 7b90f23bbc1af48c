package dataset_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/train/dataset"
)

// idx returns an IDX file with this header and data.
func idx(magic uint32, dims []uint32, data ...uint8) []byte {
	file := binary.BigEndian.AppendUint32(nil, magic)
	for _, d := range dims {
		file = binary.BigEndian.AppendUint32(file, d)
	}
	return append(file, data...)
}

// zipped returns data as a gzip stream.
func zipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data) // to memory, where it cannot fail
	w.Close()
	return b.Bytes()
}

// flipped returns file with all bits of the byte at index at, counted from the end
// if negative, the other way round.
func flipped(file []byte, at int) []byte {
	file = slices.Clone(file)
	if at < 0 {
		at += len(file)
	}
	file[at] ^= 0xff
	return file
}

func write(t testing.TB, path string, data []byte) string {
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

// Two images of 2×3 and their labels.
var (
	goodImages = idx(0x803, []uint32{2, 2, 3}, 0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255)
	goodLabels = idx(0x801, []uint32{2}, 4, 9)
)

func TestReadIDX(t *testing.T) {
	dir := t.TempDir()
	for name, pack := range map[string]func([]byte) []byte{
		"plain.gz": slices.Clone[[]byte], // the content decides, not the name
		"zipped":   zipped,
	} {
		t.Run(name, func(t *testing.T) {
			set, err := dataset.ReadIDX(
				write(t, filepath.Join(dir, "images-"+name), pack(goodImages)),
				write(t, filepath.Join(dir, "labels-"+name), pack(goodLabels)), 10)
			require.NoError(t, err)
			assert.Equal(t, [5]int{2, 1, 2, 3, 10}, [5]int{set.N, set.C, set.H, set.W, set.Classes})
			assert.Equal(t, []int{4, 9}, set.Labels)
			assert.Nil(t, set.ClassNames())
			for i, v := range fill(t, set, 0, 1).Data {
				assert.Equal(t, float32(goodImages[16+i])/255, v)
			}
		})
	}
}

func TestReadIDXRefusesBadFiles(t *testing.T) {
	for _, c := range []struct {
		name           string
		images, labels []byte
		classes        int
		want           string // how the error begins, after "dataset: " and without the folder
	}{
		{"empty images file", nil, goodLabels, 10,
			"images: want a header of 16 bytes, but after 0 bytes: unexpected EOF"},
		{"short header", goodImages[:15], goodLabels, 10,
			"images: want a header of 16 bytes, but after 15 bytes: unexpected EOF"},
		{"short labels header", goodImages, goodLabels[:7], 10,
			"labels: want a header of 8 bytes, but after 7 bytes: unexpected EOF"},
		{"files swapped", goodLabels, goodImages, 10,
			"images: want a header of 16 bytes, but after 10 bytes: unexpected EOF"},
		{"wrong magic of images", idx(0x801, []uint32{9}, 1, 2, 3, 4, 5, 6, 7, 8, 9), goodLabels, 10,
			"images: magic number 0x00000801, want 0x00000803 for IDX images"},
		{"wrong magic of labels", goodImages, goodImages, 10,
			"labels: magic number 0x00000803, want 0x00000801 for IDX labels"},
		{"signed bytes", idx(0x903, []uint32{1, 1, 1}, 0), goodLabels, 10,
			"images: magic number 0x00000903, want 0x00000803 for IDX images"},
		{"not IDX", []byte("<!DOCTYPE html><html></html>"), goodLabels, 10,
			"images: magic number 0x3c21444f, want 0x00000803 for IDX images"},
		{"no images", idx(0x803, []uint32{0, 2, 3}), goodLabels, 10,
			"images: 0 images by its header, want at least 1"},
		{"no labels", goodImages, idx(0x801, []uint32{0}), 10,
			"labels: 0 labels by its header, want at least 1"},
		{"no columns", idx(0x803, []uint32{2, 2, 0}), goodLabels, 10,
			"images: 0 columns by its header, want at least 1"},
		{"too large", idx(0x803, []uint32{1<<32 - 1, 1<<32 - 1, 1<<32 - 1}), goodLabels, 10,
			"images: dimensions [4294967295 4294967295 4294967295] of images by its header, want at most 2147483647 bytes, which Limits.Bytes allows"},
		{"too large by one", idx(0x803, []uint32{1 << 31, 1, 1}), goodLabels, 10,
			"images: dimensions [2147483648 1 1] of images by its header, want at most 2147483647 bytes, which Limits.Bytes allows"},
		{"too many labels", goodImages, idx(0x801, []uint32{1 << 28}), 10,
			"labels: dimensions [268435456] of labels by its header, want at most 2147483647 bytes, which Limits.Bytes allows"},
		{"a corrupt count", idx(0x803, []uint32{1 << 21, 28, 28}, 1, 2, 3), goodLabels, 10,
			"images: want 1644167168 bytes of images and then the end, but after 3 bytes: unexpected EOF"},
		{"one pixel missing", goodImages[:27], goodLabels, 10,
			"images: want 12 bytes of images and then the end, but after 11 bytes: unexpected EOF"},
		{"one label missing", goodImages, goodLabels[:9], 10,
			"labels: want 2 bytes of labels and then the end, but after 1 bytes: unexpected EOF"},
		{"trailing data", append(slices.Clone(goodImages), 0), goodLabels, 10,
			"images: trailing data after the 12 bytes of images that its header says"},
		{"trailing data, gzipped", goodImages, zipped(append(slices.Clone(goodLabels), 1, 2)), 10,
			"labels: trailing data after the 2 bytes of labels that its header says"},
		{"gzip header cut off", zipped(goodImages)[:5], goodLabels, 10,
			"images: gzip header: unexpected EOF"},
		{"gzip magic only", zipped(goodImages)[:2], goodLabels, 10,
			"images: gzip header: unexpected EOF"},
		{"gzip header wrong", flipped(zipped(goodImages), 2), goodLabels, 10,
			"images: gzip header: gzip: invalid header"},
		{"gzip cut off", zipped(goodImages)[:25], goodLabels, 10,
			"images: want 12 bytes of images and then the end, but after "},
		{"gzip data corrupt", flipped(zipped(goodImages), 10), goodLabels, 10,
			"images: want a header of 16 bytes, but after 0 bytes: flate: corrupt input"},
		{"gzip checksum cut off", zipped(goodImages)[:len(zipped(goodImages))-3], goodLabels, 10,
			"images: want 12 bytes of images and then the end, but after 12 bytes: unexpected EOF"},
		{"gzip checksum wrong", flipped(zipped(goodImages), -5), goodLabels, 10,
			"images: want 12 bytes of images and then the end, but after 12 bytes: gzip: invalid checksum"},
		{"data after the gzip stream", append(zipped(goodImages), "0123456789"...), goodLabels, 10,
			"images: want 12 bytes of images and then the end, but after 12 bytes: gzip: invalid header"},
		{"gzip of a gzip", zipped(zipped(goodImages)), goodLabels, 10,
			"images: magic number 0x1f8b0800, want 0x00000803 for IDX images"},
		{"counts differ", goodImages, idx(0x801, []uint32{3}, 0, 1, 2), 10,
			"labels: 3 labels for the 2 images of images, want one each"},
		{"label too large", goodImages, goodLabels, 9,
			"labels: image 1 has label 9, want 0 to 8"},
		{"no classes", goodImages, goodLabels, 0,
			"labels: 0 classes, want 1 to 256"},
		{"more classes than a byte has", goodImages, goodLabels, 257,
			"labels: 257 classes, want 1 to 256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir() + string(filepath.Separator)
			set, err := dataset.ReadIDX(write(t, dir+"images", c.images), write(t, dir+"labels", c.labels), c.classes)
			require.Error(t, err)
			assert.Nil(t, set)
			got := strings.ReplaceAll(err.Error(), dir, "")
			want := "dataset: " + c.want
			assert.Equal(t, want, got[:min(len(want), len(got))])
			assert.NotContains(t, got, "\n")
		})
	}
}

func TestReadIDXNamesUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	images := write(t, filepath.Join(dir, "images"), goodImages)
	missing := filepath.Join(dir, "missing")
	for _, paths := range [][2]string{{images, missing}, {missing, images}} {
		_, err := dataset.ReadIDX(paths[0], paths[1], 10)
		require.ErrorIs(t, err, os.ErrNotExist)
		assert.ErrorContains(t, err, missing)
	}
	_, err := dataset.ReadIDX(dir, images, 10)
	assert.ErrorContains(t, err, dir, "a folder is not a file")
}

// TestDecodeIDXReportsReader checks that an error of the reader comes through from
// every place in the file.
func TestDecodeIDXReportsReader(t *testing.T) {
	disk := errors.New("disk on fire")
	for n := range len(goodImages) + 1 {
		_, err := dataset.DecodeIDXImages("name", io.MultiReader(bytes.NewReader(goodImages[:n]), iotest.ErrReader(disk)))
		require.ErrorIs(t, err, disk, "after %d bytes", n)
		assert.ErrorContains(t, err, "dataset: name: ")
	}
}

// TestDecodeIDXCorruptHeaderClaimsNoMemory gives a header that promises 2 GB.
func TestDecodeIDXCorruptHeaderClaimsNoMemory(t *testing.T) {
	file := idx(0x803, []uint32{1<<31 - 1, 1, 1}, 1, 2, 3)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := dataset.DecodeIDXImages("", bytes.NewReader(file))
	runtime.ReadMemStats(&after)
	require.Error(t, err)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

// FuzzDecodeIDX feeds the same bytes to both decoders. Whatever a plain file is
// decoded to must be the bytes after its header, all of them, in number the product
// of the header's dimensions; and packing a file changes nothing.
func FuzzDecodeIDX(f *testing.F) {
	for _, file := range [][]byte{goodImages, goodLabels, goodImages[:20], zipped(goodImages), zipped(goodLabels)[:20],
		idx(0x801, []uint32{3}, 0, 128, 255), {0x1f, 0x8b}, {}} {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		images, imagesErr := dataset.DecodeIDXImages("images", bytes.NewReader(file))
		labels, labelsErr := dataset.DecodeIDXLabels("labels", bytes.NewReader(file))
		require.False(t, imagesErr == nil && labelsErr == nil, "both images and labels")
		if bytes.HasPrefix(file, []byte{0x1f, 0x8b}) {
			return
		}
		if imagesErr == nil {
			n, c, h, w := images.Shape()
			assert.Equal(t, file, idx(0x803, []uint32{uint32(n), uint32(h), uint32(w)}, file[16:]...))
			require.Equal(t, len(file)-16, n*c*h*w)
			got := make([]uint8, c*h*w)
			for i := range n {
				require.NoError(t, images.ReadImage(got, i))
				require.Equal(t, file[16+i*c*h*w:][:c*h*w], got)
			}
		}
		if labelsErr == nil {
			require.Equal(t, idx(0x801, []uint32{uint32(len(labels))}), file[:8])
			require.Equal(t, len(file)-8, len(labels))
			for i, y := range labels {
				require.Equal(t, int(file[8+i]), y)
			}
		}
		again, err := dataset.DecodeIDXImages("images", bytes.NewReader(zipped(file)))
		assert.Equal(t, imagesErr == nil, err == nil)
		if err == nil {
			assert.Equal(t, images, again)
		}
	})
}
