package event

//go:generate go -C _asm run . -out ../routines_amd64.s -stubs ../routines_amd64.go -pkg event
