package paramfile_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/paramfile"
)

func param(v float32, shape ...int) *autograd.Param {
	p := autograd.NewParam(shape...)
	values := make([]float32, p.Len())
	for i := range values {
		values[i] = v + float32(i)/3
	}
	p.Import(values)
	return p
}

func parse(b []byte) (*paramfile.File, error) { return paramfile.Parse(b, paramfile.Options{}) }

func written(t *testing.T, params map[string]*autograd.Param) []byte {
	var b bytes.Buffer
	require.NoError(t, paramfile.Write(&b, params, map[string]string{"k": "v"}))
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	params := map[string]*autograd.Param{"b": param(1, 17), "w": param(2, 3, 18), "c.w": param(-3, 5, 4, 3, 3)}
	f, err := parse(written(t, params))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"k": "v"}, f.Meta)
	read := map[string]*autograd.Param{"b": param(0, 17), "w": param(0, 3, 18), "c.w": param(0, 5, 4, 3, 3)}
	require.NoError(t, f.Import(read))
	for name, p := range params {
		assert.Equal(t, p.Data(), read[name].Data(), name)
	}
}

// TestImportRefuses checks that nothing is changed by a file that does not fit.
func TestImportRefuses(t *testing.T) {
	for want, params := range map[string]map[string]*autograd.Param{
		"lacks b of the model's tensors, and has x beside":      {"a": param(1, 4), "x": param(1, 4)},
		"tensor b has shape [5]: expected [4]":                  {"a": param(1, 4), "b": param(1, 5)},
		"tensor b has shape [1 4]: expected [4]":                {"a": param(1, 4), "b": param(1, 1, 4)},
		"lacks none of the model's tensors, and has c b":        {"a": param(1, 4), "b": param(1, 4), "c": param(1, 4)},
		"lacks none of the model's tensors, and has bn.tracked": {"a": param(1, 4), "b": param(1, 4), "bn.tracked": param(1, 4)},
	} {
		f, err := parse(written(t, params))
		require.NoError(t, err)
		a, b := param(8, 4), param(9, 4)
		err = f.Import(map[string]*autograd.Param{"a": a, "b": b})
		assert.ErrorContains(t, err, want)
		assert.Equal(t, [2]float32{8, 9}, [2]float32{a.Data()[0], b.Data()[0]})
	}
	nan := param(7, 4)
	little := binary.LittleEndian.AppendUint32(nil, math.Float32bits(nan.Data()[2]))
	raw := bytes.Replace(written(t, map[string]*autograd.Param{"a": param(1, 4), "b": nan}), little, []byte{0, 0, 0xc0, 0x7f}, 1)
	f, err := parse(raw)
	require.NoError(t, err)
	err = f.Import(map[string]*autograd.Param{"a": param(8, 4), "b": param(9, 4)})
	assert.ErrorContains(t, err, "tensor b, value 2 is NaN: expected a finite number")

	f, err = parse(written(t, map[string]*autograd.Param{"a": param(1, 4), "bn.num_batches_tracked": param(1, 2)}))
	require.NoError(t, err)
	a := param(8, 4)
	require.NoError(t, f.Import(map[string]*autograd.Param{"a": a}))
	assert.Equal(t, param(1, 4).Data(), a.Data())
}

func TestWriteRefuses(t *testing.T) {
	inf := param(1, 3, 18)
	w := inf.Export()
	w[20] = float32(math.Inf(1))
	inf.Import(w)
	var b bytes.Buffer
	err := paramfile.Write(&b, map[string]*autograd.Param{"a": param(1, 4), "w": inf}, nil)
	assert.EqualError(t, err, "tensor w, value 20 is +Inf: expected a finite number")
	assert.Zero(t, b.Len())
}

func TestImportRefusesOtherTypes(t *testing.T) {
	raw := bytes.ReplaceAll(written(t, map[string]*autograd.Param{"a": param(1, 4)}), []byte(`"F32"`), []byte(`"I32"`))
	f, err := parse(raw)
	require.NoError(t, err)
	assert.ErrorContains(t, f.Import(map[string]*autograd.Param{"a": param(1, 4)}), "tensor a is of type I32: expected F32")
}

func TestParseRefuses(t *testing.T) {
	good := written(t, map[string]*autograd.Param{"a": param(1, 4)})
	for n := range good {
		_, err := parse(good[:n])
		require.Error(t, err, "cut off after %d bytes", n)
		require.True(t, strings.HasPrefix(err.Error(), "not a safetensors file: "), err.Error())
	}
}

// TestParseRefusesOtherSizes checks headers whose tensors do not fill the file one after
// the other with as many bytes as their shapes have.
func TestParseRefusesOtherSizes(t *testing.T) {
	good := written(t, map[string]*autograd.Param{"a": param(1, 4), "b": param(1, 3, 2)})
	for _, c := range [][2]string{
		{`[0,16]`, `[0,12]`}, {`[0,16]`, `[4,16]`}, {`[16,40]`, `[12,36]`}, {`[16,40]`, `[16,44]`},
		{`[0,16]`, `[16,0]`}, {`"shape":[4]`, `"shape":[5]`}, {`"shape":[3,2]`, `"shape":[3,3]`},
	} {
		changed := bytes.Replace(good, []byte(c[0]), []byte(c[1]), 1)
		require.NotEqual(t, good, changed, c)
		_, err := parse(changed)
		assert.ErrorContains(t, err, "not a safetensors file: tensor", c)
	}
}

// Names and shapes of a file are in messages, but neither their control characters nor all of a
// long one.
func TestNamesInMessages(t *testing.T) {
	file := func(header string) []byte {
		return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	}
	tensor := func(shape, offsets string) string {
		return `{"dtype":"F32","shape":[` + shape + `],"data_offsets":[` + offsets + `]}`
	}
	long, ones := strings.Repeat("x", 5000), strings.Repeat("1,", 5000)+"1"
	for want, header := range map[string]string{
		`tensor "\x1b[31ma" of 4 bytes lies at 4 to 8`: `{"\u001b[31ma":` + tensor("1", "4,8") + `}`,
		`tensor "xxx`:                        `{"` + long + `":` + tensor("1", "4,8") + `}`,
		`tensor a has shape [4294967295 1 1`: `{"a":` + tensor("4294967295,"+ones+",4294967295,4294967295", "0,4") + `}`,
	} {
		_, err := parse(append(file(header), make([]byte, 8)...))
		require.ErrorContains(t, err, want)
		assert.Less(t, len(err.Error()), 500)
	}
	b := append(file(`{"`+long+`.\u001b.a":`+tensor(ones, "0,4")+`}`), 0, 0, 0, 0)
	f, err := parse(b)
	require.NoError(t, err)
	err = f.Import(map[string]*autograd.Param{"a": param(1, 1)})
	require.ErrorContains(t, err, "has shape [1 1 1 1")
	assert.Less(t, len(err.Error()), 500)
}

// TestImportIsWhole checks that a file that cannot be read to its end changes nothing.
func TestImportIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, written(t, map[string]*autograd.Param{"a": param(1, 4), "b": param(1, 3, 2)}), 0o644))
	f, err := paramfile.Open(path, paramfile.Options{})
	require.NoError(t, err)
	defer f.Close()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, info.Size()-4))
	a, b := param(8, 4), param(9, 3, 2)
	err = f.Import(map[string]*autograd.Param{"a": a, "b": b})
	require.ErrorIs(t, err, io.EOF)
	assert.ErrorContains(t, err, "tensor b")
	assert.Equal(t, param(8, 4).Data(), a.Data())
	assert.Equal(t, param(9, 3, 2).Data(), b.Data())
}
