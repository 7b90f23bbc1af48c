package tensor_test

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/internal/idle"
	"github.com/org/snnrat/tensor"
)

func drawShape(t *rapid.T) tensor.Shape {
	return tensor.Shape{
		N: rapid.IntRange(0, 3).Draw(t, "images"), Steps: rapid.IntRange(1, 4).Draw(t, "steps"),
		C: rapid.IntRange(1, 35).Draw(t, "channels"), H: rapid.IntRange(1, 5).Draw(t, "height"), W: rapid.IntRange(1, 5).Draw(t, "width"),
	}
}

// numbered returns frames of the shape with a different value everywhere, none zero.
func numbered(s tensor.Shape) tensor.NCHW {
	x := tensor.NewFrames(s)
	for i := range x.Data {
		x.Data[i] = float32(i + 1)
	}
	return x
}

// each calls fn with all indices of s, and the position of the element in NCHW order.
func each(s tensor.Shape, fn func(i, n, t, c, y, x int)) {
	i := 0
	for n := range s.N {
		for t := range s.Steps {
			for c := range s.C {
				for y := range s.H {
					for x := range s.W {
						fn(i, n, t, c, y, x)
						i++
					}
				}
			}
		}
	}
}

// Pack puts every value where At finds it and where the documented layout
// [C/16][N·Steps][H][W][16] has it. It sets the lanes of missing channels to zero. Unpack
// is its inverse.
func TestPackAndUnpack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t)
		d := tensor.NewDense(s)
		for i := range d.Data {
			d.Data[i] = -1
		}
		x := numbered(s)
		d.Pack(x)
		var total float64
		each(s, func(i, n, step, c, y, z int) {
			require.Equal(t, x.Data[i], d.At(n, step, c, y, z))
			frame := n*s.Steps + step
			require.Equal(t, x.Data[i], d.Data[(((c/16*(s.N*s.Steps)+frame)*s.H+y)*s.W+z)*16+c%16])
			total += float64(x.Data[i])
		})
		for _, v := range d.Data {
			total -= float64(v)
		}
		require.Zero(t, total, "padding")
		require.Equal(t, x, d.Unpack())
	})
}

func TestSetIsSeenByAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t)
		d, sp := tensor.NewDense(s), tensor.NewSpikes(s)
		each(s, func(i, n, step, c, y, x int) {
			d.Set(n, step, c, y, x, float32(i+1))
			sp.Set(n, step, c, y, x, i%3 == 0)
		})
		require.Equal(t, numbered(s), d.Unpack())
		each(s, func(i, n, step, c, y, x int) {
			require.Equal(t, i%3 == 0, sp.At(n, step, c, y, x))
			sp.Set(n, step, c, y, x, false)
		})
		require.Zero(t, sp.Count())
	})
}

// PackSpikes sets a spike where the source is not zero. Count counts the spikes, and Dense
// returns them as zeros and ones.
func TestPackSpikes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t)
		x := tensor.NewFrames(s)
		fires := rapid.SliceOfN(rapid.Bool(), len(x.Data), len(x.Data)).Draw(t, "spikes")
		count := 0
		for i, f := range fires {
			if f {
				x.Data[i] = 1
				count++
			}
		}
		sp := tensor.NewSpikes(s)
		for i := range sp.Bits {
			sp.Bits[i] = 0xffff
		}
		sp.PackSpikes(x)
		each(s, func(i, n, step, c, y, z int) { require.Equal(t, fires[i], sp.At(n, step, c, y, z)) })
		require.Equal(t, count, sp.Count())
		require.Equal(t, x, sp.Dense().Unpack())
		if len(fires) > 0 {
			require.InDelta(t, float64(count)/float64(len(fires)), sp.Rate(), 1e-12)
		} else {
			require.Zero(t, sp.Rate())
		}
	})
}

func TestShapeSizes(t *testing.T) {
	s := tensor.Shape{N: 2, Steps: 3, C: 17, H: 4, W: 5}
	assert.Equal(t, 2, s.Blocks())
	assert.Equal(t, 6, s.Frames())
	assert.Equal(t, 20, s.Pixels())
	assert.Equal(t, 2*6*20, s.Words())
	assert.Equal(t, 2*6*20*16, s.Floats())
	assert.Equal(t, 17*20, s.Neurons())
	assert.Equal(t, "2×1×17×4×5", s.WithSteps(1).String())
}

func TestImagesShareMemoryAndClonesDoNot(t *testing.T) {
	x := numbered(tensor.Shape{N: 4, Steps: 1, C: 2, H: 1, W: 3})
	assert.Equal(t, []float32{7, 8, 9, 10, 11, 12}, x.Image(1))
	mid := x.Slice(1, 3)
	assert.Equal(t, 2, mid.N)
	assert.Equal(t, x.Image(2), mid.Image(1))
	c := mid.Clone()
	mid.Data[0] = -1
	assert.Equal(t, float32(-1), x.Image(1)[0])
	assert.Equal(t, float32(7), c.Data[0])
	// An image's slice ends with it: appending must not write into the next one.
	_ = append(x.Image(0), 99)
	_ = append(x.Slice(0, 1).Data, 99)
	assert.Equal(t, float32(-1), x.Image(1)[0])
}

// A batch of frames has all frames of an example in one piece. Steps 0 and 1 mean one image.
func TestFrames(t *testing.T) {
	s := tensor.Shape{N: 3, Steps: 2, C: 2, H: 1, W: 3}
	x := numbered(s)
	assert.Equal(t, s, x.Shape())
	assert.Equal(t, 12, x.Pixels())
	assert.Equal(t, "3×2×2×1×3", x.String())
	assert.Equal(t, []float32{13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}, x.Image(1))
	mid := x.Slice(1, 2)
	assert.Equal(t, tensor.NCHW{N: 1, Steps: 2, C: 2, H: 1, W: 3, Data: x.Image(1)}, mid)
	assert.Equal(t, mid, mid.Clone())
	assert.EqualError(t, x.ValidateRange(1, 20), "image 1, step 1, value 2: 21 outside [1, 20]")

	for _, steps := range []int{0, 1} {
		x := tensor.NewNCHW(2, 2, 1, 3)
		x.Steps = steps
		assert.Equal(t, tensor.Shape{N: 2, Steps: 1, C: 2, H: 1, W: 3}, x.Shape())
		assert.Equal(t, 6, x.Pixels())
		assert.Equal(t, "2×2×1×3", x.String())
		assert.Len(t, x.Image(1), 6)
	}
	assert.PanicsWithValue(t, "tensor: NewFrames: invalid shape 1×0×1×1×1", func() { tensor.NewFrames(tensor.Shape{N: 1, C: 1, H: 1, W: 1}) })

	d := tensor.NewDense(s)
	d.Pack(x)
	d2 := tensor.NewDense(s)
	d2.Pack(tensor.NCHW{N: 6, C: 2, H: 1, W: 3, Data: x.Data})
	assert.Equal(t, d, d2, "the frames as images")
	assert.Panics(t, func() { d.Pack(x.Slice(0, 2)) })
}

func TestCheckRange(t *testing.T) {
	x := tensor.NewNCHW(3, 1, 2, 2)
	assert.NoError(t, x.ValidateRange(0, 1))
	x.Data[5] = 1
	assert.NoError(t, x.ValidateRange(0, 1))
	for _, v := range []float32{-0.001, 1.001, float32(math.Inf(1)), float32(math.NaN())} {
		x.Data[6] = v
		assert.ErrorContains(t, x.ValidateRange(0, 1), fmt.Sprintf("image 1, value 2: %v", v))
	}
}

// Buffers on loan do not overlap, whatever was lent and taken back before. When all are
// back, their memory is one piece again.
func TestArena(t *testing.T) {
	var a tensor.Arena
	a.FreeFloats(nil)
	a.FreeWords(nil)
	rapid.Check(t, func(t *rapid.T) {
		const most = 10000
		lent := map[float32][]float32{}
		for step := range rapid.IntRange(0, 40).Draw(t, "steps") {
			tag := float32(step)
			if rapid.Bool().Draw(t, "give") {
				for k, b := range lent { // any one
					delete(lent, k)
					a.FreeFloats(b)
					break
				}
				continue
			}
			b := a.Floats(rapid.IntRange(0, most).Draw(t, "n"))
			for i := range b {
				b[i] = tag
			}
			lent[tag] = b
		}
		for tag, b := range lent {
			for i, v := range b {
				if v != tag {
					t.Fatalf("value %d of buffer %v is %v", i, tag, v)
				}
			}
			a.FreeFloats(b)
		}
		first := a.Floats(1)
		p := &first[0]
		a.FreeFloats(first)
		all := a.Floats(1 << 21) // the smallest slab
		require.Same(t, p, &all[0])
		a.FreeFloats(all)
	})
	require.Panics(t, func() { a.FreeFloats(make([]float32, 4)) })

	var b tensor.Arena
	x, y := b.Floats(17), b.Words(64) // 32 floats and 64 words
	b.FreeFloats(x)
	b.FreeFloats(b.Floats(16))
	b.FreeWords(y)
	require.Equal(t, 32*4+64*2, b.Peak())

	step := func() {
		f, g, w := a.Floats(1000), a.Floats(3000), a.Words(70)
		a.FreeFloats(f)
		a.FreeWords(w)
		a.FreeFloats(g)
	}
	step()
	assert.Zero(t, testing.AllocsPerRun(10, step))
}

// The arena's memory is at most twice the largest amount on loan at one time, whatever
// sizes a program asks for.
func TestArenaTrims(t *testing.T) {
	var a tensor.Arena
	sizes := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := sizes()
	for n := 1 << 18; n <= 1<<23; n += 1 << 18 {
		kept := a.Floats(n / 2)
		a.FreeFloats(a.Floats(n))
		a.FreeFloats(kept)
	}
	assert.Less(t, sizes()-before, uint64(5*a.Peak()/2))
	b := a.Floats(1) // a is alive
	a.FreeFloats(b)
}

// An arena that was much larger than needed for 64 passes in a row drops its memory.
func TestArenaShrinks(t *testing.T) {
	var a tensor.Arena
	pass := func(floats int) {
		f, w := a.Floats(floats), a.Words(100)
		a.FreeFloats(f)
		a.FreeWords(w)
		a.EndPass()
		a.EndPass() // nothing was lent since
	}
	repeat := func(n, floats int) {
		for range n {
			pass(floats)
		}
	}
	const large = 20 << 20
	pass(large)
	size, peak := a.Size(), a.Peak()
	require.GreaterOrEqual(t, size, 4*large)
	repeat(63, 1000)
	pass(large)
	repeat(63, 1000)
	assert.Equal(t, size, a.Size())
	pass(1000)
	assert.Equal(t, 1<<20, a.Size(), "the spikes' slab")
	pass(1000)
	assert.Equal(t, 9<<20, a.Size(), "the smallest slabs")
	repeat(200, 1000)
	assert.Equal(t, 9<<20, a.Size())
	assert.Equal(t, peak, a.Peak())

	// Passes that repeat keep their memory, though much of a slab is not needed.
	var b tensor.Arena
	var first *float32
	for range 200 {
		x, y := b.Floats(1<<18), b.Floats(9<<18)
		if first == nil {
			first = &y[0]
		}
		require.Same(t, first, &y[0])
		b.FreeFloats(x)
		b.FreeFloats(y)
		b.EndPass()
	}

	// What is on loan stays.
	kept := a.Floats(large)
	kept[large-1] = 7
	a.EndPass()
	repeat(200, 1000)
	assert.Equal(t, float32(7), kept[large-1])
	a.FreeFloats(kept)
}

// Between passes others may use the memory of floats. A pass that begins meanwhile has other memory.
func TestArenaOffersItsMemory(t *testing.T) {
	runtime.GC() // the arenas of other tests
	var a tensor.Arena
	const n = 3 << 20
	kept := a.Floats(1)
	first := a.Floats(n)
	a.FreeFloats(first)
	a.EndPass()
	assert.True(t, idle.Borrow(n) == nil, "a buffer is on loan")
	a.FreeFloats(kept)
	a.EndPass()
	size := a.Size()

	loan := idle.Borrow(n)
	require.NotNil(t, loan)
	loan.Return()
	again := a.Floats(n)
	assert.Same(t, &first[0], &again[0])
	assert.True(t, idle.Borrow(n) == nil, "a pass uses it")
	a.FreeFloats(again)
	a.EndPass()
	a.EndPass()
	assert.Equal(t, size, a.Size())

	loan = idle.Borrow(n)
	require.NotNil(t, loan)
	other := a.Floats(n)
	require.NotSame(t, &loan.Data()[0], &other[0])
	loan.Data()[0], other[0] = 1, 2
	assert.Equal(t, float32(1), loan.Data()[0])
	loan.Return()
	a.FreeFloats(other)
	a.EndPass()
	assert.Less(t, a.Size(), 2*size, "the arena has dropped what it lent")
	loan = idle.Borrow(n)
	require.NotNil(t, loan)
	assert.Same(t, &other[0], &loan.Data()[0])
	loan.Return()

	for range 64 {
		a.FreeWords(a.Words(1))
		a.EndPass()
	}
	runtime.GC() // what the arena dropped before
	assert.True(t, idle.Borrow(1) == nil, "dropped")
	runtime.KeepAlive(&a)
}

func TestPanicsNameTheShapes(t *testing.T) {
	d := tensor.NewDense(tensor.Shape{N: 2, Steps: 2, C: 3, H: 1, W: 1})
	for message, fn := range map[string]func(){
		"tensor: NewDense: invalid shape 1×0×3×1×1":       func() { tensor.NewDense(tensor.Shape{N: 1, C: 3, H: 1, W: 1}) },
		"tensor: NewSpikes: invalid shape 1×1×0×1×1":      func() { tensor.NewSpikes(tensor.Shape{N: 1, Steps: 1, H: 1, W: 1}) },
		"tensor: NewNCHW: invalid shape -1×1×1×1":         func() { tensor.NewNCHW(-1, 1, 1, 1) },
		"tensor: Pack: 2×3×1×1 does not fit 2×2×3×1×1":    func() { d.Pack(tensor.NewNCHW(2, 3, 1, 1)) },
		"tensor: PackSpikes: 4×3×1×2 does not fit 2×2×3×": func() { tensor.NewSpikes(d.Shape).PackSpikes(tensor.NewNCHW(4, 3, 1, 2)) },
	} {
		func() {
			defer func() { assert.Contains(t, fmt.Sprint(recover()), message) }()
			fn()
		}()
	}
}
