package dataset_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
)

// rgb returns an image of 2×3 (rows × columns) that holds v in every place.
func rgb(v uint8) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	for i := range img.Pix {
		img.Pix[i] = v
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	return img
}

func grey(pix ...uint8) *image.Gray {
	return &image.Gray{Pix: pix, Stride: 3, Rect: image.Rect(0, 0, 3, 2)}
}

func asPNG(img image.Image) []byte {
	var b bytes.Buffer
	png.Encode(&b, img) // to memory, where it cannot fail
	return b.Bytes()
}

func asJPEG(img image.Image) []byte {
	var b bytes.Buffer
	jpeg.Encode(&b, img, &jpeg.Options{Quality: 100}) // to memory, where it cannot fail
	return b.Bytes()
}

// asGIF returns a file that package image decodes here, as in programs that import image/gif.
func asGIF(img image.Image) []byte {
	var b bytes.Buffer
	gif.Encode(&b, img, nil) // to memory, where it cannot fail
	return b.Bytes()
}

// tree returns a folder with files at these paths; a path that ends with a slash is an
// empty folder.
func tree(t testing.TB, files map[string][]byte) string {
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		write(t, path, data)
	}
	return dir
}

func TestReadFolder(t *testing.T) {
	coloured := rgb(9)
	for i := range 6 {
		copy(coloured.Pix[4*i:], []uint8{uint8(i), uint8(10 + i), uint8(20 + i)})
	}
	deep := image.NewNRGBA64(image.Rect(0, 0, 3, 2))
	for i := range 6 {
		deep.SetNRGBA64(i%3, i/3, color.NRGBA64{0x01ff, 0x0200, 0x03ff, 0xffff})
	}
	palette := image.NewPaletted(image.Rect(0, 0, 3, 2), color.Palette{color.NRGBA{1, 2, 3, 255}})
	set, err := dataset.ReadFolder(tree(t, map[string][]byte{
		"dog/2.png":         asPNG(rgb(2)),
		"dog/10.PNG":        asPNG(coloured),
		"cat/a.jpeg":        asJPEG(grey(80, 80, 80, 80, 80, 80)),
		"cat/b.jpg":         asPNG(grey(0, 50, 100, 150, 200, 250)), // the content decides
		"eel/deep.png":      asPNG(deep),
		"eel/palette.png":   asPNG(palette),
		"eel/.hidden":       []byte("not an image"),
		".git/HEAD":         []byte("ref"),
		"README":            []byte("beside the folders"),
		"stray.png":         []byte("beside the folders"),
		"eel/uniform.jpg":   asJPEG(rgb(200)),
		"eel/zz_symbol.png": asPNG(rgb(77)),
	}))
	require.NoError(t, err)
	assert.Equal(t, [5]int{8, 3, 2, 3, 3}, [5]int{set.N, set.C, set.H, set.W, set.Classes})
	assert.Equal(t, []string{"cat", "dog", "eel"}, set.ClassNames())
	assert.Equal(t, []int{0, 0, 1, 1, 2, 2, 2, 2}, set.Labels)
	same := func(r, g, b float32) (want []float32) {
		for _, v := range []float32{r, g, b} {
			for range 6 {
				want = append(want, v/255)
			}
		}
		return want
	}
	ramp := func(starts ...float32) (want []float32) {
		for _, s := range starts {
			for i := range 6 {
				want = append(want, (s+float32(i))/255)
			}
		}
		return want
	}
	steps := []float32{0, 50. / 255, 100. / 255, 150. / 255, 200. / 255, 250. / 255}
	for i, want := range [][]float32{
		same(80, 80, 80), append(append(append([]float32{}, steps...), steps...), steps...), // cat/a, b
		ramp(0, 10, 20), same(2, 2, 2), // dog/10, 2
		same(1, 2, 3), same(1, 2, 3), same(200, 200, 200), same(77, 77, 77), // eel
	} {
		assert.InDeltaSlice(t, want, fill(t, set, i).Data, 1e-7, "image %d", i)
	}
}

// TestReadFolderGrey checks that a set of nothing but grey images has one channel.
func TestReadFolderGrey(t *testing.T) {
	deep := image.NewGray16(image.Rect(0, 0, 3, 2))
	for i := range 6 {
		deep.SetGray16(i%3, i/3, color.Gray16{uint16(i<<8 | 0xff)})
	}
	set, err := dataset.ReadFolder(tree(t, map[string][]byte{
		"only/1.png": asPNG(grey(10, 20, 30, 40, 50, 60)),
		"only/2.png": asPNG(deep),
	}))
	require.NoError(t, err)
	assert.Equal(t, [5]int{2, 1, 2, 3, 1}, [5]int{set.N, set.C, set.H, set.W, set.Classes})
	assert.InDeltaSlice(t, []float32{10. / 255, 20. / 255, 30. / 255, 40. / 255, 50. / 255, 60. / 255}, fill(t, set, 0).Data, 1e-7)
	assert.InDeltaSlice(t, []float32{0, 1. / 255, 2. / 255, 3. / 255, 4. / 255, 5. / 255}, fill(t, set, 1).Data, 1e-7)
}

// TestReadFolderGreyPNG reads one grey image in the ways that PNG can store it: as grey, as a
// palette of greys, with an opaque alpha channel, and with a transparent grey that no pixel
// has. A coloured image with an opaque alpha channel stays coloured.
func TestReadFolderGreyPNG(t *testing.T) {
	var want []float32
	for _, name := range []string{"L", "LA_opaque", "P_grey", "L_trns"} {
		data, err := os.ReadFile(filepath.Join("testdata", "grey", name+".png"))
		require.NoError(t, err)
		dir := tree(t, map[string][]byte{"a/x.png": data})
		set, err := dataset.ReadFolder(dir)
		require.NoError(t, err)
		require.Equal(t, 1, set.C, name)
		got := fill(t, set, 0).Data
		if want == nil {
			want = got
		}
		assert.Equal(t, want, got, name)
		assert.Equal(t, dir+": 1 PNG images", set.Provenance())
	}
	coloured := image.NewPaletted(image.Rect(0, 0, 3, 2), color.Palette{color.Gray{1}, color.NRGBA{1, 2, 3, 255}, color.Gray{9}})
	set, err := dataset.ReadFolder(tree(t, map[string][]byte{"a/x.png": asPNG(coloured)}))
	require.NoError(t, err)
	assert.Equal(t, 1, set.C, "of the palette only a grey is used")
	coloured.Pix[5] = 1
	for _, img := range []image.Image{coloured, rgb(7)} {
		set, err := dataset.ReadFolder(tree(t, map[string][]byte{"a/x.png": asPNG(img), "b/x.jpg": asJPEG(grey(1, 2, 3, 4, 5, 6))}))
		require.NoError(t, err)
		assert.Equal(t, 3, set.C)
		assert.Contains(t, set.Provenance(), ": 1 PNG images, 1 JPEG images (chroma interpolated as libjpeg-turbo does)")
	}
}

// TestReadFolderAs reads folders that lack a class or have another with the classes of a
// training folder.
func TestReadFolderAs(t *testing.T) {
	classes := []string{"dog", "cat", "deer", "frog"}
	dir := tree(t, map[string][]byte{"cat/1.png": asPNG(rgb(1)), "dog/2.png": asPNG(rgb(2)), "frog/3.png": asPNG(rgb(3)), "note": nil})
	set, err := dataset.ReadFolderAs(dir, classes)
	require.NoError(t, err)
	assert.Equal(t, []int{1, 0, 3}, set.Labels)
	assert.Equal(t, 4, set.Classes)
	assert.Equal(t, classes, set.ClassNames())
	assert.Equal(t, float32(3)/255, fill(t, set, 2).Data[0])
	classes[0] = "wolf" // the set keeps its own
	assert.Equal(t, "dog", set.ClassNames()[0])

	_, err = dataset.ReadFolderAs(dir, classes)
	assert.EqualError(t, err, "dataset: "+filepath.Join(dir, "dog")+`: a folder of none of the 4 classes, want one of ["wolf" "cat" "deer" "frog"]`)
	_, err = dataset.ReadFolderAs(dir, nil)
	assert.EqualError(t, err, "dataset: "+dir+": no classes to read it with, want at least one")
	_, err = dataset.ReadFolderAs(dir, []string{"cat", "dog", "frog", "cat"})
	assert.EqualError(t, err, "dataset: "+dir+`: class "cat" is twice in the list of classes`)
}

// hugePNG returns a PNG file whose header says that it is of h×w, and no more.
func hugePNG(h, w uint32) []byte {
	chunk := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	chunk = append(binary.BigEndian.AppendUint32(chunk, h), 8, 2, 0, 0, 0)
	file := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), chunk...)
	return binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(chunk))
}

func TestReadFolderRefusesBadImages(t *testing.T) {
	good := asPNG(rgb(1))
	glass := rgb(1)
	glass.Pix[3] = 254
	for _, c := range []struct {
		name string
		bad  map[string][]byte // beside cat/good.png
		want string            // the error after "dataset: " and without the folder
	}{
		{"cut off", map[string][]byte{"dog/bad.png": good[:len(good)-20]}, "dog/bad.png: png: invalid format: "},
		{"corrupt", map[string][]byte{"cat/bad.png": flipped(good, 45)}, "cat/bad.png: png: invalid format: "},
		{"corrupt JPEG", map[string][]byte{"dog/bad.jpg": asJPEG(rgb(1))[:200]}, "dog/bad.jpg: "},
		{"empty file", map[string][]byte{"dog/bad.png": nil}, "dog/bad.png: image: unknown format"},
		{"HTML", map[string][]byte{"dog/bad.png": []byte("<html></html>")}, "dog/bad.png: image: unknown format"},
		{"another size", map[string][]byte{"dog/bad.png": asPNG(image.NewGray(image.Rect(0, 0, 2, 3)))},
			"dog/bad.png: an image of 3×2, want 2×3 as cat/good.png"},
		{"too large", map[string][]byte{"dog/bad.png": hugePNG(8192, 8192)},
			"dog/bad.png: an image of 8192×8192, want at most 16777216 pixels, which Limits.ImageBytes allows"},
		{"far too large", map[string][]byte{"dog/bad.png": hugePNG(1<<31-1, 1<<31-1)},
			"dog/bad.png: "},
		{"transparent", map[string][]byte{"dog/bad.png": asPNG(glass)}, "dog/bad.png: a transparent image, want an opaque one"},
		{"the first of two", map[string][]byte{"dog/a.png": good[:50], "dog/b.png": good[:20]}, "dog/a.png: "},
		{"another format", map[string][]byte{"dog/bad.gif": good},
			"dog/bad.gif: want nothing but .png, .jpg and .jpeg files in the folder of a class"},
		{"GIF named PNG", map[string][]byte{"dog/bad.png": asGIF(rgb(1))}, "dog/bad.png: an image of format gif, want png or jpeg"},
		{"folder in a class", map[string][]byte{"dog/puppies.png/": nil},
			"dog/puppies.png: want nothing but .png, .jpg and .jpeg files in the folder of a class"},
		{"empty class", map[string][]byte{"dog/": nil}, "dog: no images"},
		{"class of hidden files", map[string][]byte{"dog/.png": good}, "dog: no images"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.bad["cat/good.png"] = good
			dir := tree(t, c.bad)
			set, err := dataset.ReadFolder(dir)
			require.Error(t, err)
			assert.Nil(t, set)
			got := filepath.ToSlash(strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""))
			want := "dataset: " + c.want
			assert.Equal(t, want, got[:min(len(want), len(got))])
		})
	}
	for name, files := range map[string]map[string][]byte{
		"empty": nil, "images without classes": {"a.png": good}, "hidden class": {".cat/a.png": good},
	} {
		dir := tree(t, files)
		_, err := dataset.ReadFolder(dir)
		assert.EqualError(t, err, "dataset: "+dir+": no subfolders, want one for each class", name)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	_, err := dataset.ReadFolder(missing)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, missing)
}

// TestReadFolderFollowsLinks makes a class of a link to a folder, and a link to nothing.
func TestReadFolderFollowsLinks(t *testing.T) {
	dir := tree(t, map[string][]byte{"cat/a.png": asPNG(rgb(1))})
	if err := os.Symlink(filepath.Join(dir, "cat"), filepath.Join(dir, "tom")); err != nil {
		t.Skip(err)
	}
	set, err := dataset.ReadFolder(dir)
	require.NoError(t, err)
	assert.Equal(t, []string{"cat", "tom"}, set.ClassNames())
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "cat", "b.png")))
	_, err = dataset.ReadFolder(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, filepath.Join("cat", "b.png"))
}

// TestReadFolderNoticesChanges changes files after the folder was read.
func TestReadFolderNoticesChanges(t *testing.T) {
	dir := tree(t, map[string][]byte{"cat/a.png": asPNG(grey(1, 2, 3, 4, 5, 6)), "cat/b.png": asPNG(grey(1, 2, 3, 4, 5, 6))})
	set, err := dataset.ReadFolder(dir)
	require.NoError(t, err)
	a := filepath.Join(dir, "cat", "a.png")
	x := tensor.NewNCHW(1, 1, 2, 3)
	for _, c := range []struct {
		data []byte
		want string
	}{
		{asPNG(rgb(1)), "now another kind of image"},
		{asPNG(image.NewGray(image.Rect(0, 0, 6, 1))), "now another kind of image"},
		{asPNG(rgb(1))[:60], "png: invalid format"},
	} {
		write(t, a, c.data)
		assert.ErrorContains(t, set.Fill(x, []int{0}), "dataset: image 0: "+a+": "+c.want)
	}
	require.NoError(t, os.Remove(a))
	require.ErrorIs(t, set.Fill(x, []int{0}), os.ErrNotExist)
	require.NoError(t, set.Fill(x, []int{1}))
}
