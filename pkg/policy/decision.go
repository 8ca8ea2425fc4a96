package policy

// A Decision is the answer to one question: may this connection, or this call, pass?
// The zero Decision denies.
type Decision struct {
	Allowed bool
	Policy  string // "namespace/name" of the policy that decided; several, joined by commas, if none of them allowed; "" if no policy did
	Rule    string // the rule in it that decided; "" if the policy as a whole did, or none of its rules matched
	Version string // the version its carrier gave that policy, joined as Policy; "" if it has none
	Reason  string // one sentence for the record: what decided and, for a denial, what to fix

	// Scopes are what the caller's token lacks: with all of them it would have
	// passed. Only denials have them, and a caller may be told.
	Scopes []string

	// Audits are the audit-only rules and dry-run policies that matched. They
	// decided nothing and are only recorded.
	Audits []Audit
}

// An Audit is an audit-only rule or a dry-run policy that matched.
type Audit struct {
	Policy, Rule, Version string
	Action                Action // what it would have done
}

// Action is what a matching policy or rule does.
type Action uint8

const (
	ActionAllow Action = iota + 1
	ActionDeny
	ActionRequire
)
