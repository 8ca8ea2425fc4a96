package discovery

import (
	"net/netip"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// A plainReader reads workloads as nearly all of them are, straight from their encoding: with
// names, addresses and services, and without gateways, policies of their own or anything wrong or
// unknown. It gives up on all others, for readAddress to read them or to say what is wrong. Where
// it does not give up, both come to the same.
//
// A mesh has some ten of them for each set of services: they share it.
type plainReader struct {
	names    *interner
	cluster  string
	services map[string]map[mesh.Name][]mesh.PortMapping // by their encoding
	accounts map[account]bool                            // that make an identity
}

type account struct{ trustDomain, namespace, name string }

// maxShared bounds what is remembered of each kind.
const maxShared = 1 << 16

// Field numbers of istio.workload.Address, Workload and Locality.
const (
	fieldWorkload protowire.Number = 1

	fieldName              protowire.Number = 1
	fieldNamespace         protowire.Number = 2
	fieldAddresses         protowire.Number = 3
	fieldNetwork           protowire.Number = 4
	fieldTunnelProtocol    protowire.Number = 5
	fieldTrustDomain       protowire.Number = 6
	fieldServiceAccount    protowire.Number = 7
	fieldNode              protowire.Number = 9
	fieldCanonicalName     protowire.Number = 10
	fieldCanonicalRevision protowire.Number = 11
	fieldWorkloadType      protowire.Number = 12
	fieldWorkloadName      protowire.Number = 13
	fieldNativeTunnel      protowire.Number = 14
	fieldStatus            protowire.Number = 17
	fieldClusterID         protowire.Number = 18
	fieldUID               protowire.Number = 20
	fieldServices          protowire.Number = 22
	fieldLocality          protowire.Number = 24
	fieldNetworkMode       protowire.Number = 25

	fieldRegion  protowire.Number = 1
	fieldZone    protowire.Number = 2
	fieldSubzone protowire.Number = 3
)

// read reads the Address in b, whose workload must have the UID. It is nil where it gives up.
func (p *plainReader) read(uid string, b []byte) *mesh.Workload {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 || number != fieldWorkload || kind != protowire.BytesType {
		return nil
	}
	message, m := protowire.ConsumeBytes(b[n:])
	if m < 0 || n+m != len(b) || uid == "" {
		return nil
	}
	w := &mesh.Workload{
		ServiceAccount: defaultServiceAccount, TrustDomain: defaultTrustDomain, ClusterID: p.cluster,
		WorkloadType: workloadType(0), Capacity: 1,
	}
	var services []byte
	if !fields(message, func(number protowire.Number, v value) bool {
		switch number {
		case fieldUID:
			w.UID = uid
			return string(v.bytes) == uid && utf8.Valid(v.bytes)
		case fieldName:
			return p.name(w, uid, v)
		case fieldAddresses:
			a, ok := netip.AddrFromSlice(v.bytes)
			w.Addresses = append(w.Addresses, a.Unmap())
			return ok
		case fieldServices:
			if services == nil {
				services = v.whole
			} else {
				services = append(services, v.whole...)
			}
			return v.bytes != nil
		}
		return p.text(w, number, v) || enum(w, number, v)
	}) {
		return nil
	}
	if w.UID == "" || w.Namespace == "" || !p.identity(w) || !p.share(w, services) {
		return nil
	}
	return w
}

// A value is that of one field: bytes if it has a length, else number.
type value struct {
	bytes  []byte
	number uint64
	whole  []byte // with tag and length
}

// fields calls each until it gives up, or there is something that plain messages have not.
func fields(b []byte, each func(protowire.Number, value) bool) bool {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		var v value
		m := -1
		switch kind {
		case protowire.BytesType:
			if v.bytes, m = protowire.ConsumeBytes(b[n:]); v.bytes == nil {
				v.bytes = []byte{}
			}
		case protowire.VarintType:
			v.number, m = protowire.ConsumeVarint(b[n:])
		}
		if m < 0 {
			return false
		}
		v.whole = b[: n+m : n+m]
		if !each(number, v) {
			return false
		}
		b = b[n+m:]
	}
	return true
}

// name is nearly always the end of the UID.
func (p *plainReader) name(w *mesh.Workload, uid string, v value) bool {
	if n := len(uid) - len(v.bytes); n >= 0 && uid[n:] == string(v.bytes) {
		w.Name = uid[n:]
	} else {
		w.Name = string(v.bytes)
	}
	return v.bytes != nil && utf8.ValidString(w.Name)
}

func (p *plainReader) text(w *mesh.Workload, number protowire.Number, v value) bool {
	to, meaning := (*string)(nil), ""
	switch number {
	case fieldNamespace:
		to = &w.Namespace
	case fieldNetwork:
		to = &w.Network
	case fieldTrustDomain:
		to, meaning = &w.TrustDomain, defaultTrustDomain
	case fieldServiceAccount:
		to, meaning = &w.ServiceAccount, defaultServiceAccount
	case fieldClusterID:
		to, meaning = &w.ClusterID, p.cluster
	case fieldNode:
		to = &w.Node
	case fieldCanonicalName:
		to = &w.CanonicalName
	case fieldCanonicalRevision:
		to = &w.CanonicalRevision
	case fieldWorkloadName:
		to = &w.WorkloadName
	case fieldLocality:
		return v.bytes != nil && p.locality(&w.Locality, v.bytes)
	default:
		return false
	}
	return p.set(to, meaning, v)
}

// set sets a string, that means something else if it is empty.
func (p *plainReader) set(to *string, meaning string, v value) (ok bool) {
	if len(v.bytes) == 0 {
		*to = meaning
		return v.bytes != nil
	}
	*to, ok = p.names.internBytes(v.bytes)
	return ok
}

func (p *plainReader) locality(l *mesh.Locality, b []byte) bool {
	return fields(b, func(number protowire.Number, v value) bool {
		switch number {
		case fieldRegion:
			return p.set(&l.Region, "", v)
		case fieldZone:
			return p.set(&l.Zone, "", v)
		case fieldSubzone:
			return p.set(&l.Subzone, "", v)
		}
		return false
	})
}

// enum takes the values that plain workloads have.
func enum(w *mesh.Workload, number protowire.Number, v value) bool {
	if v.bytes != nil {
		return false
	}
	switch number {
	case fieldTunnelProtocol:
		w.Tunnel = mesh.TunnelNone
		if v.number == uint64(workloadpb.TunnelProtocol_HBONE) {
			w.Tunnel = mesh.TunnelHBONE
		}
		return v.number <= uint64(workloadpb.TunnelProtocol_HBONE)
	case fieldWorkloadType:
		w.WorkloadType = workloadType(workloadpb.WorkloadType(v.number))
		return v.number <= uint64(workloadpb.WorkloadType_JOB)
	case fieldStatus:
		w.Unhealthy = v.number == uint64(workloadpb.WorkloadStatus_UNHEALTHY)
	case fieldNetworkMode:
		w.HostNetwork = v.number == uint64(workloadpb.NetworkMode_HOST_NETWORK)
	case fieldNativeTunnel:
		w.NativeTunnel = v.number == 1
	default:
		return false
	}
	return v.number <= 1
}

// identity tells whether the account makes one.
func (p *plainReader) identity(w *mesh.Workload) bool {
	a := account{w.TrustDomain, w.Namespace, w.ServiceAccount}
	if p.accounts[a] {
		return true
	}
	if !makesIdentity(w) {
		return false
	}
	if p.accounts == nil || len(p.accounts) >= maxShared {
		p.accounts = map[account]bool{}
	}
	p.accounts[a] = true
	return true
}

// share gives w its services, which are encoded as fields of a workload.
func (p *plainReader) share(w *mesh.Workload, encoded []byte) bool {
	if len(encoded) == 0 {
		return true
	}
	shared, known := p.services[string(encoded)]
	if !known {
		in := &workloadpb.Workload{}
		if proto.Unmarshal(encoded, in) != nil {
			return false
		}
		parts := unknown(in.ProtoReflect())
		c := &checker{intern: p.names.intern}
		c.workloadServices(w, in.GetServices())
		if len(parts.fields)+len(parts.values) > 0 || c.err() != nil {
			return false
		}
		if p.services == nil || len(p.services) >= maxShared {
			p.services = map[string]map[mesh.Name][]mesh.PortMapping{}
		}
		shared = w.Services
		p.services[string(encoded)] = shared
	}
	w.Services = shared
	return true
}

// internBytes is intern for what may not be valid UTF-8.
func (i *interner) internBytes(b []byte) (s string, ok bool) {
	if kept, ok := i.known[string(b)]; ok {
		return kept, true
	}
	if !utf8.Valid(b) {
		return "", false
	}
	return i.intern(string(b)), true
}
