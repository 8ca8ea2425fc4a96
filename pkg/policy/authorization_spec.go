package policy

// Scope says which workloads an L4 authorization governs.
type Scope uint8

const (
	ScopeUnknown   Scope = iota // not understood: CompileAuthorization rejects it
	ScopeGlobal                 // every workload of the mesh
	ScopeNamespace              // every workload of the policy's namespace
	ScopeWorkload               // the workloads that list the policy by name
)

// An AuthorizationSpec is what istio.security.Authorization says, in plain Go.
//
// A policy matches if any of its groups does, a group if all of its rules do,
// a rule if any of its matches does. No group: it never matches. No rule in a
// group, or no match in a rule: that group or rule matches everything.
//
// The Unknown fields describe what the decoder found and did not understand,
// such as "field 14" or "extension foo". They make the policy stricter, never
// laxer: whatever is unknown counts as not fulfilled in an Allow policy and as
// fulfilled in a Deny policy.
type AuthorizationSpec struct {
	Name, Namespace string
	Version         string // the version its carrier gave it; "" if none
	Scope           Scope
	Action          Action // ActionAllow or ActionDeny
	Groups          []AuthorizationGroup
	DryRun          bool // evaluated and recorded, decides nothing
	Unknown         string
	Source          []byte // what the decoder read, for whoever shows the policy; it means nothing here
}

// An AuthorizationGroup matches if all of its rules match.
type AuthorizationGroup struct {
	Rules   []AuthorizationRule
	Unknown string
}

// An AuthorizationRule matches if any of its matches does.
type AuthorizationRule struct {
	Matches []AuthorizationMatch
	Unknown string
}

// An AuthorizationMatch matches if every list that is not empty does: a plain
// list if any of its entries matches, a Not list if none does. A match whose
// lists are all empty never matches.
type AuthorizationMatch struct {
	Namespaces, NotNamespaces             []StringMatch
	ServiceAccounts, NotServiceAccounts   []ServiceAccount // in any trust domain
	Principals, NotPrincipals             []StringMatch    // without "spiffe://"
	SourceIPs, NotSourceIPs               []AddressRange
	DestinationIPs, NotDestinationIPs     []AddressRange
	DestinationPorts, NotDestinationPorts []uint32 // of the address that is dialled
	Unknown                               string
}

// MatchKind is how a StringMatch compares.
type MatchKind uint8

const (
	MatchUnset    MatchKind = iota // CompileAuthorization rejects it
	MatchExact                     // equal to Value
	MatchPrefix                    // begins with Value
	MatchSuffix                    // ends with Value
	MatchPresence                  // not empty; Value is not used
)

// A StringMatch is a condition on a string.
type StringMatch struct {
	Kind  MatchKind
	Value string
}

// An AddressRange is a CIDR as it is on the wire.
type AddressRange struct {
	Address []byte // 4 or 16 bytes
	Length  uint32 // of the prefix, in bits
}

// A ServiceAccount names a Kubernetes service account.
type ServiceAccount struct{ Namespace, Name string }
