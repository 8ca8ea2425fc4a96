package baseline

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// talk returns a connection to an app that ends with the test.
func talk(t *testing.T) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, answered := make(chan error), make(chan struct{})
	go func() {
		done <- serve(ctx, ln, func(c net.Conn) {
			defer close(answered)
			defer c.Close()
			_ = answer(c)
		})
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-answered
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAppAnswersOneQuestionAfterAnother(t *testing.T) {
	c := talk(t)
	if err := Ask(c, AskSource, 300_000); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 300_000)); err != nil {
		t.Fatal(err)
	}
	if err := Ask(c, AskSink, 300_000); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 300_000)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := Ask(c, AskEcho, 0); err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{"a", "message", "and one more"} {
		if _, err := io.WriteString(c, message); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(message))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte(message)) {
			t.Errorf("echo of %q is %q, %v", message, got, err)
		}
	}
}

func TestAppEndsWhatAsksNonsense(t *testing.T) {
	c := talk(t)
	if _, err := c.Write([]byte("?12345678")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("got %d bytes", n)
	}
}

func TestSidesThatDoNotExistAreTold(t *testing.T) {
	if err := Run(context.Background(), Config{Kind: "carrier pigeon", Side: Client, Listen: "127.0.0.1:0"}); err == nil {
		t.Error("a kind that does not exist runs")
	}
}
