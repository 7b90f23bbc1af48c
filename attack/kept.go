package attack

import (
	"archive/zip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/tensor"
)

// Kept holds the images of an evaluation that [Config].Keep chose.
type Kept struct {
	Indices     []int         // [N], of the images in the data
	Clean       tensor.NCHW   // N images
	Adversarial []tensor.NCHW // of each attack, N images, in the order of Report.Attacks

	positions []int // [N], in the report's slices; nil if they hold all images from the first on
}

// position returns where the report's slices hold kept image i.
func (k *Kept) position(i int) int {
	if k.positions == nil {
		return k.Indices[i]
	}
	return k.positions[i]
}

// add appends the images that shown holds of a batch, chosen by their index in the batch. The
// batch begins at image first.
func (k *Kept) add(first int, chosen []int, versions []shown) {
	for _, i := range chosen {
		k.Indices = append(k.Indices, first+i)
	}
	k.Clean = concat(k.Clean, versions[0].kept)
	for j := range k.Adversarial {
		k.Adversarial[j] = concat(k.Adversarial[j], versions[j+1].kept)
	}
}

// choose returns the indices in x of the images that Keep chooses. Image 0 of x is image first
// of the data.
func (e *evaluation) choose(x tensor.NCHW, first int) (chosen []int) {
	for i := range x.N {
		if e.Keep != nil && e.Keep(first+i) {
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// pick returns a copy of the images chosen from x.
func pick(x tensor.NCHW, chosen []int) tensor.NCHW {
	shape := x.Shape()
	shape.N = len(chosen)
	dst := tensor.NewFrames(shape)
	for k, i := range chosen {
		copy(dst.Image(k), x.Image(i))
	}
	return dst
}

// concat returns the images of x and those of y, which have one shape unless x has no shape.
func concat(x, y tensor.NCHW) tensor.NCHW {
	y.N, y.Data = x.N+y.N, append(x.Data, y.Data...)
	return y
}

// errNothingKept is the error of writing images that a report does not have.
var errNothingKept = errors.New("the report holds no images: expected an evaluation whose Config.Keep chooses some")

// WriteNPZ writes the report's Kept to a NumPy archive. It has these arrays:
//
//   - indices [N], labels [N] and predicted [N], the classes of the clean images, int64;
//   - clean [N, C, H, W], or [N, T, C, H, W] for examples of T frames, float32 in [0,1];
//   - for each attack, NAME/adversarial like clean, and NAME/predicted like predicted.
//
// After an error the file at path is as before. It is an error if nothing was kept.
func (r *Report) WriteNPZ(path string) error {
	k := r.Kept
	if k == nil || len(k.Indices) == 0 {
		return fmt.Errorf("attack: %s: %w", path, errNothingKept)
	}
	err := atomicfile.Write(path, func(w io.Writer) error {
		z := zip.NewWriter(w)
		a := archive{z: z}
		a.classes("indices", k.Indices)
		a.classes("labels", k.of(r.Labels))
		a.images("clean", k.Clean)
		a.classes("predicted", k.of(r.Clean.Predicted))
		for i, o := range r.Attacks {
			a.images(o.Name+"/adversarial", k.Adversarial[i])
			a.classes(o.Name+"/predicted", k.of(o.Predicted))
		}
		if a.err != nil {
			return a.err
		}
		return z.Close()
	})
	if err != nil {
		return fmt.Errorf("attack: write images: %w", err)
	}
	return nil
}

// of returns the values of the kept images.
func (k *Kept) of(all []int) []int {
	list := make([]int, len(k.Indices))
	for i := range k.Indices {
		list[i] = all[k.position(i)]
	}
	return list
}

// archive writes arrays to a NumPy archive until the first error.
type archive struct {
	z   *zip.Writer
	err error
}

func (a *archive) images(name string, x tensor.NCHW) {
	shape := []int{x.N, x.Shape().Steps, x.C, x.H, x.W}
	if shape[1] == 1 {
		shape = []int{x.N, x.C, x.H, x.W}
	}
	a.array(name, "<f4", shape, func(w io.Writer) error {
		for i := range x.N { // each in turn, for binary.Write makes a copy
			if err := binary.Write(w, binary.LittleEndian, x.Image(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *archive) classes(name string, list []int) {
	a.array(name, "<i8", []int{len(list)}, func(w io.Writer) error {
		for _, v := range list {
			if err := binary.Write(w, binary.LittleEndian, int64(v)); err != nil {
				return err
			}
		}
		return nil
	})
}

// array writes one array in NumPy's format 1.0. Package npyio writes no array of four or
// more dimensions from a slice.
func (a *archive) array(name, kind string, shape []int, data func(io.Writer) error) {
	if a.err != nil {
		return
	}
	w, err := a.z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: zip.Deflate})
	if err == nil {
		dims := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(shape)), ", "), "[]")
		if len(shape) == 1 {
			dims += ","
		}
		text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", kind, dims)
		text += strings.Repeat(" ", 63-(10+len(text))%64) + "\n" // the data begin at a multiple of 64 bytes
		header := binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(text)))
		_, err = w.Write(append(header, text...))
	}
	if err == nil {
		err = data(w)
	}
	a.err = err
}
