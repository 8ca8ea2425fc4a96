package sidecar

// Config is everything an operator may say to a sidecar. Each leaf may come from
// a flag, an environment variable or the YAML file; the tags name them, and the
// flags, the documentation and the JSON Schema are made from the tags.
type Config struct {
	Workload  WorkloadConfig  `json:"workload,omitzero" jsonschema:"The pod that the sidecar serves; the injector fills this from the pod."`
	Identity  IdentityConfig  `json:"identity,omitzero" jsonschema:"Where the sidecar's certificate comes from."`
	Discovery DiscoveryConfig `json:"discovery,omitzero" jsonschema:"Where workloads, authorizations and agent policies come from."`
	Policy    PolicyConfig    `json:"policy,omitzero" jsonschema:"How agent policies reach the sidecar."`
	Inspect   InspectConfig   `json:"inspect,omitzero" jsonschema:"How what is inspected is carried, both ways."`
	Inbound   InboundConfig   `json:"inbound,omitzero" jsonschema:"From the mesh to the app."`
	Tunnels   TunnelsConfig   `json:"tunnels,omitzero" jsonschema:"How long tunnels may take and what one peer may cost. Where a setting is not given, or 0, the default holds."`
	Outbound  OutboundConfig  `json:"outbound,omitzero" jsonschema:"From the app to the mesh."`
	Admin     AdminConfig     `json:"admin,omitzero" jsonschema:"Readiness, metrics and status."`
	Records   RecordsConfig   `json:"records,omitzero" jsonschema:"Access log and audit record."`
	Drain     DrainConfig     `json:"drain,omitzero" jsonschema:"How the sidecar stops."`
}

// WorkloadConfig names the pod.
type WorkloadConfig struct {
	Name           string            `json:"name,omitzero" flag:"name" env:"POD_NAME" jsonschema:"Name of the pod."`
	Namespace      string            `json:"namespace,omitzero" flag:"namespace" env:"POD_NAMESPACE" jsonschema:"Namespace of the pod."`
	ServiceAccount string            `json:"serviceAccount,omitzero" flag:"service-account" env:"SERVICE_ACCOUNT" jsonschema:"Service account of the pod."`
	TrustDomain    string            `json:"trustDomain,omitzero" flag:"trust-domain" env:"TRUST_DOMAIN" jsonschema:"Trust domain of the mesh, cluster.local by default."`
	Addresses      []string          `json:"addresses,omitzero" flag:"address" env:"INSTANCE_IP" jsonschema:"IP addresses of the pod; the first one names it to the control plane."`
	Network        string            `json:"network,omitzero" flag:"network" env:"NETWORK" jsonschema:"Network the pod is in; empty for the default one."`
	ClusterID      string            `json:"clusterID,omitzero" flag:"cluster-id" env:"ISTIO_META_CLUSTER_ID,CLUSTER_ID" jsonschema:"Cluster the pod is in, Kubernetes by default."`
	ClusterDomain  string            `json:"clusterDomain,omitzero" flag:"cluster-domain" env:"CLUSTER_DOMAIN" jsonschema:"DNS domain of the cluster, cluster.local by default."`
	RootNamespace  string            `json:"rootNamespace,omitzero" flag:"root-namespace" env:"ROOT_NAMESPACE" jsonschema:"Namespace of mesh-wide policies, istio-system by default."`
	Labels         map[string]string `json:"labels,omitzero" flag:"label" env:"POD_LABELS" jsonschema:"Labels of the pod as key=value, for policies that select by labels."`
	LabelsFile     string            `json:"labelsFile,omitzero" flag:"labels-file" env:"POD_LABELS_FILE" jsonschema:"File with the labels of the pod as the Kubernetes downward API writes them."`
}

// IdentityConfig says where the certificate comes from.
type IdentityConfig struct {
	Provider   string   `json:"provider,omitzero" flag:"identity-provider" env:"IDENTITY_PROVIDER" jsonschema:"ca (an Istio CA, the default), files, or workload-api (SPIFFE Workload API, as SPIRE serves it)."`
	CAAddress  string   `json:"caAddress,omitzero" flag:"ca-address" env:"CA_ADDRESS" jsonschema:"host:port of the Istio CA; the control plane's by default."`
	CARoot     string   `json:"caRoot,omitzero" flag:"ca-root" env:"CA_ROOT_CA" jsonschema:"Roots that the CA's server certificate must chain to: a file, PEM text or SYSTEM; the control plane's by default."`
	CAName     string   `json:"caName,omitzero" flag:"ca-name" env:"ALT_CA_HOSTNAME" jsonschema:"Name in the CA's server certificate, if it is not the host of its address."`
	TTL        Duration `json:"ttl,omitzero" flag:"cert-ttl" env:"SECRET_TTL" jsonschema:"How long a certificate is asked for, 24h by default."`
	CertFile   string   `json:"certFile,omitzero" flag:"cert-file" env:"IDENTITY_CERT_FILE" jsonschema:"PEM certificate chain, leaf first (provider files)."`
	KeyFile    string   `json:"keyFile,omitzero" flag:"key-file" env:"IDENTITY_KEY_FILE" jsonschema:"PEM private key (provider files)."`
	BundleFile string   `json:"bundleFile,omitzero" flag:"bundle-file" env:"IDENTITY_BUNDLE_FILE" jsonschema:"PEM roots of the trust domain (provider files)."`
	Socket     string   `json:"socket,omitzero" flag:"workload-api-socket" env:"SPIFFE_ENDPOINT_SOCKET" jsonschema:"Address of the SPIFFE Workload API, e.g. unix:///run/spire/agent.sock (provider workload-api)."`
	CRLFile    string   `json:"crlFile,omitzero" flag:"crl-file" env:"CRL_PATH" jsonschema:"PEM or DER list of revoked certificates; watched."`

	RequireRevocationStatus bool              `json:"requireRevocationStatus,omitzero" flag:"require-revocation-status" env:"REQUIRE_REVOCATION_STATUS" jsonschema:"Refuse a peer unless a current list of each of its issuers clears it; without it, who is on no list passes."`
	TrustDomainAliases      []string          `json:"trustDomainAliases,omitzero" flag:"trust-domain-alias" env:"TRUST_DOMAIN_ALIASES" jsonschema:"Other names of the pod's own trust domain. Who bears one must chain to the own roots, and is as good as its namesake where a peer is expected."`
	FederatedBundles        map[string]string `json:"federatedBundles,omitzero" flag:"federated-bundle" env:"FEDERATED_BUNDLES" jsonschema:"PEM files with the roots of foreign trust domains, as domain=file; watched. Nobody of a domain that is neither ours nor listed is admitted (providers ca and files; the workload API brings its own)."`
	AllowTLS12              bool              `json:"allowTLS12,omitzero" flag:"allow-tls12" env:"TLS12_ENABLED" jsonschema:"Admit peers that speak TLS 1.2 with ECDHE and AES-GCM, besides TLS 1.3."`
	StandardRecords         bool              `json:"standardRecords,omitzero" flag:"standard-tls-records" env:"STANDARD_TLS_RECORDS" jsonschema:"Leave TLS records to Go's crypto/tls after the handshake too, at the cost of CPU and memory."`
}

// DiscoveryConfig says where configuration comes from.
type DiscoveryConfig struct {
	Address     string   `json:"address,omitzero" flag:"xds-address" env:"XDS_ADDRESS" jsonschema:"host:port of the xDS server, istiod.istio-system.svc:15012 by default."`
	Root        string   `json:"root,omitzero" flag:"xds-root" env:"XDS_ROOT_CA" jsonschema:"Roots that the xDS server's certificate must chain to: a file, PEM text or SYSTEM."`
	Name        string   `json:"name,omitzero" flag:"xds-name" env:"ALT_XDS_HOSTNAME" jsonschema:"Name in the xDS server's certificate, if it is not the host of its address."`
	Token       string   `json:"token,omitzero" flag:"token-file" env:"AUTH_TOKEN" jsonschema:"File with the token that proves the pod's identity to the control plane; read again for every connection."`
	Wildcard    bool     `json:"wildcard,omitzero" flag:"xds-wildcard" env:"XDS_WILDCARD" jsonschema:"Keep all workloads and services of the mesh, instead of asking for those that the app talks to."`
	Timeout     Duration `json:"timeout,omitzero" flag:"xds-lookup-timeout" env:"XDS_LOOKUP_TIMEOUT" jsonschema:"How long a connection waits for the control plane to tell of its destination, 5s by default; then it is refused."`
	Idle        Duration `json:"idle,omitzero" flag:"xds-idle" env:"XDS_IDLE" jsonschema:"How long a destination that nobody connects to is kept, 10m by default."`
	PolicyFiles []string `json:"policyFiles,omitzero" flag:"policy-file" env:"POLICY_FILES" jsonschema:"Files or directories with agent policies, beside those that come by xDS; watched."`
}

// PolicyConfig says how agent policies reach us. Whatever is listed must deliver
// once before anything is allowed.
type PolicyConfig struct {
	Carriers   []string `json:"carriers,omitzero" flag:"policy-carrier" env:"POLICY_CARRIERS" jsonschema:"What brings agent policies: mesh (our type over the xDS connection of the mesh, as outrigger-control serves it; the default), xds (our type over a connection of its own), ecds (EnvoyFilters of a stock istiod), file (only --policy-file). All that are listed must deliver once before anything is allowed; of several with one policy the first in this order is obeyed."`
	Address    string   `json:"address,omitzero" flag:"policy-xds-address" env:"POLICY_XDS_ADDRESS" jsonschema:"host:port of the xDS server of agent policies (carrier xds)."`
	Root       string   `json:"root,omitzero" flag:"policy-xds-root" env:"POLICY_XDS_ROOT_CA" jsonschema:"Roots that its certificate must chain to: a file, PEM text or SYSTEM; those of the mesh's xDS server by default."`
	Name       string   `json:"name,omitzero" flag:"policy-xds-name" env:"POLICY_XDS_HOSTNAME" jsonschema:"Name in its certificate, if it is not the host of its address."`
	Token      string   `json:"token,omitzero" flag:"policy-token-file" env:"POLICY_AUTH_TOKEN" jsonschema:"File with the token that proves the pod's identity to it; the mesh's by default. Give it one with an audience of its own if it must not be able to act as the pod."`
	Extensions []string `json:"extensions,omitzero" flag:"policy-ecds-name" env:"POLICY_ECDS_NAMES" jsonschema:"Names of the extension configurations that hold agent policies (carrier ecds), outrigger-agent-policy by default."`
}

// InspectConfig says how what is inspected is carried.
type InspectConfig struct {
	KeepAlive Duration `json:"keepAlive,omitzero" flag:"sse-keep-alive" env:"SSE_KEEP_ALIVE" jsonschema:"How long an event stream may be silent before a comment is written into it, 30s by default. One of days is as good as never."`
}

// InboundConfig says where the mesh reaches us and where the app is.
type InboundConfig struct {
	HBONE      string   `json:"hbone,omitzero" flag:"hbone-listen" env:"HBONE_LISTEN" jsonschema:"Address for tunnels from the mesh, :15008 by default. Its port is also the one that peers are dialled on."`
	Plain      string   `json:"plain,omitzero" flag:"plain-listen" env:"PLAIN_LISTEN" jsonschema:"Address for redirected connections without a tunnel, :15006 by default; off turns it off."`
	MCPPorts   []string `json:"mcpPorts,omitzero" flag:"mcp-port" env:"MCP_PORTS" jsonschema:"Ports on which the app speaks MCP. Calls to them are denied while no agent policy governs them, instead of passing uninspected."`
	ClientCert bool     `json:"clientCert,omitzero" flag:"forward-client-cert" env:"FORWARD_CLIENT_CERT" jsonschema:"Tell the app of the caller's certificate in X-Forwarded-Client-Cert, as a sidecar of Istio does. The verified SPIFFE ID is always told, in X-Forwarded-Client-Spiffe-Id."`
	App        string   `json:"app,omitzero" flag:"app-address" env:"APP_ADDRESS" jsonschema:"IP address on which the app listens; by default the one that was asked for."`
}

// TunnelsConfig bounds HBONE, both ends. See hbone.Limits for what each of the
// bounds counts and how much may come at once.
type TunnelsConfig struct {
	ConnectTimeout      Duration `json:"connectTimeout,omitzero" flag:"tunnel-connect-timeout" env:"TUNNEL_CONNECT_TIMEOUT" jsonschema:"How long a TCP connection to a peer may take, 10s by default."`
	HandshakeTimeout    Duration `json:"handshakeTimeout,omitzero" flag:"tunnel-handshake-timeout" env:"TUNNEL_HANDSHAKE_TIMEOUT" jsonschema:"How long a TLS handshake may take, either end, 5s by default."`
	AnswerTimeout       Duration `json:"answerTimeout,omitzero" flag:"tunnel-answer-timeout" env:"TUNNEL_ANSWER_TIMEOUT" jsonschema:"How long a peer may take to answer CONNECT, 15s by default."`
	HalfCloseTimeout    Duration `json:"halfCloseTimeout,omitzero" flag:"tunnel-half-close-timeout" env:"TUNNEL_HALF_CLOSE_TIMEOUT" jsonschema:"How long a tunnel of which one direction has ended may go on while nothing comes through the other, 1h by default."`
	StallTimeout        Duration `json:"stallTimeout,omitzero" flag:"tunnel-stall-timeout" env:"TUNNEL_STALL_TIMEOUT" jsonschema:"How long a peer may leave a tunnel that has something for it without a window, 15m by default."`
	NoisePerSecond      Count    `json:"noisePerSecond,omitzero" flag:"tunnel-noise-per-second" env:"TUNNEL_NOISE_PER_SECOND" jsonschema:"Frames that carry nothing which one connection may send for long, 2000 by default."`
	ResetsPerSecond     Count    `json:"resetsPerSecond,omitzero" flag:"tunnel-resets-per-second" env:"TUNNEL_RESETS_PER_SECOND" jsonschema:"Tunnels of one connection that may be reset for long before anything came back, 100 by default."`
	OpensPerSecond      Count    `json:"opensPerSecond,omitzero" flag:"tunnel-opens-per-second" env:"TUNNEL_OPENS_PER_SECOND" jsonschema:"Tunnels that come to nothing which one identity may open for long, 500 by default."`
	TunnelsPerPeer      Count    `json:"tunnelsPerPeer,omitzero" flag:"tunnels-per-peer" env:"TUNNELS_PER_PEER" jsonschema:"Tunnels that one identity may have open, 16384 by default."`
	ConnsPerPeer        Count    `json:"connsPerPeer,omitzero" flag:"tunnel-conns-per-peer" env:"TUNNEL_CONNS_PER_PEER" jsonschema:"Connections that one identity may have, 1024 by default."`
	ConnsPerSecond      Count    `json:"connsPerSecond,omitzero" flag:"tunnel-conns-per-second" env:"TUNNEL_CONNS_PER_SECOND" jsonschema:"Connections that one identity, and one address, may make for long, 100 by default."`
	HandshakesPerSource Count    `json:"handshakesPerSource,omitzero" flag:"tunnel-handshakes-per-source" env:"TUNNEL_HANDSHAKES_PER_SOURCE" jsonschema:"Handshakes that one address may have in progress, 64 by default."`
	StrangersPerSecond  Count    `json:"strangersPerSecond,omitzero" flag:"tunnel-strangers-per-second" env:"TUNNEL_STRANGERS_PER_SECOND" jsonschema:"Connections that all addresses together may make for long which opened no tunnel in ten minutes, 100 by default."`
}

// OutboundConfig says how the app's connections are taken.
type OutboundConfig struct {
	Capture            string    `json:"capture,omitzero" flag:"outbound-listen" env:"OUTBOUND_LISTEN" jsonschema:"Address for redirected connections of the app, :15001 by default; off turns it off."`
	Forwards           []Forward `json:"forwards,omitzero" flag:"forward" env:"FORWARDS" jsonschema:"Listeners for an app that calls the sidecar by its address: listen=host:port, as in 127.0.0.1:8080=github.tools.svc.cluster.local:80."`
	PassthroughUnknown bool      `json:"passthroughUnknown,omitzero" flag:"passthrough-unknown" env:"PASSTHROUGH_UNKNOWN" jsonschema:"Let connections to addresses that the mesh does not know pass as plain TCP; refused by default."`
}

// AdminConfig says where the sidecar tells about itself.
type AdminConfig struct {
	Address   string `json:"address,omitzero" flag:"admin-listen" env:"ADMIN_LISTEN" jsonschema:"Address of status, config dump and profiles, 127.0.0.1:15000 by default; off turns it off."`
	Metrics   string `json:"metrics,omitzero" flag:"metrics-listen" env:"METRICS_LISTEN" jsonschema:"Address of /metrics, :15020 by default; off turns it off."`
	Readiness string `json:"readiness,omitzero" flag:"ready-listen" env:"READY_LISTEN" jsonschema:"Address of /healthz/ready, :15021 by default; off turns it off."`
}

// RecordsConfig says where records go.
type RecordsConfig struct {
	AccessLog  string `json:"accessLog,omitzero" flag:"access-log" env:"ACCESS_LOG" jsonschema:"File for the access log, - for standard output (the default), off for none."`
	Format     string `json:"format,omitzero" flag:"log-format" env:"LOG_FORMAT" jsonschema:"Form of the access log and of the sidecar's own log: plain (the default) or json."`
	Audit      string `json:"audit,omitzero" flag:"audit-log" env:"AUDIT_LOG" jsonschema:"File for the audit record, one JSON object a line; - for standard output, off for none (the default)."`
	AuditBlock bool   `json:"auditBlock,omitzero" flag:"audit-block" env:"AUDIT_BLOCK" jsonschema:"Hold traffic up while the audit record cannot be written, instead of dropping and counting."`
	Level      string `json:"level,omitzero" flag:"log-level" env:"LOG_LEVEL" jsonschema:"debug, info (the default), warn or error."`
}

// DrainConfig says how the sidecar stops.
type DrainConfig struct {
	Deadline Duration `json:"deadline,omitzero" flag:"drain-deadline" env:"CONNECTION_TERMINATION_DEADLINE" jsonschema:"How long open connections may go on after the sidecar was told to stop, 5s by default."`
}
