// Package event reads recordings of event cameras, turns them into frames for spiking networks,
// and simulates an event camera on images:
//
//	folder, err := event.ReadFolder("N-MNIST/Train", cfg) // a folder of files for each class
//	if err != nil {
//		return err
//	}
//	set, tally, err := event.NewSet(ctx, "N-MNIST", folder, event.DefaultFrames(10))
//
// The set is a dataset.Set of frames, for trainings, attacks and evaluations.
//
// An [Event] has a time in µs, a column and a row from the top left, and a polarity, 1 for
// brighter. A [Reader] returns the events of a file in batches, in the order of time, in memory
// that does not depend on the file's size. Its [Report] counts what was repaired, dropped and
// skipped. The readers know the formats of [Formats]; the page docs/events.md describes them.
//
// A file that is truncated, broken or out of order gives the events before that place, and then an
// [Error] that names the byte.
//
// [FrameConfig] turns a [Recording] into frames. Its [Split] is one of [EqualTime], [EqualCount],
// [TimeWindow] and [CountWindow]. [Strip] and [GIF] draw frames. [Simulator] makes recordings of
// images.
package event
