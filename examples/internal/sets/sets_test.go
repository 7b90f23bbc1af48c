package sets_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/train/dataset"
)

// write writes a file, and the folders to it.
func write(t *testing.T, content []byte, path ...string) {
	file := filepath.Join(path...)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, content, 0o644))
}

// records returns images in CIFAR's layout with labels of so many bytes.
func records(n, labelBytes int) (b []byte) {
	for i := range n {
		for range labelBytes {
			b = append(b, byte(i%10))
		}
		for k := range 3072 {
			b = append(b, byte(i+k))
		}
	}
	return b
}

// idx returns a file of bytes in MNIST's layout.
func idx(dims ...uint32) []byte {
	b, n := []byte{0, 0, 8, byte(len(dims))}, 1
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, d)
		n *= int(d)
	}
	for i := range n {
		b = append(b, byte(i%10))
	}
	return b
}

// tarGz returns an archive of the files in a folder.
func tarGz(t *testing.T, folder string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	require.NoError(t, w.AddFS(os.DirFS(folder)))
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.Bytes()
}

// picture returns a grey PNG image of 2×2.
func picture(t *testing.T, v uint8) []byte {
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, &image.Gray{Pix: []uint8{v, 0, 0, v}, Stride: 2, Rect: image.Rect(0, 0, 2, 2)}))
	return b.Bytes()
}

// TestOpenTestClasses has a test folder that lacks a class, whose images must keep the
// training folder's labels, and test folders of other classes, which are refused by name.
func TestOpenTestClasses(t *testing.T) {
	dir := t.TempDir()
	for _, class := range []string{"cat", "deer", "dog", "frog"} {
		write(t, picture(t, 9), dir, "train", class, "0.png")
	}
	for _, class := range []string{"cat", "dog", "frog"} {
		write(t, picture(t, 7), dir, "test", class, "0.png")
	}
	d, err := sets.Open(context.Background(), dir, nil)
	require.NoError(t, err)
	assert.Equal(t, "images", d.Name)
	assert.Equal(t, []int{0, 2, 3}, d.Test.Labels)
	assert.Equal(t, []string{"cat", "deer", "dog", "frog"}, d.Test.ClassNames())

	write(t, picture(t, 7), dir, "test", "images", "0.png") // as Tiny ImageNet's val has it
	_, err = sets.Open(context.Background(), dir, nil)
	assert.ErrorContains(t, err, filepath.Join(dir, "test", "images")+": a folder of none of the 4 classes")
}

// TestOpenIDXMissing names the file that is missing.
func TestOpenIDXMissing(t *testing.T) {
	dir := t.TempDir()
	write(t, idx(2, 4, 4), dir, "train-images.idx3-ubyte.gz")
	_, err := sets.Open(context.Background(), dir, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, filepath.Join(dir, "train-labels-idx1-ubyte"))
}

// Sets are told by what their folder holds.
func TestOpen(t *testing.T) {
	cifar10, cifar100, mnist, dotted := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	inside := filepath.Join(cifar10, "cifar-10-batches-bin")
	for _, name := range []string{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"} {
		write(t, records(4, 1), inside, name+".bin")
	}
	write(t, []byte(strings.Repeat("name\n", 10)), inside, "batches.meta.txt")
	// The files say what an archive is, whatever its name.
	archive := filepath.Join(t.TempDir(), "cifar10-first100.tar.gz")
	write(t, tarGz(t, inside), archive)
	write(t, records(6, 2), cifar100, "train.bin")
	write(t, records(3, 2), cifar100, "test.bin")
	write(t, []byte(strings.Repeat("name\n", 100)), cifar100, "fine_label_names.txt")
	for part, n := range map[string]uint32{"train": 5, "t10k": 2} {
		write(t, idx(n, 4, 4), mnist, part+"-images-idx3-ubyte")
		write(t, idx(n), mnist, part+"-labels-idx1-ubyte")
		write(t, idx(n, 4, 4), dotted, part+"-images.idx3-ubyte")
		write(t, idx(n), dotted, part+"-labels.idx1-ubyte")
	}
	for _, c := range []struct {
		path, name           string
		train, test, classes int
		augmented            bool
		mean, std            []float32 // nil for the moments
	}{
		{cifar10, "CIFAR-10", 20, 4, 10, true, []float32{0.4914, 0.4822, 0.4465}, []float32{0.2023, 0.1994, 0.2010}},
		{inside, "CIFAR-10", 20, 4, 10, true, []float32{0.4914, 0.4822, 0.4465}, []float32{0.2023, 0.1994, 0.2010}},
		{archive, "CIFAR-10", 20, 4, 10, true, []float32{0.4914, 0.4822, 0.4465}, []float32{0.2023, 0.1994, 0.2010}},
		{cifar100, "CIFAR-100", 6, 3, 100, true, []float32{0.5071, 0.4867, 0.4408}, []float32{0.2675, 0.2565, 0.2761}},
		{mnist, "IDX images", 5, 2, 10, false, nil, nil},
		{dotted, "IDX images", 5, 2, 10, false, nil, nil},
		{"fashion-mini", "Fashion-MNIST (7,000 images)", 6000, 1000, 10, false, []float32{0.285672843}, []float32{0.353686064}},
	} {
		d, err := sets.Open(context.Background(), c.path, nil)
		require.NoError(t, err)
		assert.Equal(t, c.name, d.Name)
		assert.Equal(t, []int{c.train, c.test, c.classes}, []int{d.Train.N, d.Test.N, d.Train.Classes})
		assert.Equal(t, c.augmented, len(d.Loader.Augment) > 0)
		require.NoError(t, d.Limit(4, 2))
		assert.Equal(t, []int{4, 2}, []int{d.Train.N, d.Test.N})
		if c.mean == nil {
			c.mean, c.std, err = dataset.Moments(d.Train)
			require.NoError(t, err)
		}
		assert.Equal(t, c.mean, d.Mean)
		assert.Equal(t, c.std, d.Std)
		for _, set := range []*dataset.Set{d.Train, d.Test} {
			mean, std := set.Normalization()
			assert.Equal(t, c.mean, mean)
			assert.Equal(t, c.std, std)
		}
		assert.ErrorContains(t, d.Limit(5, 0), "-train 5: ")
		assert.ErrorContains(t, d.Limit(0, 3), "-test 3: ")
	}

	write(t, idx(2, 5, 5), mnist, "t10k-images-idx3-ubyte")
	_, err := sets.Open(context.Background(), mnist, nil)
	assert.ErrorContains(t, err, "training images of 1×4×4, but test images of 1×5×5")
	for _, path := range []string{"nowhere", t.TempDir()} {
		_, err := sets.Open(context.Background(), path, nil)
		assert.ErrorContains(t, err, "expected "+sets.Expected)
	}
}

// Sets that differ in one pixel of any image, or in a label, have different digests.
func TestDigest(t *testing.T) {
	pixels, labels := make([]uint8, 600), make([]int, 600)
	digest := func() string {
		set, err := dataset.New("", dataset.NewMemory(1, 1, 1, pixels), labels, []string{"a", "b"})
		require.NoError(t, err)
		d, err := sets.Digest(set)
		require.NoError(t, err)
		return d
	}
	seen := map[string]bool{digest(): true}
	for i := range pixels {
		pixels[i] = 1
		seen[digest()] = true
		pixels[i] = 0
	}
	labels[599] = 1
	seen[digest()] = true
	assert.Len(t, seen, 602)
}
