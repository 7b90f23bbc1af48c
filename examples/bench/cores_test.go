package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/internal/racetest"
)

// Half of the work is in loops of at most 8 units. On four cores, eight units of 1 ms take 2 ms.
func TestModelOfCores(t *testing.T) {
	loop := func(n int, d time.Duration) parallel.Loop {
		l := parallel.Loop{Units: make([]time.Duration, n), Work: time.Duration(n) * d}
		for i := range l.Units {
			l.Units[i] = d
		}
		return l
	}
	r := &parallel.Recording{Serial: 2 * time.Millisecond, Loops: []parallel.Loop{
		loop(16, time.Millisecond/4), loop(2, time.Millisecond), loop(8, time.Millisecond),
	}}
	p := modelOf(r, 4, 10*time.Microsecond)
	assert.InDelta(t, 2+1+1+2+.06, p.MS, 1e-9)
	assert.InDelta(t, 16/p.MS, p.SpeedUp, 1e-9)
	assert.Equal(t, corePoint{Cores: 4, MS: p.MS, SpeedUp: p.SpeedUp, Serial: 2. / 16, Loops: 3, Units: 8}, p)
}

// A sweep of cores has all parts for all numbers of cores. Results, and with them the work, do not
// depend on that number.
func TestSweepCores(t *testing.T) {
	racetest.Costly(t)
	figures := filepath.Join(t.TempDir(), "figures.json")
	stdout, stderr, code := clitest.Run(t, "-arch", "vgg5", "-width", "0.25", "-batch", "4", "-reps", "1", "-sweep", "cores", "-json", figures)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "speed-up")
	var got struct{ Points []corePoint }
	data, err := os.ReadFile(figures)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &got))
	require.Len(t, got.Points, len(coreCounts)*len(coreParts))
	for i, p := range got.Points {
		assert.Equal(t, coreParts[i%len(coreParts)], p.Part)
		assert.Equal(t, coreCounts[i/len(coreParts)], p.Cores)
		assert.Positive(t, p.MS)
		assert.LessOrEqual(t, p.SpeedUp, float64(p.Cores)+1e-9)
		switch {
		case p.Cores == 1:
			assert.Equal(t, 1., p.Serial)
		case p.Part == "train":
			assert.Less(t, p.Serial, .2)
			assert.Greater(t, p.Loops, 10)
		}
	}
}
