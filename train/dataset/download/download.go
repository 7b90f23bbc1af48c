// Package download downloads the archives of public data sets once and keeps them in a
// cache folder:
//
//	cfg, err := download.Default()
//	if err != nil {
//		return err
//	}
//	path, err := download.File(ctx, download.CIFAR10, cfg)
//	if err != nil {
//		return err
//	}
//	train, test, err := dataset.ReadCIFAR10(path)
//
// A file with its final name in the cache is complete and has the right checksum. A
// download that was cut off continues at the next call. Three files beside the final one
// belong to it:
//
//   - NAME.part is the beginning of the file.
//   - NAME.part.version identifies the version of the server's file that the part belongs
//     to.
//   - NAME.lock keeps out other processes. It is not deleted.
//
// The package makes its own HTTP requests. No available module did all of this: tie a
// partial file to the version of the server's file (If-Range), give up on a silent server,
// and lock the cache.
package download

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/gofrs/flock"

	"github.com/org/snnrat/internal/regular"
)

// Source is a published archive.
type Source struct {
	URL string // its last element is the file's name in the cache
	MD5 string // published checksum, 32 hexadecimal digits in lower case
}

// CIFAR-10 and CIFAR-100 in the binary layout, with the checksums that their authors
// publish at https://www.cs.toronto.edu/~kriz/cifar.html: 162 and 161 MB for
// dataset.ReadCIFAR10 and dataset.ReadCIFAR100.
var (
	CIFAR10 = Source{
		URL: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
		MD5: "c32a1d4ab5d03f1284b67883e8d87530",
	}
	CIFAR100 = Source{
		URL: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
		MD5: "03b5dce01913d631647c71ecec9e9cb8",
	}
)

// Config sets where and how File stores archives.
type Config struct {
	Folder   string        // the cache, made if it is not there
	Client   *http.Client  // must not limit the time of a whole request
	Stall    time.Duration // the longest silence of the server; positive
	MaxBytes int64         // the longest file that is received; positive

	// Progress, if not nil, is called as the file grows, by the goroutine that called File.
	// Done is the number of bytes received so far. Total is the length of the file, or -1
	// if the server does not send it. Progress is not called for a file that is in the
	// cache.
	Progress func(done, total int64)
}

// Default returns the configuration with the folder snnrat in [os.UserCacheDir],
// http.DefaultClient, a Stall of a minute and MaxBytes of 4 GiB. It returns an error if the user has no cache
// folder, for example because HOME is not set.
func Default() (Config, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Config{}, fmt.Errorf("download: cache folder: %w", err)
	}
	return Config{Folder: filepath.Join(cache, "snnrat"), Client: http.DefaultClient, Stall: time.Minute, MaxBytes: 4 << 30}, nil
}

// File returns the path of the archive in the cache. It downloads the archive first if the
// cache does not have it, or has it with a wrong checksum. The checksum is verified at
// every call. Calls for the same file wait for each other, even in different processes.
//
// File returns an error that names the URL or the file in these cases:
//
//   - A field of src or cfg is out of its range.
//   - The server cannot be reached, sends something other than the file, or sends nothing
//     for longer than Stall.
//   - The file is longer than MaxBytes.
//   - The connection is cut, the file cannot be written, or ctx is done.
//   - Something in the cache that has the file's name is not a regular file.
//   - The checksum of the downloaded file is wrong. File then keeps nothing of it.
//
// In the other cases, File keeps what it has received. The next call continues from there
// under three conditions: the server can send parts, it identifies versions by ETag or
// Last-Modified, and the version is still the same.
func File(ctx context.Context, src Source, cfg Config) (path string, err error) {
	name, err := validate(src, cfg)
	if err != nil {
		return "", fmt.Errorf("download: %w", err)
	}
	path = filepath.Join(cfg.Folder, name)
	there, err := verified(path, src.MD5)
	if err != nil {
		return "", fmt.Errorf("download: %w", err)
	}
	if there {
		return path, nil
	}
	t := &transfer{Source: src, Config: cfg, final: path, part: path + ".part", version: path + ".part.version"}
	if err := t.locked(ctx); err != nil {
		return "", fmt.Errorf("download: %s: %w", src.URL, err)
	}
	return path, nil
}

var md5Digits = regexp.MustCompile(`^[0-9a-f]{32}$`)

// validate returns the file's name, and an error that names a field that is wrong.
func validate(src Source, cfg Config) (name string, err error) {
	u, err := url.Parse(src.URL)
	if err != nil {
		return "", fmt.Errorf("Source.URL: %w", err)
	}
	name = path.Base(u.Path)
	switch {
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("Source.URL is %q, want one of http or https", src.URL)
	case name == "." || name == "/" || name == ".." || strings.ContainsAny(name, `\:`):
		return "", fmt.Errorf("Source.URL is %q, want one that ends with a file's name", src.URL)
	case !md5Digits.MatchString(src.MD5):
		return "", fmt.Errorf("Source.MD5 is %q, want 32 hexadecimal digits in lower case", src.MD5)
	case cfg.Folder == "":
		return "", errors.New("Config.Folder is empty, want a folder")
	case cfg.Client == nil:
		return "", errors.New("Config.Client is nil, want a client")
	case cfg.Stall <= 0:
		return "", fmt.Errorf("Config.Stall is %v, want a positive time", cfg.Stall)
	case cfg.MaxBytes <= 0:
		return "", fmt.Errorf("Config.MaxBytes is %d, want a positive number", cfg.MaxBytes)
	}
	return name, nil
}

// verified returns whether there is a file with this checksum.
func verified(path, sum string) (bool, error) {
	got, err := md5Sum(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return got == sum, nil
}

func md5Sum(path string) (string, error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := md5.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// transfer gets one file.
type transfer struct {
	Source
	Config
	final string // path of the whole file
	part  string // path of what has come of it

	// version is the path of the part's validator (RFC 9110, section 13.1.5): the
	// server's ETag or Last-Modified, which says of what the part is the beginning.
	version string
}

// locked gets the file while no other process does.
func (t *transfer) locked(ctx context.Context) error {
	if err := os.MkdirAll(t.Folder, 0o755); err != nil {
		return err
	}
	lock := flock.New(t.final + ".lock")
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return fmt.Errorf("waiting for %s: %w", lock.Path(), err)
	}
	defer lock.Close()
	if there, err := verified(t.final, t.MD5); there || err != nil { // another process did
		return err
	}
	// A part is whole if a process died before it gave it its name.
	whole, err := verified(t.part, t.MD5)
	if err != nil {
		return err
	}
	if !whole {
		if err := t.run(ctx); err != nil {
			return err
		}
	}
	return t.finish()
}

// run gets what is missing.
func (t *transfer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(t.Stall, func() { cancel(fmt.Errorf("the server sent nothing for %v", t.Stall)) })
	defer silence.Stop()

	resp, from, err := t.request(ctx)
	if err == nil {
		err = t.receive(resp, from, func() { silence.Reset(t.Stall) })
		resp.Body.Close()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause // rather than that the connection was closed
	}
	return err
}

// request asks for what is missing, or for all if there is nothing or the server does
// not have what would continue it, and returns an answer that begins at byte from.
func (t *transfer) request(ctx context.Context) (resp *http.Response, from int64, err error) {
	// A file that a crash left as zeros is no header's value.
	version, err := os.ReadFile(t.version)
	if err == nil && len(version) > 0 && !bytes.ContainsFunc(version, unicode.IsControl) {
		if info, err := os.Stat(t.part); err == nil {
			from = info.Size()
		}
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, nil)
		if err != nil {
			return nil, 0, err
		}
		// Else the client would unpack what a server calls a gzipped tar.
		req.Header.Set("Accept-Encoding", "identity")
		if from > 0 {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
			req.Header.Set("If-Range", string(version))
		}
		resp, err := t.Client.Do(req)
		if err != nil {
			return nil, 0, err
		}
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		continues := strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", from))
		switch code := resp.StatusCode; {
		case code == http.StatusOK && kind != "text/html":
			return resp, 0, nil
		case code == http.StatusPartialContent && from > 0 && continues:
			return resp, from, nil
		case code == http.StatusOK:
			err = errors.New("the server sent a web page, want an archive; is there a sign-in or a proxy between?")
		case from == 0 || code != http.StatusPartialContent && code != http.StatusRequestedRangeNotSatisfiable:
			err = fmt.Errorf("the server answered %q, want %q", resp.Status, "200 OK")
		}
		resp.Body.Close()
		if err != nil {
			return nil, 0, err
		}
		from = 0
	}
}

// receive writes an answer to the part, from this byte on, and calls alive whenever
// something has come.
func (t *transfer) receive(resp *http.Response, from int64, alive func()) (err error) {
	flag := os.O_WRONLY | os.O_CREATE
	if from == 0 {
		flag |= os.O_TRUNC
	}
	f, err := os.OpenFile(t.part, flag, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	if from == 0 {
		if err := t.keepVersion(resp.Header); err != nil {
			return err
		}
	}
	done, total := from, int64(-1)
	if resp.ContentLength >= 0 {
		total = from + resp.ContentLength
	}
	tooLong := fmt.Errorf("the file has more than %d bytes, which Config.MaxBytes allows", t.MaxBytes)
	if total > t.MaxBytes {
		return tooLong
	}
	for buf := make([]byte, 64<<10); ; {
		if t.Progress != nil {
			t.Progress(done, total)
		}
		n, readErr := resp.Body.Read(buf)
		alive()
		if done+int64(n) > t.MaxBytes {
			return tooLong
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		done += int64(n)
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return fmt.Errorf("cut off after %d bytes: %w", done, readErr)
		}
	}
	if t.Progress != nil {
		t.Progress(done, total)
	}
	return f.Sync()
}

// keepVersion keeps what tells this version of the file from others.
func (t *transfer) keepVersion(h http.Header) error {
	version := h.Get("ETag")
	if version == "" || strings.HasPrefix(version, "W/") { // a weak one is not for parts
		version = h.Get("Last-Modified")
	}
	return os.WriteFile(t.version, []byte(version), 0o644)
}

// finish gives the part its final name if its checksum is right, and removes it if not.
func (t *transfer) finish() error {
	if err := os.Remove(t.version); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	sum, err := md5Sum(t.part)
	if err != nil {
		return err
	}
	if sum == t.MD5 {
		return os.Rename(t.part, t.final)
	}
	if err := os.Remove(t.part); err != nil {
		return fmt.Errorf("MD5 of what came is %s, want %s: %w", sum, t.MD5, err)
	}
	return fmt.Errorf("MD5 of what came is %s, want %s; nothing of it is kept", sum, t.MD5)
}
