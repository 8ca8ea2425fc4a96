package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWorkloadsAndServicesHaveZtunnelsShape(t *testing.T) {
	github := mesh.Name{Namespace: "tools", Hostname: "github.tools.svc.cluster.local"}
	pod := &mesh.Workload{
		UID: "k//Pod/tools/github-1", Name: "github-1", Namespace: "tools", ServiceAccount: "github", TrustDomain: "cluster.local", ClusterID: "Kubernetes",
		WorkloadName: "github", WorkloadType: "deployment", CanonicalName: "github", CanonicalRevision: "v1", Node: "n1", Network: "net",
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.15.22")}, Tunnel: mesh.TunnelHBONE, Capacity: 1,
		Waypoint:          &mesh.GatewayAddress{Address: mesh.NetworkAddress{Network: "net", Address: netip.MustParseAddr("10.0.0.9")}, HBONEPort: 15009},
		ApplicationTunnel: &mesh.ApplicationTunnel{Proxy: true, Port: 9},
		Services:          map[mesh.Name][]mesh.PortMapping{github: {{Service: 80, Target: 8080}}, {Namespace: "gone"}: nil},
	}
	plain := &mesh.Workload{UID: "a", Unhealthy: true}
	want := `[{"uid":"a","workloadIps":[],"protocol":"TCP","name":"","namespace":"","serviceAccount":"","workloadName":"","workloadType":"","canonicalName":"","canonicalRevision":"","clusterId":"","locality":{},"node":"","status":"Unhealthy","hostname":"","capacity":0,"applicationTunnel":{"protocol":"NONE"}},` +
		`{"uid":"k//Pod/tools/github-1","workloadIps":["127.0.15.22"],"waypoint":{"destination":"net/10.0.0.9","hboneMtlsPort":15009},"protocol":"HBONE","name":"github-1","namespace":"tools","serviceAccount":"github","workloadName":"github","workloadType":"deployment","canonicalName":"github","canonicalRevision":"v1","clusterId":"Kubernetes","trustDomain":"cluster.local","locality":{},"node":"n1","network":"net","status":"Healthy","hostname":"","capacity":1,"applicationTunnel":{"protocol":"PROXY","port":9},"services":{"gone/":{},"tools/github.tools.svc.cluster.local":{"80":8080}}}]`
	if got := asJSON(t, Workloads([]*mesh.Workload{pod, plain})); got != want {
		t.Errorf("workloads\n got %s\nwant %s", got, want)
	}

	service := &mesh.Service{
		Name: "github", Namespace: "tools", Hostname: github.Hostname,
		VIPs:            []mesh.VIP{{Network: "net", Prefix: netip.MustParsePrefix("10.9.0.1/32")}, {Prefix: netip.MustParsePrefix("10.8.0.0/16")}},
		Ports:           []mesh.PortMapping{{Service: 80, Target: 8080}},
		Waypoint:        &mesh.GatewayAddress{Hostname: mesh.Name{Namespace: "tools", Hostname: "wp"}},
		LoadBalancing:   mesh.LoadBalancing{Mode: mesh.BalanceFailover, Preference: []mesh.Scope{mesh.ScopeRegion, mesh.ScopeZone}},
		SubjectAltNames: []mesh.Principal{mesh.NewPrincipal("td", "a", "b")},
	}
	want = `[{"name":"","namespace":"aaa","hostname":"","vips":[],"ports":{},"endpoints":{},"ipFamilies":""},` +
		`{"name":"github","namespace":"tools","hostname":"github.tools.svc.cluster.local","vips":["net/10.9.0.1","/10.8.0.0/16"],"ports":{"80":8080},"endpoints":{"k//Pod/tools/github-1":{"workloadUid":"k//Pod/tools/github-1","service":"tools/github.tools.svc.cluster.local","port":{"80":8080}}},"subjectAltNames":["spiffe://td/ns/a/sa/b"],"waypoint":{"destination":"tools/wp","hboneMtlsPort":15008},"loadBalancer":{"mode":"Failover","routingPreferences":["Region","Zone"],"healthPolicy":"OnlyHealthy"},"ipFamilies":""}]`
	if got := asJSON(t, Services([]*mesh.Service{service, {Namespace: "aaa"}}, []*mesh.Workload{pod})); got != want {
		t.Errorf("services\n got %s\nwant %s", got, want)
	}
}

func TestCertsAreReadableAgain(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(77), NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	got := Certs([]*x509.Certificate{c})[0]
	if got.SerialNumber != "77" || got.ValidFrom != "2001-09-09T01:46:40Z" || got.ExpirationTime != "2033-05-18T03:33:20Z" {
		t.Errorf("%+v", got)
	}
	text, err := base64.StdEncoding.DecodeString(got.PEM)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(text); block == nil || string(block.Bytes) != string(der) {
		t.Error("PEM is not the certificate")
	}
}
