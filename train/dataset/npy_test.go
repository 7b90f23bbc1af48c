package dataset_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/train/dataset"
)

// npyFile returns the path of a file that testdata/npy/make.py makes.
func npyFile(name string) string { return filepath.Join("testdata", "npy", name+".npy") }

func TestReadNPY(t *testing.T) {
	for _, labels := range []string{"labels_u1", "labels_i8", "labels_i4", "labels_u2"} {
		for _, images := range []string{"images", "version2", "grey"} {
			t.Run(images+" "+labels, func(t *testing.T) {
				set, err := dataset.ReadNPY(npyFile(images), npyFile(labels), 10)
				require.NoError(t, err)
				c := 3
				if images == "grey" {
					c = 1
				}
				assert.Equal(t, [5]int{3, c, 4, 5, 10}, [5]int{set.N, set.C, set.H, set.W, set.Classes})
				assert.Equal(t, []int{7, 0, 9}, set.Labels)
				assert.Nil(t, set.ClassNames())
				for i := range set.N {
					for at, v := range fill(t, set, i).Data { // [C][H][W]
						channel, pixel := at/20, at%20
						require.Equal(t, float32((i*60+pixel*3+channel)%251)/255, v)
					}
				}
			})
		}
	}
}

func TestReadNPYRefusesBadFiles(t *testing.T) {
	good, err := os.ReadFile(npyFile("images"))
	require.NoError(t, err)
	// claim returns the header of images with another shape, and the data as it is.
	claim := func(shape string) []byte {
		return bytes.Replace(good, []byte("(3, 4, 5, 3), }"+string(bytes.Repeat([]byte(" "), 20))),
			append([]byte(shape+", }"), bytes.Repeat([]byte(" "), 32-len(shape))...), 1)
	}
	long := append([]byte("\x93NUMPY\x02\x00"), binary.LittleEndian.AppendUint32(nil, 1<<31)...)
	for _, c := range []struct {
		name   string
		images []byte
		want   string // after the file's name
	}{
		{"empty", nil, "want the header of a NumPy file: EOF"},
		{"text", []byte("<!DOCTYPE html><html></html>"), "want a NumPy file: "},
		{"cut off", good[:len(good)-1], "want 180 bytes by its header, but after 179 bytes: unexpected EOF"},
		{"trailing data", append(slices.Clone(good), 0), "trailing data after the 180 bytes that its header says"},
		{"header cut off", good[:40], "malformed header of a NumPy file"},
		{"header of 2 GiB", long, "a header of more than 64 KiB"},
		{"malformed header", bytes.Replace(good, []byte("'shape': (3"), []byte("'shape'}}}}"), 1), "want a NumPy file: "},
		{"three values", claim("(3,)"), "an array of type |u1 and shape [3], Fortran order false: want bytes of shape [N][H][W][C]"},
		{"no images", claim("(0, 4, 5, 3)"), "an array of shape [0 4 5 3], want at least 1 in each dimension"},
		{"negative", claim("(-3, 4, -5, 3)"), "an array of shape [-3 4 -5 3], want at least 1 in each dimension"},
		{"claims 64 GiB", claim("(65536, 1024, 512, 2)"), "an array of shape [65536 1024 512 2], want at most 2147483647 bytes, which Limits.Bytes allows"},
		{"overflows", claim("(4294967296, 4294967296, 4)"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "x.npy"), c.images)
			_, err := dataset.ReadNPY(path, npyFile("labels_u1"), 10)
			require.ErrorContains(t, err, "dataset: "+path+": "+c.want)
		})
	}
	for _, c := range []struct{ images, labels, want string }{
		{"fortran", "labels_u1", "fortran.npy: an array of type |u1 and shape [3 4 5 3], Fortran order true: want bytes"},
		{"float", "labels_u1", "float.npy: an array of type <f4 and shape"},
		{"images", "negative", "negative.npy: label of image 1 is negative"},
		{"images", "images", "images.npy: an array of type |u1 and shape [3 4 5 3], Fortran order false: want integers of shape [N]"},
	} {
		_, err := dataset.ReadNPY(npyFile(c.images), npyFile(c.labels), 10)
		assert.ErrorContains(t, err, c.want)
	}
	_, err = dataset.ReadNPY(npyFile("images"), npyFile("labels_u1"), 9)
	assert.ErrorContains(t, err, "labels_u1.npy: image 2 has label 9, want 0 to 8")
	_, err = dataset.ReadNPY(npyFile("images"), npyFile("labels_u1"), 0)
	assert.ErrorContains(t, err, "0 classes, want at least 1")
}

// A negative label of every signed type is refused, also if it would be a class as an unsigned
// number. An unsigned label with the upper bit is one.
func TestReadNPYNegativeLabels(t *testing.T) {
	file := func(dtype string, label ...byte) string {
		header := "{'descr': '" + dtype + "', 'fortran_order': False, 'shape': (3,), }"
		b := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)+1), 0)
		b = append(append(b, header...), '\n')
		b = append(b, make([]byte, 2*len(label))...)
		return write(t, filepath.Join(t.TempDir(), "labels.npy"), append(b, label...))
	}
	for dtype, label := range map[string][]byte{
		"|i1": {0xff}, "<i2": {0xfe, 0xff}, ">i2": {0xff, 0xfe}, "<i4": {0xff, 0xff, 0xff, 0xff},
	} {
		path := file(dtype, label...)
		_, err := dataset.ReadNPY(npyFile("images"), path, 70000)
		assert.EqualError(t, err, "dataset: "+path+": label of image 2 is negative or above 2147483647", dtype)
	}
	for dtype, label := range map[string][]byte{"|u1": {200}, "<u2": {200, 0}, ">i2": {0, 200}, "<i2": {200, 0}} {
		set, err := dataset.ReadNPY(npyFile("images"), file(dtype, label...), 256)
		require.NoError(t, err, dtype)
		assert.Equal(t, []int{0, 0, 200}, set.Labels, dtype)
	}
}
