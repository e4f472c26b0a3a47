package policy

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

type object = map[string]any

// JSONSchema describes a document for editors and other programs (JSON Schema 2020-12). It cannot say everything: locks,
// limits and references are for Parse.
func JSONSchema() []byte {
	ref := func(name string) object { return object{"$ref": "#/$defs/" + name} }
	many := func(name string) object {
		return object{"type": []string{"object", "null"}, "propertyNames": object{"pattern": namePattern}, "additionalProperties": ref(name)}
	}
	root := object{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "Sallyport policy",
		"description": "Site, groups and accounts. Value = nearest explicit of account > group > site > built-in; several groups: the strictest; allow lists intersect, deny lists add up.",
		"type":        "object", "required": []string{"version"}, "additionalProperties": false,
		"properties": object{
			"version": object{"const": 1}, "site": ref("site"), "groups": many("group"), "accounts": many("account"),
			"exceptions": object{"type": []string{"array", "null"}, "items": ref("exception")},
			"tests":      object{"type": []string{"array", "null"}, "items": ref("test")},
		},
		"$defs": object{
			"site": levelSchema(AtSite), "group": levelSchema(AtGroup), "account": levelSchema(AtAccount),
			"network": networkSchema(), "exception": exceptionSchema(), "test": testSchema(),
			"setting": object{"enum": settingPaths()},
		},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(root); err != nil {
		panic("policy: internal error: " + err.Error())
	}
	return b.Bytes()
}

const namePattern = `^[a-zA-Z0-9._@-]{1,64}$`

func networkSchema() object {
	return object{"type": "string", "pattern": `^[0-9a-fA-F.:]+(/[0-9]{1,3})?$`}
}

func levelSchema(at Scope) object {
	properties := object{}
	for i := range table {
		s := &table[i]
		if s.Scope&at == 0 {
			continue
		}
		properties[s.Path] = s.schema()
		if head, key, nested := strings.Cut(s.Path, "."); nested {
			section, ok := properties[head].(object)
			if !ok {
				section = object{"type": []string{"object", "null"}, "additionalProperties": false, "properties": object{}}
				properties[head] = section
			}
			section["properties"].(object)[key] = s.schema()
		}
	}
	if at == AtAccount {
		properties["groups"] = object{"type": "array", "uniqueItems": true, "items": object{"type": "string"}, "description": "Groups of the account; the strictest value of all of them holds."}
	} else {
		properties["lock"] = object{"type": "array", "uniqueItems": true, "items": object{"$ref": "#/$defs/setting"}, "description": "Settings that nothing below may loosen."}
		properties["limits"] = limitsSchema()
	}
	return object{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
}

func limitsSchema() object {
	return object{"type": []string{"object", "null"}, "propertyNames": object{"$ref": "#/$defs/setting"}, "description": "Bounds that hold here and below.",
		"additionalProperties": object{"type": "object", "minProperties": 1, "additionalProperties": false, "properties": object{
			"min": object{"type": []string{"integer", "string", "number"}}, "max": object{"type": []string{"integer", "string", "number"}},
			"only": object{"type": "array", "items": object{"type": []string{"string", "number"}}},
		}}}
}

// schema of a value.
func (s *Setting) schema() object {
	o := s.valueSchema()
	o["description"] = s.Description
	if s.Kind != KindNetworks && s.Kind != KindPaths && s.Kind != KindSet && s.Kind != KindNames && s.Kind != KindWords {
		o["default"] = jsonScalar(s.format(s.Default))
	}
	return o
}

func (s *Setting) valueSchema() object {
	switch s.Kind {
	case KindBool:
		if s.Path == "transport.require_ssl" {
			return object{"const": true}
		}
		return object{"type": "boolean"}
	case KindInt:
		o := object{"type": "integer", "minimum": s.Min}
		if s.Max > 0 {
			o["maximum"] = s.Max
		}
		return o
	case KindSize:
		return object{"type": []string{"integer", "string"}, "minimum": s.Min, "pattern": `^[0-9]+ ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?$`}
	case KindDuration:
		return object{"type": []string{"integer", "string"}, "minimum": 0, "maximum": 0, "pattern": `^(0|([0-9]{1,5}d)?([0-9]+(\.[0-9]+)?[hms])*)$`}
	case KindSpan:
		return object{"type": []string{"integer", "string"}, "minimum": 0, "maximum": 36500, "pattern": `^(forever|[0-9]{1,5}|([0-9]{1,5}d)?([0-9]+(\.[0-9]+)?[hms])*)$`}
	case KindRate:
		return object{"type": []string{"integer", "string"}, "minimum": 0, "maximum": 0, "pattern": `^(0|[0-9]+/(s|min|hour|day))$`}
	case KindEnum:
		return object{"enum": jsonWords(s.Values)}
	case KindSet:
		return object{"type": "array", "items": object{"enum": jsonWords(s.Values)}}
	case KindNetworks:
		return object{"type": "array", "items": object{"$ref": "#/$defs/network"}}
	case KindWords:
		return object{"type": "array", "items": object{"type": "string", "minLength": 1}}
	case KindNames:
		return object{"type": "array", "items": object{"type": []string{"string", "integer"}}}
	case KindPaths:
		return object{"type": "array", "items": object{"type": "object", "required": []string{"path"}, "additionalProperties": false, "properties": object{
			"path":  object{"type": "string", "pattern": "^/"},
			"allow": object{"type": "array", "items": object{"enum": verbWords()}},
		}}}
	}
	return object{}
}

// jsonWords adds the number that a word without quotes is to other readers: 1.2.
func jsonWords(words []string) []any {
	var list []any
	for _, w := range words {
		list = append(list, w)
		if n, err := strconv.ParseFloat(w, 64); err == nil {
			list = append(list, n)
		}
	}
	return list
}

func jsonScalar(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		return v
	}
	return text
}

func exceptionSchema() object {
	return object{"type": "object", "required": exceptionKeys, "additionalProperties": false, "properties": object{
		"account": object{"type": "string", "pattern": namePattern}, "allow": object{"const": string(FTP)},
		"from": object{"type": "array", "minItems": 1, "items": object{"$ref": "#/$defs/network"}}, "until": object{"type": "string", "pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`},
		"reason": object{"type": "string", "minLength": 1},
	}}
}

func testSchema() object {
	return object{"type": "object", "required": []string{"account", "expect"}, "additionalProperties": false, "properties": object{
		"account": object{"type": "string"}, "protocol": object{"enum": testProtocols}, "addr": object{"type": "string"},
		"port": object{"type": "integer", "minimum": 0, "maximum": 65535}, "tls": object{"type": "boolean"}, "do": object{"type": "string"},
		"method": object{"type": "string"}, "second_factor": object{"type": "boolean"},
		"expect": object{"enum": []string{"allowed", "refused"}}, "code": object{"type": "string", "pattern": `^SP-[A-Z][0-9]{2}$`},
	}}
}
