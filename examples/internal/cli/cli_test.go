package cli

import (
	"bytes"
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseChecksEnvironment(t *testing.T) {
	t.Setenv("SNNRAT_KERNEL", "avx3")
	err := Parse(flag.NewFlagSet("test", flag.ExitOnError), nil, nil)
	require.Error(t, err)
	assert.Regexp(t, `^SNNRAT_KERNEL is "avx3": expected one of portable(, \w+)* in this build for \w+$`, err.Error())
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ args, err string }{
		{"", ""},
		{"-n 1 -n 10 -x 1 -x 1e-300 -seed 18446744073709551615", ""},
		{"-n 0", `invalid value "0" for flag -n: expected a whole number in [1, 10]`},
		{"-n 11", `invalid value "11" for flag -n: expected a whole number in [1, 10]`},
		{"-n 2.5", `invalid value "2.5" for flag -n: expected a whole number in [1, 10]`},
		{"-n 99999999999999999999", `for flag -n: expected a whole number in [1, 10]`},
		{"-x 0", `invalid value "0" for flag -x: expected a number in (0, 1]`},
		{"-x NaN", `invalid value "NaN" for flag -x: expected a number in (0, 1]`},
		{"-x -Inf", `invalid value "-Inf" for flag -x: expected a number in (0, 1]`},
		{"-x 1.0000001", `expected a number in (0, 1]`},
		{"-y +Inf", `invalid value "+Inf" for flag -y: expected a number in [0, ∞)`},
		{"-y 1e999", `invalid value "1e999" for flag -y: expected a number in [0, ∞)`},
		{"-seed -1", `invalid value "-1" for flag -seed: expected a whole number in [0, ∞)`},
		{"-n", "flag needs an argument: -n"},
		{"-z 1", "flag provided but not defined: -z"},
		{"-n 1 more", `unexpected argument "more": expected flags only`},
	} {
		var n int
		var x, y float64
		var seed uint64
		fs := flag.NewFlagSet("test", flag.ExitOnError)
		Var(fs, &n, "n", 2, "[1, 10]", "a count")
		Var(fs, &x, "x", 0.5, "(0, 1]", "a share")
		Var(fs, &y, "y", 0, "[0, ∞)", "a length")
		Var(fs, &seed, "seed", 1, "[0, ∞)", "a seed")
		err := Parse(fs, strings.Fields(c.args), nil)
		if c.err == "" {
			assert.NoError(t, err, c.args)
		} else if assert.ErrorContains(t, err, c.err) {
			assert.NotContains(t, err.Error(), "\n")
			assert.Equal(t, []any{0.5, 0.0}, []any{x, y}, "a refused value is not kept")
		}
	}
}

func TestGiven(t *testing.T) {
	var n, m int
	fs := flag.NewFlagSet("test", flag.ExitOnError)
	Var(fs, &n, "n", 2, "[1, 10]", "a count")
	Var(fs, &m, "m", 2, "[1, 10]", "a count")
	require.NoError(t, Parse(fs, []string{"-n", "2"}, nil))
	assert.Equal(t, map[string]bool{"n": true}, Given(fs))
}

func TestOut(t *testing.T) {
	var out string
	fs := flag.NewFlagSet("test", flag.ExitOnError)
	Out(fs, &out, "`folder` to write to")
	require.NoError(t, Parse(fs, nil, nil))
	assert.Equal(t, filepath.Join("out", "test"), out)
	require.EqualError(t, Parse(fs, []string{"-out", ""}, nil), "-out is empty: expected a folder")
}

func TestHelp(t *testing.T) {
	var x float64
	fs := flag.NewFlagSet("test", flag.ExitOnError)
	Var(fs, &x, "x", 0.5, "(0, 1]", "a share")
	var out bytes.Buffer
	require.ErrorIs(t, Parse(fs, []string{"-help"}, &out), flag.ErrHelp)
	assert.Equal(t, "Flags of test:\n  -x number\n    \ta share: number in (0, 1] (default 0.5)\n", out.String())
}

func TestInterval(t *testing.T) {
	for _, s := range []string{"1, 2", "[1, 2", "[1; 2]", "[1, two]"} {
		assert.Panics(t, func() { parseInterval(s) }, s)
	}
}

// Every value of a spread flag gets the flag's name, up to the next flag.
func TestSpread(t *testing.T) {
	for args, want := range map[string]string{
		"":                         "",
		"-a 1 b":                   "-a 1 b",
		"-m":                       "-m",
		"-m a":                     "-m a",
		"-m a b c":                 "-m a -m b -m c",
		"-a 1 --m=a b -b 2 c -m d": "-a 1 --m=a -m b -b 2 c -m d",
		"-m a -m b c -mm d e":      "-m a -m b -m c -mm d e",
		"-x -m=a b m":              "-x -m=a -m b -m m",
	} {
		assert.Equal(t, strings.Fields(want), append([]string{}, Spread(strings.Fields(args), "m")...), args)
	}
}
