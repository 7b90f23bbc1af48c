package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// answer is the line that follows a run of a part.
type answer struct {
	Part   string  `json:"part"`
	MS     float64 `json:"ms"`                    // as in report
	PeakMB float64 `json:"peak_rss_mb,omitempty"` // of the process so far; 0 if not measured
}

// serve writes r, which says what is computed. Then it reads the names of parts from stdin,
// one a line, runs each once and writes its answer. It returns when stdin ends.
func serve(ctx context.Context, r *report, m *snn.Model, x tensor.NCHW, y []int, stdin io.Reader, stdout io.Writer) error {
	jobs, err := newJobs(ctx, m, x, y)
	if err != nil {
		return err
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(stdin); s.Scan(); {
			lines <- s.Text()
		}
	}()
	w := json.NewEncoder(stdout)
	if err := w.Encode(r); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case part, ok := <-lines:
			if !ok {
				return nil
			}
			if jobs[part] == nil {
				return fmt.Errorf("-serve: part %q: expected one of %s", part, strings.Join(timedParts, ", "))
			}
			ms, err := timed(ctx, jobs, part)
			if err != nil {
				return err
			}
			if err := w.Encode(answer{part, perImage(part, ms, x.N), peakMB()}); err != nil {
				return err
			}
		}
	}
}
