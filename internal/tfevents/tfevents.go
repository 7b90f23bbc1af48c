// Package tfevents writes scalars to event files of TensorBoard.
//
// A file is a sequence of TFRecords, and each record is a protocol buffer of type Event
// (tensorboard/compat/proto/event.proto). A TFRecord is
//
//	uint64 length, uint32 masked CRC of length, data, uint32 masked CRC of data
//
// in little-endian order. The CRC is CRC-32C, masked as ((crc >> 15) | (crc << 17)) + 0xa282ead8.
package tfevents

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of Event, Summary, Summary.Value and SessionLog.
const (
	wallTime, step, fileVersion, summary, sessionLog = 1, 2, 3, 5, 7
	summaryValue                                     = 1
	valueTag, simpleValue                            = 1, 2
	logStatus, statusStart                           = 1, 1
)

const prefix = "events.out.tfevents."

// Value is a scalar.
type Value struct {
	Tag   string
	Value float64 // the file holds it as a float32
}

// File is an event file.
type File struct{ path string }

// Create makes the folder dir, if there is none, and a new event file in it. TensorBoard reads
// the files of a folder in the order of their names, and the new file is the last one. It
// begins with the version, and with a session start at step 0. TensorBoard then drops the
// scalars of the files before.
func Create(dir string) (*File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	number := time.Now().Unix() // as in the names of TensorFlow
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		digits, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
			number = max(number, n+1)
		}
	}
	f := &File{filepath.Join(dir, fmt.Sprintf("%s%010d.snnrat", prefix, number))}
	created, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	if err := created.Close(); err != nil {
		return nil, err
	}
	return f, f.write(begin(time.Now()))
}

// begin returns the first records of a file.
func begin(now time.Time) []byte {
	version := protowire.AppendString(protowire.AppendTag(event(now, 0), fileVersion, protowire.BytesType), "brain.Event:2")
	start := protowire.AppendVarint(protowire.AppendTag(nil, logStatus, protowire.VarintType), statusStart)
	log := protowire.AppendBytes(protowire.AppendTag(event(now, 0), sessionLog, protowire.BytesType), start)
	return appendRecord(appendRecord(nil, version), log)
}

// Append adds scalars of a step, at least 0, at the end of the file.
func (f *File) Append(step int64, values []Value) error {
	return f.write(scalars(time.Now(), step, values))
}

// scalars returns the record of scalars of a step.
func scalars(now time.Time, step int64, values []Value) []byte {
	var all []byte
	for _, v := range values {
		b := protowire.AppendString(protowire.AppendTag(nil, valueTag, protowire.BytesType), v.Tag)
		b = protowire.AppendFixed32(protowire.AppendTag(b, simpleValue, protowire.Fixed32Type), math.Float32bits(float32(v.Value)))
		all = protowire.AppendBytes(protowire.AppendTag(all, summaryValue, protowire.BytesType), b)
	}
	return appendRecord(nil, protowire.AppendBytes(protowire.AppendTag(event(now, step), summary, protowire.BytesType), all))
}

// event begins an event.
func event(now time.Time, at int64) []byte {
	seconds := float64(now.UnixMicro()) / 1e6
	b := protowire.AppendFixed64(protowire.AppendTag(nil, wallTime, protowire.Fixed64Type), math.Float64bits(seconds))
	if at == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, step, protowire.VarintType), uint64(at))
}

// write appends records, by one call of Write.
func (f *File) write(records []byte) error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := file.Write(records); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends data as a TFRecord.
func appendRecord(b, data []byte) []byte {
	length := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(append(b, length...), masked(length))
	return binary.LittleEndian.AppendUint32(append(b, data...), masked(data))
}

func masked(data []byte) uint32 {
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + 0xa282ead8
}
