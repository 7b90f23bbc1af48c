package event

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

var benchmarkFile = flag.String("file", "", "file of events that BenchmarkFile reads")

// BenchmarkFile reads the file of -file. docs/events.md has the commands.
func BenchmarkFile(b *testing.B) {
	if *benchmarkFile == "" {
		b.Skip("no -file")
	}
	var n int64
	for b.Loop() {
		r, err := Open(*benchmarkFile, DefaultConfig())
		require.NoError(b, err)
		for n = 0; ; {
			events, err := r.Next()
			n += int64(len(events))
			if err == io.EOF {
				break
			}
			require.NoError(b, err)
		}
		require.NoError(b, r.Close())
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mevents/s")
}
