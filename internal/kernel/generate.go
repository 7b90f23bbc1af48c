package kernel

//go:generate go -C _asm run . -out ../routines_amd64.s -stubs ../routines_amd64.go -pkg kernel
//go:generate go -C _asm run ./lanes -out ../lanes_amd64.s -stubs ../lanes_amd64.go -pkg kernel
//go:generate go -C _asm run ./neon -out ../neon_arm64.s -stubs ../neon_arm64.go
