//go:build !amd64 || purego

package event

// The routines that have assembly on other machines.
var (
	evt3Words    = evt3WordsPortable
	inOrder      = inOrderPortable
	aedat4Events = aedat4EventsPortable
	nmnistEvents = nmnistEventsPortable
)
