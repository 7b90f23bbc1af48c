package dataset_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// epoch returns the batches of an epoch of a new loader.
func epoch(t require.TestingT, set *dataset.Set, cfg dataset.LoaderConfig, key rng.Key, epoch int) []dataset.Batch {
	loader, err := dataset.NewLoader(set, cfg, key)
	require.NoError(t, err)
	var batches []dataset.Batch
	for b, err := range loader.Epoch(context.Background(), epoch) {
		require.NoError(t, err)
		batches = append(batches, b)
	}
	require.Len(t, batches, loader.Batches())
	return batches
}

// byID returns every image of the batches under its index, and the order of indices.
func byID(batches []dataset.Batch) (images map[uint64][]float32, order []uint64) {
	images = map[uint64][]float32{}
	for _, b := range batches {
		for k, id := range b.ID {
			images[id] = b.X.Image(k)
			order = append(order, id)
		}
	}
	return images, order
}

// augment returns a crop, unless padding is 0, and a flip if flip is set.
func augment(padding int, flip bool) (steps []dataset.Augmentation) {
	if padding > 0 {
		steps = append(steps, dataset.Crop{Padding: padding})
	}
	if flip {
		steps = append(steps, dataset.Flip{})
	}
	return steps
}

// drawConfig draws any configuration that fits images of 4×5.
func drawConfig(t *rapid.T) dataset.LoaderConfig {
	return dataset.LoaderConfig{
		BatchSize: rapid.IntRange(1, 12).Draw(t, "batch size"),
		Shuffle:   rapid.Bool().Draw(t, "shuffle"),
		Augment:   augment(rapid.IntRange(0, 3).Draw(t, "padding"), rapid.Bool().Draw(t, "flip")),
		Prefetch:  rapid.IntRange(1, 4).Draw(t, "prefetch"),
	}
}

func TestEpochIsAPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := newSet(t, rapid.IntRange(1, 40).Draw(t, "n"), 1, 4, 5)
		cfg := drawConfig(t)
		batches := epoch(t, set, cfg, rng.New(rapid.Uint64().Draw(t, "seed")), rapid.IntRange(0, 5).Draw(t, "epoch"))
		_, order := byID(batches)
		require.Equal(t, set.N, len(order))
		if cfg.Shuffle {
			slices.Sort(order)
		}
		for i, id := range order {
			require.Equal(t, uint64(i), id)
		}
		for k, b := range batches {
			if k < len(batches)-1 {
				require.Equal(t, cfg.BatchSize, b.X.N)
			}
			require.Equal(t, b.X.N, len(b.ID))
			for i, id := range b.ID {
				require.Equal(t, set.Labels[id], b.Y[i])
			}
		}
	})
}

// TestAugmentationIsOfTheImage checks that an image comes out the same whatever the
// batch size, the prefetching and whether the order is shuffled.
func TestAugmentationIsOfTheImage(t *testing.T) {
	set := newSet(t, 30, 2, 4, 5)
	rapid.Check(t, func(t *rapid.T) {
		one := drawConfig(t)
		two := drawConfig(t)
		two.Augment = one.Augment
		key, e := rng.New(rapid.Uint64().Draw(t, "seed")), rapid.IntRange(0, 5).Draw(t, "epoch")
		a, orderA := byID(epoch(t, set, one, key, e))
		b, orderB := byID(epoch(t, set, two, key, e))
		require.Equal(t, a, b)
		if one.Shuffle == two.Shuffle {
			require.Equal(t, orderA, orderB)
		}
	})
}

// The pixels of an augmented epoch are those that the fields CropPadding and Flip, which
// Augment has replaced, gave. The digests were recorded from that code.
func TestAugmentationKeepsItsBits(t *testing.T) {
	for _, c := range []struct {
		shape   [4]int
		padding int
		flip    bool
		epoch   int
		want    string
	}{
		{[4]int{40, 3, 32, 32}, 0, false, 0, "f85a2bb2e9db94b4"},
		{[4]int{40, 3, 32, 32}, 0, false, 7, "3e1a0d2bbd3c38c4"},
		{[4]int{40, 3, 32, 32}, 3, false, 0, "78de3fdb31b07eff"},
		{[4]int{40, 3, 32, 32}, 3, false, 7, "3f03fc4df58ce7cc"},
		{[4]int{40, 3, 32, 32}, 0, true, 0, "ed9805435c560289"},
		{[4]int{40, 3, 32, 32}, 0, true, 7, "bcb4fc998422b243"},
		{[4]int{40, 3, 32, 32}, 1, true, 0, "d806d50fc476dd9b"},
		{[4]int{40, 3, 32, 32}, 1, true, 7, "2bf1da1b9766b592"},
		{[4]int{40, 3, 32, 32}, 3, true, 0, "b8940c16bd9a676f"},
		{[4]int{40, 3, 32, 32}, 3, true, 7, "2eced4267f70107b"},
		{[4]int{23, 2, 4, 5}, 0, false, 0, "8a704dbce69c5cbf"},
		{[4]int{23, 2, 4, 5}, 0, false, 7, "b07c7e14370b9e47"},
		{[4]int{23, 2, 4, 5}, 3, false, 0, "eb2dbfe8985437e2"},
		{[4]int{23, 2, 4, 5}, 3, false, 7, "6817fe22feed4bcd"},
		{[4]int{23, 2, 4, 5}, 0, true, 0, "a24bd63131132be8"},
		{[4]int{23, 2, 4, 5}, 0, true, 7, "b6469d3d84c0b5a9"},
		{[4]int{23, 2, 4, 5}, 1, true, 0, "8295ec10bd381ab6"},
		{[4]int{23, 2, 4, 5}, 1, true, 7, "a284be3893db4d91"},
		{[4]int{23, 2, 4, 5}, 3, true, 0, "a57cb1e7ed0832cf"},
		{[4]int{23, 2, 4, 5}, 3, true, 7, "308350d37b657b7e"},
	} {
		n, ch, h, w := c.shape[0], c.shape[1], c.shape[2], c.shape[3]
		pixels := make([]uint8, n*ch*h*w)
		for i := range pixels {
			pixels[i] = uint8(i * 31 % 251)
		}
		set, err := dataset.New("", dataset.NewMemory(ch, h, w, pixels), make([]int, n), []string{"a"})
		require.NoError(t, err)
		digest := sha256.New()
		cfg := dataset.LoaderConfig{BatchSize: 9, Shuffle: true, Augment: augment(c.padding, c.flip), Prefetch: 2}
		for _, b := range epoch(t, set, cfg, rng.New(5), c.epoch) {
			for _, v := range b.X.Data {
				digest.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
			}
		}
		assert.Equal(t, c.want, hex.EncodeToString(digest.Sum(nil)[:8]), "%+v", c)
	}
}

// TestAugmentedImages compares with an enumeration: with padding 1 and flips an
// image has 18 forms, and of many alike images, over many epochs, each must come up,
// about equally often, and no other: neither the images of an epoch nor the epochs of
// an image share what they draw.
func TestAugmentedImages(t *testing.T) {
	const images, epochs = 60, 60
	alike := slices.Repeat([]uint8{12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}, images)
	set, err := dataset.New("alike", dataset.NewMemory(1, 3, 4, alike), make([]int, images), []string{"a"})
	require.NoError(t, err)
	pixels := fill(t, set, 1).Data
	at := func(y, x int) float32 {
		if y < 0 || y >= 3 || x < 0 || x >= 4 {
			return 0
		}
		return pixels[y*4+x]
	}
	count := map[[12]float32]int{}
	for dy := -1; dy <= 1; dy++ {
		for dx := -1; dx <= 1; dx++ {
			var form, mirror [12]float32
			for y := range 3 {
				for x := range 4 {
					form[y*4+x] = at(y+dy, x+dx)
					mirror[y*4+3-x] = at(y+dy, x+dx)
				}
			}
			count[form], count[mirror] = 0, 0
		}
	}
	require.Len(t, count, 18)
	for e := range epochs {
		forms, _ := byID(epoch(t, set, dataset.LoaderConfig{BatchSize: 7, Augment: augment(1, true), Prefetch: 1}, rng.New(1), e))
		for _, form := range forms {
			require.Contains(t, count, [12]float32(form))
			count[[12]float32(form)]++
		}
	}
	chi2 := 0.0
	for _, n := range count {
		const mean = images * epochs / 18
		chi2 += float64((n-mean)*(n-mean)) / mean
	}
	assert.Less(t, chi2, 40.8, "chi-squared of 17 degrees of freedom, p = 0.001")
}

func TestEpochsAndKeysDiffer(t *testing.T) {
	set := newSet(t, 50, 1, 4, 5)
	cfg := dataset.LoaderConfig{BatchSize: 7, Shuffle: true, Augment: augment(2, true), Prefetch: 2}
	images, order := byID(epoch(t, set, cfg, rng.New(1), 0))
	for name, other := range map[string][]dataset.Batch{
		"epoch": epoch(t, set, cfg, rng.New(1), 1),
		"key":   epoch(t, set, cfg, rng.New(2), 0),
	} {
		otherImages, otherOrder := byID(other)
		assert.NotEqual(t, order, otherOrder, name)
		assert.NotEqual(t, images, otherImages, name)
	}
}

func TestSameBitsAtAnyGOMAXPROCS(t *testing.T) {
	set := newSet(t, 50, 1, 4, 5)
	cfg := dataset.LoaderConfig{BatchSize: 7, Shuffle: true, Augment: augment(2, true), Prefetch: 2}
	at := func(procs int) []dataset.Batch {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		return epoch(t, set, cfg, rng.New(1), 3)
	}
	assert.Equal(t, at(1), at(2))
}

func TestEvaluationIsTheSetInOrder(t *testing.T) {
	set := newSet(t, 150, 1, 4, 5)
	batches := epoch(t, set, dataset.DefaultEvaluation(), rng.New(1), 0)
	require.Len(t, batches, 3)
	assert.Equal(t, 150-2*64, batches[2].X.N)
	images, _ := byID(batches)
	for i := range set.N {
		assert.Equal(t, fill(t, set, i).Data, images[uint64(i)])
	}
}

func TestDropLast(t *testing.T) {
	for n, want := range map[int]int{8: 2, 9: 2, 11: 2, 12: 3, 4: 1} {
		cfg := dataset.LoaderConfig{BatchSize: 4, DropLast: true, Shuffle: true, Prefetch: 1}
		batches := epoch(t, newSet(t, n, 1, 1, 1), cfg, rng.New(1), 0)
		assert.Len(t, batches, want)
		for _, b := range batches {
			assert.Equal(t, 4, b.X.N)
		}
	}
}

// TestBatchesAreTheReceivers checks that writing to a batch changes neither the set
// nor a batch that comes later.
func TestBatchesAreTheReceivers(t *testing.T) {
	set := newSet(t, 20, 1, 4, 5)
	loader, err := dataset.NewLoader(set, dataset.LoaderConfig{BatchSize: 3, Prefetch: 1}, rng.New(1))
	require.NoError(t, err)
	for range 2 {
		for b, err := range loader.Epoch(context.Background(), 0) {
			require.NoError(t, err)
			for k, id := range b.ID {
				require.Equal(t, fill(t, set, int(id)).Data, b.X.Image(k))
				require.Equal(t, set.Labels[id], b.Y[k])
			}
			clear(b.X.Data)
			clear(b.Y)
			clear(b.ID)
		}
	}
}

func TestNewLoaderRefusesBadConfig(t *testing.T) {
	set := newSet(t, 10, 1, 4, 5)
	for want, change := range map[string]func(*dataset.LoaderConfig){
		"dataset: LoaderConfig.BatchSize is 0, want at least 1": func(c *dataset.LoaderConfig) { c.BatchSize = 0 },
		"dataset: LoaderConfig.BatchSize is 11, want at most 10, the number of images, with DropLast": func(c *dataset.LoaderConfig) {
			c.BatchSize, c.DropLast = 11, true
		},
		"dataset: LoaderConfig.Augment[1]: Crop.Padding is 0, want 1 to 3 for images of 4×5": func(c *dataset.LoaderConfig) {
			c.Augment = []dataset.Augmentation{dataset.Flip{}, dataset.Crop{}}
		},
		"dataset: LoaderConfig.Augment[0]: Crop.Padding is 4, want 1 to 3 for images of 4×5": func(c *dataset.LoaderConfig) {
			c.Augment = []dataset.Augmentation{dataset.Crop{Padding: 4}}
		},
		"dataset: LoaderConfig.Augment[0] is nil":                func(c *dataset.LoaderConfig) { c.Augment = make([]dataset.Augmentation, 1) },
		"dataset: LoaderConfig.Prefetch is 0, want 1 to 1024":    func(c *dataset.LoaderConfig) { c.Prefetch = 0 },
		"dataset: LoaderConfig.Prefetch is 1025, want 1 to 1024": func(c *dataset.LoaderConfig) { c.Prefetch = 1025 },
	} {
		cfg := dataset.DefaultTraining()
		change(&cfg)
		_, err := dataset.NewLoader(set, cfg, rng.New(1))
		assert.EqualError(t, err, want)
	}
	for _, cfg := range []dataset.LoaderConfig{dataset.DefaultTraining(), dataset.DefaultEvaluation()} {
		_, err := dataset.NewLoader(newSet(t, 1, 1, 1, 1), cfg, rng.New(1))
		assert.NoError(t, err, "a default fits any set")
	}
	_, err := dataset.NewLoader(newSet(t, 1, 3, 32, 32), dataset.DefaultCIFARTraining(), rng.New(1))
	assert.NoError(t, err)
	loader, err := dataset.NewLoader(set, dataset.DefaultTraining(), rng.New(1))
	require.NoError(t, err)
	assert.PanicsWithValue(t, "dataset: Loader.Epoch: epoch -1", func() { loader.Epoch(context.Background(), -1) })
}

// counted is images that count how often they are read.
type counted struct {
	*dataset.Memory
	reads *atomic.Int64
}

func (c counted) ReadImage(dst []uint8, i int) error {
	c.reads.Add(1)
	return c.Memory.ReadImage(dst, i)
}

// TestPrefetch runs in a bubble, which fails if a goroutine is left behind. Each
// time all goroutines rest, the batches made must be those that the caller has got
// and Prefetch more.
func TestPrefetch(t *testing.T) {
	for _, prefetch := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			images := counted{dataset.NewMemory(1, 1, 1, make([]uint8, 40)), new(atomic.Int64)}
			set, err := dataset.New("", images, make([]int, 40), []string{"a"})
			require.NoError(t, err)
			loader, err := dataset.NewLoader(set, dataset.LoaderConfig{BatchSize: 2, Prefetch: prefetch}, rng.New(1))
			require.NoError(t, err)
			got := 0
			for _, err := range loader.Epoch(t.Context(), 0) {
				require.NoError(t, err)
				got++
				synctest.Wait()
				require.Equal(t, int64(2*min(got+prefetch, 20)), images.reads.Load())
			}
			require.Equal(t, 20, got)
		})
	}
}

// slow is images that take a second each.
type slow struct {
	*dataset.Memory
	reading *atomic.Bool
}

func (s slow) ReadImage(dst []uint8, i int) error {
	s.reading.Store(true)
	defer s.reading.Store(false)
	time.Sleep(time.Second)
	return s.Memory.ReadImage(dst, i)
}

// TestLeavingWaits checks that the source is at rest when the loop has been left, so
// that it may be closed.
func TestLeavingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		images := slow{dataset.NewMemory(1, 1, 1, make([]uint8, 40)), new(atomic.Bool)}
		set, err := dataset.New("", images, make([]int, 40), []string{"a"})
		require.NoError(t, err)
		loader, err := dataset.NewLoader(set, dataset.LoaderConfig{BatchSize: 5, Prefetch: 2}, rng.New(1))
		require.NoError(t, err)
		for range loader.Epoch(t.Context(), 0) {
			time.Sleep(1500 * time.Millisecond)
			require.True(t, images.reading.Load())
			break
		}
		require.False(t, images.reading.Load())
	})
}

// TestNoGoroutineIsLeft leaves the loop in every way, many times.
func TestNoGoroutineIsLeft(t *testing.T) {
	set := newSet(t, 40, 1, 4, 5)
	loader, err := dataset.NewLoader(set, dataset.LoaderConfig{BatchSize: 2, Prefetch: 3}, rng.New(1))
	require.NoError(t, err)
	errors := func() { // a source that fails in the middle
		bad, err := dataset.New("", broken{dataset.NewMemory(1, 1, 1, make([]uint8, 40)), 13}, make([]int, 40), []string{"a"})
		require.NoError(t, err)
		failing, err := dataset.NewLoader(bad, dataset.LoaderConfig{BatchSize: 2, Prefetch: 3}, rng.New(1))
		require.NoError(t, err)
		got := 0
		for b, err := range failing.Epoch(context.Background(), 2) {
			if got++; got == 7 {
				require.ErrorIs(t, err, errBroken)
				require.EqualError(t, err, "dataset: epoch 2, batch 6 of 20: dataset: image 13: pixels.bin: bad sector")
				require.Zero(t, b)
				continue
			}
			require.NoError(t, err)
		}
		require.Equal(t, 7, got, "the sequence ends with the error")
	}
	ways := map[string]func(){
		"to the end": func() {
			for range loader.Epoch(context.Background(), 0) {
			}
		},
		"never begun": func() { loader.Epoch(context.Background(), 0) },
		"break": func() {
			for range loader.Epoch(context.Background(), 0) {
				break
			}
		},
		"panic": func() {
			defer func() { recover() }()
			for range loader.Epoch(context.Background(), 0) {
				panic("in the loop")
			}
		},
		"cancelled": func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			got := 0
			for b, err := range loader.Epoch(ctx, 1) {
				if got++; got == 4 {
					require.ErrorIs(t, err, context.Canceled)
					require.EqualError(t, err, "dataset: epoch 1, batch 3 of 20: context canceled")
					require.Zero(t, b)
					continue
				}
				require.NoError(t, err)
				if got == 3 {
					cancel()
				}
			}
			require.Equal(t, 4, got, "the sequence ends with the error")
		},
		"cancelled before": func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			for _, err := range loader.Epoch(ctx, 0) {
				require.ErrorIs(t, err, context.Canceled)
			}
		},
		"error": errors,
	}
	for name, leave := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(*testing.T) { leave() }) // fails if a goroutine stays blocked
			before := runtime.NumGoroutine()
			for range 100 {
				leave()
			}
			// The last goroutine may still be on its way out.
			assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, time.Millisecond)
		})
	}
}

// TestCancelAfterTheLastBatch checks that an epoch which was dealt out completely is
// no error, whatever becomes of the context then.
func TestCancelAfterTheLastBatch(t *testing.T) {
	loader, err := dataset.NewLoader(newSet(t, 6, 1, 1, 1), dataset.LoaderConfig{BatchSize: 3, Prefetch: 1}, rng.New(1))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := 0
	for _, err := range loader.Epoch(ctx, 0) {
		require.NoError(t, err)
		if got++; got == 2 {
			cancel()
		}
	}
	assert.Equal(t, 2, got)
}

// TestConcurrentEpochs is for the race detector.
func TestConcurrentEpochs(t *testing.T) {
	set := newSet(t, 60, 1, 4, 5)
	cfg := dataset.LoaderConfig{BatchSize: 7, Shuffle: true, Augment: augment(2, true), Prefetch: 2}
	loader, err := dataset.NewLoader(set, cfg, rng.New(1))
	require.NoError(t, err)
	want := epoch(t, set, cfg, rng.New(1), 0)
	done := make(chan []dataset.Batch)
	for range 4 {
		go func() {
			var got []dataset.Batch
			for b := range loader.Epoch(context.Background(), 0) {
				got = append(got, b)
			}
			done <- got
		}()
	}
	for range 4 {
		assert.Equal(t, want, <-done)
	}
}

// recording is a source that notes which of its images are read.
type recording struct {
	dataset.PixelSource
	read *[]int
}

func (r recording) ReadImage(dst []uint8, i int) error {
	*r.read = append(*r.read, i)
	return r.PixelSource.ReadImage(dst, i)
}

// An epoch from a batch on is the rest of the whole epoch, and the images before it are
// not read.
func TestEpochFrom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		var read []int
		set, err := dataset.New("", recording{dataset.NewMemory(1, 4, 5, make([]uint8, n*20)), &read}, make([]int, n), []string{"a"})
		require.NoError(t, err)
		cfg, key := drawConfig(t), rng.New(rapid.Uint64().Draw(t, "seed"))
		whole := epoch(t, set, cfg, key, 3)
		first := rapid.IntRange(0, len(whole)).Draw(t, "first")
		loader, err := dataset.NewLoader(set, cfg, key)
		require.NoError(t, err)
		read = nil
		var rest []dataset.Batch
		for b, err := range loader.EpochFrom(context.Background(), 3, first) {
			require.NoError(t, err)
			rest = append(rest, b)
		}
		require.Equal(t, whole[first:], append([]dataset.Batch{}, rest...))
		require.Len(t, read, max(0, n-first*cfg.BatchSize))
		require.Panics(t, func() { loader.EpochFrom(context.Background(), 0, len(whole)+1) })
		require.Panics(t, func() { loader.EpochFrom(context.Background(), 0, -1) })
	})
}

type panicking struct{ dataset.PixelSource }

func (panicking) ReadImage([]uint8, int) error { panic("no pixels") }

// ending is images whose reader ends its goroutine, as an assertion of a test does.
type ending struct{ dataset.PixelSource }

func (ending) ReadImage([]uint8, int) error { runtime.Goexit(); return nil }

// A loop does not wait for ever for a source that has ended its goroutine.
func TestSourceEndsItsGoroutine(t *testing.T) {
	set, err := dataset.New("", ending{dataset.NewMemory(1, 1, 1, []uint8{1, 2})}, []int{0, 0}, []string{"a"})
	require.NoError(t, err)
	loader, err := dataset.NewLoader(set, dataset.LoaderConfig{BatchSize: 1, Prefetch: 2}, rng.New(1))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		assert.PanicsWithValue(t, "dataset: Loader.Epoch: the set has ended its goroutine by runtime.Goexit", func() {
			for range loader.Epoch(t.Context(), 0) {
				t.Error("a batch")
			}
		})
	})
}

// A panic of the source, which is read on another goroutine, reaches the loop.
func TestPanicOfTheSource(t *testing.T) {
	set, err := dataset.New("", panicking{dataset.NewMemory(1, 1, 1, []uint8{1, 2})}, []int{0, 0}, []string{"a"})
	require.NoError(t, err)
	for _, prefetch := range []int{1, 3} {
		loader, err := dataset.NewLoader(set, dataset.LoaderConfig{BatchSize: 1, Prefetch: prefetch}, rng.New(1))
		require.NoError(t, err)
		require.PanicsWithValue(t, "no pixels", func() {
			for range loader.Epoch(context.Background(), 0) {
				t.Error("a batch")
			}
		})
	}
}
