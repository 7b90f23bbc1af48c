package event

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// bothLevels runs a test with the assembly, if this machine has it, and without.
func bothLevels(t *testing.T, fn func(t *testing.T)) {
	t.Run("fastest", fn)
	t.Run("portable", func(t *testing.T) {
		words, order, events := evt3Words, inOrder, aedat4Events
		defer func() { evt3Words, inOrder, aedat4Events = words, order, events }()
		evt3Words, inOrder, aedat4Events = evt3WordsPortable, inOrderPortable, aedat4EventsPortable
		fn(t)
	})
}

// guarded returns n random events, behind which there are events that must not change.
func guarded(r *rand.Rand, n int) (events, guard []Event) {
	all := make([]Event, n+16)
	for i := range all {
		all[i] = Event{int64(r.Uint64()), uint16(r.Uint32()), uint16(r.Uint32()), uint8(r.Uint32())}
	}
	return all[:n], all[n:]
}

// inOrder counts the events at the front that are in order and within the sensor. The assembly
// counts eight at a time, behind the first one.
func TestInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	shorter := 0
	for n := 1; n <= 130; n++ {
		for range 300 {
			events := make([]Event, n)
			w, h, at := 1+r.IntN(1<<16), 1+r.IntN(1<<16), r.Int64()-1<<62
			for i := range events {
				if r.IntN(3) > 0 {
					at += r.Int64N(1 << 40)
				}
				events[i] = Event{at, uint16(r.IntN(w)), uint16(r.IntN(h)), uint8(r.IntN(2))}
			}
			if bad := &events[r.IntN(n)]; r.IntN(2) == 0 { // the values that are just wrong
				switch r.IntN(4) {
				case 0:
					bad.T--
				case 1:
					bad.X = uint16(min(w, 1<<16-1))
				case 2:
					bad.Y = uint16(min(h, 1<<16-1))
				case 3:
					bad.T = int64(r.Uint64())
				}
			}
			want := inOrderPortable(events, uint32(w-1), uint32(h-1))
			got := inOrder(events, uint32(w-1), uint32(h-1))
			require.True(t, got == want || got == (want-1)/8*8+1, "%d of %d events: got %d", want, n, got)
			if got < n {
				shorter++
			}
		}
	}
	require.Positive(t, shorter)
}

// The events of AEDAT 4 at every length and at any address. The polarity is 0 or 1, whatever the
// byte in the file.
func TestAEDAT4Events(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 131 {
		src := make([]byte, 16*n+1)
		for i := range src {
			src[i] = byte(r.Uint32() & r.Uint32() & r.Uint32()) // many are 0
		}
		want, _ := guarded(r, n)
		aedat4EventsPortable(want, src[1:])
		got, guard := guarded(r, n)
		before := slices.Clone(guard)
		aedat4Events(got, src[1:])
		require.Equal(t, want, got)
		require.Equal(t, before, guard)
	}
}
