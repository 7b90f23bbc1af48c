package paramfile_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/paramfile"
)

// text pickles a string.
func text(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

// number pickles an int32.
func number(n int) string {
	return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(n)))
}

// numbers pickles a tuple.
func numbers(ns ...int) string {
	s := "("
	for _, n := range ns {
		s += number(n)
	}
	return s + "t"
}

// view pickles a float32 tensor: a part of the storage key, which has size values.
func view(key string, size, offset int, shape, stride string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n(" +
		"(" + text("storage") + "ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(size) + "tQ" +
		number(offset) + shape + stride + "\x89ccollections\nOrderedDict\n)RtR"
}

// dict pickles a dict of pickled values under names, in turn.
func dict(entries ...string) string {
	s := "}("
	for i := 0; i < len(entries); i += 2 {
		s += text(entries[i]) + entries[i+1]
	}
	return s + "u"
}

// program is a whole pickle.
func program(s string) string { return "\x80\x02" + s + "." }

// archived returns a zip archive of records under names, in turn.
func archived(t testing.TB, method uint16, records ...string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(records); i += 2 {
		w, err := z.CreateHeader(&zip.FileHeader{Name: records[i], Method: method})
		require.NoError(t, err)
		_, err = w.Write([]byte(records[i+1]))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return b.Bytes()
}

// torch returns a checkpoint of a structure and the storage 0 with the values 0, 1, …, 5.
func torch(t testing.TB, structure string) []byte {
	var raw []byte
	for i := range 6 {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(i)))
	}
	return archived(t, zip.Store, "x/data.pkl", program(structure), "x/data/0", string(raw))
}

// Tensors are views of their storage, with any offset and strides, under a state dict's
// names, wherever in the checkpoint it is.
func TestTorchViews(t *testing.T) {
	whole := view("0", 6, 0, numbers(2, 3), numbers(3, 1))
	state := dict("w", whole, "t", view("0", 6, 1, numbers(2, 2), numbers(1, 3)), "b.num_batches_tracked", whole)
	for name, structure := range map[string]string{
		"alone":     state,
		"held":      dict("epoch", number(3), "state_dict", state, "optimizer", dict("lr", "G\x3f\xb9\x99\x99\x99\x99\x99\x9a")),
		"model":     dict("model", state, "best", "N"),
		"ordered":   "ccollections\nOrderedDict\n)R(" + text("w") + whole + text("t") + view("0", 6, 1, numbers(2, 2), numbers(1, 3)) + "u}" + text("_metadata") + "}sb",
		"parameter": dict("w", "ctorch._utils\n_rebuild_parameter\n"+whole+"\x88N\x87R", "t", view("0", 6, 1, numbers(2, 2), numbers(1, 3))),
	} {
		f, err := parse(torch(t, structure))
		require.NoError(t, err, name)
		w, transposed := param(9, 2, 3), param(9, 2, 2)
		require.NoError(t, f.Import(map[string]*autograd.Param{"w": w, "t": transposed}), name)
		assert.Equal(t, []float32{0, 1, 2, 3, 4, 5}, w.Export(), name)
		assert.Equal(t, []float32{1, 4, 2, 5}, transposed.Export(), name)
		assert.Nil(t, f.Meta)
	}
}

// A tensor that its storage does not hold is an error that names it, and changes
// nothing.
func TestTorchImportRefuses(t *testing.T) {
	const huge = 1 << 30
	for want, b := range map[string][]byte{
		"tensor w: shape [2 3] with strides [3 1] from 1 on exceeds a storage of 6": torch(t, dict("w", view("0", 6, 1, numbers(2, 3), numbers(3, 1)))),
		"tensor w: shape [2 3] with strides [1073741824 1] from 0 on exceeds":       torch(t, dict("w", view("0", 6, 0, numbers(2, 3), numbers(huge, 1)))),
		"tensor w: shape [2 3] with strides [0 0] from 1073741824 on exceeds":       torch(t, dict("w", view("0", 6, huge, numbers(2, 3), numbers(0, 0)))),
		"tensor w: record data/0 has 24 bytes: expected 7 values of 4":              torch(t, dict("w", view("0", 7, 0, numbers(2, 3), numbers(3, 1)))),
		"tensor w: record data/0 has 24 bytes: expected 1073741824 values of 4":     torch(t, dict("w", view("0", huge, 0, numbers(2, 3), numbers(3, 1)))),
		"tensor w: no record data/1 in the archive":                                 torch(t, dict("w", view("1", 6, 0, numbers(2, 3), numbers(3, 1)))),
		"tensor w: no record data/../data.pkl":                                      torch(t, dict("w", view("../data.pkl", 6, 0, numbers(2, 3), numbers(3, 1)))),
		"tensor w has shape [6]: expected [2 3]":                                    torch(t, dict("w", view("0", 6, 0, numbers(6), numbers(1)))),
		"tensor w has shape [1073741824 1073741824]: expected [2 3]":                torch(t, dict("w", view("0", 6, 0, numbers(huge, huge), numbers(0, 0)))),
		"tensor w is of type I32: expected F32, F16, BF16 or F64":                   torch(t, dict("w", strings.Replace(view("0", 6, 0, numbers(2, 3), numbers(3, 1)), "Float", "Int", 1))),
		"tensor w: record data/0: zip: checksum error":                              bytes.Replace(torch(t, dict("w", view("0", 6, 0, numbers(2, 3), numbers(3, 1)))), []byte("\x80\x40"), []byte("\x80\x41"), 1),
		"it lacks w of the model's tensors, and has v beside them":                  torch(t, dict("v", view("0", 6, 0, numbers(2, 3), numbers(3, 1)))),
	} {
		f, err := parse(b)
		require.NoError(t, err, want)
		w := param(9, 2, 3)
		assert.ErrorContains(t, f.Import(map[string]*autograd.Param{"w": w}), want)
		assert.Equal(t, param(9, 2, 3).Data(), w.Data())
	}
}

// A pickle that is no state dict or is malformed is refused with the reason.
func TestTorchParseRefuses(t *testing.T) {
	good := view("0", 6, 0, numbers(2, 3), numbers(3, 1))
	for structure, want := range map[string]string{
		"cposix\nsystem\n" + text("touch pwned") + "\x85R": `it holds an object of posix.system: expected a dict of tensors`,
		"cmodels.VGG\nVGG\n)\x81":                          `it holds an object of models.VGG.VGG: expected a dict`,
		"c__builtin__\nobject\n)R":                         "requires a Callable",
		"c__builtin__\neval\n" + text("1") + "\x85R":       "it holds an object of __builtin__.eval",
		"ccopy_reg\n_reconstructor\n)R":                    "invalid arguments",
		"(iposix\nsystem\n":                                "instruction 0x69 at byte 3",
		"(o":                                               "instruction 0x6f at byte 3",
		"\x82\x01":                                         "instruction 0x82 at byte 2",
		"\x8b\x01\x00\x00\x00a":                            "instruction 0x8b at byte 2",
		"\x8a\x00":                                         "instruction 0x8a at byte 2",
		"\xff":                                             "instruction 0xff at byte 2",
		"\x95\xff\xff\xff\xff\xff\xff\xff\x7f":             "cut short",
		"X\xff\xff\xff\xff":                                "cut short",
		"ctorch":                                           "cut short",
		"X\x00":                                            "cut short",
		"(" + text("a") + "d":                              "instruction 0x64",
		"}(" + text("a") + "u":                             "malformed",
		"}ctorch._utils\n_rebuild_parameter\nNsN":          "expected a dict of tensors",
		"ccollections\nOrderedDict\n)Rctorch._utils\n_rebuild_parameter\nNs": "malformed",
		"u":                      "meta stack",
		"h\x07":                  "expected a dict of tensors",
		"N":                      "expected a dict of tensors",
		good:                     "expected a dict of tensors",
		"]":                      "expected a dict of tensors",
		"}" + number(1) + "Ns":   "expected a dict of tensors",
		dict("epoch", number(3)): "no entry of it is a tensor",
		dict("a", dict("w", good), "b", dict("w", good)):                                            "its entries a, b hold tensors: expected a dict of tensors, or one under state_dict",
		dict("w", view("0", -6, 0, numbers(2, 3), numbers(3, 1))):                                   "a reference to something else than a storage",
		dict("w", text("storage")+"Q"):                                                              "a reference to something else than a storage",
		dict("w", "("+text("module")+"ctorch\nFloatStorage\n"+text("0")+text("cpu")+number(6)+"tQ"): "a reference to something else than a storage",
		dict("w", "("+text("storage")+text("FloatStorage")+text("0")+text("cpu")+number(6)+"tQ"):    "a reference to something else than a storage",
		dict("w", view("0", 6, -1, numbers(2, 3), numbers(3, 1))):                                   "not made as torch.save does",
		dict("w", view("0", 6, 0, numbers(2, -3), numbers(3, 1))):                                   "not made as torch.save does",
		dict("w", view("0", 6, 0, numbers(2, 3), numbers(3, -1))):                                   "not made as torch.save does",
		dict("w", view("0", 6, 0, numbers(2, 3), numbers(3))):                                       "not made as torch.save does",
		dict("w", view("0", 6, 0, numbers(make([]int, 65)...), numbers(make([]int, 65)...))):        "not made as torch.save does",
		dict("w", "ctorch._utils\n_rebuild_tensor_v2\n)R"):                                          "not made as torch.save does",
		dict("w", "ctorch._utils\n_rebuild_parameter\n)R"):                                          "a parameter without a tensor",
	} {
		_, err := parse(torch(t, structure))
		require.ErrorContains(t, err, want, "%.60q", structure)
		assert.ErrorContains(t, err, "not a PyTorch state dict: ")
		assert.NotContains(t, err.Error(), "\n")
	}
	assert.NoFileExists(t, "pwned")
}

func TestTorchArchiveRefuses(t *testing.T) {
	state := dict("w", view("0", 6, 0, numbers(2, 3), numbers(3, 1)))
	for want, b := range map[string][]byte{
		"no record data.pkl":                      archived(t, zip.Store, "x/version", "3"),
		"it is a TorchScript archive":             archived(t, zip.Store, "x/data.pkl", program(state), "x/constants.pkl", ""),
		`byte order "big": expected little`:       archived(t, zip.Store, "x/byteorder", "big", "x/data.pkl", program(state)),
		"record data.pkl: zip: checksum error":    bytes.Replace(torch(t, state), []byte("_rebuild_tensor_v2"), []byte("_rebuild_tensor_v3"), 1),
		"not a valid zip file":                    []byte("PK\x03\x04"),
		"a pickle as PyTorch wrote it before 1.6": []byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"),
	} {
		_, err := parse(b)
		assert.ErrorContains(t, err, want)
	}
	whole := torch(t, state)
	for n := 4; n < len(whole); n++ {
		_, err := parse(whole[:n])
		require.ErrorContains(t, err, "not a PyTorch state dict: zip: not a valid zip file", "cut off after %d bytes", n)
	}
}

// What a file of so many bytes says of sizes, it cannot make the reader allocate.
func TestTorchAllocatesWithinReason(t *testing.T) {
	const huge = 1<<31 - 1
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		b := torch(t, dict("w", view("0", huge, 0, numbers(huge, huge), numbers(0, 0))))
		f, err := parse(b)
		require.NoError(t, err)
		require.Error(t, f.Import(map[string]*autograd.Param{"w": param(0, 2)}))
		_, err = parse(torch(t, "X\xff\xff\xff\xff"))
		require.Error(t, err)
	}
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(10<<20))
}

// Nothing that a pickle says makes the reader panic, or take more memory than the budget.
func FuzzTorch(f *testing.F) {
	good := view("0", 6, 0, numbers(2, 3), numbers(3, 1))
	for _, s := range []string{
		dict("w", good), dict("state_dict", dict("w", good)),
		"ccollections\nOrderedDict\n)R(" + text("w") + good + "u}" + text("_metadata") + "}sb",
		dict("w", good, "x", "cargparse\nNamespace\n)\x81}"+text("lr")+number(3)+"sb"),
		dict("w", good, "x", "\x8f(C\x01aK\x01\x90", "y", "\x8c\x01a\x8c\x01b\x93)R\x94"),
	} {
		f.Add([]byte(program(s)))
	}
	f.Fuzz(func(t *testing.T, structure []byte) {
		b := archived(t, zip.Store, "x/data.pkl", string(structure), "x/data/0", strings.Repeat("0", 24))
		within(t, b)
	})
}

// within reads a file in every way within a budget of 1 MiB.
func within(t *testing.T, b []byte) {
	const budget = 1 << 20
	taken := allocated(func() {
		file, err := paramfile.Parse(b, paramfile.Options{Budget: budget, Note: func(string) {}, Settings: map[string][]float32{"beta": {1}}})
		if err == nil {
			_ = file.Import(map[string]*autograd.Param{"w": autograd.NewParam(2, 3)})
		}
	})
	if most := uint64(4*budget + 64*len(b)); taken > most { // one budget each for the structure, a record, and the values of a view
		t.Fatalf("%d bytes allocated for a file of %d", taken, len(b))
	}
}

// Nothing that a file says makes the reader panic, or take more memory than the budget.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("../../snn/zoo/testdata/checkpoints/*[ths]")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add(torch(f, dict("w", view("0", 6, 0, numbers(2, 3), numbers(3, 1)))))
	f.Add(raw("F32", 4, make([]byte, 24)))
	f.Fuzz(within)
}
