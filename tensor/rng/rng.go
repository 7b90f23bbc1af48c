// Package rng makes random streams that are keyed, not shared: a key names a
// purpose and an index, and the stream that it opens does not depend on any other
// draw. So a run repeats to the bit whatever the batch size, the order of work or
// the number of threads.
package rng

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
)

// Key names a random stream.
type Key [32]byte

// New returns the root key of a seed.
func New(seed uint64) Key {
	return Key{}.Derive("seed", seed)
}

// Derive returns the key of a part of k's work: SHA-256 of k, index and purpose.
func (k Key) Derive(purpose string, index uint64) Key {
	buf := make([]byte, 0, 96)
	buf = append(buf, k[:]...)
	buf = binary.LittleEndian.AppendUint64(buf, index)
	buf = append(buf, purpose...)
	return sha256.Sum256(buf)
}

// Rand opens k's stream, a ChaCha8 generator, at its beginning.
func (k Key) Rand() *rand.Rand { return rand.New(rand.NewChaCha8(k)) }
