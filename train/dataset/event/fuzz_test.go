package event

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	mutations      = flag.Int("mutations", 1000, "changed files of each format that TestMutations reads")
	mutationFormat = flag.String("mutation-format", "", "the only format that TestMutations reads")
	mutationSeed   = flag.Int("mutation-seed", 1, "seed of TestMutations")
)

// fuzz reads arbitrary bytes as a format, beginning with the files of testdata.
func fuzz(f *testing.F, format Format) {
	for name, want := range goldenFiles {
		if want.Format == format {
			b, err := os.ReadFile(filepath.Join("testdata", name))
			require.NoError(f, err)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkAny(t, "fuzzed", b, anyConfig(format)) })
}

func FuzzNMNIST(f *testing.F)      { fuzz(f, NMNIST) }
func FuzzAEDAT2(f *testing.F)      { fuzz(f, AEDAT2) }
func FuzzAEDAT3(f *testing.F)      { fuzz(f, AEDAT3) }
func FuzzAEDAT4(f *testing.F)      { fuzz(f, AEDAT4) }
func FuzzEVT2(f *testing.F)        { fuzz(f, EVT2) }
func FuzzEVT21(f *testing.F)       { fuzz(f, EVT21) }
func FuzzEVT21Legacy(f *testing.F) { fuzz(f, EVT21Legacy) }
func FuzzEVT3(f *testing.F)        { fuzz(f, EVT3) }
func FuzzDAT(f *testing.F)         { fuzz(f, DAT) }
func FuzzNPZ(f *testing.F)         { fuzz(f, NPZ) }
