package mcp

import (
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
)

type (
	message = jsonrpc.Message
	value   = jsonrpc.Value
)

const (
	request      = jsonrpc.Request
	notification = jsonrpc.Notification
	response     = jsonrpc.Response
)

// paramsShape has the members of params that a server acts on, in any revision.
func paramsShape() *jsonrpc.Shape {
	return jsonrpc.NewShape([]string{
		"name", "arguments", "uri", "argument", "context", "cursor", "taskId", "task", "requestId",
		"progressToken", "protocolVersion", "clientInfo", "capabilities", "level", "inputResponses",
		"requestState", "reason", "progress", "total", "message", "messages", "mode", "url",
		"requestedSchema", "elicitationId", "data", "logger", "status", "roots",
	}, map[string]*jsonrpc.Shape{
		"ref":           jsonrpc.NewShape([]string{"type", "name", "uri"}, nil),
		"_meta":         metaShape(),
		"notifications": jsonrpc.NewShape([]string{"toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions", "taskIds"}, nil),
	})
}

func metaShape() *jsonrpc.Shape {
	return jsonrpc.NewShape([]string{
		"progressToken", metaVersion, "io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/clientCapabilities",
		"io.modelcontextprotocol/logLevel", "io.modelcontextprotocol/subscriptionId", "io.modelcontextprotocol/related-task",
	}, nil)
}

// resultShape has the members of a result that we act on. Items of lists are
// checked for twins too: a client that folds case would see another name.
func resultShape() *jsonrpc.Shape {
	item := jsonrpc.NewShape([]string{"name", "uri", "uriTemplate", "taskId"}, nil).Unnoted()
	lists := map[string]*jsonrpc.Shape{}
	for _, list := range []string{"tools", "resources", "resourceTemplates", "prompts", "contents", "tasks", "skills"} {
		lists[list] = item
	}
	lists["task"] = jsonrpc.NewShape([]string{"taskId"}, nil)
	lists["_meta"] = metaShape()
	return jsonrpc.NewShape([]string{
		"nextCursor", "isError", "resultType", "inputRequests", "requestState", "taskId", "cacheScope", "ttlMs",
		"protocolVersion", "content", "structuredContent",
	}, lists)
}

// replyShape has the members of what a client answers a server.
func replyShape() *jsonrpc.Shape {
	return jsonrpc.NewShape([]string{"action", "content", "role", "model", "stopReason", "_meta"},
		map[string]*jsonrpc.Shape{"roots": jsonrpc.NewShape([]string{"uri", "name"}, nil).Unnoted()})
}

func (g *governor) newRequestParser() *jsonrpc.Parser {
	return jsonrpc.NewParser(jsonrpc.Limits{Bytes: g.config.RequestBytes}, g.params, g.reply)
}

// newAnswerParser reads what servers send: responses, and their own requests
// and notifications. They may be longer than what clients send.
func (g *governor) newAnswerParser() *jsonrpc.Parser {
	return jsonrpc.NewParser(jsonrpc.Limits{Bytes: g.config.MessageBytes, Members: 1 << 20}, g.params, g.result)
}

// isPlain tells whether text may name something: no control characters, which
// peers and logs show differently or not at all.
func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < 0x20 || text[i] == 0x7f {
			return false
		}
	}
	return true
}
