package policy

import (
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
)

const (
	maxCondition = 4096    // bytes of an expression
	maxNesting   = 64      // of an expression
	maxCost      = 200_000 // of one evaluation, in CEL's unit; about a millisecond
)

const (
	toolArguments   = "mcp.tool.arguments"
	promptArguments = "mcp.prompt.arguments"
)

// environment declares what an expression may speak of. The names are in the
// proto's comment on Rule.when.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	object := cel.MapType(cel.StringType, cel.DynType)
	options := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxCondition),
		cel.ParserRecursionLimit(maxNesting),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(), cel.ValidateComprehensionNestingLimit(3)),
		cel.Variable("destination.port", cel.IntType),
		cel.Variable("request.headers", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("request.time", cel.TimestampType),
		cel.Variable(toolArguments, object),
		cel.Variable(promptArguments, object),
		cel.Variable("jwt", object),
		cel.Variable("mcp.client.capabilities", object),
	}
	for _, name := range []string{
		"source.spiffeId", "source.identity.trustDomain", "source.identity.namespace",
		"source.identity.serviceAccount", "source.address",
		"destination.spiffeId", "destination.service", "destination.workload", "destination.namespace",
		"mcp.methodName", "mcp.protocolVersion", "mcp.sessionId",
		"mcp.tool.name", "mcp.resource.uri", "mcp.prompt.name", "mcp.task.id",
		"mcp.client.name", "mcp.client.version", "mcp.elicitation.mode", "mcp.elicitation.url",
		"request.method", "request.path", "request.host",
	} {
		options = append(options, cel.Variable(name, cel.StringType))
	}
	return cel.NewEnv(options...)
})

// A condition is a CEL expression of type bool.
type condition struct {
	text    string
	program cel.Program
	partial cel.Program // for when arguments are not known; nil if it does not read them
}

func newCondition(text string) (*condition, error) {
	if len(text) > maxCondition {
		return nil, fmt.Errorf("is %d bytes long, at most %d are allowed", len(text), maxCondition)
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("%s (at %d:%d)", first.Message, first.Location.Line(), first.Location.Column()+1)
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("has type %s, not bool", ast.OutputType())
	}
	c := &condition{text: text}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if most, err := env.EstimateCost(ast, anySize{}); err != nil || most.Max > maxCost {
		options = append(options, cel.CostLimit(maxCost)) // to count costs nearly doubles them
	}
	if c.program, err = env.Program(ast, options...); err != nil {
		return nil, err
	}
	for _, reference := range ast.NativeRep().ReferenceMap() {
		if reference.Name != toolArguments && reference.Name != promptArguments {
			continue
		}
		options := cel.EvalOptions(cel.OptOptimize, cel.OptPartialEval)
		if c.partial, err = env.Program(ast, options, cel.CostLimit(maxCost)); err != nil {
			return nil, err
		}
		break
	}
	return c, nil
}

// anySize estimates nothing: whatever an expression reads may be of any size.
type anySize struct{}

func (anySize) EstimateSize(cost.AstNode) *cost.SizeEstimate { return nil }

func (anySize) EstimateCallCost(_, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	return nil
}

// holds evaluates the condition for q.
func (c *condition) holds(q *question) truth {
	if q.variables == nil {
		q.variables = &variables{question: *q}
	}
	v := q.variables
	if q.lacks != (Lacks{}) {
		return c.holdsPartly(v, q.lacks)
	}
	if c.partial == nil || !q.argumentsUnknown {
		return truthOfValue(c.program.Eval(v))
	}
	open := toolArguments
	if q.object.Kind == KindPrompt {
		open = promptArguments
	}
	partial, err := cel.PartialVars(v, cel.AttributePattern(open))
	if err != nil {
		return failed
	}
	return truthOfValue(c.partial.Eval(partial))
}

func truthOfValue(value any, _ *cel.EvalDetails, err error) truth {
	if err != nil {
		return failed
	}
	switch v := value.(type) {
	case types.Bool:
		return truthOf(bool(v))
	case *types.Unknown:
		return unknown
	}
	return failed
}
