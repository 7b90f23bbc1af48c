package rng_test

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/tensor/rng"
)

// A derived key is SHA-256 over the parent key, the index (8 bytes, little-endian) and the
// purpose. The test writes these bytes out.
func TestKeysAreHashesOfTheirDerivation(t *testing.T) {
	message := append(make([]byte, 32), 0x02, 0x01, 0, 0, 0, 0, 0, 0, 's', 'e', 'e', 'd')
	root := sha256.Sum256(message)
	assert.Equal(t, rng.Key(root), rng.New(258))

	message = append(root[:], 7, 0, 0, 0, 0, 0, 0, 0x80, 'i', 'm', 'a', 'g', 'e')
	assert.Equal(t, rng.Key(sha256.Sum256(message)), rng.New(258).Derive("image", 1<<63+7))
}

// A stream is ChaCha8 with the key, from its beginning. Other streams have no effect on it.
func TestStreams(t *testing.T) {
	key := rng.New(1).Derive("x", 2)
	want := rand.NewChaCha8(key)
	r, other := key.Rand(), key.Rand()
	for range 1000 {
		v := want.Uint64()
		require.Equal(t, v, r.Uint64())
		rng.New(1).Derive("y", 2).Rand().Uint64()
	}
	assert.Equal(t, rand.NewChaCha8(key).Uint64(), other.Uint64())
}

// Different derivations give different keys.
func TestKeysDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type derivation struct {
			seed, index uint64
			purpose     string
		}
		draw := func(label string) derivation {
			return derivation{
				rapid.Uint64Range(0, 3).Draw(t, label+" seed"), rapid.Uint64Range(0, 3).Draw(t, label+" index"),
				rapid.StringMatching("[ab]{0,3}").Draw(t, label+" purpose"),
			}
		}
		a, b := draw("a"), draw("b")
		key := func(d derivation) rng.Key { return rng.New(d.seed).Derive(d.purpose, d.index) }
		require.Equal(t, a == b, key(a) == key(b))
	})
}
