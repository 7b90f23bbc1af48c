package cli_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/examples/internal/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, program) }

type options struct{}

func (options) Concurrency() int { return 0 }

func (options) Stopped() string { return "nothing was kept" }

// program is one whose only step lasts until its standard input ends.
func program() {
	cli.Main("program", func(args []string, stdout io.Writer) (o options, err error) {
		return o, cli.Parse(flag.NewFlagSet("program", flag.ContinueOnError), args, stdout)
	}, func(ctx context.Context, _ options, stdout, _ io.Writer) error {
		fmt.Fprintln(stdout, "begun")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		return ctx.Err()
	})
}

// What Ctrl-C and a scheduler send ends the run's context, which is said at once, and
// the program when its step is done; sent again, the program at once.
func TestStop(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent a signal there")
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, twice := range []bool{false, true} {
			c := clitest.Command()
			stdin, err := c.StdinPipe()
			require.NoError(t, err)
			stdout, err := c.StdoutPipe()
			require.NoError(t, err)
			stderr, err := c.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, c.Start())
			_, err = bufio.NewReader(stdout).ReadString('\n')
			require.NoError(t, err)
			require.NoError(t, c.Process.Signal(s))
			lines := bufio.NewReader(stderr)
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			assert.Equal(t, "program: stopping after this step; Ctrl-C again stops at once\n", line)
			if twice {
				require.NoError(t, c.Process.Signal(s))
			} else {
				require.NoError(t, stdin.Close())
			}
			rest, err := io.ReadAll(lines)
			require.NoError(t, err)
			err = c.Wait()
			if twice {
				assert.Empty(t, rest)
				assert.EqualError(t, err, "signal: "+s.String())
			} else {
				assert.Equal(t, "program: stopped; nothing was kept\n", string(rest))
				assert.EqualError(t, err, "exit status 130")
			}
		}
	}
}
