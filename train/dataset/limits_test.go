package dataset_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/train/dataset"
)

// refusedCheaply requires that read refuses its data for this reason, with little memory.
func refusedCheaply(t *testing.T, why string, read func() error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := read()
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, err, why)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
}

// small are limits below the data of every test here.
var small = dataset.Limits{Bytes: 1 << 10, ImageBytes: 16 * 5}

// sparse returns a tar archive with one member that claims a tebibyte and holds a byte, as
// GNU tar stores files with holes (format 1.0).
func sparse(name string) []byte {
	content := make([]byte, 512) // the map: one block of data at the end
	copy(content, "1\n1099511627775\n1\n")
	content = append(content, 'x')
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"XYZ.sparse.major": "1", "XYZ.sparse.minor": "0",
		"XYZ.sparse.name": name, "XYZ.sparse.realsize": "1099511627776",
	}})
	w.Write(content)
	w.Close()
	// The writer refuses these names, which are as long.
	return bytes.ReplaceAll(b.Bytes(), []byte("XYZ.sparse"), []byte("GNU.sparse"))
}

func TestSparseIsSparse(t *testing.T) {
	r := tar.NewReader(bytes.NewReader(sparse("a")))
	h, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, int64(1<<40), h.Size)
}

// bomb returns a gzip stream of so many mebibytes of zeros behind start.
func bomb(start []byte, mebibytes int) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	w.Write(start)
	for range mebibytes {
		w.Write(make([]byte, 1<<20))
	}
	w.Close()
	return b.Bytes()
}

// TestLimitsOfArchives has archives that claim or unpack to more than the limits.
func TestLimitsOfArchives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar.gz")
	read := func(l ...dataset.Limits) func() error {
		return func() error { _, _, err := dataset.ReadCIFAR(path, l...); return err }
	}
	write(t, path, sparse("data_batch_1.bin"))
	refusedCheaply(t, path+", read as a .tar.gz archive: data_batch_1.bin: 1099511627776 bytes, want at most 2147483647 in all, which Limits.Bytes allows", read())

	mib := dataset.Limits{Bytes: 1 << 20, ImageBytes: 1}
	// Zeros behind the end of the archive, in a member that nobody asks for, and in one.
	write(t, path, bomb(tarred(nil), 4))
	refusedCheaply(t, "more than 1048576 bytes, which Limits.Bytes allows", read(mib))
	for _, name := range []string{"readme", "test_batch.bin"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: name, Size: 16 << 20, Mode: 0o644})
		write(t, path, bomb(b.Bytes(), 16))
		refusedCheaply(t, "which Limits.Bytes allows", read(mib))
	}
	// Several members that are too large together.
	l := layouts["CIFAR-100"]
	write(t, path, tarred(l.files()))
	size := len(tarred(l.files()))
	_, _, err := dataset.ReadCIFAR100(path, dataset.Limits{Bytes: int64(size) - 1, ImageBytes: 1})
	require.ErrorContains(t, err, "more than")
	_, _, err = dataset.ReadCIFAR100(path, dataset.Limits{Bytes: int64(size), ImageBytes: 1})
	require.NoError(t, err)
}

// TestLimitsOfFiles has folders of CIFAR whose files are larger than the limits.
func TestLimitsOfFiles(t *testing.T) {
	l := layouts["CIFAR-10"]
	dir := folder(t, l.files())
	names := filepath.Join(dir, l.names)
	require.NoError(t, os.Truncate(names, 1<<40)) // a file with a hole
	refusedCheaply(t, names+": 1099511627776 bytes, want at most 2147483647, which Limits.Bytes allows",
		func() error { _, _, err := l.read(dir); return err })
	dir = folder(t, l.files())
	for _, name := range l.train {
		require.NoError(t, os.Truncate(filepath.Join(dir, name), 3073<<28))
	}
	refusedCheaply(t, "268435456 images, want labels of at most 2147483647 bytes, which Limits.Bytes allows",
		func() error { _, _, err := l.read(dir); return err })
	dir = folder(t, l.python(false))
	for limit, why := range map[int64]string{
		9000:  "bytes, want at most 9000, which Limits.Bytes allows",
		10000: "bytes, want what takes at most 10000 bytes, which Limits.Bytes allows",
		40000: "images of more than 40000 bytes, which Limits.Bytes allows",
	} {
		_, _, err := l.read(dir, dataset.Limits{Bytes: limit, ImageBytes: 1})
		assert.ErrorContains(t, err, why)
	}
}

// TestLimitsOfIDX has headers that claim more than the limits, and files that keep the claim.
func TestLimitsOfIDX(t *testing.T) {
	images := idx(0x803, []uint32{2, 16, 32}, make([]uint8, 1024)...)
	_, err := dataset.DecodeIDXImages("x", bytes.NewReader(images), small)
	require.NoError(t, err)
	less := dataset.Limits{Bytes: 1023, ImageBytes: 1}
	_, err = dataset.DecodeIDXImages("x", bytes.NewReader(images), less)
	assert.EqualError(t, err, "dataset: x: dimensions [2 16 32] of images by its header, want at most 1023 bytes, which Limits.Bytes allows")
	labels := func(n uint32) io.Reader { return bytes.NewReader(idx(0x801, []uint32{n}, make([]uint8, n)...)) }
	_, err = dataset.DecodeIDXLabels("x", labels(128), small)
	require.NoError(t, err)
	_, err = dataset.DecodeIDXLabels("x", labels(129), small)
	assert.ErrorContains(t, err, "want at most 1024 bytes, which Limits.Bytes allows")
	large := bomb(images, 64)
	refusedCheaply(t, "trailing data", func() error {
		_, err := dataset.DecodeIDXImages("x", bytes.NewReader(large), small)
		return err
	})
}

// TestLimitsOfImages has an image of 2×3 and one whose header claims 8192×8192.
func TestLimitsOfImages(t *testing.T) {
	dir := tree(t, map[string][]byte{"cat/a.png": asPNG(rgb(1))})
	_, err := dataset.ReadFolder(dir, small)
	assert.ErrorContains(t, err, "an image of 2×3, want at most 5 pixels, which Limits.ImageBytes allows")
	_, err = dataset.ReadFolder(dir, dataset.Limits{Bytes: 1 << 10, ImageBytes: 16 * 6})
	require.NoError(t, err)

	dir = tree(t, map[string][]byte{"cat/a.png": hugePNG(8192, 8192)})
	read := func(l ...dataset.Limits) func() error {
		return func() error { _, err := dataset.ReadFolder(dir, l...); return err }
	}
	refusedCheaply(t, "an image of 8192×8192, want at most 16777216 pixels", read())
	dir = tree(t, map[string][]byte{"cat/a.png": hugePNG(4096, 4097)})
	refusedCheaply(t, "an image of 4096×4097, want at most 16777216 pixels", read())
	refusedCheaply(t, "a.png: unexpected EOF", read(dataset.Limits{Bytes: 1, ImageBytes: 1 << 29})) // with no more than a header

	// A real one that packs to a thousandth.
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, 4097, 4096))))
	dir = tree(t, map[string][]byte{"cat/a.png": b.Bytes()})
	refusedCheaply(t, "an image of 4096×4097, want at most 16777216 pixels", read())
}

func TestLimitsRange(t *testing.T) {
	for _, l := range []dataset.Limits{{}, {Bytes: 1}, {ImageBytes: 1}, {Bytes: -1, ImageBytes: 1}} {
		_, err := dataset.ReadFolder("x", l)
		assert.ErrorContains(t, err, "dataset: Limits.")
		_, _, err = dataset.ReadCIFAR("x", l)
		assert.ErrorContains(t, err, "dataset: Limits.")
		_, err = dataset.DecodeIDXImages("x", strings.NewReader(""), l)
		assert.ErrorContains(t, err, "Limits.")
		_, err = dataset.ReadNPY(npyFile("images"), npyFile("labels_u1"), 10, l)
		assert.ErrorContains(t, err, "Limits.")
	}
}
