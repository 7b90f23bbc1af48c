package attack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// The ranges of all shards follow one another, cover the images, and differ in length by at most
// one.
func TestShardRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, of := rapid.IntRange(0, 50).Draw(t, "n"), rapid.IntRange(1, 60).Draw(t, "of")
		at := 0
		for i := range of {
			lo, hi := attack.Shard{Index: i + 1, Count: of}.Range(n)
			require.Equal(t, at, lo)
			require.Contains(t, []int{n / of, (n + of - 1) / of}, hi-lo)
			at = hi
		}
		require.Equal(t, n, at)
	})
	lo, hi := attack.Shard{}.Range(7)
	assert.Equal(t, []int{0, 7}, []int{lo, hi})
	assert.Panics(t, func() { attack.Shard{Index: 3, Count: 2}.Range(7) })
}

// A text of a shard is what String returns, and any other text is refused.
func TestShardText(t *testing.T) {
	for _, want := range []attack.Shard{{}, {1, 1}, {2, 3}, {10, 10}} {
		var got attack.Shard
		require.NoError(t, got.UnmarshalText([]byte(want.String())))
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"0/3", "4/3", "-1/3", "a/b", "1", "1/", "/3", "1/3/3", " 1/3", "01/3", "+1/3", "1/99999999999999999999"} {
		s := attack.Shard{Index: 1, Count: 2}
		assert.ErrorContains(t, s.UnmarshalText([]byte(text)), "expected i/n with whole numbers 1 ≤ i ≤ n", text)
		assert.Equal(t, attack.Shard{Index: 1, Count: 2}, s)
	}
}

// What is missing, there twice or of another evaluation is named.
func TestValidateShards(t *testing.T) {
	for _, c := range []struct {
		list []attack.Shard
		want string
	}{
		{[]attack.Shard{{1, 1}}, ""},
		{[]attack.Shard{{3, 3}, {1, 3}, {2, 3}}, ""},
		{nil, "no shards"},
		{[]attack.Shard{{3, 3}, {1, 3}}, "1 of 3 shards are missing: 2/3"},
		{[]attack.Shard{{2, 14}}, "13 of 14 shards are missing: 1/14, 3/14, 4/14, 5/14, 6/14, 7/14, 8/14, 9/14, 10/14, 11/14, …"},
		{[]attack.Shard{{1, 2}, {2, 2}, {1, 2}}, "a and c both hold shard 1/2"},
		{[]attack.Shard{{1, 2}, {2, 3}}, "b holds shard 2/3, but a holds shard 1/2"},
		{[]attack.Shard{{1, 2}, {}}, "b holds no shard"},
		{[]attack.Shard{{3, 2}}, "a holds no shard"},
	} {
		err := attack.ValidateShards(c.list, []string{"a", "b", "c"}[:len(c.list)])
		if c.want == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, c.want)
		}
	}
}

// throughJSON returns what a program reads of a report that another one has written.
func throughJSON[T any](t *testing.T, r *T) *T {
	t.Helper()
	text, err := json.Marshal(r)
	require.NoError(t, err)
	read := new(T)
	require.NoError(t, json.Unmarshal(text, read))
	return read
}

// sharded is an evaluation with all that may depend on other images: random starts, noise, targets,
// zero gradients, kept images, and batches that do not end with a shard.
func sharded(t *testing.T) (*snn.Model, set, []attack.Named, attack.Config) {
	m := model(t, small, false)
	x, y, _ := images(m, 11, 0, 1)
	blind := attack.FGSM(0.1, snn.BPTT{})
	blind.Objective = onlyLast{} // zero gradients
	aimed := attack.PGD(0.1, 0.05, 3, snn.BPTT{})
	aimed.Target = func(id uint64, label int) int { return (label + 1 + int(id%2)) % 3 }
	cfg := attack.DefaultConfig()
	cfg.Batch, cfg.Key = 3, rng.New(5)
	cfg.Keep = func(i int) bool { return i%2 == 1 }
	return m, set{x: x, y: y}, []attack.Named{
		{Name: "noise", Attack: attack.GaussianNoise{Std: 0.1}},
		{Name: "aimed", Attack: aimed},
		{Name: "PGD", Attack: attack.PGD(0.1, 0.05, 3, snn.BPTT{})},
		{Name: "mix", Attack: attack.RATMix(0.1)},
		{Name: "blind", Attack: blind},
	}, cfg
}

// The merged report of any number of shards, in any order, is that of one evaluation: its JSON byte
// by byte, and its kept images.
func TestMerge(t *testing.T) {
	m, data, attacks, cfg := sharded(t)
	want, err := attack.Evaluate(ctx, m, data, attacks, cfg)
	require.NoError(t, err)
	require.NotEmpty(t, want.Attacks[4].ZeroGradient)
	for of := 1; of <= 4; of++ {
		var shards, read []*attack.Report
		for i := range of {
			cfg := cfg
			if of == 3 {
				cfg.Batch = math.MaxInt
			}
			cfg.Shard = attack.Shard{Index: i + 1, Count: of}
			var last attack.Progress
			cfg.Progress = func(p attack.Progress) { last = p }
			r, err := attack.Evaluate(ctx, m, data, attacks, cfg)
			require.NoError(t, err)
			lo, hi := cfg.Shard.Range(11)
			assert.Equal(t, want.Labels[lo:hi], r.Labels)
			assert.Equal(t, last.Total, last.Done)
			assert.Equal(t, (hi-lo)*(1+len(attacks)), last.Total)
			assert.Contains(t, r.String(), fmt.Sprintf("shard %d/%d of 11", i+1, of))
			assert.NoError(t, r.WriteNPZ(t.TempDir()+"/kept.npz"))
			shards, read = slices.Insert(shards, 0, r), append(read, throughJSON(t, r))
		}
		got, err := attack.Merge(shards...)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		got, err = attack.Merge(read...)
		require.NoError(t, err)
		assert.Equal(t, asText(t, want), asText(t, got))
		assert.Nil(t, got.Kept)
	}
}

func asText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// A shard of another evaluation is refused with the difference, and one that is not complete,
// missing or given twice by name.
func TestMergeRefuses(t *testing.T) {
	m, data, attacks, cfg := sharded(t)
	shard := func(i int, change func(m *snn.Model, s *set, a []attack.Named, c *attack.Config)) *attack.Report {
		n := model(t, small, false)
		s, a, c := data, slices.Clone(attacks), cfg
		s.x = s.x.Clone()
		c.Shard = attack.Shard{Index: i, Count: 2}
		if change != nil {
			change(n, &s, a, &c)
		}
		r, err := attack.Evaluate(ctx, n, s, a, c)
		require.NoError(t, err)
		return r
	}
	first, second := shard(1, nil), shard(2, nil)
	_, err := attack.Merge(first, second)
	require.NoError(t, err)
	for want, change := range map[string]func(m *snn.Model, s *set, a []attack.Named, c *attack.Config){
		"shard 1 (2/2) has the networks ": func(m *snn.Model, _ *set, _ []attack.Named, _ *attack.Config) {
			m.Params()[0].MutableData()[0]++
		},
		"has the key ":            func(_ *snn.Model, _ *set, _ []attack.Named, c *attack.Config) { c.Key = rng.New(6) },
		"has the images' digest ": func(_ *snn.Model, s *set, _ []attack.Named, _ *attack.Config) { s.x.Image(0)[0] = 0.125 },
		"has the attack ": func(_ *snn.Model, _ *set, a []attack.Named, _ *attack.Config) {
			a[2].Attack = attack.BIM(0.1, 0.05, 3, snn.BPTT{})
		},
		"has the eps 0.5": func(_ *snn.Model, _ *set, _ []attack.Named, c *attack.Config) {
			c.Threat = attack.Threat{Norm: attack.LInf{}, Eps: 0.5}
		},
		"has the number of images 10": func(_ *snn.Model, s *set, _ []attack.Named, _ *attack.Config) {
			s.x, s.y = s.x.Slice(0, 10), s.y[:10]
		},
		"3/3, but shard 0 (1/2) holds shard 1/2": func(_ *snn.Model, _ *set, _ []attack.Named, c *attack.Config) {
			c.Shard = attack.Shard{Index: 3, Count: 3}
		},
		"both hold shard 1/2": func(_ *snn.Model, _ *set, _ []attack.Named, c *attack.Config) { c.Shard.Index = 1 },
	} {
		_, err := attack.Merge(first, shard(2, change))
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "attack: merge: ")
	}
	_, err = attack.Merge(first)
	assert.ErrorContains(t, err, "1 of 2 shards are missing: 2/2")
	_, err = attack.Merge(first, nil)
	assert.ErrorContains(t, err, "shard 1 is nil")
	whole, err := attack.Evaluate(ctx, m, data, attacks, cfg)
	require.NoError(t, err)
	_, err = attack.Merge(whole)
	assert.ErrorContains(t, err, "shard 0 is nil or no part of an evaluation")

	for want, change := range map[string]func(r *attack.Report){
		`has the kernels amd65`:      func(r *attack.Report) { r.Part.Kernels = "amd65" },
		`has the version 9`:          func(r *attack.Report) { r.Library = "9" },
		"labels of 5 images: ":       func(r *attack.Report) { r.Images = 4 },
		"has the attack ":            func(r *attack.Report) { r.Attacks = r.Attacks[1:] },
		"and shard 0 (1/2) has none": func(r *attack.Report) { r.Attacks = append(r.Attacks, r.Attacks[0]) },
	} {
		r := throughJSON(t, second)
		change(r)
		_, err := attack.Merge(first, r)
		assert.ErrorContains(t, err, want)
	}

	// A shard that was stopped.
	stopped, stop := context.WithCancel(ctx)
	cfg.Shard = attack.Shard{Index: 2, Count: 2}
	cfg.Progress = func(p attack.Progress) {
		if p.Done == 3*(1+len(attacks)) {
			stop()
		}
	}
	part, err := attack.Evaluate(stopped, m, data, attacks, cfg)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 3, part.Images)
	_, err = attack.Merge(first, part)
	assert.ErrorContains(t, err, "shard 1 (2/2) has results of 3 images: expected those of its 5")

	for want, s := range map[string]attack.Shard{
		"shard 1/12 of 11 images: expected at most one shard for each image": {Index: 1, Count: 12},
		"shard 3/2: expected an index from 1 to":                             {Index: 3, Count: 2},
	} {
		cfg.Shard = s
		_, err := attack.Evaluate(ctx, m, data, attacks, cfg)
		assert.ErrorContains(t, err, want)
	}
	// Reports of different images are not compared.
	_, err = attack.McNemar(first, second, "clean")
	assert.Error(t, err)
	second.Images, second.Labels = first.Images, first.Labels
	_, err = attack.McNemar(shard(1, nil), throughShard(shard(1, nil)), "clean")
	assert.ErrorContains(t, err, `reports of the shards "1/2" and "2/2": expected the same images`)
}

// throughShard makes a report one of another shard.
func throughShard(r *attack.Report) *attack.Report {
	part := *r.Part
	part.Shard.Index = 2
	r.Part = &part
	return r
}

// shardedBattery has attacks with random starts, rounds and a search.
func shardedBattery(t *testing.T) (attack.Battery, *snn.Model, set, attack.BatteryConfig) {
	m := model(t, small, false)
	x, _, _ := images(m, 11, 0, 1)
	y := correct(t, m, x)
	y[4] = (y[4] + 1) % 3 // misclassified
	pgd := attack.PGD(0.03, 0.01, 4, snn.BPTT{})
	pgd.KeepBest = true
	cfg := attack.DefaultBatteryConfig()
	cfg.Key = rng.New(5)
	cfg.Keep = func(i int) bool { return i%2 == 1 }
	return attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.03}, Attacks: []attack.Named{
		{Name: "PGD", Attack: pgd},
		{Name: "transfer", Attack: attack.Transfer{Sources: []*snn.Model{model(t, "conv4 | fc", false)}, Attack: pgd}},
		{Name: "square", Attack: attack.Square{Norm: attack.LInf{}, Eps: 0.03, Queries: 20, P: 0.5, FromBest: true}},
		{Name: "rounds", Attack: attack.Rounds{Attacks: []attack.Searcher{pgd}, N: 4, GiveUp: 3}},
	}}, m, set{x: x, y: y}, cfg
}

// The merged report of any number of shards of a battery is that of one evaluation: its JSON with
// the checks byte by byte, and its kept images.
func TestMergeBattery(t *testing.T) {
	b, m, data, cfg := shardedBattery(t)
	want, err := b.Evaluate(ctx, m, data, cfg)
	require.NoError(t, err)
	require.Greater(t, want.Clean, want.WorstCase)
	require.Positive(t, want.WorstCase)
	for of := 1; of <= 3; of++ {
		var shards, read []*attack.BatteryReport
		for i := range of {
			cfg := cfg
			cfg.Shard = attack.Shard{Index: i + 1, Count: of}
			r, err := b.Evaluate(ctx, m, data, cfg)
			require.NoError(t, err)
			assert.False(t, r.Partial)
			assert.Empty(t, r.Checks)
			lo, hi := cfg.Shard.Range(11)
			assert.Equal(t, want.Results[lo:hi], r.Results)
			shards, read = slices.Insert(shards, 0, r), append(read, throughJSON(t, r))
		}
		got, err := b.Merge(ctx, m, data, cfg, shards...)
		require.NoError(t, err)
		assert.Equal(t, want.Kept, got.Kept)
		assert.Equal(t, asText(t, want), asText(t, got))
		got, err = b.Merge(ctx, m, data, cfg, read...)
		require.NoError(t, err)
		assert.Equal(t, asText(t, want), asText(t, got))
		assert.Nil(t, got.Kept)
		other := shards[0].Report()
		if of > 1 {
			assert.NotEqual(t, want.Report().Digest, other.Digest)
		}
	}
}

// A battery refuses shards as Merge of an evaluation does.
func TestMergeBatteryRefuses(t *testing.T) {
	b, m, data, cfg := shardedBattery(t)
	cfg.Unchecked = true
	shard := func(i int, change func(b *attack.Battery, m *snn.Model, s *set, c *attack.BatteryConfig)) *attack.BatteryReport {
		b, n, s, c := shardedBattery(t)
		c.Shard = attack.Shard{Index: i, Count: 2}
		if change != nil {
			change(&b, n, &s, &c)
		}
		r, err := b.Evaluate(ctx, n, s, c)
		require.NoError(t, err)
		return r
	}
	first, second := shard(1, nil), shard(2, nil)
	_, err := b.Merge(ctx, m, data, cfg, first, second)
	require.NoError(t, err)
	for want, change := range map[string]func(b *attack.Battery, m *snn.Model, s *set, c *attack.BatteryConfig){
		"shard 1 (2/2) has the networks ": func(_ *attack.Battery, m *snn.Model, _ *set, _ *attack.BatteryConfig) {
			m.Params()[0].MutableData()[0] += 0.01
		},
		"has the networks ": func(b *attack.Battery, _ *snn.Model, _ *set, _ *attack.BatteryConfig) { // of a transfer
			b.Attacks[1].Attack.(attack.Transfer).Sources[0].Params()[0].MutableData()[0] += 0.01
		},
		"has the key ":             func(_ *attack.Battery, _ *snn.Model, _ *set, c *attack.BatteryConfig) { c.Key = rng.New(6) },
		"has the images' digest ":  func(_ *attack.Battery, _ *snn.Model, s *set, _ *attack.BatteryConfig) { s.x.Image(0)[0] = 0.125 },
		"has the number of draws ": func(_ *attack.Battery, _ *snn.Model, _ *set, c *attack.BatteryConfig) { c.Draws = 2 },
		"has the exhaustive true":  func(_ *attack.Battery, _ *snn.Model, _ *set, c *attack.BatteryConfig) { c.Exhaustive = true },
		`has the battery "mine"`:   func(b *attack.Battery, _ *snn.Model, _ *set, _ *attack.BatteryConfig) { b.Name = "mine" },
		"has the eps 0.04":         func(b *attack.Battery, _ *snn.Model, _ *set, _ *attack.BatteryConfig) { b.Threat.Eps = 0.04 },
		"has the attack ":          func(b *attack.Battery, _ *snn.Model, _ *set, _ *attack.BatteryConfig) { b.Attacks[0].Name = "other" },
		"this evaluation has the attack ": func(b *attack.Battery, _ *snn.Model, _ *set, _ *attack.BatteryConfig) {
			b.Attacks = b.Attacks[:3]
		},
		"both hold shard 1/2": func(_ *attack.Battery, _ *snn.Model, _ *set, c *attack.BatteryConfig) { c.Shard.Index = 1 },
	} {
		_, err := b.Merge(ctx, m, data, cfg, first, shard(2, change))
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "attack: battery: merge: ")
	}
	_, err = b.Merge(ctx, m, data, cfg, second)
	assert.ErrorContains(t, err, "1 of 2 shards are missing: 1/2")
	cfg.Shard.Count = 2
	_, err = b.Merge(ctx, m, data, cfg, first, second)
	assert.ErrorContains(t, err, "a configuration with a Shard")
	cfg.Shard = attack.Shard{}
	for want, change := range map[string]func(r *attack.BatteryReport){
		"shard 1 (2/2) has results of 4 images: expected those of its 5": func(r *attack.BatteryReport) { r.Results = r.Results[1:] },
		"shard 1 (2/2): a result of image 0: expected one for each of some of the images 6 to 10": func(r *attack.BatteryReport) {
			r.Results[0].Index = 0
		},
		"has the kernels amd65 avx3": func(r *attack.BatteryReport) { r.Part.Kernels = "amd65 avx3" },
		"has the version 9":          func(r *attack.BatteryReport) { r.Library = "9" },
	} {
		r := throughJSON(t, second)
		change(r)
		_, err := b.Merge(ctx, m, data, cfg, first, r)
		assert.ErrorContains(t, err, want)
	}
	cfg.Shard, cfg.Done = attack.Shard{Index: 2, Count: 2}, first.Results
	_, err = b.Evaluate(ctx, m, data, cfg)
	assert.ErrorContains(t, err, "field Done: a result of image 0: expected one for each of some of the images 6 to 10")
	cfg.Shard, cfg.Done = attack.Shard{Index: 2, Count: 12}, nil
	_, err = b.Evaluate(ctx, m, data, cfg)
	assert.ErrorContains(t, err, "shard 2/12 of 11 images: expected at most one shard for each image")
}

// Kernels names the level in use.
func TestKernels(t *testing.T) {
	before, level := attack.Kernels(), kernel.CurrentLevel()
	defer func() { require.NoError(t, kernel.SetLevel(level)) }()
	require.NoError(t, kernel.SetLevel(kernel.Portable))
	assert.Contains(t, attack.Kernels(), " portable")
	if level != kernel.Portable {
		assert.NotEqual(t, before, attack.Kernels())
	}
}
