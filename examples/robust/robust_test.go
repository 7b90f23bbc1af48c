package main

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sbinet/npyio/npz"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/snn/zoo/pretrained"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// trained writes a network that was trained for a short time to a file.
func trained(t *testing.T, file string, seed uint64) *snn.Model {
	t.Helper()
	images, err := fashion.Train()
	require.NoError(t, err)
	images, err = images.First(400)
	require.NoError(t, err)
	cfg := zoo.Default("A A conv4 | fc").For(images)
	cfg.Steps = 2
	m, err := zoo.New(cfg, rng.New(seed))
	require.NoError(t, err)
	trainer, err := train.New(m, images, train.Default(2), rng.New(seed))
	require.NoError(t, err)
	for _, err := range trainer.Epochs(t.Context()) {
		require.NoError(t, err)
	}
	require.NoError(t, m.Save(file))
	return m
}

// small are flags for a run that takes no time.
func small(out string, nets ...string) []string {
	args := []string{"-data", "fashion-mini", "-images", "12", "-keep", "8", "-curve", "1/2,1", "-curve-images", "4", "-preset", "quick", "-eps", "16/255", "-out", out}
	for _, n := range nets {
		args = append(args, "-net", n)
	}
	return args
}

// read reads results.json of a folder.
func read(t *testing.T, folder string) (r results) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &r))
	return r
}

// The files are of one piece, and their figures follow from the outcomes of the images and from
// what the networks say about the stored images.
func TestRun(t *testing.T) {
	folder := t.TempDir()
	paths := []string{filepath.Join(folder, "first.safetensors"), filepath.Join(folder, "second.safetensors")}
	models := []*snn.Model{trained(t, paths[0], 1), trained(t, paths[1], 2)}
	out := filepath.Join(folder, "new", "folder")
	stdout, stderr, code := clitest.Run(t, append(small(out, paths...), "-source", paths[1])...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "The report is "+filepath.Join(out, "report.html"))
	assert.ElementsMatch(t, []string{"report.html", "results.json", "attacks.csv", "images.csv", "first.npz", "second.npz"}, products(t, out))

	res := read(t, out)
	assert.False(t, res.Partial)
	require.Len(t, res.Sources, 1)
	assert.Equal(t, res.Networks[1].identity, res.Sources[0])
	require.Len(t, res.Networks, 2)
	test, err := fashion.Test()
	require.NoError(t, err)
	for i, n := range res.Networks {
		assert.Equal(t, []string{"first", "second"}[i], n.Name)
		require.Len(t, n.Report.Results, 12)
		stood, right := 0, 0
		for k, r := range n.Report.Results {
			require.Equal(t, k, r.Index)
			require.Equal(t, test.Label(k), r.Label)
			if r.BrokenBy != attack.Misclassified {
				right++
			}
			if r.BrokenBy == attack.Survived {
				stood++
			}
		}
		assert.Equal(t, float64(stood)/12, n.WorstCase)
		assert.Equal(t, float64(right)/12, n.Clean)
		low, high := attack.Wilson(stood, 12)
		assert.Equal(t, [2]float64{low, high}, n.WorstCaseInterval)
		assert.Greater(t, right, stood, "the test needs broken images")
		last := n.Report.Attacks[len(n.Report.Attacks)-1]
		assert.Equal(t, "transfer from second", last.Name)
		assert.Equal(t, n.WorstCase, last.Left)

		clean, adv, predicted := stored(t, filepath.Join(out, n.Name+".npz"))
		require.Equal(t, 8, clean.N)
		assert.LessOrEqual(t, attack.LInf{}.Distance(clean.Data, adv.Data), float64(float32(16./255)))
		logits, err := models[i].Logits(snn.Pass{}, adv)
		require.NoError(t, err)
		for k := range adv.N {
			assert.Equal(t, n.Report.Results[k].Predicted, largest(logits[10*k:][:10]))
			assert.Equal(t, int64(n.Report.Results[k].Predicted), predicted[k])
		}
		checkFiring(t, models[i], n, clean, adv)

		require.Len(t, n.Curve, 3)
		assert.Equal(t, []float32{0, 8. / 255, 16. / 255}, []float32{n.Curve[0].Eps, n.Curve[1].Eps, n.Curve[2].Eps})
		first, err := test.First(4)
		require.NoError(t, err)
		logits, err = models[i].Logits(snn.Pass{}, batch(t, first))
		require.NoError(t, err)
		right = 0
		for k := range 4 {
			if largest(logits[10*k:][:10]) == test.Label(k) {
				right++
			}
		}
		assert.Equal(t, float64(right)/4, n.Curve[0].Accuracy)
		assert.LessOrEqual(t, n.Curve[2].Accuracy, n.Curve[1].Accuracy)
	}
	checkPairs(t, res)
	checkCSV(t, out, res)
	checkPage(t, out, res)

	if testing.Short() {
		return // the rest takes long under the race detector
	}

	// The command on the page repeats the run.
	again := filepath.Join(folder, "again")
	words := strings.Fields(strings.TrimPrefix(res.Command, "go run ./examples/robust"))
	_, stderr, code = clitest.Run(t, append(words, "-out", again, "-threads", "1")...)
	require.Zero(t, code, stderr)
	assert.Equal(t, contents(t, out), contents(t, again))
}

// The flags describe the network of a state dict, and a radius in L2 may exceed 1.
func TestStateDict(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	own, dict := filepath.Join(folder, "own.safetensors"), filepath.Join(folder, "dict.pth")
	m := trained(t, own, 1)
	require.NoError(t, zoo.SaveTorch(dict, m))
	judge := func(net string, more ...string) *outcome {
		out := filepath.Join(folder, filepath.Base(net)+" out")
		args := append(small(out, net), "-curve", "none", "-norm", "l2", "-eps", "1.5")
		_, stderr, code := clitest.Run(t, append(args, more...)...)
		require.Zero(t, code, stderr)
		res := read(t, out)
		assert.Equal(t, "L2", res.Norm)
		assert.Empty(t, res.Networks[0].Curve)
		parsePage(t, contents(t, out)["report.html"])
		return res.Networks[0]
	}
	want, got := judge(own), judge(dict, "-arch", "A A conv4 | fc", "-T", "2")
	assert.Equal(t, want.Report.Results, got.Report.Results)
	assert.Less(t, want.WorstCase, want.Clean)
}

// The report of a random network says how many draws a verdict is the mean of. -exhaustive tells
// what each attack alone leaves.
func TestRandom(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	images, err := fashion.Train()
	require.NoError(t, err)
	cfg := zoo.RateCoded("A A conv4 | fc").For(images)
	cfg.Steps = 4
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	net := filepath.Join(folder, "net.safetensors")
	require.NoError(t, m.Save(net))
	out := filepath.Join(folder, "out")
	_, stderr, code := clitest.Run(t, append(small(out, net), "-curve", "none", "-draws", "3", "-exhaustive")...)
	require.Zero(t, code, stderr)
	n := read(t, out).Networks[0]
	assert.True(t, n.Report.Random)
	assert.Equal(t, 3, n.Report.Draws)
	page := parsePage(t, contents(t, out)["report.html"])
	assert.Contains(t, page.all(class1("card"))[0].text(), "each verdict is the mean of 3 draws")
	row := page.all(class1("attacks"))[0].all(tag("tbody"))[0].Children[0]
	assert.Equal(t, percent(n.Report.Attacks[0].Alone)+" %", row.Children[5].text())
}

// batch returns the images of a data set.
func batch(t *testing.T, data snn.Dataset) tensor.NCHW {
	t.Helper()
	x := tensor.NewFrames(data.Shape())
	indices := make([]int, x.N)
	for i := range indices {
		indices[i] = i
	}
	require.NoError(t, data.Fill(x, indices))
	return x
}

func largest(z []float32) int {
	top := 0
	for k, v := range z {
		if v > z[top] {
			top = k
		}
	}
	return top
}

// stored reads the images of a .npz file.
func stored(t *testing.T, path string) (clean, adv tensor.NCHW, predicted []int64) {
	t.Helper()
	z, err := npz.Open(path)
	require.NoError(t, err)
	defer z.Close()
	shape := z.Header("clean.npy").Descr.Shape
	clean = tensor.NewNCHW(shape[0], shape[1], shape[2], shape[3])
	adv = clean.Clone()
	require.NoError(t, z.Read("clean.npy", &clean.Data))
	require.NoError(t, z.Read("quick battery/adversarial.npy", &adv.Data))
	require.NoError(t, z.Read("quick battery/predicted.npy", &predicted))
	return clean, adv, predicted
}

// checkFiring counts the spikes of all images that met an attack, together.
func checkFiring(t *testing.T, m *snn.Model, n *outcome, clean, adv tensor.NCHW) {
	t.Helper()
	met := tensor.NewNCHW(0, clean.C, clean.H, clean.W)
	attacked := met
	for k := range clean.N {
		if n.Report.Results[k].BrokenBy != attack.Misclassified {
			met.N, met.Data = met.N+1, append(met.Data, clean.Image(k)...)
			attacked.N, attacked.Data = attacked.N+1, append(attacked.Data, adv.Image(k)...)
		}
	}
	rates := func(x tensor.NCHW) (list []float64) {
		_, err := m.Logits(snn.Pass{OnSpikes: func(_ string, s *tensor.Spikes) {
			list = append(list, float64(s.Count())/float64(s.N*s.Steps*s.C*s.H*s.W))
		}}, x)
		require.NoError(t, err)
		return list
	}
	var a, b []float64
	for _, f := range n.Firing {
		a, b = append(a, f.Clean), append(b, f.Attacked)
	}
	require.Len(t, a, 1)
	assert.InDeltaSlice(t, rates(met), a, 1e-12)
	assert.InDeltaSlice(t, rates(attacked), b, 1e-12)
	assert.NotEqual(t, a, b)
}

// checkPairs counts the images anew.
func checkPairs(t *testing.T, res results) {
	t.Helper()
	require.Len(t, res.Comparisons, 2)
	c := res.Comparisons[1]
	assert.Equal(t, []string{"first", "second", "worst case"}, []string{c.A, c.B, c.Under})
	onlyA, onlyB := 0, 0
	for k := range 12 {
		a := res.Networks[0].Report.Results[k].BrokenBy == attack.Survived
		b := res.Networks[1].Report.Results[k].BrokenBy == attack.Survived
		if a && !b {
			onlyA++
		}
		if b && !a {
			onlyB++
		}
	}
	assert.Equal(t, []int{onlyA, onlyB}, []int{c.OnlyA, c.OnlyB})
}

// checkCSV compares the tables with results.json.
func checkCSV(t *testing.T, folder string, res results) {
	t.Helper()
	rows := func(name string) (list []map[string]string) {
		f, err := os.Open(filepath.Join(folder, name))
		require.NoError(t, err)
		defer f.Close()
		all, err := csv.NewReader(f).ReadAll()
		require.NoError(t, err)
		for _, r := range all[1:] {
			row := map[string]string{}
			for i, h := range all[0] {
				row[h] = r[i]
			}
			list = append(list, row)
		}
		return list
	}
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		return v
	}
	attacks, images := rows("attacks.csv"), rows("images.csv")
	for _, n := range res.Networks {
		for i, a := range n.Report.Attacks {
			row := attacks[0]
			attacks = attacks[1:]
			assert.Equal(t, []string{n.Name, strconv.Itoa(i + 1), a.Name, strconv.Itoa(a.Met), strconv.Itoa(a.Broke)},
				[]string{row["network"], row["order"], row["attack"], row["met"], row["broke"]})
			assert.Equal(t, a.Left, number(row["left"]))
			assert.Equal(t, a.Settings.String(), row["settings"])
		}
		for _, r := range n.Report.Results {
			row := images[0]
			images = images[1:]
			assert.Equal(t, []string{n.Name, strconv.Itoa(r.Index), strconv.Itoa(r.Label), strconv.Itoa(r.Predicted)},
				[]string{row["network"], row["image"], row["label"], row["predicted"]})
			assert.Equal(t, r.Margin, float32(number(row["margin"])))
			switch {
			case r.BrokenBy >= 0:
				assert.Equal(t, []string{"broken", n.Report.Attacks[r.BrokenBy].Name}, []string{row["outcome"], row["broken_by"]})
			case r.BrokenBy == attack.Survived:
				assert.Equal(t, "stood", row["outcome"])
			default:
				assert.Equal(t, "misclassified", row["outcome"])
			}
		}
	}
	assert.Empty(t, attacks)
	assert.Empty(t, images)
}

// products lists what a run wrote to a folder.
func products(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() != runs.LockName {
			names = append(names, e.Name())
		}
	}
	return names
}

// contents reads what a run wrote to a folder.
func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range products(t, folder) {
		b, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		files[name] = string(b)
	}
	return files
}

// A network of package pretrained needs no file.
func TestPretrained(t *testing.T) {
	racetest.Costly(t)
	out := filepath.Join(t.TempDir(), "out")
	args := strings.Fields("-net pretrained:fashion-vanilla -data fashion-mini -eps 16/255 -preset quick -images 3 -curve none -out " + out)
	_, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	assert.ElementsMatch(t, []string{"report.html", "results.json", "attacks.csv", "images.csv", "fashion-vanilla.npz"}, products(t, out))
	file, err := pretrained.File("fashion-vanilla")
	require.NoError(t, err)
	n := read(t, out).Networks[0]
	assert.Equal(t, "pretrained:fashion-vanilla", n.File)
	assert.Equal(t, fmt.Sprintf("%x", sha256.Sum256(file)), n.SHA256)
}
