// Command fake is Istio's FakeDiscoveryServer as a process of its own: the
// discovery code of istiod over an in-memory Kubernetes, in plaintext, without
// authentication and without a CA.
//
// Its first line on file descriptor 3 is {"address":"127.0.0.1:PORT"}. Then it
// reads lines {"verb":"apply","object":{…}} or {"verb":"delete","object":{…}}
// from standard input, carries each out, and answers {"error":"…"} on the
// descriptor, with an empty error if all went well. It ends when standard input does.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"
)

// maxLine bounds one command, in bytes.
const maxLine = 1 << 20

func main() {
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"}
	err := log.Configure(options)
	if err == nil {
		err = test.Wrap(func(t test.Failer) {
			if err := serve(t, os.Stdin, os.NewFile(3, "answers")); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fake:", err)
		os.Exit(1)
	}
}

type command struct {
	Verb   string          `json:"verb"`
	Object json.RawMessage `json:"object"`
}

// serve runs the server until commands end.
func serve(t test.Failer, commands io.Reader, answers io.Writer) error {
	server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
		ListenerBuilder: func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
	})
	out := json.NewEncoder(answers)
	if err := out.Encode(map[string]string{"address": server.Listener.Addr().String()}); err != nil {
		return err
	}
	lines := bufio.NewScanner(commands)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		answer := map[string]string{"error": ""}
		if err := carryOut(server, lines.Bytes()); err != nil {
			answer["error"] = err.Error()
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func carryOut(server *xds.FakeDiscoveryServer, line []byte) error {
	var c command
	if err := json.Unmarshal(line, &c); err != nil {
		return fmt.Errorf("read command: %w", err)
	}
	switch c.Verb {
	case "apply":
		return apply(server, c.Object)
	case "delete":
		return remove(server, c.Object)
	}
	return fmt.Errorf("verb %q is neither apply nor delete", c.Verb)
}
