package mcp

import "github.com/outrigger-mesh/outrigger/pkg/policy"

// A method is what we know of a JSON-RPC method.
type method struct {
	name  string
	kind  policy.Kind // of the object that params names; KindNone: none
	param string      // the member of params that names it
	list  string      // the member of the result that is to be filtered
	item  policy.Kind // what is in the list
	key   string      // the member that names an item
	flags flag
}

// cancelled is the notification that cancels a request, of either side.
const cancelled = "notifications/cancelled"

type flag uint16

const (
	legacyOnly     flag = 1 << iota // removed by 2026-07-28
	fromServer                      // a server may send it as a request
	serverOnly                      // only a server may
	arguments                       // params.arguments are for policy to look at
	named                           // the modern Mcp-Name header must mirror the object
	mayBeNamed                      // it may
	cacheable                       // the result may carry cacheScope
	eachNotified                    // params.notifications names many objects
	linksResources                  // the result may link to resources, or embed them
)

// lookup finds a method by name. Those not in the table are unknown: their
// kind is KindUnknown.
func lookup(name string) *method {
	if m := find(name); m != nil {
		return m
	}
	return &method{name: name, kind: policy.KindUnknown}
}

// find is a switch and not a map: it costs no hashing and cannot change.
func find(name string) *method {
	switch name {
	case "tools/call":
		return &toolsCall
	case "tools/list":
		return &toolsList
	}
	for i := range methods {
		if methods[i].name == name {
			return &methods[i]
		}
	}
	return nil
}

var (
	toolsCall = method{name: "tools/call", kind: policy.KindTool, param: "name", flags: arguments | named | linksResources}
	toolsList = method{name: "tools/list", list: "tools", item: policy.KindTool, key: "name", flags: cacheable}
)

// methods are all of every revision, and of the tasks and skills extensions,
// that do not need the short way.
var methods = [...]method{
	{name: "resources/list", list: "resources", item: policy.KindResource, key: "uri", flags: cacheable},
	{name: "resources/templates/list", list: "resourceTemplates", item: policy.KindTemplate, key: "uriTemplate", flags: cacheable},
	{name: "resources/read", kind: policy.KindResource, param: "uri", list: "contents", item: policy.KindResource, key: "uri", flags: named | cacheable},
	{name: "resources/directory/read", kind: policy.KindResource, param: "uri", list: "resources", item: policy.KindResource, key: "uri", flags: mayBeNamed | cacheable},
	{name: "resources/subscribe", kind: policy.KindResource, param: "uri", flags: legacyOnly},
	{name: "resources/unsubscribe", kind: policy.KindResource, param: "uri", flags: legacyOnly},
	{name: "prompts/list", list: "prompts", item: policy.KindPrompt, key: "name", flags: cacheable},
	{name: "prompts/get", kind: policy.KindPrompt, param: "name", flags: arguments | named | linksResources},
	{name: "completion/complete", param: "ref"},
	{name: "subscriptions/listen", flags: eachNotified},
	{name: "server/discover", flags: cacheable},
	{name: "initialize", flags: legacyOnly},
	{name: "notifications/initialized", flags: legacyOnly},
	{name: "ping", flags: legacyOnly | fromServer},
	{name: "logging/setLevel", flags: legacyOnly},
	{name: cancelled},
	{name: "notifications/progress"},
	{name: "notifications/roots/list_changed", flags: legacyOnly},
	{name: "notifications/tasks/status", kind: policy.KindTask, param: "taskId", flags: legacyOnly},
	{name: "tasks/get", kind: policy.KindTask, param: "taskId", flags: fromServer | mayBeNamed | linksResources},
	{name: "tasks/cancel", kind: policy.KindTask, param: "taskId", flags: fromServer | mayBeNamed},
	{name: "tasks/update", kind: policy.KindTask, param: "taskId", flags: mayBeNamed},
	{name: "tasks/result", kind: policy.KindTask, param: "taskId", flags: legacyOnly | fromServer | linksResources},
	{name: "tasks/list", list: "tasks", item: policy.KindTask, key: "taskId", flags: legacyOnly | fromServer},
	{name: "skills/list", list: "skills", item: policy.KindResource, key: "uri", flags: cacheable},
	{name: "skills/get", kind: policy.KindResource, param: "uri", flags: mayBeNamed | cacheable},
	{name: "sampling/createMessage", flags: fromServer | serverOnly},
	{name: "elicitation/create", flags: fromServer | serverOnly},
	{name: "roots/list", flags: fromServer | serverOnly},
}

func (m *method) is(f flag) bool { return m.flags&f != 0 }
