package istiod

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v4"
)

const (
	callTime  = 30 * time.Second
	maxAnswer = 16 << 20
)

// errNotFound means that the API server knows no such object or kind.
var errNotFound = errors.New("not found")

// Kubernetes is a Kubernetes API, to put objects into and to ask for tokens.
type Kubernetes struct {
	base   string // https://host:port
	token  string // of an administrator
	client *http.Client

	mu        sync.Mutex          // guards what follows
	resources map[string]resource // by apiVersion and kind
}

// A resource is where the objects of a kind are.
type resource struct {
	Name       string `json:"name"` // such as "pods"
	Kind       string `json:"kind"`
	Namespaced bool   `json:"namespaced"`
}

func newKubernetes(address, token string, rootPEM []byte) *Kubernetes {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(rootPEM)
	return &Kubernetes{
		base: "https://" + address, token: token, resources: map[string]resource{},
		client: &http.Client{Timeout: callTime, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, MaxIdleConnsPerHost: 16}},
	}
}

// An Object is any Kubernetes object.
type Object map[string]any

// At is what the object has at a path, nil if nothing.
func (o Object) At(path ...string) any {
	var value any = map[string]any(o)
	for _, key := range path {
		m, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = m[key]
	}
	return value
}

func (o Object) text(path ...string) string {
	s, _ := o.At(path...).(string)
	return s
}

// String names the object, by kind, namespace and name.
func (o Object) String() string {
	return o.text("kind") + " " + o.text("metadata", "namespace") + "/" + o.text("metadata", "name")
}

// Parse reads YAML documents. Empty ones are left out.
func Parse(text string) ([]Object, error) {
	loader, err := yaml.NewLoader(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	var objects []Object
	for {
		var o map[string]any
		if err := loader.Load(&o); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("read YAML: %w", err)
		}
		if len(o) > 0 {
			objects = append(objects, o)
		}
	}
}

// Apply puts the objects in YAML documents into the cluster as they say, and
// their status too if they have one. Namespaces must exist.
func (k *Kubernetes) Apply(ctx context.Context, documents string) error {
	objects, err := Parse(documents)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := k.apply(ctx, o); err != nil {
			return fmt.Errorf("apply %v: %w", o, err)
		}
	}
	return nil
}

func (k *Kubernetes) apply(ctx context.Context, o Object) error {
	path, err := k.path(ctx, o)
	if err != nil {
		return err
	}
	const query = "?fieldManager=outrigger-test&force=true"
	if err := k.call(ctx, http.MethodPatch, path+query, o, nil); err != nil {
		return err
	}
	if _, ok := o["status"]; !ok || o.text("kind") == "CustomResourceDefinition" {
		return nil
	}
	return k.call(ctx, http.MethodPatch, path+"/status"+query, o, nil)
}

// Delete removes the objects that YAML documents name, at once. One that is
// not there is an error.
func (k *Kubernetes) Delete(ctx context.Context, documents string) error {
	objects, err := Parse(documents)
	if err != nil {
		return err
	}
	for _, o := range objects {
		path, err := k.path(ctx, o)
		if err == nil {
			err = k.call(ctx, http.MethodDelete, path+"?gracePeriodSeconds=0", nil, nil)
		}
		if err != nil {
			return fmt.Errorf("delete %v: %w", o, err)
		}
	}
	return nil
}

// Token asks for a token of a service account for an audience, bound to a pod
// if one is named. It is valid for an hour.
func (k *Kubernetes) Token(ctx context.Context, namespace, account, audience, pod string) (string, error) {
	spec := map[string]any{"audiences": []string{audience}, "expirationSeconds": 3600}
	if pod != "" {
		spec["boundObjectRef"] = map[string]any{"apiVersion": "v1", "kind": "Pod", "name": pod}
	}
	var answer struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/serviceaccounts/" + url.PathEscape(account) + "/token"
	request := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
	if err := k.call(ctx, http.MethodPost, path, request, &answer); err != nil {
		return "", fmt.Errorf("token of %s/%s: %w", namespace, account, err)
	}
	return answer.Status.Token, nil
}

// configMap answers what a key of a ConfigMap holds.
func (k *Kubernetes) configMap(ctx context.Context, namespace, name, key string) (string, error) {
	var answer struct {
		Data map[string]string `json:"data"`
	}
	err := k.call(ctx, http.MethodGet, "/api/v1/namespaces/"+namespace+"/configmaps/"+name, nil, &answer)
	if err == nil && answer.Data[key] == "" {
		err = errNotFound
	}
	return answer.Data[key], err
}

// path is where the API server has the object.
func (k *Kubernetes) path(ctx context.Context, o Object) (string, error) {
	version, kind := o.text("apiVersion"), o.text("kind")
	base := "/apis/" + version
	if !strings.Contains(version, "/") {
		base = "/api/" + version
	}
	r, err := k.resource(ctx, base, version, kind)
	if err != nil {
		return "", err
	}
	if r.Namespaced {
		namespace := o.text("metadata", "namespace")
		if namespace == "" {
			return "", errors.New("metadata.namespace is missing")
		}
		base += "/namespaces/" + url.PathEscape(namespace)
	}
	return base + "/" + r.Name + "/" + url.PathEscape(o.text("metadata", "name")), nil
}

// resource asks the API server where the objects of a kind are, once.
func (k *Kubernetes) resource(ctx context.Context, base, version, kind string) (resource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := version + " " + kind
	if r, ok := k.resources[id]; ok {
		return r, nil
	}
	var answer struct {
		Resources []resource `json:"resources"`
	}
	if err := k.call(ctx, http.MethodGet, base, nil, &answer); err != nil {
		return resource{}, fmt.Errorf("ask what %s holds: %w", version, err)
	}
	for _, r := range answer.Resources {
		if r.Kind == kind && !strings.Contains(r.Name, "/") {
			k.resources[id] = r
			return r, nil
		}
	}
	return resource{}, fmt.Errorf("kind %s in %s: %w", kind, version, errNotFound)
}

// call makes one call of the API.
func (k *Kubernetes) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, k.base+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+k.token)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/apply-patch+yaml") // JSON is YAML
	}
	response, err := k.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w: %.500s", method, path, errNotFound, data)
	case response.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %s: %.500s", method, path, response.Status, data)
	case out == nil:
		return nil
	}
	return json.Unmarshal(data, out)
}
