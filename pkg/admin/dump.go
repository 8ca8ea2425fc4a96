package admin

import "fmt"

// A Dump is the configuration in force in the shape that ztunnel's /config_dump
// has and istioctl ztunnel-config reads. AgentPolicies is ours. Lists are sorted
// by the functions that make them. It must hold no key and no token.
type Dump struct {
	Workloads     []Workload    `json:"workloads"`
	Services      []Service     `json:"services"`
	Policies      []Policy      `json:"policies"`
	AgentPolicies []Policy      `json:"agentPolicies"`
	Carriers      []Carrier     `json:"carriers"`
	Rejected      []Rejected    `json:"rejected"`
	Pending       []string      `json:"pending"`   // what must arrive before anything is allowed
	Ejections     []Ejection    `json:"ejections"` // what could not be connected to and is left alone for a while
	Snapshot      uint64        `json:"snapshot"`
	StaticConfig  any           `json:"staticConfig"`
	Version       any           `json:"version"`
	Config        any           `json:"config"`
	Certificates  []Certificate `json:"certificates"`
	Revocations   *Revocations  `json:"revocations,omitempty"` // nil without a CRL file
}

// A Workload is a mesh.Workload in a Dump.
type Workload struct {
	UID                   string            `json:"uid"`
	WorkloadIPs           []string          `json:"workloadIps"`
	Waypoint              *GatewayAddress   `json:"waypoint,omitempty"`
	NetworkGateway        *GatewayAddress   `json:"networkGateway,omitempty"`
	Protocol              string            `json:"protocol"` // HBONE or TCP
	Name                  string            `json:"name"`
	Namespace             string            `json:"namespace"`
	ServiceAccount        string            `json:"serviceAccount"`
	WorkloadName          string            `json:"workloadName"`
	WorkloadType          string            `json:"workloadType"`
	CanonicalName         string            `json:"canonicalName"`
	CanonicalRevision     string            `json:"canonicalRevision"`
	ClusterID             string            `json:"clusterId"`
	TrustDomain           string            `json:"trustDomain,omitempty"`
	Locality              Locality          `json:"locality"`
	Node                  string            `json:"node"`
	Network               string            `json:"network,omitempty"`
	Status                string            `json:"status"` // Healthy or Unhealthy
	Hostname              string            `json:"hostname"`
	Capacity              uint32            `json:"capacity"`
	NativeTunnel          bool              `json:"nativeTunnel,omitempty"`
	ApplicationTunnel     ApplicationTunnel `json:"applicationTunnel"`
	AuthorizationPolicies []string          `json:"authorizationPolicies,omitempty"`

	// Not in ztunnel's:
	HostNetwork bool                         `json:"hostNetwork,omitempty"`
	Services    map[string]map[string]uint16 `json:"services,omitempty"` // its ports by the service's, by service
}

// A Locality is a mesh.Locality in a Dump.
type Locality struct {
	Region  string `json:"region,omitempty"`
	Zone    string `json:"zone,omitempty"`
	Subzone string `json:"subzone,omitempty"`
}

// A GatewayAddress is a mesh.GatewayAddress in a Dump.
type GatewayAddress struct {
	Destination   string `json:"destination"` // namespace/hostname or network/address
	HBONEMTLSPort uint16 `json:"hboneMtlsPort"`
}

// An ApplicationTunnel is a mesh.ApplicationTunnel in a Dump.
type ApplicationTunnel struct {
	Protocol string `json:"protocol"` // NONE or PROXY
	Port     uint16 `json:"port,omitempty"`
}

// A Service is a mesh.Service in a Dump, with its workloads.
type Service struct {
	Name            string              `json:"name"`
	Namespace       string              `json:"namespace"`
	Hostname        string              `json:"hostname"`
	VIPs            []string            `json:"vips"` // network/address
	Ports           map[string]uint16   `json:"ports"`
	Endpoints       map[string]Endpoint `json:"endpoints"` // by workload UID
	SubjectAltNames []string            `json:"subjectAltNames,omitempty"`
	Waypoint        *GatewayAddress     `json:"waypoint,omitempty"`
	LoadBalancer    *LoadBalancer       `json:"loadBalancer,omitempty"`
	IPFamilies      string              `json:"ipFamilies"`

	// Not in ztunnel's:
	WeightedWaypoints []WeightedWaypoint `json:"weightedWaypoints,omitempty"`
	Canonical         bool               `json:"canonical,omitempty"`
	Visibility        string             `json:"visibility,omitempty"`   // NAMESPACE, or public
	AppProtocols      map[string]string  `json:"appProtocols,omitempty"` // by port
}

// A WeightedWaypoint is a mesh.WeightedWaypoint in a Dump.
type WeightedWaypoint struct {
	GatewayAddress
	Weight uint32 `json:"weight"`
}

// An Endpoint is a workload's place in a service in a Dump.
type Endpoint struct {
	WorkloadUID string            `json:"workloadUid"`
	Service     string            `json:"service"`
	Port        map[string]uint16 `json:"port"`
}

// A LoadBalancer is a mesh.LoadBalancing in a Dump.
type LoadBalancer struct {
	Mode               string   `json:"mode"`
	RoutingPreferences []string `json:"routingPreferences"`
	HealthPolicy       string   `json:"healthPolicy"`
}

// A Policy is an L4 authorization or an agent policy in a Dump.
type Policy struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Scope     string `json:"scope,omitempty"`
	Action    string `json:"action,omitempty"`
	Rules     any    `json:"rules,omitempty"`
	Version   string `json:"version,omitempty"`
	Problem   string `json:"problem,omitempty"` // why it denies what it governs instead

	// Spec is what the policy says, as people write it.
	Spec     any      `json:"spec,omitempty"`
	Carriers []string `json:"carriers,omitempty"` // of an agent policy, first the one that is obeyed
}

// A Carrier is how a carrier of configuration stands, in a Dump.
type Carrier struct {
	Name      string        `json:"name"` // mesh, xds, ecds, or file and its path
	Delivered bool          `json:"delivered"`
	Pending   string        `json:"pending,omitempty"` // what it has not delivered, and what to do about it
	Target    string        `json:"target,omitempty"`  // whom it is asked of
	Connected bool          `json:"connected"`
	Since     string        `json:"since,omitempty"` // when connected last changed
	Attempts  int           `json:"attempts,omitempty"`
	Error     string        `json:"error,omitempty"` // why the last connection ended
	Types     []CarrierType `json:"types,omitempty"`
}

// A CarrierType is how a carrier stands to one type of resource.
type CarrierType struct {
	URL       string `json:"url"`
	Delivered bool   `json:"delivered"`
	Resources int    `json:"resources"`
	LastACK   string `json:"lastAck,omitempty"`
	LastNACK  string `json:"lastNack,omitempty"`
	NACK      string `json:"nack,omitempty"`
}

// A Rejected is a resource whose latest version is not in effect, in a Dump.
type Rejected struct {
	Carrier string `json:"carrier"`
	Name    string `json:"name"`
	Problem string `json:"problem"`
}

// An Ejection is a workload that is left alone while others can serve, because
// connections to it kept failing, in a Dump.
type Ejection struct {
	WorkloadUID string `json:"workloadUid"`
	Until       string `json:"until"`
	Failures    int    `json:"failures"` // since it last worked
	Problem     string `json:"problem"`  // the last one
}

// String says it to people.
func (e Ejection) String() string {
	return fmt.Sprintf("%s until %s, while others can serve: %d connections failed, the last: %s", e.WorkloadUID, e.Until, e.Failures, e.Problem)
}

// A Certificate is an identity of ours in a Dump: never its key.
type Certificate struct {
	Identity  string `json:"identity"`
	State     string `json:"state"` // Initializing, Available or "Unavailable: why"
	CertChain []Cert `json:"certChain"`
	RootCerts []Cert `json:"rootCerts"`

	Problem      string `json:"problem,omitempty"`      // why it could not be renewed, or what else of it is not up to date
	ProblemSince string `json:"problemSince,omitempty"` // RFC 3339
}

// Revocations are a file of CRLs in a Dump.
type Revocations struct {
	Path         string `json:"path"`
	Lists        int    `json:"lists"`               // in force
	FirstEnds    string `json:"firstEnds,omitempty"` // RFC 3339
	Problem      string `json:"problem,omitempty"`   // why the newest content of the file is not in use
	ProblemSince string `json:"problemSince,omitempty"`
}

// A Cert is one X.509 certificate in a Dump.
type Cert struct {
	PEM            string `json:"pem"` // base64 of the PEM
	SerialNumber   string `json:"serialNumber"`
	ValidFrom      string `json:"validFrom"`
	ExpirationTime string `json:"expirationTime"`
}
