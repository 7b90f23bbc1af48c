package main

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/tensor"
)

// node is an element of a page.
type node struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []node     `xml:",any"`
	Inner    string     `xml:",innerxml"`
	Own      string     `xml:",chardata"`
}

func (n node) attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// all returns the elements below n for which is holds.
func (n node) all(is func(node) bool) (list []node) {
	for _, c := range n.Children {
		if is(c) {
			list = append(list, c)
		}
		list = append(list, c.all(is)...)
	}
	return list
}

func tag(name string) func(node) bool {
	return func(n node) bool { return n.XMLName.Local == name }
}

func class1(name string) func(node) bool {
	return func(n node) bool { return strings.Contains(" "+n.attr("class")+" ", " "+name+" ") }
}

// text returns the text in n, without tags.
func (n node) text() string {
	var b strings.Builder
	d := xml.NewDecoder(strings.NewReader("<x>" + n.Inner + "</x>"))
	for {
		token, err := d.Token()
		if err != nil {
			return strings.Join(strings.Fields(b.String()), " ")
		}
		if c, ok := token.(xml.CharData); ok {
			b.Write(c)
		}
	}
}

// parsePage reads a page, which is well-formed XML, and checks what holds for every page: no
// script, no reference to anything outside, a text for every picture, and headings for every
// table.
func parsePage(t *testing.T, text string) node {
	t.Helper()
	var page node
	d := xml.NewDecoder(strings.NewReader(text))
	require.NoError(t, d.Decode(&page))
	known := map[string]bool{}
	for _, name := range strings.Fields("head meta title style body header main section article h1 h2 h3 p div ul li dl dt dd pre code table caption " +
		"thead tbody tr th td figure figcaption img span i em strong small svg g path text polygon") {
		known[name] = true
	}
	var visit func(n node)
	visit = func(n node) {
		for _, c := range n.Children {
			assert.True(t, known[c.XMLName.Local], "element %s", c.XMLName.Local)
			for _, a := range c.Attrs {
				name := strings.ToLower(a.Name.Local)
				assert.False(t, strings.HasPrefix(name, "on"), "attribute %s", name)
				assert.NotContains(t, []string{"href", "srcset", "action", "data", "poster", "background", "xmlns", "xlink"}, name)
				if name == "src" {
					assert.Equal(t, "img", c.XMLName.Local)
				} else {
					assert.NotContains(t, a.Value, "://", "%s of %s", name, c.XMLName.Local)
				}
			}
			visit(c)
		}
	}
	visit(page)
	for _, style := range page.all(tag("style")) {
		assert.NotRegexp(t, `url\(|@import|//`, style.Own)
	}
	for _, img := range page.all(tag("img")) {
		assert.NotEmpty(t, img.attr("alt"))
		data, ok := strings.CutPrefix(img.attr("src"), "data:image/png;base64,")
		require.True(t, ok)
		_, err := png.Decode(base64.NewDecoder(base64.StdEncoding, strings.NewReader(data)))
		require.NoError(t, err)
	}
	for _, svg := range page.all(tag("svg")) {
		assert.NotEmpty(t, svg.attr("aria-label"))
	}
	for _, table := range page.all(tag("table")) {
		head := table.all(tag("thead"))
		require.Len(t, head, 1)
		columns := len(head[0].all(tag("th")))
		for _, th := range table.all(tag("th")) {
			assert.Contains(t, []string{"row", "col"}, th.attr("scope"))
		}
		for _, row := range table.all(tag("tbody"))[0].Children {
			assert.Len(t, row.Children, columns)
		}
	}
	return page
}

// checkPage compares the figures on the page with results.json.
func checkPage(t *testing.T, folder string, res results) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, "report.html"))
	require.NoError(t, err)
	page := parsePage(t, string(b))
	cards, attacks := page.all(class1("card")), page.all(class1("attacks"))
	require.Len(t, cards, len(res.Networks))
	for i, n := range res.Networks {
		assert.Equal(t, n.Name, cards[i].attr("data-network"))
		assert.Equal(t, fmt.Sprintf("%.1f %%", 100*n.WorstCase), cards[i].all(class1("worst"))[0].text())
		assert.Equal(t, fmt.Sprintf("95 %% interval %.1f to %.1f %%", 100*n.WorstCaseInterval[0], 100*n.WorstCaseInterval[1]), cards[i].all(class1("interval"))[0].text())
		assert.Contains(t, cards[i].all(class1("clean"))[0].text(), fmt.Sprintf("%.1f %%", 100*n.Clean))
		rows := attacks[i].all(tag("tbody"))[0].Children
		require.Len(t, rows, len(n.Report.Attacks))
		for k, a := range n.Report.Attacks {
			want := []string{a.Name, fmt.Sprint(a.Met), fmt.Sprint(a.Broke), fmt.Sprintf("%.1f %%", 100*a.Left)}
			for c, w := range want {
				assert.Equal(t, w, rows[k].Children[c].text())
			}
			assert.Equal(t, fmt.Sprint(a.Passes), rows[k].Children[5].text())
		}
		firing := page.all(class1("firing"))[i].all(tag("tbody"))[0].Children
		require.Len(t, firing, len(n.Firing))
		for k, f := range n.Firing {
			assert.Equal(t, fmt.Sprintf("%.4f", f.Attacked), firing[k].Children[2].text())
		}
		for k, row := range page.all(class1("curve"))[0].all(tag("tbody"))[0].Children {
			p := n.Curve[k]
			assert.Equal(t, fmt.Sprintf("%.1f (%.1f to %.1f)", 100*p.Accuracy, 100*p.Low, 100*p.High), row.Children[2+i].text())
		}
		met := 0
		for _, r := range n.Report.Results[:8] {
			if r.BrokenBy != attack.Misclassified {
				met++
			}
		}
		assert.Len(t, page.all(class1("wall"))[i].Children, met)
	}
	pairs := page.all(class1("pairs"))[0].all(tag("tbody"))[0].Children
	require.Len(t, pairs, len(res.Comparisons))
	for k, c := range res.Comparisons {
		assert.Equal(t, []string{fmt.Sprint(c.OnlyA), fmt.Sprint(c.OnlyB), fmt.Sprintf("%.2g", c.P)},
			[]string{pairs[k].Children[3].text(), pairs[k].Children[4].text(), pairs[k].Children[6].text()})
	}
	assert.Equal(t, res.Command, page.all(tag("pre"))[0].text())
}

// planted returns results of one image, with names that try to break out of the page.
func planted(name string) *results {
	x := tensor.NewNCHW(2, 3, 2, 2)
	adv := x.Clone()
	adv.Data[0] = 0.25
	report := &attack.BatteryReport{
		Images: 2, Norm: "L∞", Eps: 0.25, ClassNames: []string{name, name}, Library: name, Key: name,
		Attacks: []attack.BatteryAttack{{Name: name, Settings: attack.Settings{Kind: name, Objective: name, Start: name}, Met: 2, Broke: 1, Left: 0.5, Alone: -1}},
		Results: []attack.ImageResult{{BrokenBy: 0, Predicted: 1, Passes: 2, PassesToBreak: 2}, {Index: 1, BrokenBy: attack.Survived, Passes: 7}},
		Kept:    &attack.Kept{Indices: []int{0, 1}, Clean: x, Adversarial: []tensor.NCHW{adv}},
		Checks: []attack.Check{
			{Point: 1, Name: "curve", Status: attack.OK, Text: "holds"}, {Point: 3, Name: name, Status: attack.Fault, Text: name, Advice: name},
		},
	}
	n := &outcome{
		identity: identity{name, name, name}, Clean: 1, WorstCase: 0.5, Report: report, whole: report.Report(),
		Curve: []curvePoint{{Factor: name, Images: 2}, {Factor: name, Eps: 0.25, Images: 2}}, Firing: []firing{{Layer: name}},
	}
	return &results{
		Command: name, Flags: map[string]string{"eps": name, "seed": name}, Library: name, Data: name, Fingerprint: name, Preset: name, Norm: "L∞",
		Eps: 0.25, Images: 2, Partial: true, Pending: []string{name}, Networks: []*outcome{n}, Comparisons: []comparison{{A: name, B: name}},
	}
}

// Names of networks, files, classes, layers and attacks are text on the page, wherever they
// stand and whatever they hold.
func TestPageEscapes(t *testing.T) {
	for _, name := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</style></svg></title><b>`, `]]>--><!--`,
		`&lt;script&gt; {{.}}`, `javascript:alert(1)`,
	} {
		var b strings.Builder
		require.NoError(t, planted(name).writePage(&b))
		page := parsePage(t, b.String())
		assert.Equal(t, name, page.all(class1("card"))[0].attr("data-network"))
		assert.Equal(t, name, page.all(class1("card"))[0].all(tag("h3"))[0].text())
		assert.Equal(t, name, page.all(tag("pre"))[0].text())
		assert.Contains(t, page.all(class1("wall"))[0].text(), "0 "+name+" becomes 1 "+name)
		assert.Contains(t, page.all(tag("svg"))[0].attr("aria-label"), name)
	}
}

// Checks are on the page with their status, and a fault is an error with -strict alone.
func TestChecks(t *testing.T) {
	r := planted("net")
	var b strings.Builder
	require.NoError(t, r.writePage(&b))
	status := parsePage(t, b.String()).all(class1("status"))
	require.Len(t, status, 3)
	assert.Equal(t, []string{"Faults of the evaluation: 1. See the checks.", "ok", "fault"}, []string{status[0].text(), status[1].text(), status[2].text()})
	assert.Equal(t, "status fault", status[2].attr("class"))

	require.NoError(t, (&options{}).verdict(r))
	assert.EqualError(t, (&options{strict: true}).verdict(r), "-strict: net: fault in check 3 (net): net")
	r.Networks[0].Report.Checks[1].Status = attack.Warning
	require.NoError(t, (&options{strict: true}).verdict(r))
}

// The wall shows the broken images first, and the pixels are those of the images.
func TestWall(t *testing.T) {
	r := planted("net")
	r.Networks[0].Report.Results[0].BrokenBy, r.Networks[0].Report.Results[1].BrokenBy = attack.Survived, 0
	tiles, err := wall(r.Networks[0])
	require.NoError(t, err)
	require.Len(t, tiles, 2)
	assert.Equal(t, []int{1, 0}, []int{tiles[0].Index, tiles[1].Index})
	data := regexp.MustCompile(`^data:image/png;base64,`).ReplaceAllString(string(tiles[1].Adversarial), "")
	img, err := png.Decode(base64.NewDecoder(base64.StdEncoding, strings.NewReader(data)))
	require.NoError(t, err)
	red, green, _, _ := img.At(0, 0).RGBA()
	assert.Equal(t, []uint32{64 * 0x101, 0}, []uint32{red, green})
	assert.Equal(t, 2.0, tiles[1].Enlarged)
	require.NoError(t, r.writePage(io.Discard))
}
