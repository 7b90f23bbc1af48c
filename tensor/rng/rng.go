// Package rng makes random streams from keys. A key is derived from a seed, a purpose and
// an index. Its stream does not depend on what other streams have drawn. A run therefore
// gives the same bits at any batch size, in any order of work and at any number of
// threads.
package rng

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
)

// Key identifies a random stream.
type Key [32]byte

// New returns the root key of a seed. Equal seeds give equal keys.
func New(seed uint64) Key {
	return Key{}.Derive("seed", seed)
}

// Derive returns a new key for one part of the work that k stands for, for example image
// index of a batch. It is the SHA-256 hash of k, index and purpose.
func (k Key) Derive(purpose string, index uint64) Key {
	buf := make([]byte, 0, 96)
	buf = append(buf, k[:]...)
	buf = binary.LittleEndian.AppendUint64(buf, index)
	buf = append(buf, purpose...)
	return sha256.Sum256(buf)
}

// Rand returns a generator at the beginning of k's stream. The generator is ChaCha8.
func (k Key) Rand() *rand.Rand { return rand.New(rand.NewChaCha8(k)) }
