package sets_test

import (
	"context"
	"encoding/binary"
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

// Sets are told by what their folder holds.
func TestOpen(t *testing.T) {
	cifar10, cifar100, mnist := t.TempDir(), t.TempDir(), t.TempDir()
	inside := filepath.Join(cifar10, "cifar-10-batches-bin")
	for _, name := range []string{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"} {
		write(t, records(4, 1), inside, name+".bin")
	}
	write(t, []byte(strings.Repeat("name\n", 10)), inside, "batches.meta.txt")
	write(t, records(6, 2), cifar100, "train.bin")
	write(t, records(3, 2), cifar100, "test.bin")
	write(t, []byte(strings.Repeat("name\n", 100)), cifar100, "fine_label_names.txt")
	for part, n := range map[string]uint32{"train": 5, "t10k": 2} {
		write(t, idx(n, 4, 4), mnist, part+"-images-idx3-ubyte")
		write(t, idx(n), mnist, part+"-labels-idx1-ubyte")
	}
	cifarMean, cifarStd := dataset.CIFARNormalization()
	for _, c := range []struct {
		path, name           string
		train, test, classes int
		cifar                bool
	}{
		{cifar10, "CIFAR-10", 20, 4, 10, true},
		{inside, "CIFAR-10", 20, 4, 10, true},
		{cifar100, "CIFAR-100", 6, 3, 100, true},
		{mnist, "IDX images", 5, 2, 10, false},
		{"fashion-mini", "Fashion-MNIST (7,000 images)", 6000, 1000, 10, false},
	} {
		d, err := sets.Open(context.Background(), c.path, nil)
		require.NoError(t, err)
		assert.Equal(t, c.name, d.Name)
		assert.Equal(t, []int{c.train, c.test, c.classes}, []int{d.Train.N, d.Test.N, d.Train.Classes})
		assert.Equal(t, c.cifar, d.Loader.Flip)
		require.NoError(t, d.Limit(4, 2))
		assert.Equal(t, []int{4, 2}, []int{d.Train.N, d.Test.N})
		mean, std, err := dataset.Moments(d.Train)
		require.NoError(t, err)
		if c.cifar {
			mean, std = cifarMean, cifarStd
		}
		assert.Equal(t, mean, d.Mean)
		assert.Equal(t, std, d.Std)
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
