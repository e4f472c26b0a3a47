package server

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"sallyport/policy"
)

// leaf is one key that can be set by itself.
type leaf struct {
	key   string // "log.level"
	value reflect.Value
}

// leaves are the keys of c in the order of the struct. Lists are one leaf.
func leaves(c *Config) []leaf { return appendLeaves(nil, "", reflect.ValueOf(c).Elem()) }

func appendLeaves(out []leaf, prefix string, v reflect.Value) []leaf {
	for i := range v.NumField() {
		name, f := prefix+tag(v.Type().Field(i)), v.Field(i)
		if f.Kind() == reflect.Struct {
			out = appendLeaves(out, name+".", f)
		} else {
			out = append(out, leaf{name, f})
		}
	}
	return out
}

func tag(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

// Setting is one line of `config show`.
type Setting struct {
	Key    string `json:"key" yaml:"key"`
	Value  any    `json:"value" yaml:"value"`
	Origin string `json:"origin" yaml:"origin"`
}

// Settings lists every key with its value and origin.
func (l *Loaded) Settings() []Setting {
	var out []Setting
	for _, leaf := range leaves(l.Config) {
		out = append(out, Setting{Key: leaf.key, Value: leaf.value.Interface(), Origin: l.Origins[leaf.key].String()})
	}
	return out
}

// EnvName is the environment variable of a dotted key.
func EnvName(key string) string {
	return "SALLYPORT_" + strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
}

// set parses text as YAML into the leaf key. A string takes the text as it is.
func (l *Loaded) set(key, text string, o Origin) *ConfigError {
	for _, leaf := range leaves(l.Config) {
		if leaf.key != key {
			continue
		}
		if leaf.value.Kind() == reflect.String {
			leaf.value.SetString(text)
		} else {
			fresh := reflect.New(leaf.value.Type())
			if err := yaml.UnmarshalWithOptions([]byte(text), fresh.Interface(), yaml.Strict()); err != nil {
				return &ConfigError{Key: o.String(), Message: yamlError("", err).Message}
			}
			leaf.value.Set(fresh.Elem())
		}
		for k := range l.Origins { // elements of a list that the file had set
			if strings.HasPrefix(k, key+"[") {
				delete(l.Origins, k)
			}
		}
		l.Origins[key] = o
		return nil
	}
	e := &ConfigError{Key: o.String(), Message: fmt.Sprintf("there is no setting %q", key)}
	if near := nearestKey(key); near != "" {
		e.Hint = fmt.Sprintf("did you mean %s?", near)
	}
	return e
}

// readEnviron applies SALLYPORT_<SECTION>__<KEY>. A variable of that form that
// names no setting is an error: a typing mistake must not pass silently.
func (l *Loaded) readEnviron(environ []string) ConfigErrors {
	var errs ConfigErrors
	known := map[string]string{}
	for _, leaf := range leaves(l.Config) {
		known[EnvName(leaf.key)] = leaf.key
	}
	for _, kv := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "SALLYPORT_") || (!strings.Contains(name, "__") && known[name] == "") {
			continue
		}
		key, ok := known[name]
		if !ok {
			e := &ConfigError{Key: "env " + name, Message: "names no setting"}
			if name == "SALLYPORT_SEAL__KEY" {
				e.Hint = "secrets are read from files only: use SALLYPORT_SEAL__KEY_FILE or a systemd credential " + KeyCredential
			}
			errs = append(errs, e)
			continue
		}
		if err := l.set(key, text, Origin{Source: "env", Name: name}); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// nearestKey finds a known key (or a part of one) that somebody may have meant, "" if there is none.
func nearestKey(name string) string {
	var known []string
	for _, leaf := range leaves(DefaultConfig()) {
		known = append(append(known, strings.Split(leaf.key, ".")...), leaf.key)
	}
	return policy.Nearest(name, known)
}
