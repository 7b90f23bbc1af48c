package dataset

import (
	"archive/tar"
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fuzzLimits let a fuzzer build sets that its bytes can hold.
var fuzzLimits = Limits{Bytes: 1 << 20, ImageBytes: 1 << 20}

// FuzzImage reads the same bytes as a PNG and as a JPEG file of a folder. What is accepted has
// pixels, and the same ones again.
func FuzzImage(f *testing.F) {
	for _, pattern := range []string{"testdata/jpeg/*_5x3.*", "testdata/jpeg/grey.*", "testdata/grey/*.png"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		require.NotEmpty(f, files)
		for _, file := range files {
			b, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o755))
		for _, name := range []string{"1.png", "2.jpg"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "a", name), b, 0o644))
		}
		set, err := ReadFolder(dir, fuzzLimits)
		if err != nil {
			require.ErrorContains(t, err, filepath.Join(dir, "a"))
			return
		}
		require.LessOrEqual(t, int64(set.H)*int64(set.W)*decodedPixel, fuzzLimits.ImageBytes)
		first, second := make([]uint8, set.C*set.H*set.W), make([]uint8, set.C*set.H*set.W)
		require.NoError(t, set.images.ReadImage(first, 0))
		require.NoError(t, set.images.ReadImage(second, 1))
		require.Equal(t, first, second)
	})
}

// FuzzArchive reads bytes as an archive of CIFAR. What is accepted is two sets of labels that
// are those of classes, and images that can be read.
func FuzzArchive(f *testing.F) {
	record := bytes.Repeat([]byte{7}, 3073)
	f.Add([]byte{0x1f, 0x8b})
	files := map[string][]byte{"batches.meta.txt": []byte(strings.Repeat("a\n", 10))}
	for _, name := range append(cifar10.binary.train, cifar10.binary.test) {
		files[name] = record
	}
	f.Add(tarOf(f, files))
	f.Add(tarOf(f, map[string][]byte{"train": []byte("\x80\x02}."), "test": []byte("\x80\x02}."), "meta": []byte("\x80\x02}.")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "a.tar")
		require.NoError(t, os.WriteFile(path, b, 0o644))
		train, test, err := ReadCIFAR(path, fuzzLimits)
		if err != nil {
			require.ErrorContains(t, err, path)
			return
		}
		for _, set := range []*Set{train, test} {
			require.Len(t, set.Labels, set.N)
			image := make([]uint8, 3072)
			for i, y := range set.Labels {
				require.True(t, y >= 0 && y < set.Classes)
				require.NoError(t, set.images.ReadImage(image, i))
			}
		}
	})
}

// FuzzPickle reads bytes as a file of CIFAR's Python version.
func FuzzPickle(f *testing.F) {
	f.Add([]byte("\x80\x02}q\x01(U\x06labels]q\x05(K\x01K\x02eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" +
		"K\x00\x85U\x01b\x87R(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x04\x00\x00\x00abcdtbu."))
	f.Add([]byte("\x80\x02]h\x01."))
	f.Fuzz(func(t *testing.T, b []byte) {
		dict, err := unpickle(b, fuzzLimits)
		if err != nil {
			return
		}
		if a, ok := dict["data"].(*array); ok {
			require.Len(t, a.data, a.rows*a.columns)
		}
		listOf[int](dict["labels"])
		listOf[string](dict["label_names"])
	})
}

// tarOf returns an archive of these files.
func tarOf(t testing.TB, files map[string][]byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}))
		_, err := w.Write(files[name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}
