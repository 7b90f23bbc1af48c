package train

import (
	"context"
	"path/filepath"
	"reflect"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// nameless returns a trainer of a network with two layers without a name.
func nameless(t *testing.T, first, second snn.Layer, n *snn.LIF) *Trainer {
	set, err := dataset.New("", dataset.NewMemory(1, 1, 1, []uint8{0, 255}), []int{0, 1}, []string{"a", "b"})
	require.NoError(t, err)
	body := (&snn.Sequential{}).Append("", first).Append("", second).Append("n", n).Append("fc", snn.NewLinear(1, 2, true))
	model, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 2}, body)
	require.NoError(t, err)
	tr, err := New(model, set, Default(1), rng.New(1))
	require.NoError(t, err)
	return tr
}

func soft() *snn.LIF {
	n := snn.NewIF()
	n.SoftReset = true
	return n
}

// Layers of the same name are told apart.
func TestResumeNamelessLayers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	first, second := snn.AvgPool{K: 1}, snn.MaxPool{K: 1}
	require.NoError(t, nameless(t, first, second, snn.NewLIF(0.5)).Save(path))
	require.NoError(t, nameless(t, first, second, snn.NewLIF(0.5)).Resume(path))
	require.ErrorContains(t, nameless(t, first, first, snn.NewLIF(0.5)).Resume(path), "layer  (2) is average pool")
	require.NoError(t, nameless(t, first, second, soft()).Save(path))
	require.NoError(t, nameless(t, first, second, soft()).Resume(path))
	require.ErrorContains(t, nameless(t, first, second, snn.NewIF()).Resume(path), "the setting of layer n is snn.LIF{Decay:1 Threshold:1 Reset:0 Start:0 SoftReset:false ")
}

// Values of these types have other addresses, or another order, in every process.
type (
	key    struct{ Name string }
	node   struct{ Next *node }
	hidden struct{ at *int }
	shared struct{ Rate float64 }
	list   []list
	wild   struct {
		ByPointer map[*key]*key
		ByName    map[string]*shared
		Any       map[any]any
		Channel   chan int
		Unsafe    unsafe.Pointer
		Function  map[string]func()
		Cycle     *node
		List      list
		Ring      map[string]any
		Hidden    hidden
		None      map[string]int
		shared
		secret *int
	}
)

func newWild() *wild {
	w := &wild{
		ByPointer: map[*key]*key{}, ByName: map[string]*shared{}, Any: map[any]any{}, Channel: make(chan int),
		Unsafe: unsafe.Pointer(new(int)), Function: map[string]func(){"f": func() {}}, Cycle: &node{&node{}},
		List: make(list, 2), Ring: map[string]any{}, Hidden: hidden{new(int)}, shared: shared{0.5}, secret: new(int),
	}
	for _, name := range []string{"b", "a", "d", "c"} {
		w.ByPointer[&key{name}] = &key{name + name}
		w.ByName[name] = &shared{0.25}
		w.Any[&key{name}] = &[]any{1, name}
	}
	w.Cycle.Next.Next = w.Cycle
	w.List[1] = w.List
	w.Ring["self"] = w.Ring
	return w
}

// A value has the same description whenever it is made anew, and another one if what it
// points to differs.
func TestDescribe(t *testing.T) {
	text := func(change func(*wild)) string {
		w := newWild()
		change(w)
		return describe(reflect.ValueOf(w))
	}
	same := text(func(*wild) {})
	require.Equal(t, `train.wild{ByPointer:map[*train.key]*train.key{train.key{Name:"a"}:train.key{Name:"aa"} `+
		`train.key{Name:"b"}:train.key{Name:"bb"} train.key{Name:"c"}:train.key{Name:"cc"} train.key{Name:"d"}:train.key{Name:"dd"}} `+
		`ByName:map[string]*train.shared{"a":train.shared{Rate:0.25} "b":train.shared{Rate:0.25} "c":train.shared{Rate:0.25} "d":train.shared{Rate:0.25}} `+
		`Any:map[interface {}]interface {}{train.key{Name:"a"}:[]interface {}{1 "a"} train.key{Name:"b"}:[]interface {}{1 "b"} `+
		`train.key{Name:"c"}:[]interface {}{1 "c"} train.key{Name:"d"}:[]interface {}{1 "d"}} `+
		`Channel:a channel Unsafe:a pointer Function:map[string]func(){"f":a function} `+
		`Cycle:train.node{Next:train.node{Next:a cycle}} List:train.list{none a cycle} Ring:map[string]interface {}{"self":a cycle} `+
		`Hidden:train.hidden{} None:none shared:train.shared{Rate:0.5}}`, same)
	for range 20 {
		require.Equal(t, same, text(func(*wild) {}))
	}
	for name, change := range map[string]func(*wild){
		"a value":          func(w *wild) { w.ByName["a"].Rate = 1 },
		"a key":            func(w *wild) { w.ByPointer[&key{"e"}] = &key{} },
		"inside":           func(w *wild) { w.Any["x"] = 1 },
		"no channel":       func(w *wild) { w.Channel = nil },
		"longer cycle":     func(w *wild) { w.Cycle.Next.Next = &node{w.Cycle} },
		"an embedded one":  func(w *wild) { w.Rate = 1 },
		"an empty map":     func(w *wild) { w.None = map[string]int{} },
		"another function": func(w *wild) { w.Function["f"] = nil },
	} {
		require.NotEqual(t, same, text(change), name)
	}
}

// pointers is an adversary that holds a map of pointers.
type pointers struct{ Shares map[*key]*shared }

func (pointers) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	return x, nil
}

// A training is resumed by one that was made in the same way, at other addresses.
func TestResumeAdversaryOfPointers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	build := func(share float64) *Trainer {
		tr := nameless(t, snn.AvgPool{}, snn.AvgPool{}, snn.NewIF())
		tr.cfg.Adversary = pointers{map[*key]*shared{{"fgsm"}: {share}, {"rfgsm"}: {1 - share}}}
		return tr
	}
	require.NoError(t, build(0.25).Save(path))
	for range 10 {
		require.NoError(t, build(0.25).Resume(path))
	}
	require.ErrorContains(t, build(0.5).Resume(path), "Config.Adversary is train.pointers{")
}
