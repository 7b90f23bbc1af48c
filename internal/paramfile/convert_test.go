package paramfile_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/paramfile"
)

// raw returns a safetensors file of a tensor w of a type with those bytes.
func raw(dtype string, width int, b []byte) []byte {
	text := fmt.Sprintf(`{"w":{"dtype":"%s","shape":[%d],"data_offsets":[0,%d]}}`, dtype, len(b)/width, len(b))
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), b...)
}

// Values of other types become the nearest float32.
func TestConversions(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		dtype string
		bits  []uint64
		want  []float32
	}{
		// 1, −2, 65504, 2⁻¹⁴, the largest and the smallest subnormal, −0, 1/3 to 11 bits, ∞
		{"F16", []uint64{0x3c00, 0xc000, 0x7bff, 0x0400, 0x03ff, 0x0001, 0x8000, 0x3555, 0x7c00},
			[]float32{1, -2, 65504, 0x1p-14, 1023 * 0x1p-24, 0x1p-24, float32(math.Copysign(0, -1)), 1365.0 / 4096, inf}},
		{"BF16", []uint64{0x3f80, 0xc000, 0x7f7f, 0x0001, 0x3eab, 0xff80}, []float32{1, -2, 255 * 0x1p120, 0x1p-133, 171 * 0x1p-9, -inf}},
		// 1 + 2⁻²⁴ is half way and goes to the even 1, what is above it to 1 + 2⁻²³.
		{"F64", []uint64{math.Float64bits(1 + 0x1p-24), math.Float64bits(1 + 0x1p-24 + 0x1p-50), math.Float64bits(1 + 3*0x1p-24), math.Float64bits(-0.1), math.Float64bits(1e-300)},
			[]float32{1, 1 + 0x1p-23, 1 + 0x1p-22, -0.1, 0}},
	} {
		width := map[string]int{"F16": 2, "BF16": 2, "F64": 8}[c.dtype]
		var b []byte
		for _, x := range c.bits {
			b = append(b, binary.LittleEndian.AppendUint64(nil, x)[:width]...)
		}
		f, err := parse(raw(c.dtype, width, b))
		require.NoError(t, err)
		got, err := f.Floats("w")
		require.NoError(t, err)
		require.Len(t, got, len(c.want))
		for i, x := range c.want {
			assert.Equal(t, math.Float32bits(x), math.Float32bits(got[i]), "%s %#x is %v", c.dtype, c.bits[i], got[i])
		}
	}
	f, err := parse(raw("F16", 2, []byte{1, 0x7e}))
	require.NoError(t, err)
	got, err := f.Floats("w")
	require.NoError(t, err)
	assert.True(t, math.IsNaN(float64(got[0])))
}

// A parameter cannot be of a number that float32 cannot hold.
func TestImportRefusesOverflow(t *testing.T) {
	f, err := parse(raw("F64", 8, binary.LittleEndian.AppendUint64(nil, math.Float64bits(1e39))))
	require.NoError(t, err)
	assert.ErrorContains(t, f.Import(map[string]*autograd.Param{"w": param(0, 1)}), "tensor w, value 0 is 1e+39: expected a finite number of float32's range")
}

// A header of 640 bytes begins a file as a pickle does.
func TestHeaderLikeAPickle(t *testing.T) {
	for _, n := range []int{0x0280, 0x0480, 0x8a0280, 0x950480} {
		text := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
		text += strings.Repeat(" ", n-len(text))
		b := append(append(binary.LittleEndian.AppendUint64(nil, uint64(n)), text...), 0, 0, 0x80, 0x3f)
		f, err := paramfile.Parse(b, paramfile.Options{Budget: 1 << 32})
		require.NoError(t, err, "%#x", n)
		got, err := f.Floats("w")
		require.NoError(t, err)
		assert.Equal(t, []float32{1}, got)
	}
}

// What check refuses leaves the parameters as they were, to the same memory.
func TestImportChecked(t *testing.T) {
	f, err := parse(written(t, map[string]*autograd.Param{"a": param(1, 4), "b": param(2, 4)}))
	require.NoError(t, err)
	a, b := param(8, 4), param(9, 4)
	params := map[string]*autograd.Param{"a": a, "b": b}
	err = f.ImportChecked(params, func() error {
		assert.Equal(t, param(1, 4).Data(), a.Data())
		assert.Equal(t, param(2, 4).Data(), b.Data())
		return errors.New("unfit")
	})
	assert.EqualError(t, err, "unfit")
	assert.Equal(t, param(8, 4).Data(), a.Data())
	assert.Equal(t, param(9, 4).Data(), b.Data())
	require.NoError(t, f.ImportChecked(params, func() error { return nil }))
	assert.Equal(t, param(1, 4).Data(), a.Data())
}

// What a pickle asks for beside tensors and containers is neither called nor built,
// wherever it is, and said.
func TestTorchSkips(t *testing.T) {
	good := view("0", 6, 0, numbers(2, 3), numbers(3, 1))
	dir := t.TempDir()
	touch := func(module, name string) string {
		return "c" + module + "\n" + name + "\n" + text("touch "+dir+"/pwned") + "\x85R"
	}
	namespace := "cargparse\nNamespace\n)\x81}" + text("lr") + number(3) + "sb"
	for structure, note := range map[string]string{
		dict("w", good, "x", touch("posix", "system")):                                   "objects of posix.system are skipped",
		dict("state_dict", dict("w", good), "x", touch("builtins", "eval")):              "objects of builtins.eval are skipped",
		dict("state_dict", dict("w", good), "args", namespace):                           "objects of argparse.Namespace are skipped",
		dict("w", good, "x", text("posix")+text("system")+"\x93"+text("true")+"\x85R"):   "objects of posix.system are skipped",
		dict("w", good, "x", touch("posix", "system")+"}("+text("a")+"Nub"):              "objects of posix.system are skipped",
		dict("w", good, "x", touch("posix", "system")+"(NNe"):                            "objects of posix.system are skipped",
		dict("w", good, "x", touch("posix", "system")+")R)\x81"+text("a")+"Ns"):          "objects of posix.system are skipped",
		dict("w", good, "x", "\x8f(C\x01aK\x01\x90", "y", "(C\x01a\x91", "z", "C\x02ab"): "entries that are not tensors are passed over: x, y, z",
	} {
		var notes []string
		f, err := paramfile.Parse(torch(t, structure), paramfile.Options{Note: func(s string) { notes = append(notes, s) }})
		require.NoError(t, err, "%q", structure)
		w := param(9, 2, 3)
		require.NoError(t, f.Import(map[string]*autograd.Param{"w": w}))
		assert.Equal(t, []float32{0, 1, 2, 3, 4, 5}, w.Export())
		assert.Contains(t, strings.Join(notes, "\n"), note)
	}
	assert.NoFileExists(t, dir+"/pwned")

	// In a tensor's place they are an error.
	f, err := parse(torch(t, dict("w", touch("posix", "system"), "v", good)))
	require.NoError(t, err)
	assert.ErrorContains(t, f.Import(map[string]*autograd.Param{"w": param(9, 2, 3)}), "entry w is an object of posix.system: expected a tensor")
	for _, structure := range []string{
		dict("w", strings.Replace(good, number(6)+"tQ", touch("posix", "system")+"tQ", 1)),
		dict("w", strings.Replace(good, "ctorch\nFloatStorage\n", "ctorch\nQuantizedStorage\n", 1)),
	} {
		_, err := parse(torch(t, structure))
		assert.ErrorContains(t, err, "a reference to something else than a storage")
	}
	assert.NoFileExists(t, dir+"/pwned")
}

// Flags of a view that are not known are an error: they can change values.
func TestTorchFlags(t *testing.T) {
	good := view("0", 6, 0, numbers(2, 3), numbers(3, 1))
	flagged := func(flags string) string { return strings.TrimSuffix(good, "tR") + flags + "tR" }
	for flags, want := range map[string]string{
		dict("neg", "\x88"):                 "",
		dict("neg", "\x89", "conj", "\x89"): "",
		"N":                                 "",
		dict("neg", number(1)):              "not made as torch.save does",
		text("neg"):                         "not made as torch.save does",
		dict("other", "\x88"):               `a view with the flag "other": expected neg or conj`,
		dict("conj", "\x88"):                "tensor w is of type F32 with conjugated values: expected F32",
	} {
		w := param(9, 2, 3)
		f, err := parse(torch(t, dict("w", flagged(flags))))
		if err == nil {
			err = f.Import(map[string]*autograd.Param{"w": w})
		}
		if want != "" {
			assert.ErrorContains(t, err, want)
			continue
		}
		require.NoError(t, err)
		sign := float32(1)
		if flags == dict("neg", "\x88") {
			sign = -1
		}
		assert.Equal(t, sign*5, w.Export()[5])
	}
}

// Prefixes that all names share are found, and what is lacking is said with the prefix
// that most have.
func TestPrefixes(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"a.w", "b.w"}, ""},
		{[]string{"net.a.w", "net.b.w"}, ""},
		{[]string{"x.y.a.w", "x.y.b.w", "x.other", "loss.weight"}, ""},
		{[]string{"a.w", "b.w", "b.total_ops"}, ""},
		{[]string{"a.w", "b.w", "ema.a.w", "ema.b.w"}, "lacks none of the model's tensors, and has ema.a.w, ema.b.w beside"},
		{[]string{"m.a.w", "m.b.w", "m.c"}, "lacks none of the model's tensors, and has m.c beside"},
		{[]string{"m.a.w", "m.b.w", "n.a.w", "n.b.w"}, "several times, with the prefixes m., n.: expected them once"},
		{[]string{"m.a.w", "n.b.w"}, "lacks m.b.w of the model's tensors, and has n.b.w beside"},
		{[]string{"m.a.w", "m.c.w", "m.n_averaged"}, "lacks m.b.w of the model's tensors, and has m.c.w beside"},
		{[]string{"a.w", "b\n.w"}, `lacks b.w of the model's tensors, and has "b\n.w" beside`},
		{[]string{"a.w", strings.Repeat("b", 300)}, `lacks b.w of the model's tensors, and has "` + strings.Repeat("b", 200) + `" beside`},
		{[]string{"xa.w", "xb.w"}, "lacks a.w, b.w of the model's tensors, and has xa.w, xb.w beside"},
	} {
		file := map[string]*autograd.Param{}
		for i, name := range c.names {
			file[name] = param(float32(i), 2)
		}
		f, err := parse(written(t, file))
		require.NoError(t, err)
		a, b := param(50, 2), param(60, 2)
		err = f.Import(map[string]*autograd.Param{"a.w": a, "b.w": b})
		if c.want != "" {
			assert.ErrorContains(t, err, c.want)
			continue
		}
		require.NoError(t, err, c.names)
		assert.Equal(t, []float32{0, 1}, []float32{a.Export()[0], b.Export()[0]})
	}
}

// Tensors that hold what the model has as settings are passed over, others are refused
// with both values.
func TestSettings(t *testing.T) {
	settings := map[string][]float32{"beta": {0.5}, "mean": {0.25, 0.75}}
	for want, tensor := range map[string]map[string][]float32{
		"": {"lif1.beta": {0.5}, "lif2.beta": {0.5, 0.5, 0.5}, "mean": {0.25, 0.75}},
		"tensor lif.beta, value 1 is 0.25: expected 0.5, as the model's settings say": {"lif.beta": {0.5, 0.25}},
		"tensor n.mean, value 0 is 0.75: expected 0.25":                               {"n.mean": {0.75, 0.25}},
		"tensor mean has shape [3]: expected the values [0.25 0.75]":                  {"mean": {0.25, 0.75, 0.25}},
	} {
		file := map[string]*autograd.Param{"w": param(1, 4)}
		for name, values := range tensor {
			file[name] = autograd.NewParam(len(values))
			file[name].Import(values)
		}
		f, err := paramfile.Parse(written(t, file), paramfile.Options{Settings: settings})
		require.NoError(t, err)
		err = f.Import(map[string]*autograd.Param{"w": param(0, 4)})
		if want == "" {
			require.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, want)
		}
	}
}
