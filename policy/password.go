package policy

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxPassword bounds a password, bytes: longer ones only cost hashing.
const MaxPassword = 1024

// WeakPasswordError says which rule a new password breaks. It never holds the password.
type WeakPasswordError struct {
	Rule   string // setting and value
	Origin string
	Why    string // "" = the rule says it
}

func (e *WeakPasswordError) Error() string {
	text := "the password does not fulfil " + e.Rule + " of " + e.Origin
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text
}

// CheckPassword judges a new password by its letters; policydb.CheckPassword does so by what else is known, too.
func CheckPassword(p *Effective, secret string) error {
	if len(secret) > MaxPassword {
		return &WeakPasswordError{Rule: fmt.Sprintf("the greatest length (%d bytes)", MaxPassword), Origin: "built-in"}
	}
	others := 0
	for _, r := range secret {
		if !unicode.IsLetter(r) {
			others++
		}
	}
	for _, rule := range []struct {
		path      string
		have, min int
	}{
		{"password.min_length", utf8.RuneCountInString(secret), p.Password.MinLength},
		{"password.min_nonletters", others, p.Password.MinNonletters},
	} {
		if rule.have < rule.min {
			text, origin := p.Value(rule.path)
			return &WeakPasswordError{Rule: rule.path + " = " + text, Origin: origin.String()}
		}
	}
	return nil
}
