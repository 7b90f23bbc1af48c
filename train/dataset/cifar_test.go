package dataset_test

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
)

// layout is a set in CIFAR's binary layout, as its description says it is; of three
// images a file, in alphabetical order of the files.
type layout struct {
	train   []string
	test    string
	names   string
	classes int
	coarse  bool // a byte before the label
	read    func(path string, limits ...dataset.Limits) (train, test *dataset.Set, err error)
}

var layouts = map[string]layout{
	"CIFAR-10": {
		[]string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
		"test_batch.bin", "batches.meta.txt", 10, false, dataset.ReadCIFAR10,
	},
	"CIFAR-100": {[]string{"train.bin"}, "test.bin", "fine_label_names.txt", 100, true, dataset.ReadCIFAR100},
}

// label and pixel are those of image i of the training set, the test set's after it.
func (l layout) label(i int) int       { return (7*i + 3) % l.classes }
func (l layout) pixel(i, at int) uint8 { return uint8((31*i + at + at/1024) % 253) }

// record returns image i with its label.
func (l layout) record(i int) []byte {
	var r []byte
	if l.coarse {
		r = append(r, 200)
	}
	r = append(r, uint8(l.label(i)))
	for at := range 3072 {
		r = append(r, l.pixel(i, at))
	}
	return r
}

// files returns the set's files by name.
func (l layout) files() map[string][]byte {
	files := map[string][]byte{}
	for k, name := range append(slices.Clone(l.train), l.test) {
		for i := range 3 {
			files[name] = append(files[name], l.record(3*k+i)...)
		}
	}
	for k := range l.classes {
		files[l.names] = append(files[l.names], l.class(k)+"\n"...)
	}
	files[l.names] = append(files[l.names], '\n') // as the official one
	return files
}

func (l layout) class(k int) string { return "class " + strconv.Itoa(k) }

// folder returns a folder with files.
func folder(t testing.TB, files map[string][]byte) string {
	dir := t.TempDir()
	for name, data := range files {
		write(t, filepath.Join(dir, name), data)
	}
	return dir
}

// tarred returns an archive of files, each inside a folder, and of others.
func tarred(files map[string][]byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b) // to memory, where it cannot fail
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "cifar/", Mode: 0o755})
	add := func(name string, data []byte) {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "cifar/" + name, Mode: 0o644, Size: int64(len(data))})
		w.Write(data)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		add(name, files[name])
	}
	add("readme.html", []byte("<html>"))
	w.Close()
	return b.Bytes()
}

// TestReadCIFAR reads the two sets from a folder and from archives, and looks at every
// value.
func TestReadCIFAR(t *testing.T) {
	for name, l := range layouts {
		dir := t.TempDir()
		for from, path := range map[string]string{
			"folder":  folder(t, l.files()),
			".tar.gz": write(t, filepath.Join(dir, "a.tar.gz"), zipped(tarred(l.files()))),
			".tar":    write(t, filepath.Join(dir, "a.tar"), tarred(l.files())),
		} {
			t.Run(name+" "+from, func(t *testing.T) {
				train, test, err := l.read(path)
				require.NoError(t, err)
				first := 0
				for _, set := range []*dataset.Set{train, test} {
					assert.Equal(t, [4]int{3, 32, 32, l.classes}, [4]int{set.C, set.H, set.W, set.Classes})
					for k := range l.classes {
						assert.Equal(t, l.class(k), set.ClassNames()[k])
					}
					for i := range set.N {
						require.Equal(t, l.label(first+i), set.Labels[i])
						for at, v := range fill(t, set, i).Data {
							require.Equal(t, float32(l.pixel(first+i, at))/255, v, "image %d, value %d", i, at)
						}
					}
					first += set.N
				}
				assert.Equal(t, 3*len(l.train), train.N)
				assert.Equal(t, 3, test.N)
			})
		}
	}
}

func TestReadCIFARTakesWindowsLines(t *testing.T) {
	l := layouts["CIFAR-10"]
	files := l.files()
	files[l.names] = bytes.ReplaceAll(files[l.names], []byte("\n"), []byte("\r\n"))
	train, _, err := l.read(folder(t, files))
	require.NoError(t, err)
	assert.Equal(t, []string{"class 0", "class 1"}, train.ClassNames()[:2])
}

func TestReadCIFARRefusesBadFiles(t *testing.T) {
	// with returns the record of the layout with the byte at index at changed.
	with := func(file []byte, at int, value uint8) []byte {
		file = slices.Clone(file)
		file[at] = value
		return file
	}
	for _, c := range []struct {
		name, layout string
		change       func(l layout, files map[string][]byte)
		want         string // the error after "dataset: " and without the folder
	}{
		{"cut short", "CIFAR-10", func(l layout, f map[string][]byte) { f[l.train[2]] = f[l.train[2]][:7000] },
			"data_batch_3.bin: 7000 bytes, want a whole, positive number of records of 3073"},
		{"cut short between records", "CIFAR-10", func(l layout, f map[string][]byte) { f[l.train[4]] = f[l.train[4]][:2*3073] },
			"data_batch_5.bin: 2 images, want 3 as in data_batch_1.bin"},
		{"first cut short between records", "CIFAR-10", func(l layout, f map[string][]byte) { f[l.train[0]] = f[l.train[0]][:3073] },
			"data_batch_2.bin: 3 images, want 1 as in data_batch_1.bin"},
		{"empty", "CIFAR-10", func(l layout, f map[string][]byte) { f[l.train[0]] = nil },
			"data_batch_1.bin: 0 bytes, want a whole, positive number of records of 3073"},
		{"test cut short", "CIFAR-100", func(l layout, f map[string][]byte) { f[l.test] = f[l.test][:3*3074-1] },
			"test.bin: 9221 bytes, want a whole, positive number of records of 3074"},
		{"CIFAR-10's records in CIFAR-100", "CIFAR-100", func(l layout, f map[string][]byte) { f[l.train[0]] = f[l.train[0]][:3*3073] },
			"train.bin: 9219 bytes, want a whole, positive number of records of 3074"},
		{"label too large", "CIFAR-10", func(l layout, f map[string][]byte) { f[l.train[3]] = with(f[l.train[3]], 2*3073, 10) },
			"data_batch_4.bin: image 2 has label 10, want 0 to 9"},
		{"label too large in the test set", "CIFAR-10", func(l layout, f map[string][]byte) { f[l.test] = with(f[l.test], 3073, 255) },
			"test_batch.bin: image 1 has label 255, want 0 to 9"},
		{"fine label too large", "CIFAR-100", func(l layout, f map[string][]byte) { f[l.train[0]] = with(f[l.train[0]], 1, 100) },
			"train.bin: image 0 has label 100, want 0 to 99"},
		{"class name missing", "CIFAR-10", func(l layout, f map[string][]byte) { f[l.names] = f[l.names][:9*8] },
			"batches.meta.txt: 9 lines, want 10, each the name of a class"},
		{"class name empty", "CIFAR-10", func(l layout, f map[string][]byte) { f[l.names] = []byte("0\n1\n2\n\n4\n5\n6\n7\n8\n9\n") },
			"batches.meta.txt: 10 lines, want 10, each the name of a class"},
		{"class name too many", "CIFAR-100", func(l layout, f map[string][]byte) { f[l.names] = append([]byte("x\n"), f[l.names]...) },
			"fine_label_names.txt: 101 lines, want 100, each the name of a class"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := layouts[c.layout]
			files := l.files()
			c.change(l, files)
			inFolder := folder(t, files)
			archive := write(t, filepath.Join(t.TempDir(), "a.tar.gz"), zipped(tarred(files)))
			for path, prefix := range map[string]string{
				inFolder: inFolder + string(filepath.Separator),
				archive:  archive + ": cifar/",
			} {
				train, test, err := l.read(path)
				require.Error(t, err)
				assert.Nil(t, train)
				assert.Nil(t, test)
				assert.Equal(t, "dataset: "+c.want, strings.ReplaceAll(err.Error(), prefix, ""))
				assert.Contains(t, err.Error(), prefix)
			}
		})
	}
}

func TestReadCIFARNamesMissingFile(t *testing.T) {
	for _, l := range layouts {
		for name := range l.files() {
			files := l.files()
			delete(files, name)
			for _, path := range []string{folder(t, files), write(t, filepath.Join(t.TempDir(), "a.tar.gz"), zipped(tarred(files)))} {
				_, _, err := l.read(path)
				require.ErrorIs(t, err, fs.ErrNotExist)
				assert.ErrorContains(t, err, path)
				assert.ErrorContains(t, err, name)
			}
		}
		missing := filepath.Join(t.TempDir(), "missing")
		_, _, err := l.read(missing)
		require.ErrorIs(t, err, fs.ErrNotExist)
		assert.ErrorContains(t, err, missing)

		dir := folder(t, l.files())
		require.NoError(t, os.Remove(filepath.Join(dir, l.test)))
		require.NoError(t, os.Mkdir(filepath.Join(dir, l.test), 0o755))
		_, _, err = l.read(dir)
		assert.EqualError(t, err, "dataset: "+filepath.Join(dir, l.test)+" is a folder: expected a regular file")
	}
}

// TestReadCIFARRefusesBadArchives cuts and spoils an archive everywhere.
func TestReadCIFARRefusesBadArchives(t *testing.T) {
	l := layouts["CIFAR-100"]
	plain := tarred(l.files())
	packed := zipped(plain)
	path := filepath.Join(t.TempDir(), "a.tar.gz")
	refused := func(data []byte, what string, at int) {
		_, _, err := l.read(write(t, path, data))
		require.Error(t, err, "%s at %d", what, at)
		require.ErrorContains(t, err, path)
		require.NotContains(t, err.Error(), "\n")
	}
	for at := 0; at < len(packed); at += 31 {
		refused(packed[:at], "gzip cut", at)
	}
	for at := len(packed) - 9; at < len(packed); at++ {
		refused(packed[:at], "gzip cut", at)
	}
	for at := len(packed) - 8; at < len(packed); at++ { // checksum and length
		refused(flipped(packed, at), "gzip trailer", at)
	}
	// What comes after the last of the files is of no interest: its padding, the readme
	// with its header, and two blocks that mark the end.
	for at := 0; at < len(plain)-5*512; at += 511 {
		refused(plain[:at], "tar cut", at)
	}
	refused([]byte("<!DOCTYPE html><html><body>Sign in</body></html>"), "HTML", 0)
	refused(bytes.Repeat([]byte("<p>Sign in</p>\n"), 100), "HTML", 1)
}

// TestReadCIFARReadsLate checks that the files of a folder are not kept in memory: one
// that is cut off later is an error, which names it and the image.
func TestReadCIFARReadsLate(t *testing.T) {
	l := layouts["CIFAR-10"]
	dir := folder(t, l.files())
	train, _, err := l.read(dir)
	require.NoError(t, err)
	second := filepath.Join(dir, l.train[1])
	require.NoError(t, os.Truncate(second, 3073+1000))
	fill(t, train, 3) // the first of the second file
	err = train.Fill(tensor.NewNCHW(1, 3, 32, 32), []int{4})
	assert.EqualError(t, err, "dataset: image 4: "+second+": image 1: EOF")
}
