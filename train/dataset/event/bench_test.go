package event

import (
	"flag"
	"io"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var benchmarkFile = flag.String("file", "", "file of events that BenchmarkFile reads")

// BenchmarkFile reads the file of -file. It counts processor time, which other programs on the
// machine disturb less. docs/events.md has the commands.
func BenchmarkFile(b *testing.B) {
	if *benchmarkFile == "" {
		b.Skip("no -file")
	}
	var n int64
	best := time.Duration(math.MaxInt64)
	for b.Loop() {
		start := cpuTime()
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
		best = min(best, cpuTime()-start)
	}
	b.ReportMetric(float64(n)/best.Seconds()/1e6, "Mevents/cpu-s")
}
