package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/explain"
	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check PATH...",
		Short: "Say what is wrong with policies, mesh files, EnvoyFilters, settings and dumps, offline",
		Long: `Read files, or all YAML and JSON files of directories, and say of each document what a sidecar would
say of it: agent policies, authorizations, workloads and services; EnvoyFilters that carry agent
policies; the settings that ` + "`run --config`" + ` reads; and dumps of /config_dump, up to 512 MiB. Settings
need not say what a pod's environment does; what is missing is told. Other kinds of Kubernetes are
named and left alone. Nothing is connected to. The exit status is 1 if anything is wrong.`,
		Example: `  outrigger check my-policy.yaml deploy/
  kubectl get envoyfilter -n tools github-tools -o yaml | outrigger check -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			c := checker{out: cmd.OutOrStdout()}
			for _, path := range paths {
				if err := c.path(path, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			if c.wrong > 0 {
				return fmt.Errorf("%d of %d documents have mistakes", c.wrong, c.wrong+c.good)
			}
			if c.good == 0 {
				return errors.New("nothing in there is for a sidecar")
			}
			return nil
		},
	}
}

// A checker counts and tells.
type checker struct {
	out         io.Writer
	good, wrong int
	defined     map[string]string // where each document of ours was, by kind and name
}

func (c *checker) path(path string, in io.Reader) error {
	if path == "-" {
		return c.read("standard input", in)
	}
	files, err := discovery.Files(path)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := c.file(file); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return c.read(path, f)
}

// read reads as much as a dump may be long. Of documents, less is taken, and what
// is too long is named.
func (c *checker) read(name string, in io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(in, explain.MaxDump+1))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", name, err)
	case len(data) > explain.MaxDump:
		return fmt.Errorf("%s is longer than %d MiB, the most that is read", name, explain.MaxDump>>20)
	}
	c.content(name, data)
	return nil
}

func (c *checker) content(name string, data []byte) {
	if isDump(data) {
		c.dump(name, data)
		return
	}
	documents, err := manifest.Parse(name, data)
	if err != nil {
		c.tell(name, err)
		return
	}
	for _, d := range documents {
		c.document(d)
	}
}

// isDump tells whether data looks like what /config_dump answers.
func isDump(data []byte) bool {
	text := strings.TrimSpace(string(data[:min(len(data), 64)]))
	return strings.HasPrefix(text, "{") && strings.Contains(text, `"workloads"`)
}

func (c *checker) dump(name string, data []byte) {
	w, err := explain.Load(bytes.NewReader(data))
	if err == nil {
		err = errors.Join(w.Problems...)
	}
	c.tell(name+": dump", err)
}

func (c *checker) document(d *manifest.Document) {
	version, _ := d.Field("apiVersion")
	kind, _ := d.Field("kind")
	name, _ := d.Field("metadata", "name")
	namespace, _ := d.Field("metadata", "namespace")
	at := fmt.Sprintf("%s:%d: %s %s/%s", d.File, d.Line, kind, namespace, name)
	switch {
	case kind == discovery.FilterKind:
		config := sidecar.DefaultConfig()
		keys, err := discovery.ReadFilter(d, config.ExtensionNames())
		if err == nil && len(keys) == 0 {
			fmt.Fprintf(c.out, "%s: carries no agent policy\n", at)
			return
		}
		c.tell(at+" with "+strings.Join(keys, ", "), err)
	case kind == "List":
		for _, item := range d.Items("items") {
			c.document(item)
		}
	case version == "" && kind == "" && !isSettings(d):
		fmt.Fprintf(c.out, "%s:%d: neither a document with apiVersion and kind nor settings, left alone\n", d.File, d.Line)
	case version == "" && kind == "":
		c.settings(d)
	case strings.HasPrefix(version, "security.istio.io/"):
		fmt.Fprintf(c.out, "%s: not checked: istiod and outrigger-control read it, and say what is wrong\n", at)
	case !strings.HasPrefix(version, "outrigger.dev/"):
		fmt.Fprintf(c.out, "%s: not for a sidecar, left alone\n", at)
	default:
		doc, err := discovery.Read(d)
		err = errors.Join(err, c.twice(d, kind+" "+namespace+"/"+name))
		c.tell(at, err)
		if surprise := doc.Surprise(); err == nil && surprise != "" {
			fmt.Fprintf(c.out, "%s: note: %s\n", at, surprise)
		}
	}
}

// twice says whether a document of that kind and name was there before.
func (c *checker) twice(d *manifest.Document, key string) error {
	at := fmt.Sprintf("%s:%d", d.File, d.Line)
	if before, ok := c.defined[key]; ok {
		return d.Fault(fmt.Sprintf("%s is defined twice, first at %s", key, before), "keep one of them, or give them names of their own", "metadata", "name")
	}
	if c.defined == nil {
		c.defined = map[string]string{}
	}
	c.defined[key] = at
	return nil
}

// isSettings tells whether a document has anything that settings have.
func isSettings(d *manifest.Document) bool {
	for _, one := range settings(reflect.TypeFor[sidecar.Config]()) {
		section, _, _ := strings.Cut(one.path, ".")
		if _, ok := d.Child(section); ok {
			return true
		}
	}
	return false
}

// tell says of one thing that it is good, or everything that is wrong with it.
func (c *checker) tell(what string, err error) {
	if err == nil {
		c.good++
		fmt.Fprintf(c.out, "%s: good\n", what)
		return
	}
	c.wrong++
	faults := manifest.Errors(err)
	if len(faults) == 0 {
		fmt.Fprintf(c.out, "%s: %v\n", what, err)
	}
	for _, f := range faults {
		fmt.Fprintf(c.out, "%v\n", f)
	}
}
