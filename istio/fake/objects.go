package main

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/testing"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/kube"
)

// An object is one that is kept in the in-memory Kubernetes or, for an
// EnvoyFilter, in the server's store of configuration.
type object struct {
	runtime.Object
	meta metav1.Object
	kind config.GroupVersionKind
	gvr  schema.GroupVersionResource
}

func decode(data []byte) (*object, error) {
	o, found, err := kube.IstioCodec.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	m, err := meta.Accessor(o)
	if err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	kind := config.GroupVersionKind{Group: found.Group, Version: found.Version, Kind: found.Kind}
	gvr, ok := gvk.ToGVR(kind)
	if !ok {
		return nil, fmt.Errorf("no resource is known for %v", kind)
	}
	return &object{o, m, kind, gvr}, nil
}

// A tracked client set has its objects in memory.
type tracked interface{ Tracker() testing.ObjectTracker }

func (o *object) tracker(server *xds.FakeDiscoveryServer) (testing.ObjectTracker, error) {
	client := any(server.KubeClient().Kube())
	switch o.kind.Group {
	case "security.istio.io", "networking.istio.io":
		client = server.KubeClient().Istio()
	case "gateway.networking.k8s.io":
		client = server.KubeClient().GatewayAPI()
	}
	t, ok := client.(tracked)
	if !ok {
		return nil, fmt.Errorf("the client for %v does not keep objects in memory", o.kind)
	}
	return t.Tracker(), nil
}

func apply(server *xds.FakeDiscoveryServer, data []byte) error {
	o, err := decode(data)
	if err != nil {
		return err
	}
	if o.kind == gvk.EnvoyFilter {
		return store(server, o, data)
	}
	tracker, err := o.tracker(server)
	if err != nil {
		return err
	}
	if _, err := tracker.Get(o.gvr, o.meta.GetNamespace(), o.meta.GetName()); apierrors.IsNotFound(err) {
		return tracker.Create(o.gvr, o.Object, o.meta.GetNamespace())
	} else if err != nil {
		return err
	}
	return tracker.Update(o.gvr, o.Object, o.meta.GetNamespace())
}

// store keeps what the server reads from its own store and not from Kubernetes.
func store(server *xds.FakeDiscoveryServer, o *object, data []byte) error {
	parsed, _, err := crd.ParseInputs(string(data))
	if err != nil {
		return err
	}
	if len(parsed) != 1 {
		return fmt.Errorf("%d configurations in one object", len(parsed))
	}
	if server.Store().Get(o.kind, o.meta.GetName(), o.meta.GetNamespace()) == nil {
		_, err = server.Store().Create(parsed[0])
	} else {
		_, err = server.Store().Update(parsed[0])
	}
	return err
}

func remove(server *xds.FakeDiscoveryServer, data []byte) error {
	o, err := decode(data)
	if err != nil {
		return err
	}
	if o.kind == gvk.EnvoyFilter {
		return server.Store().Delete(o.kind, o.meta.GetName(), o.meta.GetNamespace(), nil)
	}
	tracker, err := o.tracker(server)
	if err != nil {
		return err
	}
	return tracker.Delete(o.gvr, o.meta.GetNamespace(), o.meta.GetName())
}
