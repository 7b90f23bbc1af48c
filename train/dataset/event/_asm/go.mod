module github.com/org/snnrat/train/dataset/event/_asm

go 1.26.0

require github.com/mmcloughlin/avo v0.5.0

require golang.org/x/sync v0.21.0 // indirect

require (
	golang.org/x/mod v0.37.0 // indirect
	golang.org/x/tools v0.46.0 // indirect
)
