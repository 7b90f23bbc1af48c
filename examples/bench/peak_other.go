//go:build !unix

package main

// peakMB returns 0: not measured on this system.
func peakMB() float64 { return 0 }
