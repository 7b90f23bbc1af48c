package quant

import "github.com/org/snnrat/internal/kernel"

// The loops that a network runs. Those of plain.go define their results.

func convSpikes(dst []int32, s []uint16, w []int8, c kernel.Conv) { convSpikesPlain(dst, s, w, c) }
func convBytes(dst []int32, x []uint8, w []int8, c kernel.Conv)   { convBytesPlain(dst, x, w, c) }
func neurons(s []uint16, x []int32, n scan, sc kernel.Scan)       { neuronsPlain(s, x, n, sc) }
func sumSpikes(dst []uint8, s []uint16, p kernel.Pool)            { sumSpikesPlain(dst, s, p) }
func sumBytes(dst, x []uint8, p kernel.Pool)                      { sumBytesPlain(dst, x, p) }
