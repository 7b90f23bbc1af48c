// Package term shows the examples' progress.
package term

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Bar is one line on standard error that tells what is being done, how much of it,
// and how long it will take. Where standard error is no terminal it stays silent.
type Bar struct {
	title string
	bar   *progressbar.ProgressBar
	first int
}

// NewBar returns a bar that appears with the first Set.
func NewBar(title string) *Bar { return &Bar{title: title} }

// Set says that done of total parts are done.
func (b *Bar) Set(done, total int, note string) {
	if b.bar == nil {
		// What an earlier run did took no time in this one.
		b.first = done - 1
		b.bar = progressbar.NewOptions(total-b.first,
			progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))),
			progressbar.OptionSetWidth(24),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionClearOnFinish(),
		)
	}
	if note != "" {
		note = ", " + note
	}
	b.bar.Describe(b.title + note)
	b.bar.Set(done - b.first)
}

// Close removes the line.
func (b *Bar) Close() {
	if b.bar != nil {
		b.bar.Clear()
		b.bar = nil
	}
}
