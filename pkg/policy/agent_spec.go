package policy

// BaseMethods says whether base protocol methods follow a policy's grants.
type BaseMethods uint8

const (
	BaseMethodsMatch BaseMethods = iota // whoever an Allow rule's source admits may use them
	BaseMethodsSkip                     // they need an Allow rule that selects them
)

// An AgentSpec is what outrigger.policy.v1alpha1.AgentPolicy says, in plain Go.
// The meaning of every field is in the comments of the proto.
type AgentSpec struct {
	Name, Namespace   string
	Version           string // "": a digest of the rest
	Target            AgentTarget
	Direction         Direction // 0 means Inbound
	Ports             []AgentPort
	AllMCPPorts       bool
	BaseMethods       BaseMethods
	Rules             []AgentRule
	FilterLinked      bool            // mcpLinkedResourcesOption
	Tokens            *Tokens         // jwt; nil: not set
	RecordedArguments *AgentRecording // nil: not set

	Source []byte // what the decoder read, for whoever shows the policy; it means nothing here

	// Unknown names fields and enum values that the decoder did not
	// understand. Any makes the policy invalid.
	Unknown []string
}

// An AgentTarget selects what a policy applies to; what is set must all hold.
type AgentTarget struct {
	MatchLabels map[string]string
	Services    []string // hostnames, or names in the policy's namespace
}

// An AgentPort declares the protocol of a port.
type AgentPort struct {
	Number   uint32
	Protocol Protocol // ProtocolMCP, ProtocolHTTP or ProtocolOpaque
	Paths    []string
}

// An AgentRule names who may do what, when.
type AgentRule struct {
	Name      string
	Action    Action
	AuditOnly bool
	Source    *AgentSource // nil: any caller, authenticated or not

	EmptyScope bool // it has an mcp of which nothing is set, such as an emptied list of tools

	Methods   []string
	Tools     []string
	Resources []string
	Prompts   []string
	Arguments []AgentArgument

	When   []string // CEL
	Scopes []string // of OAuth
}

// RecordedForm is how records keep arguments.
type RecordedForm uint8

const (
	RecordDigest RecordedForm = iota + 1
	RecordRedacted
)

// An AgentRecording is what records keep of arguments.
type AgentRecording struct {
	Form   RecordedForm
	Reveal []string // paths
}

// An AgentSource selects callers: those that match any entry of any list.
type AgentSource struct {
	SPIFFE          []string
	ServiceAccounts []ServiceAccount // Namespace "": the policy's; Name "*": all of it
	Namespaces      []string
}

// An AgentArgument is a condition on one argument. Exactly one condition is set.
type AgentArgument struct {
	Path    string
	Exact   *string
	Glob    *string
	In      []string // nil: not set
	Present *bool
}
