//go:build !purego

package kernel

// AVX-512 uses the routines of AVX2.

func (l Level) expandInts(a *expandInts) {
	if l == Portable {
		expandIntsPortable(a)
		return
	}
	expandIntsAVX2(a)
}

func (l Level) gatherInts(a *gather) {
	if l == Portable {
		gatherIntsPortable(a)
		return
	}
	gatherIntsAVX2(a)
}

func (l Level) scatterInts3(a *scatter3) {
	if l == Portable {
		scatterInts3Portable(a)
		return
	}
	scatterInts3AVX2(a)
}

func (l Level) scatterPairs3(a *scatter3) {
	if l == Portable {
		scatterPairs3Portable(a)
		return
	}
	scatterPairs3AVX2(a)
}

func (l Level) widenInts(a *intWiden) {
	if l == Portable {
		widenIntsPortable(a)
		return
	}
	widenIntsAVX2(a)
}

func (l Level) neuronsInts(a *intNeurons) {
	if l == Portable {
		neuronsIntsPortable(a)
		return
	}
	neuronsIntsAVX2(a)
}

func (l Level) tileInts(a *intTile) {
	if l == Portable {
		tileIntsPortable(a)
		return
	}
	tileIntsAVX2(a)
}

// packsInts reports whether sums of 16 bits are packed as at the portable level.
func (l Level) packsInts() bool { return l == Portable }
