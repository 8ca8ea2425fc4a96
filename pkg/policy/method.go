package policy

import "strings"

// groups is a set of method groups.
type groups uint8

const (
	groupBase groups = 1 << iota
	groupTools
	groupResources
	groupPrompts
	groupTasks
	groupServer
)

func groupNamed(name string) (groups, bool) {
	switch name {
	case "@base":
		return groupBase, true
	case "@tools":
		return groupTools, true
	case "@resources":
		return groupResources, true
	case "@prompts":
		return groupPrompts, true
	case "@tasks":
		return groupTasks, true
	case "@server":
		return groupServer, true
	}
	return 0, false
}

const groupNames = "@base, @tools, @resources, @prompts, @tasks or @server"

// groupsOf are the groups of a method that the MCP specification, in any of its
// revisions 2024-11-05 to 2026-07-28 and its tasks extension, defines. A method
// is base only as far as it names no object.
func groupsOf(method string, k Kind) (g groups, known bool) {
	if k == KindUnknown {
		return 0, false
	}
	g, known = specified(method)
	if k != KindNone {
		g &^= groupBase
	}
	switch k {
	case KindTool:
		g |= groupTools
	case KindResource, KindTemplate:
		g |= groupResources
	case KindPrompt:
		g |= groupPrompts
	case KindTask:
		g |= groupTasks
	}
	return g, known || k != KindNone
}

func specified(method string) (g groups, known bool) {
	switch method {
	case "initialize", "ping", "server/discover", "logging/setLevel", "subscriptions/listen", "GET", "DELETE",
		"notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/message",
		"notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed",
		"notifications/resources/updated", "notifications/roots/list_changed", "notifications/tasks",
		"notifications/tasks/status", "notifications/elicitation/complete", "notifications/subscriptions/acknowledged":
		return groupBase, true
	case "tools/list":
		return groupBase | groupTools, true
	case "tools/call":
		return groupTools, true
	case "resources/list", "resources/templates/list":
		return groupBase | groupResources, true
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return groupResources, true
	case "prompts/list":
		return groupBase | groupPrompts, true
	case "prompts/get":
		return groupPrompts, true
	case "tasks/list":
		return groupBase | groupTasks, true
	case "tasks/get", "tasks/result", "tasks/cancel", "tasks/update":
		return groupTasks, true
	case "sampling/createMessage", "elicitation/create", "roots/list":
		return groupServer, true
	case "completion/complete":
		return 0, true
	}
	return 0, false
}

// alias is the method whose rights method follows for an object of kind k.
func alias(method string, k Kind) string {
	switch {
	case method == "completion/complete" && k == KindPrompt:
		return "prompts/get"
	case method == "completion/complete" && (k == KindResource || k == KindTemplate):
		return "resources/read"
	case method == "subscriptions/listen" && k == KindResource:
		return "resources/subscribe"
	}
	return ""
}

// methodOf is the method by which an object that a list shows is used.
func methodOf(k Kind) string {
	switch k {
	case KindTool:
		return "tools/call"
	case KindResource, KindTemplate:
		return "resources/read"
	case KindPrompt:
		return "prompts/get"
	case KindTask:
		return "tasks/get"
	}
	return ""
}

// A methodPattern is an entry of a rule's methods: a group or a glob.
type methodPattern struct {
	group groups
	glob  glob
}

func (m *methodPattern) matches(q *question) bool {
	if m.group != 0 {
		return m.group&q.groups != 0
	}
	return m.glob.matches(q.method) || q.alias != "" && m.glob.matches(q.alias)
}

func isGroup(s string) bool { return strings.HasPrefix(s, "@") }
