// Command reader prints the logits of images, [N][C][H][W] bytes: go run ./snn/quant/reader FILE < images
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
)

type layer struct { // or the whole network, which has Layers
	Type, Name, Input, Add         string
	Stride, Pad, Leak, Shift, Soft int
	Channels, Height, Width, Steps int
	Window                         []int
	Layers                         []layer
}

type tensor struct { // of the file, or the output of a layer at one step, [C, H, W]
	DType   string
	Shape   []int
	Offsets [2]int `json:"data_offsets"`
	Network string `json:"snnrat.quant"` // in the metadata
	data    []int
}

func main() {
	file, _ := os.ReadFile(os.Args[1])
	start := 8 + binary.LittleEndian.Uint64(file)
	tensors, net := map[string]tensor{}, layer{}
	json.Unmarshal(file[8:start], &tensors)
	json.Unmarshal([]byte(tensors["__metadata__"].Network), &net)
	for name, t := range tensors {
		for raw := file[start:][t.Offsets[0]:t.Offsets[1]]; len(raw) > 0; {
			v, size := int(int8(raw[0])), 1
			if t.DType != "I8" { // I32, or the scales, which are not used
				v, size = int(int32(binary.LittleEndian.Uint32(raw))), 4
			}
			t.data, raw = append(t.data, v), raw[size:]
		}
		tensors[name] = t
	}
	for pixels := make([]byte, net.Channels*net.Height*net.Width); binary.Read(os.Stdin, binary.LittleEndian, pixels) == nil; {
		x := tensor{Shape: []int{net.Channels, net.Height, net.Width}}
		for _, v := range pixels {
			x.data = append(x.data, int(v))
		}
		logits, values, potentials := append([]int{}, tensors["bias"].data...), map[string]tensor{"image": x}, map[string][]int{}
		for range net.Steps {
			for _, l := range net.Layers {
				x = l.run(values[l.Input], values[l.Add].data, potentials, tensors)
				values[l.Name] = x
			}
			for c, v := range x.data {
				logits[c] += v
			}
		}
		fmt.Println(logits)
	}
}

func (l layer) run(x tensor, add []int, potentials map[string][]int, tensors map[string]tensor) (y tensor) {
	get := func(name string) []int { return tensors[l.Name+"."+name].data }
	h, width, weights, gain, border, shape := x.Shape[1], x.Shape[2], get("weight"), get("gain"), get("border"), tensors[l.Name+".weight"].Shape
	if l.Type == "neurons" {
		y = tensor{Shape: x.Shape, data: make([]int, len(x.data))}
		m, bias, threshold := potentials[l.Name], get("bias"), get("threshold")
		m = append(m, make([]int, len(x.data)-len(m))...) // zeros at the first step
		for i, current := range x.data {
			c := i / (h * width)
			if m[i] = m[i]*l.Leak>>l.Shift + gain[c]*current + bias[c]; m[i] >= threshold[c] {
				y.data[i], m[i] = 1, l.Soft*(m[i]-threshold[c])
			}
		}
		potentials[l.Name] = m
		return y
	} else if l.Type != "conv" { // pooling, a channel at a time
		shape, l.Stride = []int{x.Shape[0], 1, l.Window[0], l.Window[1]}, l.Window[0]
	}
	cin, kh, kw := shape[1], shape[2], shape[3]
	y.Shape = []int{shape[0], (h+2*l.Pad-kh)/l.Stride + 1, (width+2*l.Pad-kw)/l.Stride + 1}
	y.data = append(append([]int{}, add...), make([]int, y.Shape[0]*y.Shape[1]*y.Shape[2]-len(add))...)
	for i := range y.data {
		o, row, col := i/(y.Shape[1]*y.Shape[2]), i/y.Shape[2]%y.Shape[1]*l.Stride-l.Pad, i%y.Shape[2]*l.Stride-l.Pad
		for k := range cin * kh * kw {
			weight, c, r, s := 1, o, row+k/kw%kh, col+k%kw
			if l.Type == "conv" {
				weight, c = weights[o*cin*kh*kw+k]*gain[o], k/(kh*kw)
			} else if l.Type == "max_pool" {
				weight = 1 - y.data[i] // nothing more after a spike
			}
			if r >= 0 && r < h && s >= 0 && s < width {
				y.data[i] += weight * x.data[(c*h+r)*width+s]
			} else if border != nil {
				y.data[i] += weight * border[c]
			}
		}
	}
	return y
}
