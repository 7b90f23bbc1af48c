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

// BenchmarkFile reads the file of -file. The fastest run counts, by the processor's time and by the
// time on the wall. docs/events.md has the commands.
func BenchmarkFile(b *testing.B) {
	if *benchmarkFile == "" {
		b.Skip("no -file")
	}
	var n int64
	cpu, wall := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for b.Loop() {
		start, begin := cpuTime(), time.Now()
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
		cpu, wall = min(cpu, cpuTime()-start), min(wall, time.Since(begin))
	}
	b.ReportMetric(float64(n)/cpu.Seconds()/1e6, "Mevents/cpu-s")
	b.ReportMetric(float64(n)/wall.Seconds()/1e6, "Mevents/s")
}
