package quant

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/nlpodyssey/safetensors"

	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/paramfile"
)

// metaKey is the key of a network's description in the metadata of its file.
const metaKey = "snnrat.quant"

// version is that of the file format.
const version = 1

// description is a network without its tensors. The page docs/quant.md documents it.
type description struct {
	Version    int         `json:"version"`
	Channels   int         `json:"channels"`
	Height     int         `json:"height"`
	Width      int         `json:"width"`
	Steps      int         `json:"steps"`
	Scale      float64     `json:"scale"`
	ClassNames []string    `json:"class_names,omitempty"`
	Layers     []layerText `json:"layers"`
}

// layerText is a layer of any type in a description.
type layerText struct {
	Type   string `json:"type"` // conv, neurons, sum_pool, max_pool
	Name   string `json:"name"`
	Input  string `json:"input"`
	Add    string `json:"add,omitempty"`
	Stride int    `json:"stride,omitempty"`
	Pad    int    `json:"pad,omitempty"`
	Leak   int32  `json:"leak,omitempty"`
	Shift  uint   `json:"shift,omitempty"`  // of the leak
	Soft   int    `json:"soft,omitempty"`   // 1 for a soft reset
	Window []int  `json:"window,omitempty"` // height and width, of pooling
}

// Save writes the network to a safetensors file. The page docs/quant.md documents it. Save
// replaces an existing file only once the new one is complete. It returns an error if the network
// is not valid, or one that names the file if writing fails.
func (n *Network) Save(path string) error {
	if err := n.Validate(); err != nil {
		return err
	}
	if err := atomicfile.Write(path, n.Write); err != nil {
		return fmt.Errorf("quant: save: %w", err)
	}
	return nil
}

// Write writes to w what Save writes to a file.
func (n *Network) Write(w io.Writer) error {
	if err := n.Validate(); err != nil {
		return err
	}
	d := description{Version: version, Channels: n.Channels, Height: n.Height, Width: n.Width, Steps: n.Steps, Scale: n.Scale, ClassNames: n.ClassNames}
	views := map[string]safetensors.TensorView{}
	put := func(name string, t safetensors.DType, values any, shape ...int) {
		var dims []uint64
		for _, e := range shape {
			dims = append(dims, uint64(e))
		}
		raw, _ := binary.Append(nil, binary.LittleEndian, values) // slices of numbers, which it can append
		views[name], _ = safetensors.NewTensorView(t, dims, raw)  // of a valid network
	}
	gain := func(layer string, g []int32, channels int) {
		if g == nil {
			g = slices.Repeat([]int32{1}, channels)
		}
		put(layer+".gain", safetensors.I32, g, channels)
	}
	put("bias", safetensors.I32, n.Bias, len(n.Bias))
	for _, l := range n.Layers {
		switch l := l.(type) {
		case *Conv:
			d.Layers = append(d.Layers, layerText{Type: "conv", Name: l.Name, Input: l.Input, Add: l.Add, Stride: l.Stride, Pad: l.Pad})
			put(l.Name+".weight", safetensors.I8, l.Weight, l.Cout, l.Cin, l.KH, l.KW)
			put(l.Name+".scale", safetensors.F32, l.Scale, l.Cout)
			gain(l.Name, l.Gain, l.Cout)
			if l.Border != nil {
				border := make([]int32, l.Cin)
				for i, v := range l.Border {
					border[i] = int32(v)
				}
				put(l.Name+".border", safetensors.I32, border, l.Cin)
			}
		case *Neurons:
			soft := 0
			if l.SoftReset {
				soft = 1
			}
			d.Layers = append(d.Layers, layerText{Type: "neurons", Name: l.Name, Input: l.Input, Leak: l.Leak, Shift: l.LeakShift, Soft: soft})
			put(l.Name+".bias", safetensors.I32, l.Bias, len(l.Bias))
			put(l.Name+".threshold", safetensors.I32, l.Threshold, len(l.Threshold))
			gain(l.Name, l.Gain, len(l.Bias))
		case *SumPool:
			d.Layers = append(d.Layers, layerText{Type: "sum_pool", Name: l.Name, Input: l.Input, Window: []int{l.KH, l.KW}})
		case *MaxPool:
			d.Layers = append(d.Layers, layerText{Type: "max_pool", Name: l.Name, Input: l.Input, Window: []int{l.K, l.K}})
		}
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return safetensors.SerializeToWriter(views, map[string]string{metaKey: string(text)}, w)
}

// Load reads a file that Save wrote. It returns an error that names the file and the tensor or
// the layer if the file is damaged, or does not hold a valid network.
func Load(path string) (*Network, error) {
	f, err := paramfile.Open(path, paramfile.Options{})
	if err != nil {
		return nil, fmt.Errorf("quant: load: %s: %w", path, err)
	}
	defer f.Close()
	n, err := network(f)
	if err != nil {
		return nil, fmt.Errorf("quant: load: %s: %w", path, err)
	}
	return n, nil
}

// Parse is Load for the content of a file.
func Parse(file []byte) (*Network, error) {
	f, err := paramfile.Parse(file, paramfile.Options{})
	if err != nil {
		return nil, fmt.Errorf("quant: %w", err)
	}
	return network(f)
}

// tensors reads the tensors of a file. It keeps the first error.
type tensors struct {
	f    *paramfile.File
	left map[string]bool // tensors that were not read
	err  error
}

// has reports whether there is a tensor of the name.
func (t *tensors) has(name string) bool { _, ok := t.f.Shape(name); return ok }

// bytes returns the shape and the values of a tensor with so many extents.
func (t *tensors) bytes(name, dtype string, extents int) (shape []int, raw []byte) {
	if t.err != nil {
		return make([]int, extents), nil
	}
	delete(t.left, name)
	shape, ok := t.f.Shape(name)
	switch {
	case !ok:
		t.err = fmt.Errorf("no tensor %s: expected one of type %s", name, dtype)
	case t.f.Type(name) != dtype || len(shape) != extents:
		t.err = fmt.Errorf("tensor %s is of type %s with shape %v: expected %s with %d extents", name, t.f.Type(name), shape, dtype, extents)
	default:
		if raw, t.err = t.f.Bytes(name); t.err != nil {
			t.err = fmt.Errorf("tensor %s: %w", name, t.err)
		}
	}
	if t.err != nil {
		return make([]int, extents), nil
	}
	return shape, raw
}

// ints returns the values of a vector of int32.
func (t *tensors) ints(name string) []int32 {
	_, raw := t.bytes(name, "I32", 1)
	v := make([]int32, len(raw)/4)
	for i := range v {
		v[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}

// gain returns the gains of a layer, or nil if they are ones.
func (t *tensors) gain(layer string, channels int) []int32 {
	g := t.ints(layer + ".gain")
	if len(g) == channels && !slices.ContainsFunc(g, func(g int32) bool { return g != 1 }) {
		return nil
	}
	return g
}

// network returns the network of a file.
func network(f *paramfile.File) (*Network, error) {
	text, ok := f.Meta[metaKey]
	if !ok {
		return nil, fmt.Errorf("no metadata %q: expected the description of a network of integers", metaKey)
	}
	var d description
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&d)
	if err == nil && decoder.More() {
		err = errors.New("more than one value")
	}
	if err != nil {
		return nil, fmt.Errorf("metadata %q: %w", metaKey, err)
	}
	if d.Version != version {
		return nil, fmt.Errorf("metadata %q: version %d: expected %d", metaKey, d.Version, version)
	}
	t := &tensors{f: f, left: map[string]bool{}}
	for _, name := range f.Names() {
		t.left[name] = true
	}
	n := &Network{
		Channels: d.Channels, Height: d.Height, Width: d.Width, Steps: d.Steps,
		Bias: t.ints("bias"), Scale: d.Scale, ClassNames: d.ClassNames,
	}
	for i, l := range d.Layers {
		layer, err := t.layer(l)
		if err == nil {
			err = t.err
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d, %q: %w", i, l.Name, err)
		}
		n.Layers = append(n.Layers, layer)
	}
	if t.err != nil {
		return nil, t.err
	}
	for _, name := range f.Names() {
		if t.left[name] {
			return nil, fmt.Errorf("tensor %s: expected none of this name", name)
		}
	}
	return n, n.Validate()
}

// layer returns a layer with its tensors.
func (t *tensors) layer(l layerText) (Layer, error) {
	if slices.Contains([]string{"sum_pool", "max_pool"}, l.Type) && len(l.Window) != 2 {
		return nil, fmt.Errorf("window %v: expected its height and width", l.Window)
	}
	switch l.Type {
	case "conv":
		shape, raw := t.bytes(l.Name+".weight", "I8", 4)
		c := &Conv{
			Name: l.Name, Input: l.Input, Add: l.Add, Stride: l.Stride, Pad: l.Pad,
			Cout: shape[0], Cin: shape[1], KH: shape[2], KW: shape[3], Weight: make([]int8, len(raw)),
		}
		for i, b := range raw {
			c.Weight[i] = int8(b)
		}
		_, raw = t.bytes(l.Name+".scale", "F32", 1)
		for i := range len(raw) / 4 {
			c.Scale = append(c.Scale, math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
		}
		c.Gain = t.gain(l.Name, c.Cout)
		if t.has(l.Name + ".border") {
			for i, v := range t.ints(l.Name + ".border") {
				if v < 0 || v > math.MaxUint8 {
					return nil, fmt.Errorf("tensor %s.border: value %d is %d: expected 0 to 255", l.Name, i, v)
				}
				c.Border = append(c.Border, uint8(v))
			}
		}
		return c, nil
	case "neurons":
		if l.Soft != 0 && l.Soft != 1 {
			return nil, fmt.Errorf("soft %d: expected 0 or 1", l.Soft)
		}
		n := &Neurons{
			Name: l.Name, Input: l.Input, Leak: l.Leak, LeakShift: l.Shift, SoftReset: l.Soft == 1,
			Bias: t.ints(l.Name + ".bias"), Threshold: t.ints(l.Name + ".threshold"),
		}
		n.Gain = t.gain(l.Name, len(n.Bias))
		return n, nil
	case "sum_pool":
		return &SumPool{Name: l.Name, Input: l.Input, KH: l.Window[0], KW: l.Window[1]}, nil
	case "max_pool":
		if l.Window[0] != l.Window[1] {
			return nil, errors.New("maximum pooling of windows that are no squares")
		}
		return &MaxPool{Name: l.Name, Input: l.Input, K: l.Window[0]}, nil
	}
	return nil, fmt.Errorf("type %q: expected conv, neurons, sum_pool or max_pool", l.Type)
}
