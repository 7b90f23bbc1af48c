package event_test

import (
	"fmt"
	"io"
	"log"

	"github.com/org/snnrat/train/dataset/event"
)

// Read a file in batches, and say what was repaired.
func ExampleReader() {
	r, err := event.Open("testdata/gesture.aedat", event.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	on := 0
	for {
		events, err := r.Next() // valid until the next call
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range events {
			on += int(e.P)
		}
	}
	fmt.Println(on, "ON events")
	fmt.Println(r.Report())
	// Output:
	// 148 ON events
	// aedat3.1: 300 events in 2649 bytes, sensor of 128×128, 1 overflows of time added, 2 words or packets of other kinds skipped
}

// Turn a recording into four binary frames of equally many events.
func ExampleFrameConfig() {
	recording, _, err := event.ReadAll("testdata/faery-1.dat", event.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	cfg := event.DefaultFrames(4)
	cfg.Split, cfg.Bin = event.EqualCount{}, 8
	frames, tally, err := cfg.Frames(recording)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(frames, tally.Events, tally.Left)
	// Output:
	// 1×4×2×30×38 300 0
}
