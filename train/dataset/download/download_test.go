package download_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/train/dataset/download"
)

const name = "set.tar.gz"

// archive is what the servers have: bytes that do not repeat.
var archive = random(1)

func random(seed byte) []byte {
	data := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

func sum(data []byte) string {
	h := md5.Sum(data)
	return hex.EncodeToString(h[:])
}

// server is a web server on loopback whose manners can change.
type server struct {
	url    string
	mu     sync.Mutex
	serve  http.HandlerFunc
	ranges []string // the Range header of each request
}

func newServer(t testing.TB, serve http.HandlerFunc) *server {
	s := &server{serve: serve}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		serve := s.serve
		s.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(web.Close)
	s.url = web.URL + "/sets/" + name
	return s
}

// now gives the server other manners and forgets its requests.
func (s *server) now(serve http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve, s.ranges = serve, nil
}

func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ranges...)
}

// whole serves data as a good server does, parts and all, with these validators.
func whole(data []byte, etag string, modified time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		http.ServeContent(w, r, name, modified, bytes.NewReader(data))
	}
}

var good = whole(archive, `"v1"`, time.Time{})

// cut serves a beginning of what another handler does, and then does as end says.
func cut(serve http.HandlerFunc, end func(r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		serve(&limited{w, 100_000}, r)
		w.(http.Flusher).Flush()
		end(r)
	}
}

// limited lets that many bytes through.
type limited struct {
	http.ResponseWriter
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(l.left, len(p))
	l.left -= n
	_, err := l.ResponseWriter.Write(p[:n])
	return len(p), err
}

func abort(*http.Request)  { panic(http.ErrAbortHandler) } // closes the connection
func hang(r *http.Request) { <-r.Context().Done() }

// text serves this, as of this type.
func text(kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		fmt.Fprint(w, body)
	}
}

func config(folder string) download.Config {
	return download.Config{Folder: folder, Client: http.DefaultClient, Stall: 10 * time.Second, MaxBytes: 1 << 20}
}

// files returns the names in a folder that is there.
func files(t testing.TB, folder string) (names []string) {
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// checkGot checks that the archive is in the cache, and nothing half-written.
func checkGot(t testing.TB, folder, path string, err error) {
	t.Helper()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(folder, name), path)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(archive, got))
	assert.Equal(t, []string{name, name + ".lock"}, files(t, folder))
}

func TestFile(t *testing.T) {
	s := newServer(t, good)
	src := download.Source{URL: s.url, MD5: sum(archive)}
	cfg := config(filepath.Join(t.TempDir(), "new", "cache"))
	var done []int64
	cfg.Progress = func(d, total int64) {
		assert.Equal(t, int64(len(archive)), total)
		done = append(done, d)
	}
	path, err := download.File(t.Context(), src, cfg)
	checkGot(t, cfg.Folder, path, err)
	assert.Equal(t, []string{""}, s.requests())
	assert.IsNonDecreasing(t, done)
	assert.Equal(t, int64(0), done[0])
	assert.Equal(t, int64(len(archive)), done[len(done)-1])

	// It is there now, and needs no server, lock or place to write to.
	require.NoError(t, os.Remove(path+".lock"))
	done = nil
	s.now(http.NotFound)
	again, err := download.File(t.Context(), src, cfg)
	require.NoError(t, err)
	assert.Equal(t, path, again)
	assert.Empty(t, s.requests())
	assert.Empty(t, done)
	assert.Equal(t, []string{name}, files(t, cfg.Folder))

	// One that was spoiled is replaced.
	require.NoError(t, os.WriteFile(path, archive[:1000], 0o644))
	s.now(good)
	path, err = download.File(t.Context(), src, cfg)
	checkGot(t, cfg.Folder, path, err)
}

// TestFaults gets the archive from a server that fails in one way, and then from one
// that does its best in another.
func TestFaults(t *testing.T) {
	modified := time.Date(2009, 4, 8, 1, 2, 3, 0, time.UTC)
	dated := whole(archive, "", modified)
	weak := whole(archive, `W/"v1"`, modified)
	nothing, begun := []string{name + ".lock"}, []string{name + ".lock", name + ".part", name + ".part.version"}
	const resumes, anew = "bytes=", ""
	for _, c := range []struct {
		title string
		first http.HandlerFunc
		want  string   // part of the error
		files []string // in the cache after it
		then  http.HandlerFunc
		asked []string // beginnings of the ranges asked for then
	}{
		{"not found", http.NotFound, `answered "404 Not Found", want "200 OK"`, nothing, good, []string{anew}},
		{"server error", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) },
			`answered "503 Service Unavailable"`, nothing, good, []string{anew}},
		{"web page", text("text/html; charset=utf-8", "<html>Sign in</html>"), "sent a web page, want an archive", nothing, good, []string{anew}},
		{"web page in disguise", text("application/gzip", "<html>Sign in</html>"),
			"MD5 of what came is " + sum([]byte("<html>Sign in</html>")) + ", want " + sum(archive), nothing, good, []string{anew}},
		{"nothing", text("application/gzip", ""), "MD5 of what came is d41d8cd98f00b204e9800998ecf8427e", nothing, good, []string{anew}},
		{"another file", whole(random(2), `"v0"`, modified), "MD5 of what came is " + sum(random(2)), nothing, good, []string{anew}},
		{"a part unasked", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-99/300000")
			w.WriteHeader(206)
		},
			`answered "206 Partial Content", want "200 OK"`, nothing, good, []string{anew}},
		{"no such range unasked", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(416) },
			`answered "416 `, nothing, good, []string{anew}},
		{"closed at once", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", nothing, good, []string{anew}},

		{"cut off", cut(good, abort), "cut off after ", begun, good, []string{resumes}},
		{"cut off, then dated", cut(dated, abort), "cut off after ", begun, dated, []string{resumes}},
		{"cut off, then weak ETag and date", cut(weak, abort), "cut off after ", begun, dated, []string{resumes}},
		{"cut off, weak ETag only", cut(whole(archive, `W/"v1"`, time.Time{}), abort), "cut off after ", begun, good, []string{anew}},
		{"cut off, no version", cut(whole(archive, "", time.Time{}), abort), "cut off after ", begun, good, []string{anew}},
		{"cut off, then changed", cut(whole(random(2), `"v0"`, modified), abort), "cut off after ", begun, good, []string{resumes}},
		{"cut off, then no parts", cut(good, abort), "cut off after ", begun, text("application/gzip", string(archive)), []string{resumes}},
		{"cut off, then another part", cut(good, abort), "cut off after ", begun, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				r.Header.Set("Range", "bytes=7-")
			}
			good(w, r)
		}, []string{resumes, anew}},
		{"cut off, then no such range", cut(good, abort), "cut off after ", begun, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(416)
				return
			}
			good(w, r)
		}, []string{resumes, anew}},
		{"silent", cut(good, hang), "the server sent nothing for 150ms", begun, good, []string{resumes}},
		{"silent at once", func(_ http.ResponseWriter, r *http.Request) { hang(r) }, "the server sent nothing for 150ms", nothing, good, []string{anew}},
	} {
		t.Run(c.title, func(t *testing.T) {
			s := newServer(t, c.first)
			src := download.Source{URL: s.url, MD5: sum(archive)}
			cfg := config(t.TempDir())
			if strings.HasPrefix(c.title, "silent") {
				cfg.Stall = 150 * time.Millisecond
			}
			path, err := download.File(t.Context(), src, cfg)
			require.ErrorContains(t, err, "download: "+s.url+": ")
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "\n")
			assert.Empty(t, path)
			assert.Equal(t, c.files, files(t, cfg.Folder))

			s.now(c.then)
			cfg.Stall = 10 * time.Second
			path, err = download.File(t.Context(), src, cfg)
			checkGot(t, cfg.Folder, path, err)
			asked := s.requests()
			require.Len(t, asked, len(c.asked))
			for i, a := range asked {
				assert.True(t, strings.HasPrefix(a, c.asked[i]) && (a == "") == (c.asked[i] == ""), "%q", asked)
			}
		})
	}
}

// TestResume cuts every connection after 100,000 bytes, and goes on from there; the
// progress goes on, too.
func TestResume(t *testing.T) {
	s := newServer(t, cut(good, abort))
	src := download.Source{URL: s.url, MD5: sum(archive)}
	cfg := config(t.TempDir())
	var first, last, total int64
	cfg.Progress = func(d, n int64) {
		if first < 0 {
			first = d
		}
		last, total = d, n
	}
	for k := range int64(3) {
		first = -1
		path, err := download.File(t.Context(), src, cfg)
		assert.Equal(t, [3]int64{100_000 * k, 100_000 * (k + 1), 300_000}, [3]int64{first, last, total})
		if k < 2 {
			require.ErrorContains(t, err, fmt.Sprintf("cut off after %d bytes: unexpected EOF", last))
			continue
		}
		checkGot(t, cfg.Folder, path, err)
	}
	assert.Equal(t, []string{"", "bytes=100000-", "bytes=200000-"}, s.requests())
}

// TestSlow is a server that takes longer than the limit of silence, but is not silent.
func TestSlow(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		for at := 0; at < len(archive); at += 30_000 {
			w.Write(archive[at:][:30_000])
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	cfg := config(t.TempDir())
	cfg.Stall = 300 * time.Millisecond
	total := int64(0)
	cfg.Progress = func(_, n int64) { total = n }
	path, err := download.File(t.Context(), download.Source{URL: s.url, MD5: sum(archive)}, cfg)
	checkGot(t, cfg.Folder, path, err)
	assert.Equal(t, int64(-1), total, "the server did not tell")
}

// TestSilentHTTP2 is a server that falls silent, over HTTP/2, where the client learns of
// the end of a context in another way.
func TestSilentHTTP2(t *testing.T) {
	web := httptest.NewUnstartedServer(cut(good, hang))
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(web.Close)
	cfg := config(t.TempDir())
	cfg.Client, cfg.Stall = web.Client(), 150*time.Millisecond
	_, err := download.File(t.Context(), download.Source{URL: web.URL + "/" + name, MD5: sum(archive)}, cfg)
	assert.EqualError(t, err, "download: "+web.URL+"/"+name+": the server sent nothing for 150ms")
}

// TestPackedByServer is a server that says that the archive is packed for transport,
// as some do of anything in gzip.
func TestPackedByServer(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "gzip")
		good(w, r)
	})
	cfg := config(t.TempDir())
	path, err := download.File(t.Context(), download.Source{URL: s.url, MD5: sum(archive)}, cfg)
	checkGot(t, cfg.Folder, path, err)
}

func TestCancelled(t *testing.T) {
	s := newServer(t, cut(good, hang))
	src := download.Source{URL: s.url, MD5: sum(archive)}
	cfg := config(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Progress = func(done, _ int64) {
		if done == 100_000 {
			cancel()
		}
	}
	_, err := download.File(ctx, src, cfg)
	require.ErrorIs(t, err, context.Canceled)
	assert.NoFileExists(t, filepath.Join(cfg.Folder, name))
	s.now(good)
	_, err = download.File(ctx, src, cfg)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, s.requests())
	path, err := download.File(t.Context(), src, cfg)
	checkGot(t, cfg.Folder, path, err)
	assert.Equal(t, []string{"bytes=100000-"}, s.requests())
}

// TestCrash lays in the cache what a process can leave that dies at a bad moment.
func TestCrash(t *testing.T) {
	for title, c := range map[string]struct {
		part, version string
		asked         []string
	}{
		"before it gave the file its name": {string(archive), `"v1"`, nil},
		"in the middle":                    {string(archive[:7]), `"v1"`, []string{"bytes=7-"}},
		"before the first byte":            {"", `"v1"`, []string{""}},
		"before the version":               {string(archive[:7]), "", []string{""}},
		"with zeros for the version":       {string(archive[:7]), "\x00\x00\x00\x00", []string{""}},
		"with another version":             {string(random(2)[:7]), `"v0"`, []string{"bytes=7-"}},
		"with a part that is too long":     {string(archive) + "x", `"v1"`, []string{"bytes=300001-", ""}},
	} {
		t.Run(title, func(t *testing.T) {
			s := newServer(t, good)
			cfg := config(t.TempDir())
			part := filepath.Join(cfg.Folder, name+".part")
			require.NoError(t, os.WriteFile(part, []byte(c.part), 0o644))
			require.NoError(t, os.WriteFile(part+".version", []byte(c.version), 0o644))
			path, err := download.File(t.Context(), download.Source{URL: s.url, MD5: sum(archive)}, cfg)
			checkGot(t, cfg.Folder, path, err)
			assert.Equal(t, c.asked, s.requests())
		})
	}
	t.Run("with zeros in the part", func(t *testing.T) {
		s := newServer(t, good)
		src, cfg := download.Source{URL: s.url, MD5: sum(archive)}, config(t.TempDir())
		part := filepath.Join(cfg.Folder, name+".part")
		require.NoError(t, os.WriteFile(part, make([]byte, 4096), 0o644))
		require.NoError(t, os.WriteFile(part+".version", []byte(`"v1"`), 0o644))
		_, err := download.File(t.Context(), src, cfg)
		require.ErrorContains(t, err, "nothing of it is kept")
		path, err := download.File(t.Context(), src, cfg)
		checkGot(t, cfg.Folder, path, err)
		assert.Equal(t, []string{"bytes=4096-", ""}, s.requests())
	})
}

// TestTogether gets one file from many goroutines and two more processes at once.
func TestTogether(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(300 * time.Millisecond) // for all to come
		good(w, r)
	})
	cfg := config(t.TempDir())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			output, err := child(t, s.url, cfg.Folder, 0)
			assert.NoError(t, err)
			assert.Contains(t, output, "got "+filepath.Join(cfg.Folder, name))
		})
	}
	for range 4 {
		wg.Go(func() {
			_, err := download.File(t.Context(), download.Source{URL: s.url, MD5: sum(archive)}, cfg)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	checkGot(t, cfg.Folder, filepath.Join(cfg.Folder, name), nil)
	assert.Len(t, s.requests(), 1)
}

// TestWaiting cancels a call that waits for another.
func TestWaiting(t *testing.T) {
	s := newServer(t, cut(good, hang))
	src, cfg := download.Source{URL: s.url, MD5: sum(archive)}, config(t.TempDir())
	holding := make(chan bool)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	first := cfg
	first.Progress = func(done, _ int64) {
		if done == 100_000 {
			close(holding)
		}
	}
	wg.Go(func() {
		_, err := download.File(ctx, src, first)
		assert.ErrorIs(t, err, context.Canceled)
	})
	<-holding
	impatient, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	_, err := download.File(impatient, src, cfg)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "waiting for "+filepath.Join(cfg.Folder, name+".lock"))
	cancel()
	wg.Wait()
	s.now(good)
	path, err := download.File(t.Context(), src, cfg)
	checkGot(t, cfg.Folder, path, err)
}

// child gets the archive in a process of its own, which cannot write files larger than
// limit, if that is positive, and returns its output.
func child(t *testing.T, url, folder string, limit int) (string, error) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), "DOWNLOAD_URL="+url, "DOWNLOAD_FOLDER="+folder, "DOWNLOAD_LIMIT="+strconv.Itoa(limit))
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// TestChild is what child runs.
func TestChild(t *testing.T) {
	url, folder := os.Getenv("DOWNLOAD_URL"), os.Getenv("DOWNLOAD_FOLDER")
	if url == "" {
		t.Skip("for other tests")
	}
	limit, err := strconv.Atoi(os.Getenv("DOWNLOAD_LIMIT"))
	require.NoError(t, err)
	if limit > 0 {
		limitFiles(t, limit)
	}
	path, err := download.File(t.Context(), download.Source{URL: url, MD5: sum(archive)}, config(folder))
	require.NoError(t, err)
	fmt.Println("got", path)
}

func TestUnusableCache(t *testing.T) {
	s := newServer(t, good)
	src := download.Source{URL: s.url, MD5: sum(archive)}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	_, err := download.File(t.Context(), src, config(filepath.Join(file, "below")))
	require.ErrorContains(t, err, file)

	for _, suffix := range []string{"", ".lock", ".part", ".part.version"} {
		cfg := config(t.TempDir())
		inTheWay := filepath.Join(cfg.Folder, name+suffix)
		require.NoError(t, os.MkdirAll(filepath.Join(inTheWay, "full"), 0o755))
		_, err := download.File(t.Context(), src, cfg)
		require.ErrorContains(t, err, inTheWay)
		require.NoError(t, os.RemoveAll(inTheWay))
		path, err := download.File(t.Context(), src, cfg)
		checkGot(t, cfg.Folder, path, err)
	}
}

func TestNoServer(t *testing.T) {
	web := httptest.NewServer(good)
	web.Close()
	cfg := config(t.TempDir())
	_, err := download.File(t.Context(), download.Source{URL: web.URL + "/" + name, MD5: sum(archive)}, cfg)
	require.ErrorContains(t, err, web.URL)
	assert.Equal(t, []string{name + ".lock"}, files(t, cfg.Folder))
}

func TestFileRefusesBadArguments(t *testing.T) {
	sum := sum(nil)
	for _, c := range []struct {
		url, md5 string
		change   func(*download.Config)
		want     string
	}{
		{"ftp://host/a.gz", sum, nil, `Source.URL is "ftp://host/a.gz", want one of http or https`},
		{"a.gz", sum, nil, `Source.URL is "a.gz", want one of http or https`},
		{"http://host/", sum, nil, `Source.URL is "http://host/", want one that ends with a file's name`},
		{"http://host", sum, nil, `Source.URL is "http://host", want one that ends with a file's name`},
		{"http://host/..", sum, nil, `Source.URL is "http://host/..", want one that ends with a file's name`},
		{"http://host/a%5cb", sum, nil, `Source.URL is "http://host/a%5cb", want one that ends with a file's name`},
		{"http://host/%zz", sum, nil, `Source.URL: parse "http://host/%zz": invalid URL escape "%zz"`},
		{"http://host/a.gz", strings.ToUpper(sum), nil, `Source.MD5 is "D41D8CD98F00B204E9800998ECF8427E", want 32 hexadecimal digits in lower case`},
		{"http://host/a.gz", "", nil, `Source.MD5 is "", want 32 hexadecimal digits in lower case`},
		{"http://host/a.gz", sum, func(c *download.Config) { c.Folder = "" }, "Config.Folder is empty, want a folder"},
		{"http://host/a.gz", sum, func(c *download.Config) { c.Client = nil }, "Config.Client is nil, want a client"},
		{"http://host/a.gz", sum, func(c *download.Config) { c.Stall = 0 }, "Config.Stall is 0s, want a positive time"},
		{"http://host/a.gz", sum, func(c *download.Config) { c.MaxBytes = 0 }, "Config.MaxBytes is 0, want a positive number"},
	} {
		cfg := config(t.TempDir())
		if c.change != nil {
			c.change(&cfg)
		}
		_, err := download.File(t.Context(), download.Source{URL: c.url, MD5: c.md5}, cfg)
		assert.EqualError(t, err, "download: "+c.want)
	}
}

// TestDefault checks that the defaults are accepted, as far as a file in the cache.
func TestDefault(t *testing.T) {
	home := t.TempDir()
	for _, variable := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(variable, home)
	}
	cfg, err := download.Default()
	require.NoError(t, err)
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(cache, "snnrat"), cfg.Folder)
	assert.NoDirExists(t, cfg.Folder)
	s := newServer(t, good)
	path, err := download.File(t.Context(), download.Source{URL: s.url, MD5: sum(archive)}, cfg)
	checkGot(t, cfg.Folder, path, err)

	for _, variable := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(variable, "")
	}
	_, err = download.Default()
	require.ErrorContains(t, err, "download: cache folder: ")
	assert.NotErrorIs(t, err, fs.ErrNotExist)
}

// TestSources checks that the published sources are well formed and do not share a name.
func TestSources(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg := config(t.TempDir())
	for _, src := range []download.Source{download.CIFAR10, download.CIFAR100} {
		_, err := download.File(ctx, src, cfg)
		require.ErrorIs(t, err, context.Canceled)
		assert.ErrorContains(t, err, src.URL)
	}
	assert.NotEqual(t, filepath.Base(download.CIFAR10.URL), filepath.Base(download.CIFAR100.URL))
}

// TestFileMaxBytes has a server that tells the length of a file and one that does not. A file
// of MaxBytes is received, and one byte more is an error that leaves no longer part.
func TestFileMaxBytes(t *testing.T) {
	streamed := func(w http.ResponseWriter, r *http.Request) {
		w.Write(archive[:1])
		w.(http.Flusher).Flush() // no Content-Length
		w.Write(archive[1:])
	}
	for told, serve := range map[bool]http.HandlerFunc{true: whole(archive, "", time.Time{}), false: streamed} {
		s := newServer(t, serve)
		cfg := config(t.TempDir())
		cfg.MaxBytes = int64(len(archive)) - 1
		_, err := download.File(context.Background(), download.Source{URL: s.url, MD5: sum(archive)}, cfg)
		assert.EqualError(t, err, "download: "+s.url+": the file has more than 299999 bytes, which Config.MaxBytes allows")
		info, err := os.Stat(filepath.Join(cfg.Folder, name+".part"))
		require.NoError(t, err)
		assert.Less(t, info.Size(), int64(len(archive)))
		assert.Equal(t, told, info.Size() == 0, "nothing is received of a file whose length is told")
		cfg.MaxBytes++
		_, err = download.File(context.Background(), download.Source{URL: s.url, MD5: sum(archive)}, cfg)
		require.NoError(t, err)
	}
}
