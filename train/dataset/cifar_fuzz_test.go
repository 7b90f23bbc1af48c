package dataset

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzCIFAR reads the same bytes as two files of records. They are a set exactly if
// they are whole records with labels of classes; and then labels and images, written
// one after another again, must be the bytes of both.
func FuzzCIFAR(f *testing.F) {
	record := bytes.Repeat([]byte{7}, 3073)
	f.Add(record, uint8(10), false)
	f.Add(append(record, record...), uint8(7), false)
	f.Add(append(record, 9), uint8(100), true)
	f.Add(append(record, record[:3000]...), uint8(8), false)
	f.Add([]byte{}, uint8(1), false)
	f.Fuzz(func(t *testing.T, data []byte, classes uint8, coarse bool) {
		layout := &cifar{classes: int(classes), labels: 1}
		if coarse {
			layout.labels = 2
		}
		size := layout.labels + 3072
		good := len(data) > 0 && len(data)%size == 0
		for at := layout.labels - 1; good && at < len(data); at += size {
			good = data[at] < classes
		}
		one := file{bytes.NewReader(data), "one", int64(len(data))}
		set, err := layout.set([]file{one, one}, make([]string, classes), DefaultLimits())
		require.Equal(t, good, err == nil, "%v", err)
		if err != nil {
			assert.ErrorContains(t, err, "dataset: one: ")
			return
		}
		require.Equal(t, 2*len(data)/size, set.N)
		image := make([]uint8, 3072)
		for i := range set.N {
			want := data[i*size%len(data):][:size]
			require.Equal(t, int(want[layout.labels-1]), set.Labels[i])
			require.NoError(t, set.images.ReadImage(image, i))
			require.Equal(t, want[layout.labels:], image)
		}
	})
}
