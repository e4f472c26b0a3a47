package server

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxConfigFile bounds sallyport.yaml, bytes: far above any real one.
const maxConfigFile = 1 << 20

// Origin tells where a value came from.
type Origin struct {
	Source    string // "default", "file", "env", "flag"
	Name      string // file, variable or flag
	Line, Col int    // of a file
}

func (o Origin) String() string {
	switch {
	case o.Source == "file":
		return fmt.Sprintf("%s:%d:%d", o.Name, o.Line, o.Col)
	case o.Name != "":
		return o.Source + " " + o.Name
	default:
		return o.Source
	}
}

// Loaded is a checked configuration with the origin of each value.
type Loaded struct {
	*Config
	File    string // "" when none was read
	Origins map[string]Origin
}

// Source says where LoadConfig looks.
type Source struct {
	// File is sallyport.yaml; "" means DefaultConfigFile if it exists.
	File string
	// NoFile reads no file at all.
	NoFile bool
	// Environ is os.Environ().
	Environ []string
	// Flags are values from the command line by dotted key; they win.
	Flags map[string]string
	// FlagNames are the flags' own names by dotted key, for messages; "--" and the key where there is none.
	FlagNames map[string]string
}

// LoadConfig reads file, then environment, then flags over the defaults, and
// checks the result. Errors are ConfigErrors, or the failure to read the file.
func LoadConfig(s Source) (*Loaded, error) {
	l := &Loaded{Config: DefaultConfig(), Origins: map[string]Origin{}}
	for _, leaf := range leaves(l.Config) {
		l.Origins[leaf.key] = Origin{Source: "default"}
	}
	if !s.NoFile {
		if err := l.readFile(s.File); err != nil {
			return nil, err
		}
	}
	if errs := l.readEnviron(s.Environ); len(errs) > 0 {
		return nil, errs
	}
	for _, key := range slices.Sorted(maps.Keys(s.Flags)) {
		if err := l.set(key, s.Flags[key], Origin{Source: "flag", Name: cmp.Or(s.FlagNames[key], "--"+key)}); err != nil {
			return nil, ConfigErrors{err}
		}
	}
	if errs := l.check(); len(errs) > 0 {
		return nil, errs
	}
	return l, nil
}

func (l *Loaded) readFile(path string) error {
	named := path != ""
	if !named {
		path = DefaultConfigFile
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > maxConfigFile {
		return ConfigErrors{{File: path, Message: fmt.Sprintf("is larger than %d bytes", maxConfigFile)}}
	}
	l.File = path
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	return l.decode(path, data)
}

func (l *Loaded) decode(path string, data []byte) error {
	doc, err := parser.ParseBytes(data, 0)
	if err != nil {
		return ConfigErrors{yamlError(path, err)}
	}
	if len(doc.Docs) > 1 {
		return ConfigErrors{{File: path, Message: "holds more than one YAML document"}}
	}
	if len(doc.Docs) == 0 || empty(doc.Docs[0].Body) {
		return nil
	}
	places := map[string]Origin{}
	collect(doc.Docs[0].Body, "", path, places)
	if _, ok := places["listeners"]; ok {
		l.Listeners = nil // the file's list replaces the default one instead of being laid over it
	}
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(l.Config); err != nil && !errors.Is(err, io.EOF) {
		return ConfigErrors{yamlError(path, err)}
	}
	for key, o := range places {
		l.Origins[key] = o
	}
	return nil
}

// collect notes where each key's value stands, by dotted path; elements of
// lists are "listeners[0].address".
func collect(n ast.Node, key, file string, into map[string]Origin) {
	if empty(n) {
		return
	}
	if key != "" {
		p := start(n).Position
		into[key] = Origin{Source: "file", Name: file, Line: p.Line, Col: p.Column}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			collect(v, key, file, into)
		}
	case *ast.MappingValueNode:
		name := n.Key.GetToken().Value
		if key != "" {
			name = key + "." + name
		}
		collect(n.Value, name, file, into)
	case *ast.SequenceNode:
		for i, v := range n.Values {
			collect(v, fmt.Sprintf("%s[%d]", key, i), file, into)
		}
	}
}

// empty tells whether nothing stands there: "log:" leaves the defaults alone.
func empty(n ast.Node) bool {
	switch n.(type) {
	case nil, *ast.NullNode, *ast.CommentNode, *ast.CommentGroupNode:
		return true
	}
	return false
}

// start is the first token of a node; the library points at the colon of a
// block mapping.
func start(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return start(n.Values[0])
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// yamlError keeps the library's sentence and position, without its excerpt.
func yamlError(file string, err error) *ConfigError {
	e := &ConfigError{File: file, Message: err.Error()}
	var ye yaml.Error
	if errors.As(err, &ye) {
		e.Message = ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Col = t.Position.Line, t.Position.Column
		}
	}
	e.Message, _, _ = strings.Cut(e.Message, "\n")
	if name, ok := unknownField(e.Message); ok {
		e.Message = fmt.Sprintf("unknown key %q", name)
		if near := nearestKey(name); near != "" {
			e.Hint = fmt.Sprintf("did you mean %q?", near)
		}
	}
	return e
}

func unknownField(msg string) (string, bool) {
	name, ok := strings.CutPrefix(msg, `unknown field "`)
	return strings.TrimSuffix(name, `"`), ok
}
