package event

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// bothLevels runs a test of EVT 3 with the assembly, if this machine has it, and without.
func bothLevels(t *testing.T, fn func(t *testing.T)) {
	t.Run("fastest", fn)
	t.Run("portable", func(t *testing.T) {
		defer func(words func([]Event, []byte, *evt3State) (int, int)) { evt3Words = words }(evt3Words)
		evt3Words = evt3WordsPortable
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

// N-MNIST at every length, with markers at any place: all routines return the events up to one.
// The assembly returns a multiple of 4.
func TestNMNISTEvents(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 131 {
		for range 20 {
			src, base := make([]byte, 5*n), r.Int64N(1<<40)
			for i := range src {
				src[i] = byte(r.Uint32())
				if i%5 == 1 && src[i] == nmnistOverflow {
					src[i] = 0
				}
			}
			marker := n
			if n > 0 && r.IntN(2) == 0 {
				marker = r.IntN(n)
				src[5*marker+1] = nmnistOverflow
			}
			want := make([]Event, marker)
			for i := range want {
				e := src[5*i:]
				want[i] = Event{base + int64(e[2]&0x7f)<<16 + int64(e[3])<<8 + int64(e[4]), uint16(e[0]), uint16(e[1]), e[2] >> 7}
			}
			dst, _ := guarded(r, n)
			require.Equal(t, marker, nmnistEventsPortable(dst, src, base))
			require.Equal(t, want, dst[:marker])
			dst, guard := guarded(r, n)
			before := slices.Clone(guard)
			k := nmnistEvents(dst, src, base)
			require.Equal(t, want[:k], dst[:k])
			require.Equal(t, before, guard)
			require.True(t, k == marker || k <= marker && k >= marker-7 && k%4 == 0, "%d of %d", k, marker)
		}
	}
}
