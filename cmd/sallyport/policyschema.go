package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/policy"
	"sallyport/server/admin"
)

func (a *app) policySchema() *cobra.Command {
	var form string
	c := &cobra.Command{Use: "schema", Short: "Print the JSON Schema of a policy, for editors; or the reference of settings or refusals", Args: exactly(),
		Example: "  sallyport policy schema > policy.schema.json\n  sallyport policy schema --form refusals",
		RunE: func(*cobra.Command, []string) error {
			text, ok := map[string][]byte{"json": policy.JSONSchema(), "settings": policy.Reference(), "refusals": policy.RefusalsReference()}[form]
			if !ok {
				return usage(fmt.Sprintf("--form %q is not one of json, settings, refusals", form), "")
			}
			_, err := a.stdout.Write(text)
			return err
		}}
	c.Flags().StringVar(&form, "form", "json", "`what` to print: json, settings or refusals (Markdown)")
	return c
}

// completeKey completes keys of policy get and set; behind the equals sign, values. Names come from the running server, if
// it answers.
func (a *app) completeKey(values bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		if key, _, ok := strings.Cut(word, "="); ok && values {
			var out []string
			for _, v := range valuesOf(key) {
				out = append(out, key+"="+v)
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, p := range append([]string{"site"}, a.levels(c, word)...) {
			for _, s := range policy.Settings() {
				if key := p + "." + s.Path; strings.HasPrefix(key, word) && mayStand(p, s.Scope) {
					if values {
						key += "="
					}
					out = append(out, key+"\t"+s.Description)
				}
			}
		}
		return out, directive
	}
}

func mayStand(level string, at policy.Scope) bool {
	switch kind, _, _ := strings.Cut(level, "."); kind {
	case "groups":
		return at&policy.AtGroup != 0
	case "accounts":
		return at&policy.AtAccount != 0
	}
	return at&policy.AtSite != 0
}

// levels are groups.NAME and accounts.NAME of the running policy, when the word asks for them.
func (a *app) levels(c *cobra.Command, word string) []string {
	if !strings.HasPrefix(word, "g") && !strings.HasPrefix(word, "a") {
		return nil
	}
	cl, err := a.client()
	if err != nil {
		return nil
	}
	p, err := cl.PolicyShow(c.Context(), admin.PolicyQuery{})
	if err != nil {
		return nil
	}
	d, err := policy.Parse(policy.DefaultName, []byte(p.Document))
	if err != nil {
		return nil
	}
	var out []string
	for _, g := range d.Groups() {
		out = append(out, "groups."+g)
	}
	for _, name := range d.Accounts() {
		out = append(out, "accounts."+name)
	}
	return out
}

// valuesOf a key: words, or the default and the example where there are no words.
func valuesOf(key string) []string {
	for _, s := range policy.Settings() {
		if key != s.Path && !strings.HasSuffix(key, "."+s.Path) {
			continue
		}
		switch {
		case s.Kind == policy.KindEnum:
			return s.Values
		case s.Kind == policy.KindBool:
			return []string{"true", "false"}
		case s.Kind == policy.KindSet:
			var out []string
			for _, v := range s.Values {
				out = append(out, "["+v+"]")
			}
			return out
		}
		return []string{s.DefaultText(), s.Example}
	}
	return nil
}
