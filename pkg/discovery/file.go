package discovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/watch"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

// maxFiles is how many files of a directory are read.
const maxFiles = 10_000

// A source is a file or directory given to File.
type source struct {
	files  map[string]*content // by path: what is in effect
	faults map[string]error    // by path: why the newest content is not
}

// A content is what one file says.
type content struct {
	store.Change
	err error // why the file is not good
}

// File reads the file or directory at path, and again whenever it changes, until
// ctx ends. In a directory it reads *.yaml, *.yml and *.json, at any depth but
// not what begins with a dot.
//
// A file changes whole or not at all: while there is an error in it, what it
// said before stays in effect. If it has never been good, its good documents
// apply, policies with an error are in quarantine and, if it is not even known
// what they are called, everything is denied. A file that is empty or gone
// leaves what it said before in effect; only a file that is removed from a
// directory takes its documents with it.
func (d *Discovery) File(ctx context.Context, path string) error {
	for ctx.Err() == nil {
		directory := isDirectory(path)
		look := watch.File
		if directory {
			look = watch.Tree
		}
		sub, cancel := context.WithCancel(ctx)
		err := look(sub, path, func() {
			if isDirectory(path) != directory {
				cancel() // what was a file is a directory now, or the other way round
				return
			}
			d.load(path)
		})
		cancel()
		if err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
	}
	return nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// load reads all of path and makes one change of it.
func (d *Discovery) load(path string) {
	files, err := Files(path)
	read := make([]*content, len(files))
	for i, file := range files {
		read[i] = d.read(file)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(path, path, err)
	last, next := d.files[path], &source{map[string]*content{}, map[string]error{}}
	if err != nil {
		if last != nil {
			last.faults[path] = err
		}
		d.log.Warn("policy file cannot be read; what it said before stays in effect", "path", path, "error", err)
		return
	}
	for i, file := range files {
		next.files[file], next.faults[file] = d.settle(file, last, read[i]), read[i].err
	}
	if last != nil {
		for file := range last.files {
			if next.files[file] == nil {
				d.note(path, file, nil)
			}
		}
	}
	d.files[path] = next
	d.publish(path)
}

// settle decides between what a file says now and what it said before.
func (d *Discovery) settle(file string, last *source, now *content) *content {
	if now.err == nil {
		return now
	}
	if last != nil && last.files[file] != nil && last.files[file].err == nil {
		d.log.Warn("policy file has errors; what it said before stays in effect", "file", file, "error", now.err)
		return last.files[file]
	}
	d.log.Warn("policy file has errors; what they concern is denied", "file", file, "error", now.err)
	return now
}

// Files lists the files that File reads: path itself, or those in the directory.
func Files(path string) ([]string, error) {
	if !isDirectory(path) {
		_, err := os.Stat(path)
		return []string{path}, err
	}
	var files []string
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(at string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case at != root && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(at)) || isDirectory(at):
			return nil
		case len(files) == maxFiles:
			return fmt.Errorf("%s has more than %d files", path, maxFiles)
		}
		files = append(files, filepath.Join(path, strings.TrimPrefix(at, root)))
		return nil
	})
	return files, err
}

// read reads one file.
func (d *Discovery) read(file string) *content {
	documents, err := manifest.Read(file)
	return d.compile(file, documents, err)
}

// compile makes a content of the documents of a file, or of why there are none.
func (d *Discovery) compile(file string, documents []*manifest.Document, err error) *content {
	c := &content{Change: emptyChange()}
	if err == nil && len(documents) == 0 {
		err = fmt.Errorf("%s is empty; remove the file to remove its documents, or write one that allows what is meant", file)
	}
	if err != nil {
		c.fail(file, err)
		return c
	}
	var faults []error
	for _, document := range documents {
		doc, err := Read(document)
		if err == nil {
			err = c.take(doc, document, d.cluster)
		}
		if err != nil {
			faults = append(faults, err)
			c.quarantine(file, doc, err)
		}
	}
	c.err = errors.Join(faults...)
	return c
}

// take adds what a good document says.
func (c *content) take(doc Document, at *manifest.Document, cluster string) (err error) {
	twice := false
	switch m := doc.Message.(type) {
	case *policypb.AgentPolicy:
		_, twice = c.AgentPolicies[doc.Name]
		c.AgentPolicies[doc.Name], _, err = compileAgent(doc.Name, "", m, nil)
	case *securitypb.Authorization:
		_, twice = c.Authorizations[doc.Name]
		c.Authorizations[doc.Name], _, err = compileAuthorization(doc.Name, "", m, nil)
	case *workloadpb.Address:
		w, svc, _, readErr := readAddress(m, cluster, nil)
		if err = readErr; w != nil {
			_, twice = c.Workloads[w.UID]
			c.Workloads[w.UID] = w
		} else if svc != nil {
			_, twice = c.Services[svc.Key()]
			c.Services[svc.Key()] = svc
		}
	}
	if twice {
		return at.Fault(fmt.Sprintf("%s %s is in this file twice", doc.Kind, doc.Name), "remove one of them", "metadata", "name")
	}
	return err
}

// quarantine denies what a bad document would govern.
func (c *content) quarantine(file string, doc Document, err error) {
	namespace, name, known := strings.Cut(doc.Name, "/")
	switch {
	case doc.TypeURL == AddressType:
		// Whoever is not known is not reached.
	case known && doc.TypeURL == AuthorizationType:
		c.Authorizations[doc.Name] = policy.QuarantineAuthorization(name, namespace, policy.ScopeUnknown, err)
	case known && doc.TypeURL == AgentPolicyType:
		c.AgentPolicies[doc.Name] = policy.QuarantineAgent(name, namespace, err, nil)
	default:
		c.fail(file, err)
	}
}

// fail denies everything, because nobody knows what a file would govern.
func (c *content) fail(file string, err error) {
	c.err = err
	denyAll(c.Change, file, err)
}

func denyAll(c store.Change, file string, err error) {
	p := policy.QuarantineAgent(file, "", err, nil)
	c.AgentPolicies[p.Key()] = p
}

// publish makes one change of what all files say now; path was read last.
func (d *Discovery) publish(path string) {
	next := emptyChange()
	for _, p := range slices.Sorted(maps.Keys(d.files)) {
		for _, file := range slices.Sorted(maps.Keys(d.files[p].files)) {
			c := d.files[p].files[file]
			d.note(p, file, d.files[p].faults[file]) // one path's change may mend what was wrong with another's
			twice := slices.Concat(
				merge(next.Workloads, c.Workloads), merge(next.Services, c.Services),
				merge(next.Authorizations, c.Authorizations), merge(next.AgentPolicies, c.AgentPolicies))
			if len(twice) == 0 {
				continue
			}
			err := fmt.Errorf("%s: %s is also in another file; remove one of them", file, strings.Join(twice, ", "))
			d.note(p, file, err)
			d.log.Warn("resources are in two files; everything is denied until that is mended", "error", err)
			denyAll(next, file, err)
		}
	}
	snap, change := d.store.Snapshot(), emptyChange()
	differ(change.Workloads, d.local.Workloads, next.Workloads, snap.WorkloadByUID)
	differ(change.Services, d.local.Services, next.Services, snap.Service)
	differ(change.Authorizations, d.local.Authorizations, next.Authorizations, snap.Authorization)
	b := &batch{Discovery: d, snap: snap, Change: change}
	for key := range d.policies[CarrierFile] {
		if next.AgentPolicies[key] == nil {
			b.carry(CarrierFile, key, nil)
		}
	}
	for key, p := range next.AgentPolicies {
		b.carry(CarrierFile, key, p)
	}
	change.Synced = []string{FileKind(path)}
	d.local = next
	d.store.Apply(change)
}

// merge adds what is not in all yet and returns the keys of what is.
func merge[K comparable, V any](all, more map[K]V) (twice []string) {
	for key, v := range more {
		if _, there := all[key]; there {
			twice = append(twice, fmt.Sprint(key))
			continue
		}
		all[key] = v
	}
	slices.Sort(twice)
	return twice
}

// differ adds to change what files say now where they are the ones that say
// what is in effect, or nobody does.
func differ[K comparable, V any](change, last, next map[K]*V, current func(K) *V) {
	for key := range maps.All(last) {
		if v := current(key); v != nil && v == last[key] {
			change[key] = next[key]
		}
	}
	for key, v := range next {
		if now := current(key); now == nil || now == last[key] {
			change[key] = v
		}
	}
}
