//go:build hdf5

package nir

/*
#cgo pkg-config: hdf5
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

// Macros of HDF5 that cgo does not see.

static hid_t native_double(void) { return H5T_NATIVE_DOUBLE; }
static hid_t native_int64(void) { return H5T_NATIVE_INT64; }
static hid_t floating(int size) {
	if (size == 8) return H5Tcopy(H5T_IEEE_F64LE);
	hid_t t = H5Tcopy(H5T_IEEE_F32LE);
	if (size == 2) {
		H5Tset_fields(t, 15, 10, 5, 0, 10);
		H5Tset_size(t, 2);
		H5Tset_ebias(t, 15);
	}
	return t;
}
static hid_t integer(int size, int is_signed) {
	hid_t t = H5Tcopy(H5T_STD_I64LE);
	H5Tset_size(t, size);
	H5Tset_sign(t, is_signed ? H5T_SGN_2 : H5T_SGN_NONE);
	return t;
}
static hid_t text(void) {
	hid_t t = H5Tcopy(H5T_C_S1);
	H5Tset_size(t, H5T_VARIABLE);
	H5Tset_cset(t, H5T_CSET_UTF8);
	return t;
}
static void quiet(void) { H5Eset_auto2(H5E_DEFAULT, NULL, NULL); }
static herr_t first_error(unsigned n, const H5E_error2_t *e, void *out) {
	if (n == 0 && e->desc) strncpy(out, e->desc, 255);
	return 0;
}
static void last_error(char *out) {
	out[0] = out[255] = 0;
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_error, out);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/regular"
)

// Debian's libhdf5 does not allow calls side by side.
var hdf5 sync.Mutex

// lock lets no other call of HDF5 run until the function that it returns is called.
func lock() (unlock func()) {
	hdf5.Lock()
	runtime.LockOSThread() // HDF5 keeps its errors by thread
	C.quiet()
	return func() { runtime.UnlockOSThread(); hdf5.Unlock() }
}

// lastError is what HDF5 says about its last failure.
func lastError() error {
	var text [256]C.char
	C.last_error(&text[0])
	if text[0] == 0 {
		return errors.New("HDF5 fails without saying why")
	}
	return errors.New("HDF5: " + C.GoString(&text[0]))
}

// Read reads a graph from an HDF5 file. The error names the file, and the group or field that is
// missing or bad.
func Read(path string) (*Graph, error) {
	info, err := os.Stat(path)
	if err == nil {
		err = regular.Check(path, info)
	}
	if err != nil {
		return nil, fmt.Errorf("nir: %w", err)
	}
	g, err := read(path, info.Size())
	if err == nil {
		err = g.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

func read(path string, size int64) (*Graph, error) {
	defer lock()()
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	file := C.H5Fopen(name, C.H5F_ACC_RDONLY, C.H5P_DEFAULT)
	if file < 0 {
		return nil, lastError()
	}
	defer C.H5Fclose(file)
	most := int(min(maxValues, deflated*size))
	r := &reader{most: most, left: most}
	top, err := r.group(file, "/", 0)
	if err != nil {
		return nil, err
	}
	node := top.groups["node"]
	if node == nil {
		return nil, errors.New("there is no group /node: not a NIR file")
	}
	n, err := node.node("/node")
	if err != nil {
		return nil, err
	}
	if n.Graph == nil {
		return nil, fmt.Errorf("/node is of type %s, want NIRGraph", n.Type)
	}
	if v, ok := top.fields["version"]; ok && len(v.Texts) == 1 {
		n.Graph.Version = v.Texts[0]
	}
	return n.Graph, nil
}

// A tree is a group of an HDF5 file: its datasets and its groups.
type tree struct {
	fields map[string]Array
	groups map[string]*tree
}

// all returns the datasets of the group and of those in it, with the groups' names before their own.
func (t *tree) all() map[string]Array {
	for name, inner := range t.groups {
		for of, a := range inner.all() {
			t.fields[name+"/"+of] = a
		}
	}
	return t.fields
}

// node makes a node of the group at path.
func (t *tree) node(path string) (*Node, error) {
	kind, ok := t.fields["type"]
	if !ok || len(kind.Texts) != 1 {
		return nil, fmt.Errorf("%s/type: want the text of a node's type", path)
	}
	n := &Node{Type: kind.Texts[0], Fields: t.fields}
	delete(n.Fields, "type")
	if meta := t.groups["metadata"]; meta != nil {
		n.Metadata = meta.all()
	}
	for name := range t.groups {
		if name != "metadata" && (name != "nodes" || n.Type != "NIRGraph") {
			return nil, fmt.Errorf("%s/%s: a group, want none but metadata and a graph's nodes", path, name)
		}
	}
	if n.Type != "NIRGraph" {
		return n, nil
	}
	edges, nodes := t.fields["edges"], t.groups["nodes"]
	if nodes == nil || len(edges.Texts)%2 != 0 || len(edges.Shape) > 0 && (len(edges.Shape) != 2 || edges.Shape[1] != 2) && len(edges.Texts) > 0 {
		return nil, fmt.Errorf("%s: want a group nodes, and pairs of texts in edges", path)
	}
	n.Graph = &Graph{Nodes: map[string]*Node{}, Metadata: n.Metadata}
	n.Fields, n.Metadata = nil, nil
	for i := 0; i < len(edges.Texts); i += 2 {
		n.Graph.Edges = append(n.Graph.Edges, [2]string{edges.Texts[i], edges.Texts[i+1]})
	}
	for name, group := range nodes.groups {
		var err error
		if n.Graph.Nodes[name], err = group.node(path + "/nodes/" + name); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// maxValues limits the numbers of a file, 4 GiB of them, and deflated those of a small file, which
// can claim many: deflate makes at most 1032 bytes of one.
const maxValues, deflated = 1 << 29, 1032

// maxGroups limits the groups of a file: hard links to the same groups, level by level, can make
// billions of a few.
const maxGroups = 1 << 14

type reader struct{ most, left, groups int }

// group reads a group with all that is below it.
func (r *reader) group(file C.hid_t, path string, depth int) (*tree, error) {
	if depth > 32 {
		return nil, fmt.Errorf("%s: more than 32 groups in one another", path)
	}
	if r.groups++; r.groups > maxGroups {
		return nil, fmt.Errorf("%s: more than %d groups in the file", path, maxGroups)
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	id := C.H5Gopen2(file, cpath, C.H5P_DEFAULT)
	if id < 0 {
		return nil, fmt.Errorf("%s: %w", path, lastError())
	}
	defer C.H5Gclose(id)
	var info C.H5G_info_t
	if C.H5Gget_info(id, &info) < 0 {
		return nil, fmt.Errorf("%s: %w", path, lastError())
	}
	t := &tree{map[string]Array{}, map[string]*tree{}}
	dot := C.CString(".")
	defer C.free(unsafe.Pointer(dot))
	for i := range info.nlinks {
		size := C.H5Lget_name_by_idx(id, dot, C.H5_INDEX_NAME, C.H5_ITER_INC, i, nil, 0, C.H5P_DEFAULT)
		if size < 0 {
			return nil, fmt.Errorf("%s: %w", path, lastError())
		}
		buf := (*C.char)(C.calloc(C.size_t(size)+1, 1))
		C.H5Lget_name_by_idx(id, dot, C.H5_INDEX_NAME, C.H5_ITER_INC, i, buf, C.size_t(size)+1, C.H5P_DEFAULT)
		name := C.GoString(buf)
		var link C.H5L_info_t
		object := C.hid_t(-1)
		if C.H5Lget_info(id, buf, &link, C.H5P_DEFAULT) >= 0 && link._type == C.H5L_TYPE_HARD { // not into another file
			object = C.H5Oopen(id, buf, C.H5P_DEFAULT)
		}
		C.free(unsafe.Pointer(buf))
		full := path + "/" + name
		if path == "/" {
			full = "/" + name
		}
		if link._type != C.H5L_TYPE_HARD {
			return nil, fmt.Errorf("%s: a link to another place: want the group or the values themselves", full)
		}
		if object < 0 {
			return nil, fmt.Errorf("%s: %w", full, lastError())
		}
		var err error
		switch C.H5Iget_type(object) {
		case C.H5I_GROUP:
			t.groups[name], err = r.group(file, full, depth+1)
		case C.H5I_DATASET:
			t.fields[name], err = r.array(object)
			if err != nil {
				err = fmt.Errorf("%s: %w", full, err)
			}
		}
		C.H5Oclose(object)
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// array reads a dataset.
func (r *reader) array(id C.hid_t) (a Array, err error) {
	space, kind := C.H5Dget_space(id), C.H5Dget_type(id)
	if space < 0 || kind < 0 {
		return a, lastError()
	}
	defer C.H5Sclose(space)
	defer C.H5Tclose(kind)
	if rank := C.H5Sget_simple_extent_ndims(space); rank > 0 {
		dims := make([]C.hsize_t, rank)
		C.H5Sget_simple_extent_dims(space, &dims[0], nil)
		for _, d := range dims {
			if d > maxValues {
				return a, fmt.Errorf("a dimension of %d", uint64(d))
			}
			a.Shape = append(a.Shape, int(d))
		}
	}
	n := int(C.H5Sget_simple_extent_npoints(space))
	if n < 0 {
		return a, lastError()
	}
	if r.left -= n; r.left < 0 {
		return a, fmt.Errorf("the file claims more than %d values", r.most)
	}
	size := int(C.H5Tget_size(kind))
	var failed C.herr_t
	switch class := C.H5Tget_class(kind); {
	case class == C.H5T_FLOAT && (size == 2 || size == 4 || size == 8):
		a.Type, a.Floats = fmt.Sprintf("f%d", size), make([]float64, n)
		failed = C.H5Dread(id, C.native_double(), C.H5S_ALL, C.H5S_ALL, C.H5P_DEFAULT, unsafe.Pointer(unsafe.SliceData(a.Floats)))
	case class == C.H5T_INTEGER && slices.Contains([]int{1, 2, 4, 8}, size):
		a.Type, a.Ints = fmt.Sprintf("i%d", size), make([]int64, n)
		if C.H5Tget_sign(kind) == C.H5T_SGN_NONE {
			a.Type = fmt.Sprintf("u%d", size)
		}
		failed = C.H5Dread(id, C.native_int64(), C.H5S_ALL, C.H5S_ALL, C.H5P_DEFAULT, unsafe.Pointer(unsafe.SliceData(a.Ints)))
		if a.Type == "u8" && slices.Contains(a.Ints, math.MaxInt64) {
			return a, fmt.Errorf("a number of 2⁶³−1 or more, which does not fit")
		}
	case class == C.H5T_STRING && C.H5Tis_variable_str(kind) > 0:
		a.Type, a.Texts = "str", make([]string, n)
		texts := (*[1 << 30]*C.char)(C.calloc(C.size_t(n)+1, C.size_t(unsafe.Sizeof((*C.char)(nil)))))
		defer C.free(unsafe.Pointer(texts))
		memory := C.H5Tcopy(kind)
		defer C.H5Tclose(memory)
		if failed = C.H5Dread(id, memory, C.H5S_ALL, C.H5S_ALL, C.H5P_DEFAULT, unsafe.Pointer(texts)); failed >= 0 {
			for i := range n {
				a.Texts[i] = C.GoString(texts[i])
			}
			C.H5Dvlen_reclaim(memory, space, C.H5P_DEFAULT, unsafe.Pointer(texts))
		}
	case class == C.H5T_STRING:
		if size > 0 && n > maxValues/size {
			return a, fmt.Errorf("%d texts of %d bytes: more than %d bytes", n, size, maxValues)
		}
		a.Type, a.Texts = "str", make([]string, n)
		bytes := make([]byte, n*size+1)
		memory := C.H5Tcopy(kind)
		defer C.H5Tclose(memory)
		failed = C.H5Dread(id, memory, C.H5S_ALL, C.H5S_ALL, C.H5P_DEFAULT, unsafe.Pointer(&bytes[0]))
		for i := range n {
			text := bytes[i*size:][:size]
			if end := slices.Index(text, 0); end >= 0 {
				text = text[:end]
			}
			a.Texts[i] = string(text)
		}
	default:
		return a, fmt.Errorf("a type of class %d with %d bytes: want floating-point numbers, integers or texts", class, size)
	}
	if failed < 0 {
		return a, lastError()
	}
	return a, nil
}

// Write writes the graph to an HDF5 file in the layout of the Python library nir. The file is
// complete, or as it was before. Write returns an error that names the file and the node or field
// if HDF5 cannot have its name or its text.
func (g *Graph) Write(path string) error {
	if err := g.Validate(); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".nir-*")
	if err != nil {
		return fmt.Errorf("nir: %w", err)
	}
	defer os.RemoveAll(folder)
	temporary := filepath.Join(folder, "graph")
	if err := g.write(temporary); err != nil {
		return fmt.Errorf("nir: %s: %w", path, err)
	}
	err = atomicfile.Write(path, func(w io.Writer) error {
		f, err := os.Open(temporary)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	if err != nil {
		return fmt.Errorf("nir: %w", err)
	}
	return nil
}

func (g *Graph) write(path string) (err error) {
	defer lock()()
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	file := C.H5Fcreate(name, C.H5F_ACC_TRUNC, C.H5P_DEFAULT, C.H5P_DEFAULT)
	if file < 0 {
		return lastError()
	}
	version := g.Version
	if version == "" {
		version = Version
	}
	err = writeArray(file, "version", Text(version))
	if err == nil {
		err = writeNode(file, "node", &Node{Type: "NIRGraph", Graph: g, Metadata: g.Metadata})
	}
	if C.H5Fclose(file) < 0 && err == nil {
		err = lastError()
	}
	return err
}

func writeNode(parent C.hid_t, name string, n *Node) error {
	return writeGroup(parent, name, func(id C.hid_t) error {
		if err := writeArray(id, "type", Text(n.Type)); err != nil {
			return err
		}
		if err := writeFields(id, n.Fields); err != nil {
			return err
		}
		if len(n.Metadata) > 0 {
			if err := writeGroup(id, "metadata", func(id C.hid_t) error { return writeMetadata(id, n.Metadata) }); err != nil {
				return err
			}
		}
		if n.Graph == nil {
			return nil
		}
		edges := Array{Type: "str", Shape: []int{len(n.Graph.Edges), 2}}
		for _, e := range n.Graph.Edges {
			edges.Texts = append(edges.Texts, e[0], e[1])
		}
		if err := writeArray(id, "edges", edges); err != nil {
			return err
		}
		return writeGroup(id, "nodes", func(id C.hid_t) error {
			for _, name := range slices.Sorted(maps.Keys(n.Graph.Nodes)) {
				child := n.Graph.Nodes[name]
				if child.Graph != nil {
					child = &Node{Type: child.Type, Graph: child.Graph, Metadata: child.Graph.Metadata}
				}
				if err := writeNode(id, name, child); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func writeFields(id C.hid_t, fields map[string]Array) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := writeArray(id, name, fields[name]); err != nil {
			return err
		}
	}
	return nil
}

// writeMetadata writes datasets, each into the group that its name has before a slash.
func writeMetadata(id C.hid_t, fields map[string]Array) error {
	own, groups := map[string]Array{}, map[string]map[string]Array{}
	for name, a := range fields {
		group, inner, ok := strings.Cut(name, "/")
		if !ok {
			own[name] = a
			continue
		}
		if groups[group] == nil {
			groups[group] = map[string]Array{}
		}
		groups[group][inner] = a
	}
	if err := writeFields(id, own); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if err := writeGroup(id, name, func(id C.hid_t) error { return writeMetadata(id, groups[name]) }); err != nil {
			return err
		}
	}
	return nil
}

// validateName returns an error if HDF5 cannot have a name: it would take it for a path, or cut it.
func validateName(name string) error {
	if name == "" || name == "." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("name %q: want one of HDF5, not empty or a dot, and without / and NUL", name)
	}
	return nil
}

// writeGroup makes a group and fills it by fn.
func writeGroup(parent C.hid_t, name string, fn func(id C.hid_t) error) error {
	if err := validateName(name); err != nil {
		return err
	}
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	id := C.H5Gcreate2(parent, cname, C.H5P_DEFAULT, C.H5P_DEFAULT, C.H5P_DEFAULT)
	if id < 0 {
		return fmt.Errorf("%s: %w", name, lastError())
	}
	defer C.H5Gclose(id)
	if err := fn(id); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func writeArray(parent C.hid_t, name string, a Array) error {
	if err := validateName(name); err != nil {
		return err
	}
	if i := slices.IndexFunc(a.Texts, func(s string) bool { return strings.Contains(s, "\x00") }); i >= 0 {
		return fmt.Errorf("%s: text %q: want one without NUL", name, a.Texts[i])
	}
	space := C.H5Screate(C.H5S_SCALAR)
	if a.Shape != nil {
		C.H5Sclose(space)
		dims := make([]C.hsize_t, len(a.Shape)+1)
		for i, d := range a.Shape {
			dims[i] = C.hsize_t(d)
		}
		space = C.H5Screate_simple(C.int(len(a.Shape)), &dims[0], nil)
	}
	defer C.H5Sclose(space)
	var kind, memory C.hid_t
	var data unsafe.Pointer
	switch a.Type {
	case "f2", "f4", "f8":
		kind = C.floating(C.int(a.Type[1] - '0'))
		memory, data = C.native_double(), unsafe.Pointer(unsafe.SliceData(a.Floats))
	case "str":
		kind = C.text()
		memory = kind
		texts := C.calloc(C.size_t(len(a.Texts))+1, C.size_t(unsafe.Sizeof((*C.char)(nil))))
		defer C.free(texts)
		list := unsafe.Slice((**C.char)(texts), len(a.Texts))
		for i, s := range a.Texts {
			list[i] = C.CString(s)
			defer C.free(unsafe.Pointer(list[i]))
		}
		data = texts
	default:
		signed := C.int(0)
		if a.Type[0] == 'i' {
			signed = 1
		}
		kind = C.integer(C.int(a.Type[1]-'0'), signed)
		memory, data = C.native_int64(), unsafe.Pointer(unsafe.SliceData(a.Ints))
	}
	defer C.H5Tclose(kind)
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	id := C.H5Dcreate2(parent, cname, kind, space, C.H5P_DEFAULT, C.H5P_DEFAULT, C.H5P_DEFAULT)
	if id < 0 {
		return fmt.Errorf("%s: %w", name, lastError())
	}
	defer C.H5Dclose(id)
	if C.H5Dwrite(id, memory, C.H5S_ALL, C.H5S_ALL, C.H5P_DEFAULT, data) < 0 {
		return fmt.Errorf("%s: %w", name, lastError())
	}
	return nil
}
