//go:build istiod

package contract

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
)

// A scene is one case in one tier, in a namespace of its own.
type scene struct {
	*testing.T
	tier
	namespace string
	number    byte // unlike that of any other scene
	addresses byte
}

// apply puts objects into the tier. They stay; no other scene looks at them.
func (s *scene) apply(documents ...string) {
	s.Helper()
	text := strings.Join(documents, "\n---\n")
	if err := s.tier.Apply(s.Context(), text); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) delete(documents ...string) {
	s.Helper()
	if err := s.tier.Delete(s.Context(), strings.Join(documents, "\n---\n")); err != nil {
		s.Fatal(err)
	}
}

// address is a pod's that no other has; virtual is a service's.
func (s *scene) address() string {
	s.addresses++
	return fmt.Sprintf("10.11.%d.%d", s.number, s.addresses)
}

func (s *scene) virtual() string {
	s.addresses++
	return fmt.Sprintf("10.96.%d.%d", s.number, s.addresses)
}

// pod is one with a tunnel, that runs as the service account of its name.
func (s *scene) pod(name string) istiod.Pod {
	return istiod.Pod{Namespace: s.namespace, Name: name, ServiceAccount: name, Address: s.address(), HBONE: true, Labels: map[string]string{"app": name}}
}

func (s *scene) uid(pod string) string { return "Kubernetes//Pod/" + s.namespace + "/" + pod }

// service is one before the pods that have the label app: name. It leads from port 80 to 9000.
func (s *scene) service(name, virtual string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {namespace: %s, name: %s}\nspec: {clusterIP: %s, clusterIPs: [%[3]s], selector: {app: %[2]s}, ports: [{port: 80, targetPort: 9000, protocol: TCP}]}\n",
		s.namespace, name, virtual)
}

func (s *scene) hostname(service string) string {
	return s.namespace + "/" + service + "." + s.namespace + ".svc.cluster.local"
}

func (s *scene) token(account string) string {
	s.Helper()
	path, err := s.tier.tokenFile(s.Context(), s.namespace, account)
	if err != nil {
		s.Fatal(err)
	}
	return path
}

// eventually waits for what must come to be.
func (s *scene) eventually(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("never: %s", what)
		}
	}
}

// dial makes a connection through a door.
func (s *scene) dial(d door) *grpc.ClientConn {
	s.Helper()
	options := []grpc.DialOption{grpc.WithTransportCredentials(d.credentials), grpc.WithNoProxy()}
	if d.perRPC != nil {
		options = append(options, grpc.WithPerRPCCredentials(d.perRPC))
	}
	conn, err := grpc.NewClient(d.address, options...)
	if err != nil {
		s.Fatal(err)
	}
	return conn
}
