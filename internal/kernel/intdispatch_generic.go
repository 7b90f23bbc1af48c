//go:build !amd64 || purego

package kernel

// All levels use the routines of portable Go.

func (Level) expandInts(a *expandInts)  { expandIntsPortable(a) }
func (Level) gatherInts(a *gather)      { gatherIntsPortable(a) }
func (Level) scatterInts3(a *scatter3)  { scatterInts3Portable(a) }
func (Level) scatterPairs3(a *scatter3) { scatterPairs3Portable(a) }
func (Level) widenInts(a *intWiden)     { widenIntsPortable(a) }
func (Level) neuronsInts(a *intNeurons) { neuronsIntsPortable(a) }
func (Level) tileInts(a *intTile)       { tileIntsPortable(a) }
func (Level) packsInts() bool           { return true }
