package policy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/jsonschema-go/jsonschema"
	"pgregory.net/rapid"
)

func resolvedSchema(t testing.TB) *jsonschema.Resolved {
	t.Helper()
	var s jsonschema.Schema
	if err := json.Unmarshal(JSONSchema(), &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// validate reads text as another YAML reader would.
func validate(t testing.TB, r *jsonschema.Resolved, text string) error {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("another reader refuses it: %v\n%s", err, text)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return r.Validate(v)
}

func TestJSONSchemaTakesWhatIsValid(t *testing.T) {
	t.Parallel()
	r := resolvedSchema(t)
	texts := []string{operations, house, "version: 1\nsite:\ngroups: {g: }\naccounts: {}\n", "version: 1\nsite: {session.max: 3, transport: {tls_min: 1.3}}\n"}
	for _, s := range Settings() {
		texts = append(texts, "version: 1\nsite: {"+s.Path+": "+s.Example+"}\n")
	}
	for _, text := range texts {
		mustParse(t, text)
		if err := validate(t, r, text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

func TestJSONSchemaRefusesWhatIsNot(t *testing.T) {
	t.Parallel()
	r := resolvedSchema(t)
	for _, text := range []string{
		"site: {}\n", "version: 2\n", "version: 1\nsitte: {}\n", "version: 1\nsite: {session: {maxx: 1}}\n", "version: 1\nsite: {session: {max: 0}}\n",
		"version: 1\nsite: {session: {max: many}}\n", "version: 1\nsite: {transport: {tls_min: \"1.1\"}}\n", "version: 1\nsite: {transport: {require_ssl: false}}\n",
		"version: 1\naccounts: {a: {login: {ban_after: 1}}}\n", "version: 1\naccounts: {a: {lock: [protocols]}}\n", "version: 1\nsite: {lock: [protocol]}\n",
		"version: 1\nsite: {paths: [{allow: [read]}]}\n", "version: 1\nsite: {paths: [{path: /a, allow: [fly]}]}\n", "version: 1\nsite: {allow_from: [here]}\n",
		"version: 1\nexceptions: [{account: a, allow: ftp, from: [10.0.0.0/8], reason: x}]\n", "version: 1\ntests: [{account: a}]\n",
		"version: 1\naccounts: {\"a b\": {}}\n", "version: 1\nsite: {session: {idle: long}}\n", "version: 1\nsite: {login: {per_address: 10/week}}\n",
	} {
		if _, err := Parse(DefaultName, []byte(text)); err == nil {
			t.Errorf("Parse takes\n%s", text)
		}
		if validate(t, r, text) == nil {
			t.Errorf("the schema takes\n%s", text)
		}
	}
}

// Whatever Parse takes, the schema takes.
func TestJSONSchemaAgreesWithParse(t *testing.T) {
	t.Parallel()
	r := resolvedSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		d := mustDoc(t, "version: 1\ngroups: {g: {}}\naccounts: {a: {groups: [g]}}\n")
		for range rapid.IntRange(0, 10).Draw(t, "settings") {
			s := rapid.SampledFrom(table).Draw(t, "setting")
			target := rapid.SampledFrom([]Target{Site, GroupTarget("g"), AccountTarget("a")}).Draw(t, "target")
			if n, err := d.Set(target, s.Path, genValue(t, &s)); err == nil {
				d = n
			}
		}
		data, err := yaml.YAMLToJSON(d.Text())
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		if err := r.Validate(v); err != nil {
			t.Fatalf("%v\n%s", err, d.Text())
		}
	})
}

func TestExcerptPointsAtThePlace(t *testing.T) {
	t.Parallel()
	_, err := Parse(DefaultName, []byte("version: 1\nsite:\n  transport: {tls_mim: \"1.3\"}  # ö\n"))
	pe, ok := err.(*ParseError)
	if !ok {
		t.Fatal(err)
	}
	want := "policy.yaml:3:15: unknown setting \"transport.tls_mim\" (did you mean transport.tls_min?)\n" +
		"    3 |   transport: {tls_mim: \"1.3\"}  # ö\n" +
		"      |               ^"
	if got := pe.Excerpt(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	_, err = Parse(DefaultName, []byte("version: 1 # "+strings.Repeat("x", 200)+"\nsite: {"+strings.Repeat(" ", 500)+"bad: 1}\n"))
	if pe, ok = err.(*ParseError); !ok || len(pe.Excerpt()) > 400 || !strings.Contains(pe.Excerpt(), "bad: 1}") {
		t.Errorf("of a long line: %v", pe.Excerpt())
	}
}
