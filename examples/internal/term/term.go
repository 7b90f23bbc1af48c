// Package term shows the examples' progress.
package term

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// Meter shows how much of a job is done and how long the rest will take. On a terminal it
// redraws one line. Elsewhere, such as in a log, it writes a line for each part that is
// finished, and one a minute in between. The unit of work is free: the estimate takes the
// time to be proportional to the work.
type Meter struct {
	w     io.Writer
	width func() int // of the terminal, in columns; 0 for none
	now   func() time.Time

	total, done, skipped float64
	start, last          time.Time // last is that of the last line
	drawn                int       // columns of the line that is on the terminal
}

// NewMeter returns the meter of a job of so much work. The time starts now.
func NewMeter(w io.Writer, total float64) *Meter {
	m := &Meter{w: w, total: total, now: time.Now, width: func() int { return 0 }}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		m.width = func() int {
			if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
				return columns
			}
			return 80
		}
	}
	m.start = m.now()
	m.last = m.start
	return m
}

// Skip counts work that an earlier run did. The estimate of the rest leaves it out.
func (m *Meter) Skip(work float64) {
	m.done += work
	m.skipped += work
}

// Add counts work that was done. on says in a few words what it was done on.
func (m *Meter) Add(work float64, on string) {
	m.done += work
	pause := time.Minute
	width := m.width()
	if width > 0 {
		pause = 100 * time.Millisecond
	}
	now := m.now()
	if now.Sub(m.last) < pause {
		return
	}
	m.last = now
	if width == 0 {
		m.line(on)
		return
	}
	line := draw(width, m.done/m.total, m.left(), on)
	columns := utf8.RuneCountInString(line)
	fmt.Fprintf(m.w, "\r%s%s", line, strings.Repeat(" ", max(m.drawn-columns, 0)))
	m.drawn = columns
}

// Finished says that a part of the job is finished.
func (m *Meter) Finished(part string) {
	if m.width() == 0 {
		m.last = m.now()
		m.line(part)
	}
}

// Clear removes the line from the terminal, before other output.
func (m *Meter) Clear() {
	if m.drawn > 0 {
		// With room for the ^C that a terminal echoes.
		fmt.Fprintf(m.w, "\r%s\r", strings.Repeat(" ", m.drawn+len("^C")))
		m.drawn = 0
	}
}

func (m *Meter) line(text string) {
	left := ""
	if s := m.left(); s != "" && m.done < m.total*(1-1e-9) { // but for rounding
		left = ", about " + s + " left"
	}
	fmt.Fprintf(m.w, "%s (%.0f %% of all; %s elapsed%s)\n", text, 100*m.done/m.total, clock(m.now().Sub(m.start)), left)
}

// left returns an estimate of the time that is left, or "" as long as too little is done for
// an estimate.
func (m *Meter) left() string {
	did := m.done - m.skipped
	elapsed := m.now().Sub(m.start)
	if did < 0.005*m.total && elapsed < 10*time.Second || did <= 0 {
		return ""
	}
	return clock(time.Duration(float64(elapsed) * max(m.total-m.done, 0) / did))
}

// clock writes a duration as 1:23 or 1:02:03, rounded up.
func clock(d time.Duration) string {
	s := int((d + time.Second - 1) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// draw returns the line. It leaves the terminal's last three columns free, for a ^C that the
// terminal echoes, and because some terminals wrap in the last column.
func draw(width int, share float64, left, on string) string {
	const bar = 16
	share = min(max(share, 0), 1)
	full := int(share*bar + 0.5)
	if left != "" {
		left += " left"
	}
	line := fmt.Sprintf("[%s%s] %3.0f %%  %-10s  %s", strings.Repeat("#", full), strings.Repeat(".", bar-full), 100*share, left, on)
	if r := []rune(line); len(r) > width-3 {
		line = string(r[:max(width-3, 0)])
	}
	return line
}
