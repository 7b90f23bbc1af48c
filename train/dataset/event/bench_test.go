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
	benchmarkFiles(b, func(r *Reader) (int64, error) {
		events, err := r.Next()
		return int64(len(events)), err
	})
}

// BenchmarkPackets reads and unpacks the packets of the AEDAT 4 file of -file, and does not decode
// them. BenchmarkFile cannot be faster.
func BenchmarkPackets(b *testing.B) {
	benchmarkFiles(b, func(r *Reader) (int64, error) {
		d, ok := r.dec.(*aedat4)
		if !ok {
			b.Skip("not a file of AEDAT 4")
		}
		d.events = nil
		err := d.packet(r.in)
		return int64(len(d.events) / 16), err
	})
}

func benchmarkFiles(b *testing.B, next func(*Reader) (int64, error)) {
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
			k, err := next(r)
			if err == io.EOF {
				break
			}
			require.NoError(b, err)
			n += k
		}
		require.NoError(b, r.Close())
		cpu, wall = min(cpu, cpuTime()-start), min(wall, time.Since(begin))
	}
	b.ReportMetric(float64(n)/cpu.Seconds()/1e6, "Mevents/cpu-s")
	b.ReportMetric(float64(n)/wall.Seconds()/1e6, "Mevents/s")
}
