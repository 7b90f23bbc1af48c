package dataset_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
)

// shortString returns a string as Python 2 pickles it.
func shortString(s string) string { return "U" + string([]byte{byte(len(s))}) + s }

// pickledArray returns n×3072 bytes as Python 2 pickles an array of NumPy.
func pickledArray(n int, transposed bool, data []byte) []byte {
	order := "\x89" // false
	if transposed {
		order = "\x88"
	}
	b := []byte("cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01K" +
		string([]byte{byte(n)}) + "M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(" +
		"K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + order + "T")
	return append(append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...), "tb"...)
}

// python returns the files of the Python version with the images and labels of l.
func (l layout) python(transposed bool) map[string][]byte {
	key, names, meta := "labels", "label_names", "batches.meta"
	rename := map[string]string{"test_batch.bin": "test_batch"}
	for k := range 5 {
		rename[fmt.Sprintf("data_batch_%d.bin", k+1)] = fmt.Sprintf("data_batch_%d", k+1)
	}
	if l.coarse {
		key, names, meta = "fine_labels", "fine_label_names", "meta"
		rename = map[string]string{"train.bin": "train", "test.bin": "test"}
	}
	files := map[string][]byte{}
	for k, name := range append(slices.Clone(l.train), l.test) {
		var data []byte
		labels := "]q\x05("
		for i := range 3 {
			labels += "K" + string([]byte{byte(l.label(3*k + i))})
			data = append(data, l.record(3*k + i)[map[bool]int{false: 1, true: 2}[l.coarse]:]...)
		}
		if transposed {
			byColumn := make([]byte, len(data))
			for i := range data {
				byColumn[i%3072*3+i/3072] = data[i]
			}
			data = byColumn
		}
		b := []byte("\x80\x02}q\x01(" + shortString("batch_label") + "q\x02" + shortString("training batch 1 of 5") + "q\x03")
		if l.coarse {
			b = append(b, shortString("coarse_labels")+"](K\x01K\x02K\x03e"...)
		}
		b = append(b, shortString(key)+"q\x04"+labels+"e"+shortString("data")+"q\x06"...)
		b = append(b, pickledArray(3, transposed, data)...)
		files[rename[name]] = append(b, shortString("filenames")+"]("+shortString("a.png")+"eu."...)
	}
	b := "\x80\x02}q\x01(" + shortString(names) + "]("
	for k := range l.classes {
		b += shortString(l.class(k))
	}
	files[meta] = []byte(b + "e" + shortString("num_vis") + "M\x00\x0cu.")
	return files
}

// TestReadCIFARPython compares the Python version with the binary one.
func TestReadCIFARPython(t *testing.T) {
	for name, l := range layouts {
		wantTrain, wantTest, err := l.read(folder(t, l.files()))
		require.NoError(t, err)
		for _, transposed := range []bool{false, true} {
			files := l.python(transposed)
			for _, path := range []string{
				folder(t, files),
				write(t, filepath.Join(t.TempDir(), "cifar-python.tar.gz"), zipped(tarred(files))),
			} {
				train, test, err := l.read(path)
				require.NoError(t, err)
				for k, pair := range [][2]*dataset.Set{{wantTrain, train}, {wantTest, test}} {
					want, got := pair[0], pair[1]
					require.Equal(t, want.N, got.N)
					assert.Equal(t, want.Labels, got.Labels)
					assert.Equal(t, want.ClassNames(), got.ClassNames())
					assert.Equal(t, path+": "+name+", Python version", got.Provenance())
					assert.Contains(t, want.Provenance(), ": "+name+", binary version")
					for i := range want.N {
						require.Equal(t, fill(t, want, i), fill(t, got, i), "set %d, image %d", k, i)
					}
				}
			}
		}
	}
}

// TestReadCIFARPythonRefusesBadFiles changes a batch of the Python version.
func TestReadCIFARPythonRefusesBadFiles(t *testing.T) {
	l := layouts["CIFAR-10"]
	change := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			require.Equal(t, 1, bytes.Count(b, []byte(old)), "%q", old)
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   string
	}{
		{"another function", change("cnumpy\ndtype\n", "cos\nsystem\n"), `it asks for "os.system", want nothing but strings, lists and an array of bytes`},
		{"another instruction", change("\x80\x02}", "\x80\x02\x93"), "instruction 0x93 at byte 2, want those of a pickle of protocol 2 or 3"},
		{"string of 2 GiB", change("T\x00\x24\x00\x00", "T\xff\xff\xff\x7f"), "cut short"},
		{"string of -1 bytes", change("T\x00\x24\x00\x00", "T\xff\xff\xff\xff"), "cut short"},
		{"more images", change("K\x03M\x00\x0c\x86", "K\x04M\x00\x0c\x86"), "an array of 4 by 3072 with 9216 bytes"},
		{"other images", change("K\x03M\x00\x0c\x86", "K\x09M\x00\x04\x86"), `want an array "data" with 3072 bytes for each image`},
		{"other type", change("U\x02u1", "U\x02i1"), "an array of another kind than two dimensions of bytes"},
		{"a label is missing", change("q\x05(K\x03", "q\x05("), `2 numbers in "labels", want one for each of the 3 images`},
		{"a label is no number", change("q\x05(K\x03", "q\x05(N"), `0 numbers in "labels", want one`},
		{"a label too large", change("q\x05(K\x03", "q\x05(K\x0a"), "image 0 has label 10, want 0 to 9"},
		{"no labels", change("labels", "label_"), `0 numbers in "labels"`},
		{"no dict", func([]byte) []byte { return []byte("\x80\x02].") }, "want a dict"},
		{"an odd number of entries", func([]byte) []byte { return []byte("\x80\x02}(Nu.") }, "malformed: "},
		{"cut short", func(b []byte) []byte { return b[:len(b)-1] }, "cut short"},
		{"empty", func([]byte) []byte { return nil }, "cut short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := l.python(false)
			files["data_batch_1"] = c.change(files["data_batch_1"])
			dir := folder(t, files)
			_, _, err := l.read(dir)
			require.ErrorContains(t, err, "dataset: "+filepath.Join(dir, "data_batch_1"))
			assert.ErrorContains(t, err, c.want)
		})
	}
	files := l.python(false)
	files["batches.meta"] = bytes.Replace(files["batches.meta"], []byte("label_names"), []byte("labels_name"), 1)
	_, _, err := l.read(folder(t, files))
	assert.ErrorContains(t, err, `batches.meta: 0 strings in label_names, want 10, each the name of a class`)

	delete(files, "data_batch_3")
	_, _, err = l.read(folder(t, files))
	assert.ErrorContains(t, err, "data_batch_3 of CIFAR-10: file does not exist")
}

// TestReadCIFARFindsOutWhich reads all layouts with one function, from archives whose names
// say nothing or the wrong thing.
func TestReadCIFARFindsOutWhich(t *testing.T) {
	for name, l := range layouts {
		for version, files := range map[string]map[string][]byte{"binary": l.files(), "Python": l.python(false)} {
			path := write(t, filepath.Join(t.TempDir(), "cifar10-first100.tar.gz"), zipped(tarred(files)))
			train, test, err := dataset.ReadCIFAR(path)
			require.NoError(t, err)
			assert.Equal(t, [2]int{l.classes, 3}, [2]int{train.Classes, test.N})
			assert.Equal(t, path+": "+name+", "+version+" version", train.Provenance())
		}
	}
	// The files of the binary version are taken where both are whole.
	l := layouts["CIFAR-10"]
	files := l.files()
	maps.Copy(files, l.python(false))
	train, _, err := dataset.ReadCIFAR(folder(t, files))
	require.NoError(t, err)
	assert.Contains(t, train.Provenance(), "binary version")
}

// Each set has its published normalization, and its caller may change the result.
func TestReadCIFARNormalization(t *testing.T) {
	for name, want := range map[string][2][]float32{
		"CIFAR-10":  {{0.4914, 0.4822, 0.4465}, {0.2023, 0.1994, 0.2010}},
		"CIFAR-100": {{0.5071, 0.4867, 0.4408}, {0.2675, 0.2565, 0.2761}},
	} {
		train, test, err := layouts[name].read(folder(t, layouts[name].files()))
		require.NoError(t, err)
		for _, set := range []*dataset.Set{train, train, test} {
			mean, std := set.Normalization()
			assert.Equal(t, want, [2][]float32{mean, std})
			clear(mean)
			clear(std)
		}
	}
	// The decoded images are not normalized.
	train, _, err := dataset.ReadCIFAR10(folder(t, layouts["CIFAR-10"].files()))
	require.NoError(t, err)
	x := tensor.NewNCHW(1, 3, 32, 32)
	require.NoError(t, train.Fill(x, []int{1}))
	assert.Equal(t, float32(31)/255, x.Data[0])
}
