package dataset_test

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/train/dataset"
)

// TestReadFolderJPEG compares JPEG images with what libjpeg-turbo decodes from them; see
// testdata/jpeg/make.py. Where chroma is neither repeated nor interpolated, and for
// grey images, the only difference is the rounding of the cosine transform.
func TestReadFolderJPEG(t *testing.T) {
	files, err := filepath.Glob("testdata/jpeg/*.jpg")
	require.NoError(t, err)
	require.Greater(t, len(files), 30)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jpg")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			set, err := dataset.ReadFolder(tree(t, map[string][]byte{"a/x.jpg": data}))
			require.NoError(t, err)
			f, err := os.Open(strings.TrimSuffix(file, "jpg") + "png")
			require.NoError(t, err)
			defer f.Close()
			want, err := png.Decode(f)
			require.NoError(t, err)
			require.Equal(t, [2]int{want.Bounds().Dy(), want.Bounds().Dx()}, [2]int{set.H, set.W})
			assert.Equal(t, map[bool]int{true: 1, false: 3}[name == "grey"], set.C)
			worst := 0
			got := fill(t, set, 0).Data
			for y := range set.H {
				for x := range set.W {
					r, g, b, _ := want.At(x, y).RGBA()
					for c, v := range []uint32{r, g, b}[:set.C] {
						d := int(got[(c*set.H+y)*set.W+x]*255+0.5) - int(v>>8)
						worst = max(worst, d, -d)
					}
				}
			}
			assert.LessOrEqual(t, worst, 3, "levels of 255")
		})
	}
}
