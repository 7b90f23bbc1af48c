package dataset

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzNPY feeds the same bytes to both decoders. What is decoded has as many values as the
// file has bytes after its header, and takes no more memory than the limits say.
func FuzzNPY(f *testing.F) {
	files, err := filepath.Glob("testdata/npy/*.npy")
	require.NoError(f, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte("\x93NUMPY\x01\x00\x02\x00{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := Limits{Bytes: 1 << 16, ImageBytes: 1}
		if images, err := decodeNPYImages("x", bytes.NewReader(b), l); err == nil {
			switch images := images.(type) {
			case *Memory:
				n, c, h, w := images.Shape()
				require.LessOrEqual(t, n*c*h*w, min(len(b), 1<<16))
				require.Len(t, images.data, n*c*h*w)
			case FrameSource:
				s := images.Shape()
				require.LessOrEqual(t, s.Frames()*s.Neurons(), min(len(b), 1<<16))
				x := make([]float32, s.Steps*s.Neurons())
				require.NoError(t, images.ReadFrames(x, s.N-1))
				for _, v := range x {
					require.True(t, v >= 0 && v <= 1)
				}
			default:
				t.Fatalf("%T", images)
			}
		}
		if labels, err := decodeNPYLabels("x", bytes.NewReader(b), l); err == nil {
			require.LessOrEqual(t, len(labels), min(len(b), 1<<13))
			require.NotEmpty(t, labels)
		}
	})
}
