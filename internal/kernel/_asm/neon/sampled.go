package main

import "fmt"

// sampledMax is the largest number of outputs that are computed at a time: four registers of
// sums each, four of weights and eight of deltas.
const sampledMax = 5

// sampled3 takes the set bits of a channel's mask in groups of up to sampledMax. An output's
// 16 sums, a lane each, stay in registers until the last step adds them up.
func sampled3() {
	routine("sampled3NEON", "func(a *sampled3)", "is sampled3Portable, but for sums that are not numbers.")
	a := block("a", "sampled3", 0)
	rs := from(1, 22)
	mask, masks, channels, w, dst, stride, keep := rs[0], rs[1], rs[2], rs[3], rs[4], rs[5], rs[6]
	s := sampledRegs{
		mask: mask, w: w, dst: dst, stride: stride, keep: keep,
		places: rs[7], group: rs[8], i: rs[9], left: rs[10], wp: rs[11], wBlock: rs[12], row: rs[13],
		ptrs: rs[14:][:sampledMax],
	}
	a.load("masks", masks)
	a.load("channels", channels)
	a.load("w", w)
	a.load("dst", dst)
	a.load("rowStride", stride)
	a.load("places", s.places)
	a.load("wBlock", s.wBlock)
	label("channel")
	op("MOVD (%v), %v", masks, mask)
	op("MOVD ZR, %v", keep)
	label("more")
	op("CBZ %v, next", mask)
	op("FMOVD %v, F0", mask)
	op("VCNT V0.B8, V0.B8")
	op("VUADDLV V0.B8, V0")
	op("FMOVS F0, %v", s.i)
	for p := 1; p < sampledMax; p++ {
		op("CMP $%d, %v", p, s.i)
		op("BEQ group%d", p)
	}
	for p := sampledMax; p >= 1; p-- {
		s.body(a, p)
	}
	label("next")
	op("MOVD.P %v, 8(%v)", keep, masks)
	op("ADD $4, %v", dst)
	op("ADD $%d, %v", 9*64, w)
	op("SUB $1, %v", channels)
	op("CBNZ %v, channel", channels)
	op("RET")
}

type sampledRegs struct {
	mask, w, dst, stride, keep, places, group, i, left, wp, wBlock, row reg
	ptrs                                                                []reg
}

func (s sampledRegs) body(a args, p int) {
	l := func(name string) string { return fmt.Sprintf("%s%d", name, p) }
	sum := func(k int) []vec { return vectors(vec(4*k), 4) }
	w := vectors(20, 4)
	x := func(k int) []vec { return vectors(vec(24+k%2*4), 4) }
	label(l("group"))
	op("MOVD %v, %v", s.mask, s.group)
	a.load("deltas", scratch)
	op("MOVD %v, %v", scratch, s.row)
	for k := range p {
		lowest(s.mask, s.i)
		op("ADD %v<<3, %v, %v", s.i, s.places, s.i)
		op("MOVW (%v), %v", s.i, s.ptrs[k])
		op("ADD %v, %v", s.row, s.ptrs[k])
		zero(sum(k)...)
	}
	op("MOVD %v, %v", s.w, s.wp)
	a.load("blocks", s.left)
	label(l("block"))
	for t := range 9 {
		loads(s.wp, 64*t, w...)
		for k := range p {
			at := s.ptrs[k]
			if t < 6 {
				op("ADD %v<<%d, %v, %v", s.stride, map[bool]int{true: 0, false: 1}[t >= 3], at, scratch)
				at = scratch
			}
			loads(at, (2-t%3)*256, x(k)...)
			for i, v := range sum(k) {
				fmla(v, w[i], x(k)[i])
			}
		}
	}
	for k := range p {
		op("ADD $64, %v", s.ptrs[k])
	}
	op("ADD %v, %v", s.wBlock, s.wp)
	op("SUB $1, %v", s.left)
	op("CBNZ %v, %s", s.left, l("block"))

	for k := range p {
		v := sum(k)
		// Lanes eight apart, two apart, one apart and four apart.
		fadd(v[0], v[0], v[2])
		fadd(v[1], v[1], v[3])
		op("VZIP1 V%d.D2, V%d.D2, V%d.D2", v[1], v[0], v[2])
		op("VZIP2 V%d.D2, V%d.D2, V%d.D2", v[1], v[0], v[3])
		fadd(v[0], v[2], v[3])
		faddp(v[0], v[0], v[0])
		faddp(v[0], v[0], v[0])
		op("RBIT %v, %v", s.group, s.i)
		op("CLZ %v, %v", s.i, s.i)
		op("FCMPS %s, %s", v[0].f(), v[0].f())
		op("BVS %s", l(fmt.Sprintf("nan%d_", k)))
		op("ADD %v<<3, %v, %v", s.i, s.places, s.i)
		op("MOVW 4(%v), %v", s.i, s.i)
		op("FMOVS (%v)(%v), %s", s.dst, s.i, v[1].f())
		op("FADDS %s, %s, %s", v[0].f(), v[1].f(), v[1].f())
		op("FMOVS %s, (%v)(%v)", v[1].f(), s.dst, s.i)
		op("B %s", l(fmt.Sprintf("added%d_", k)))
		label(l(fmt.Sprintf("nan%d_", k)))
		op("MOVD $1, %v", scratch)
		op("MOVD %v, %s", scratch, a.mem("nan"))
		op("LSL %v, %v, %v", s.i, scratch, s.i)
		op("ORR %v, %v", s.i, s.keep)
		label(l(fmt.Sprintf("added%d_", k)))
		op("SUB $1, %v, %v", s.group, s.i)
		op("AND %v, %v, %v", s.i, s.group, s.group)
	}
	op("B more")
}
