package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/outrigger-mesh/outrigger/pkg/explain"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/route"
)

func explainCommand() *cobra.Command {
	var to, from, port, record string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain DUMP",
		Short: "Answer from a configuration dump where a connection would go and who would refuse it",
		Long: `Answer, from what /config_dump of a sidecar's admin port said and nothing else:

  --to ADDRESS:PORT or NAME:PORT   where a connection of the app would go, by which tunnels and to which
                                   identities, and who would refuse it
  --from SPIFFE-ID|none --port N   who would refuse a connection of that peer to a port of the app
  --record FILE                    how the calls in an audit record ("-": standard input) are decided, rule by rule

The exit status is 0 if nobody refuses, 1 if somebody does or a recorded call is decided otherwise now.`,
		Example: `  curl -s localhost:15000/config_dump > dump.json
  outrigger explain dump.json --to github.tools:80
  outrigger explain dump.json --from spiffe://cluster.local/ns/agents/sa/planner --port 9000
  grep '"event":"call"' audit.jsonl | tail -1 | outrigger explain dump.json --record -`,
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVar(&to, "to", "", "`destination` that the app connects to")
	flags.StringVar(&from, "from", "", "`identity` that connects to the app, or none")
	flags.StringVar(&port, "port", "", "`port` of the app, with --from")
	flags.StringVar(&record, "record", "", "`file` with lines of the audit record")
	flags.BoolVar(&asJSON, "json", false, "answer as JSON")
	cmd.MarkFlagsOneRequired("to", "from", "record")
	cmd.MarkFlagsMutuallyExclusive("to", "from", "record")
	cmd.MarkFlagsRequiredTogether("from", "port")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		world, err := open(args[0], cmd.InOrStdin())
		if err != nil {
			return err
		}
		var answers []*explain.Answer
		switch {
		case to != "":
			answers, err = one(outbound(world, to))
		case from != "":
			answers, err = one(inbound(world, from, port))
		default:
			answers, err = calls(world, record, cmd.InOrStdin())
		}
		if err != nil {
			return err
		}
		return print(cmd.OutOrStdout(), answers, asJSON)
	}
	return cmd
}

func one(a *explain.Answer, err error) ([]*explain.Answer, error) { return []*explain.Answer{a}, err }

func open(path string, in io.Reader) (*explain.World, error) {
	if path == "-" {
		return explain.Load(in)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return explain.Load(f)
}

func outbound(w *explain.World, to string) (*explain.Answer, error) {
	if address, err := netip.ParseAddrPort(to); err == nil {
		return w.Outbound(route.Destination{Address: address}), nil
	}
	host, text, _ := strings.Cut(to, ":")
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || host == "" || port == 0 {
		return nil, fmt.Errorf("--to %q: write an address and port, or a service's name and port, as in github.tools:80", to)
	}
	return w.Outbound(route.Destination{Hostname: host, Port: uint16(port)}), nil
}

func inbound(w *explain.World, from, text string) (*explain.Answer, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("--port %q: write a number from 1 to 65535", text)
	}
	var peer mesh.Principal
	if from != "none" {
		if peer, err = mesh.ParsePrincipal(from); err != nil {
			return nil, fmt.Errorf("--from: %w; write none for a peer without a certificate", err)
		}
	}
	return w.Inbound(peer, netip.Addr{}, uint16(port)), nil
}

// calls decides every call in a record again; what is not a call is passed over.
func calls(w *explain.World, path string, in io.Reader) (answers []*explain.Answer, err error) {
	where := path
	if path == "-" {
		where = "standard input"
	}
	data, err := read(path, in)
	if err != nil {
		return nil, err
	}
	if len(data) > maxRecord {
		return nil, fmt.Errorf("%s is longer than %d bytes: give fewer lines of it", where, maxRecord)
	}
	for n, line := range bytes.Split(data, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		a, err := w.Call(line)
		switch {
		case errors.Is(err, explain.ErrNotACall):
			continue
		case err != nil:
			return nil, fmt.Errorf("%s line %d: %w", where, n+1, err)
		}
		answers = append(answers, a)
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("%s has no record of a call, only of other events; give it lines with \"event\":\"call\"", where)
	}
	return answers, nil
}

// maxRecord is the longest record that is read, in bytes.
const maxRecord = 256 << 20

func read(path string, in io.Reader) ([]byte, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, maxRecord+1))
}

// print says the answers, and reports the first that is not as it should be.
func print(out io.Writer, answers []*explain.Answer, asJSON bool) (err error) {
	for _, a := range answers {
		switch {
		case a.Recorded != nil && *a.Recorded != a.Allowed && a.Certain:
			err = errors.New("decided otherwise now: the policies in the dump are not those of the record")
		case a.Recorded == nil && !a.Allowed && !a.Certain:
			err = errors.New("not known")
		case a.Recorded == nil && !a.Allowed:
			err = errors.New("refused")
		}
		if asJSON {
			text, err := json.Marshal(a, jsontext.WithIndent("  "))
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s\n", text)
			continue
		}
		for _, line := range a.Lines {
			fmt.Fprintln(out, line)
		}
		fmt.Fprintln(out)
	}
	return err
}
