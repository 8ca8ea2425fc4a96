package policy

import (
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// patterns are the variables of which not all is known, for an expression.
func (l Lacks) patterns(expression *ast.AST) []*cel.AttributePatternType {
	var out []*cel.AttributePatternType
	for _, v := range [...]struct {
		lacks bool
		names []string
	}{
		{l.Arguments, []string{toolArguments, promptArguments}},
		{l.Claims && !readsOnly(expression, "jwt", "iss", "sub", "scope"), []string{"jwt"}},
		{l.Headers, []string{"request.headers"}},
		{l.Session, []string{"mcp.sessionId"}},
		{l.Capabilities, []string{"mcp.client.capabilities"}},
		{l.Elicitation, []string{"mcp.elicitation.mode", "mcp.elicitation.url"}},
	} {
		for _, name := range v.names {
			if v.lacks {
				out = append(out, cel.AttributePattern(name))
			}
		}
	}
	return out
}

// readsOnly tells whether an expression uses nothing of a map but those members.
func readsOnly(expression *ast.AST, variable string, members ...string) bool {
	used, allowed := 0, 0
	isVariable := func(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == variable }
	ast.PreOrderVisit(expression.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case isVariable(e):
			used++
		case e.Kind() == ast.SelectKind:
			if s := e.AsSelect(); isVariable(s.Operand()) && slices.Contains(members, s.FieldName()) {
				allowed++
			}
		case e.Kind() == ast.CallKind:
			c := e.AsCall()
			if c.FunctionName() != operators.Index || len(c.Args()) != 2 || !isVariable(c.Args()[0]) || c.Args()[1].Kind() != ast.LiteralKind {
				return
			}
			if name, ok := c.Args()[1].AsLiteral().Value().(string); ok && slices.Contains(members, name) {
				allowed++
			}
		}
	}))
	return used == allowed
}

// holdsPartly evaluates the condition where not all is known. It is not for the path
// of calls: it compiles the expression again.
func (c *condition) holdsPartly(v *variables, lacks Lacks) truth {
	env, err := environment()
	if err != nil {
		return failed
	}
	compiled, issues := env.Compile(c.text)
	if issues.Err() != nil {
		return failed
	}
	patterns := lacks.patterns(compiled.NativeRep())
	if len(patterns) == 0 {
		return truthOfValue(c.program.Eval(v))
	}
	program, err := env.Program(compiled, cel.EvalOptions(cel.OptPartialEval), cel.CostLimit(maxCost))
	if err != nil {
		return failed
	}
	partial, err := cel.PartialVars(v, patterns...)
	if err != nil {
		return failed
	}
	return truthOfValue(program.Eval(partial))
}
