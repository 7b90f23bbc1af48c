package term

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

// fake returns a meter of 100 units of work and a clock that the test sets.
func fake(width int) (m *Meter, out *bytes.Buffer, sleep func(time.Duration)) {
	out = &bytes.Buffer{}
	m = NewMeter(out, 100)
	now := m.start
	m.now = func() time.Time { return now }
	m.width = func() int { return width }
	return m, out, func(d time.Duration) { now = now.Add(d) }
}

func TestMeterWithoutTerminal(t *testing.T) {
	m, out, sleep := fake(0)
	m.Skip(50) // in no time
	for range 10 {
		sleep(10 * time.Second)
		m.Add(1, "epoch 1")
	}
	assert.Equal(t, "epoch 1 (56 % of all; 1:00 elapsed, about 7:20 left)\n", out.String(), "a line a minute")
	out.Reset()
	m.Finished("epoch 1 done")
	assert.Equal(t, "epoch 1 done (60 % of all; 1:40 elapsed, about 6:40 left)\n", out.String())
	out.Reset()
	m.Add(40, "epoch 2")
	m.Clear()
	assert.Empty(t, out.String())
	m.Finished("epoch 2 done")
	assert.Equal(t, "epoch 2 done (100 % of all; 1:40 elapsed)\n", out.String())
}

func TestMeterOnTerminal(t *testing.T) {
	m, out, sleep := fake(80)
	sleep(time.Second)
	m.Add(0.1, "a long name")
	assert.Equal(t, "\r[................]   0 %              a long name", out.String(), "too early to estimate")
	out.Reset()
	m.Add(9.9, "b")
	assert.Empty(t, out.String(), "not too often")
	sleep(time.Second)
	m.Add(0, "b")
	assert.Equal(t, "\r[##..............]  10 %  0:18 left   b          ", out.String(), "over all of the longer line")
	out.Reset()
	m.Finished("b")
	assert.Empty(t, out.String())
	m.Clear()
	m.Clear()
	assert.Equal(t, "\r"+strings.Repeat(" ", 41)+"\r", out.String())
}

func TestDrawFits(t *testing.T) {
	text := "white-box, plain: RFGSM BPTT ε=16/255"
	for width := range 200 {
		n := utf8.RuneCountInString(draw(width, 0.5, "1:02:03", text))
		assert.LessOrEqual(t, n, max(width-3, 0))
	}
	assert.True(t, strings.HasSuffix(draw(80, 2, "12:34", text), "100 %  12:34 left  "+text), "all of it in 80 columns")
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0:00", 1: "0:01", 59*time.Second + 1: "1:00", 3599 * time.Second: "59:59", 3600 * time.Second: "1:00:00",
		100 * time.Hour: "100:00:00",
	} {
		assert.Equal(t, want, clock(d))
	}
}
