package event

import (
	"bytes"
	"encoding/csv"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// goldenFiles are the files that testdata/gen.py made, with the format and the size of the sensor
// that their headers say.
var goldenFiles = map[string]Report{
	"nmnist.bin":            {Format: NMNIST, Overflows: 2},
	"dvs128.aedat":          {Format: AEDAT2, Width: 128, Height: 128},
	"davis346.aedat":        {Format: AEDAT2, Width: 346, Height: 260},
	"gesture.aedat":         {Format: AEDAT3, Width: 128, Height: 128, Overflows: 1, Other: 2},
	"dv-none.aedat4":        {Format: AEDAT4, Width: 346, Height: 260, Other: 1},
	"dv-lz4.aedat4":         {Format: AEDAT4, Width: 346, Height: 260, Other: 1},
	"dv-lz4-high.aedat4":    {Format: AEDAT4, Width: 346, Height: 260, Other: 1},
	"dv-zstd.aedat4":        {Format: AEDAT4, Width: 346, Height: 260, Other: 1},
	"dv-zstd-high.aedat4":   {Format: AEDAT4, Width: 346, Height: 260, Other: 1},
	"faery.aedat4":          {Format: AEDAT4, Width: 346, Height: 260},
	"expelliarmus-evt2.raw": {Format: EVT2},
	"expelliarmus-dat.dat":  {Format: DAT},
	"faery-evt2.raw":        {Format: EVT2, Width: 640, Height: 480},
	"faery-evt3.raw":        {Format: EVT3, Width: 640, Height: 480},
	"faery-2.dat":           {Format: DAT, Width: 640, Height: 480},
	"faery-1.dat":           {Format: DAT, Width: 304, Height: 240},
	"vectors-evt3.raw":      {Format: EVT3, Width: 640, Height: 480, Overflows: 1},
	"vectors-evt21.raw":     {Format: EVT21, Width: 640, Height: 480},
	"stored.npz":            {Format: NPZ},
	"packed.npz":            {Format: NPZ},
}

// readCSV reads events as t,x,y,p.
func readCSV(t testing.TB, path string) (events []Event) {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	for _, row := range rows {
		var v [4]int64
		for i, s := range row {
			v[i], err = strconv.ParseInt(s, 10, 64)
			require.NoError(t, err)
		}
		events = append(events, Event{v[0], uint16(v[1]), uint16(v[2]), uint8(v[3])})
	}
	return events
}

// Every file has the events that public tools read of it, and the format and size that are in it.
func TestFilesOfPublicTools(t *testing.T) {
	for name, want := range goldenFiles {
		path := filepath.Join("testdata", name)
		wantEvents := readCSV(t, path+".csv")
		got, report, err := ReadAll(path, DefaultConfig())
		require.NoError(t, err, name)
		require.Equal(t, wantEvents, got.Events, name)
		want.Events = int64(len(wantEvents))
		info, err := os.Stat(path)
		require.NoError(t, err)
		want.Bytes = info.Size()
		if strings.HasPrefix(name, "vectors-") {
			assert.Positive(t, report.Other, "triggers")
			want.Other = report.Other
		}
		assert.Equal(t, want, report, name)
		assert.Equal(t, []int{want.Width, want.Height}, []int{got.Width, got.Height}, name)
		format, err := Detect(path)
		require.NoError(t, err)
		assert.Equal(t, want.Format, format, name)
	}
	files, err := filepath.Glob("testdata/*.*")
	require.NoError(t, err)
	assert.Len(t, files, 2*len(goldenFiles)+2, "files, .csv files, gen.py and peers.py")
}

// read reads a whole file from memory.
func read(name string, b []byte, cfg Config) (Recording, Report, error) {
	r, err := NewReader(name, bytes.NewReader(b), int64(len(b)), cfg)
	if err != nil {
		return Recording{}, Report{}, err
	}
	return r.ReadAll()
}

// A file that is cut off at any byte gives the events before that place. A cut within a record is
// also an error that names the file and a byte within it.
func TestCutFiles(t *testing.T) {
	for name, want := range goldenFiles {
		whole, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		events := readCSV(t, filepath.Join("testdata", name+".csv"))
		stride := 1
		if testing.Short() {
			stride = 13
		}
		errs := 0
		for n := 0; n < len(whole); n += stride {
			got, _, err := read(name, whole[:n], DefaultConfig())
			require.LessOrEqual(t, len(got.Events), len(events))
			require.True(t, len(got.Events) == 0 || assert.ObjectsAreEqual(events[:len(got.Events)], got.Events), "%s, %d bytes", name, n)
			if err != nil {
				errs++
				var e *Error
				require.ErrorAs(t, err, &e, "%s, %d bytes", name, n)
				require.Equal(t, name, e.Name)
				require.True(t, e.Offset >= 0 && e.Offset <= int64(n), "%s, %d bytes: %v", name, n, err)
				require.Contains(t, err.Error(), "byte "+strconv.FormatInt(e.Offset, 10))
			}
		}
		assert.Positive(t, errs, name)
		if _, size := recordOf(want.Format); size > 0 { // a cut within the last record
			_, _, err := read(name, whole[:len(whole)-1], DefaultConfig())
			var e *Error
			require.ErrorAs(t, err, &e, name)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
			assert.Equal(t, int64(len(whole)-size), e.Offset, "%s: %v", name, err)
		}
	}
}

// recordOf returns the bytes of a record of formats of records of one size.
func recordOf(f Format) (Format, int) {
	return f, map[Format]int{NMNIST: 5, AEDAT2: 8, EVT2: 4, EVT21: 8, EVT21Legacy: 8, EVT3: 2, DAT: 8}[f]
}

// Empty files, and files of a header alone.
func TestEmptyFiles(t *testing.T) {
	for name := range goldenFiles {
		if strings.HasSuffix(name, ".bin") || strings.HasSuffix(name, ".dat") {
			continue
		}
		_, _, err := read(name, nil, DefaultConfig())
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
		require.ErrorContains(t, err, name)
	}
	got, _, err := read("a.bin", nil, DefaultConfig())
	require.NoError(t, err)
	require.Empty(t, got.Events)
	for name, header := range map[string]string{
		"a.raw": "% evt 3.0\n% end\n", "b.raw": "% format EVT21;endianness=legacy\n% end\n", "c.aedat": "#!AER-DAT2.0\r\n",
		"d.aedat": "#!AER-DAT3.1\r\n#!END-HEADER\r\n", "e.dat": "% Version 2\n\x0c\x08",
	} {
		got, report, err := read(name, []byte(header), DefaultConfig())
		require.NoError(t, err, name)
		assert.Empty(t, got.Events, name)
		assert.Equal(t, int64(len(header)), report.Bytes, name)
	}
}
