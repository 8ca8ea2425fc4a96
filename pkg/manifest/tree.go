package manifest

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v4"
)

type kind uint8

const (
	null kind = iota
	boolean
	number // text is a JSON number
	text
	list
	mapping
)

func (k kind) String() string {
	return [...]string{"nothing", "a boolean", "a number", "text", "a list", "a mapping"}[k]
}

// A value is one node of a document. An alias is a copy of what it stands for.
type value struct {
	kind         kind
	text         string // of a scalar
	items        []*value
	members      []member
	line, column int
}

type member struct {
	name         string
	line, column int
	value        *value
}

func (v *value) member(name string) *member {
	for i := range v.members {
		if v.members[i].name == name {
			return &v.members[i]
		}
	}
	return nil
}

// errBounds ends the building: the counts have run out.
var errBounds = errors.New("too large")

// A builder turns YAML nodes into values. Its counts are those of one file.
type builder struct {
	file   string
	values int
	faults []error
}

func (b *builder) document(n *yaml.Node) (*Document, error) {
	root := n
	if n.Kind == yaml.DocumentNode {
		if len(n.Content) == 0 {
			return nil, nil
		}
		root = n.Content[0]
	}
	if root.Kind == 0 || root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		b.fault(root, "a document must be a mapping of names to values", "start it with apiVersion: and kind:")
		return nil, nil
	}
	v, err := b.build(root, 0)
	if err != nil {
		return nil, errors.Join(b.faults...)
	}
	return &Document{File: b.file, Line: v.line, Column: v.column, root: v}, nil
}

func (b *builder) build(n *yaml.Node, depth int) (*value, error) {
	if b.values++; b.values > MaxValues {
		b.fault(n, fmt.Sprintf("the file holds more than %d values, with its aliases expanded", MaxValues), "split it, or use fewer aliases")
		return nil, errBounds
	}
	if depth > MaxDepth {
		b.fault(n, fmt.Sprintf("nested deeper than %d levels", MaxDepth), "flatten it")
		return nil, errBounds
	}
	switch n.Kind {
	case yaml.AliasNode:
		if n.Alias == nil {
			b.fault(n, "an alias to an anchor that does not exist", "define the anchor before it is used")
			return &value{line: n.Line, column: n.Column}, nil
		}
		return b.build(n.Alias, depth+1)
	case yaml.SequenceNode:
		return b.list(n, depth)
	case yaml.MappingNode:
		return b.mapping(n, depth)
	default:
		return b.scalar(n), nil
	}
}

func (b *builder) list(n *yaml.Node, depth int) (*value, error) {
	v := &value{kind: list, line: n.Line, column: n.Column, items: make([]*value, 0, len(n.Content))}
	b.collectionTag(n, "!!seq")
	for _, c := range n.Content {
		item, err := b.build(c, depth+1)
		if err != nil {
			return nil, err
		}
		v.items = append(v.items, item)
	}
	return v, nil
}

func (b *builder) mapping(n *yaml.Node, depth int) (*value, error) {
	v := &value{kind: mapping, line: n.Line, column: n.Column, members: make([]member, 0, len(n.Content)/2)}
	b.collectionTag(n, "!!map")
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key == nil || key.Kind != yaml.ScalarNode || key.ShortTag() == "!!null" {
			b.fault(n.Content[i], "a name must be plain text", "write it as name: value")
			continue
		}
		if key.ShortTag() == "!!merge" {
			b.fault(key, "merge keys (<<) are not accepted", "write the fields out")
			continue
		}
		if line, ok := seen[key.Value]; ok {
			b.fault(n.Content[i], fmt.Sprintf("%q is set twice, first in line %d", key.Value, line), "keep one of them")
			continue
		}
		seen[key.Value] = n.Content[i].Line
		m, err := b.build(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		v.members = append(v.members, member{name: key.Value, line: n.Content[i].Line, column: n.Content[i].Column, value: m})
	}
	return v, nil
}

func (b *builder) collectionTag(n *yaml.Node, want string) {
	if tag := n.ShortTag(); tag != want && tag != "" {
		b.fault(n, fmt.Sprintf("the tag %s is not accepted", tag), "remove it")
	}
}

func (b *builder) fault(n *yaml.Node, problem, remedy string) {
	if len(b.faults) < maxFaults {
		b.faults = append(b.faults, &Error{File: b.file, Line: max(n.Line, 1), Column: max(n.Column, 1), Problem: problem, Remedy: remedy})
	}
}

// maxFaults bounds what is reported of one file.
const maxFaults = 20
