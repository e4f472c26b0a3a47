package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
)

func (e *Evidence) hash() string {
	sum := sha256.Sum256(e.Frame)
	return hex.EncodeToString(sum[:])
}

// cefRecord writes a record in CEF. What proves it stands in the fields spHash, spFrame and spKey.
func cefRecord(e *Evidence, plain []byte) ([]byte, error) {
	ev, err := Decode(plain)
	if err != nil {
		return nil, err
	}
	var ext []string
	add := func(key, value string) {
		if value != "" {
			ext = append(ext, key, value)
		}
	}
	number := func(key string, n uint64) {
		if n > 0 {
			add(key, fmt.Sprint(n))
		}
	}
	add("rt", fmt.Sprint(ev.Time.UnixMilli()))
	add("externalId", fmt.Sprint(e.Seq))
	if !ev.Account.IsZero() {
		add("duid", ev.Account.String())
	}
	if ev.Remote.IsValid() {
		add("src", ev.Remote.Addr().Unmap().String())
		add("spt", fmt.Sprint(ev.Remote.Port()))
	}
	add("suser", ev.Who)
	add("app", ev.Protocol)
	add("requestClientApplication", ev.Client)
	add("filePath", string(ev.Path))
	number("fsize", ev.Bytes)
	number("cnt", ev.Count)
	add("outcome", ev.Result)
	add("reason", ev.Code)
	add("act", ev.Op)
	add("msg", ev.Detail)
	add("spSession", ev.Session)
	add("spMethod", ev.Method)
	add("spTo", string(ev.To))
	number("spVersion", ev.Version)
	number("spRevision", ev.Revision)
	add("spHash", e.hash())
	add("spFrame", b64.EncodeToString(e.Frame))
	add("spKey", b64.EncodeToString(e.Key[:]))
	return cefLine(string(ev.Action), strings.ReplaceAll(string(ev.Action), "-", " "), severity(ev), ext...), nil
}

// severity is from 0 to 10, as CEF has it.
func severity(e Event) int {
	switch e.Action {
	case Damage, Lost:
		return 9
	case Ban, SessionKill, UnsealRefused, Expire:
		return 6
	case LoginRefused, ConnectRefused, Refused:
		return 5
	}
	if e.Who != "" {
		return 4
	}
	return 2
}

// cefLine writes one line; ext are keys and values in turn.
func cefLine(id, name string, severity int, ext ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "CEF:0|Sallyport|Sallyport|1|%s|%s|%d|", cefHeader(id), cefHeader(name), severity)
	for i := 0; i < len(ext); i += 2 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(ext[i] + "=" + cefValue(ext[i+1]))
	}
	return []byte(b.String())
}

var (
	cefHeaderEscapes = strings.NewReplacer(`\`, `\\`, `|`, `\|`)
	cefValueEscapes  = strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`)
)

func cefHeader(s string) string {
	return cefHeaderEscapes.Replace(plainText(strings.NewReplacer("\n", " ", "\r", " ").Replace(s)))
}

func cefValue(s string) string { return plainText(cefValueEscapes.Replace(s)) }

// plainText has no character that some reader takes for the end of a line: what a client calls a file must not make a record.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}

// cefField is the value of a field without escapes.
func cefField(line, key string) string {
	_, rest, found := strings.Cut(line, " "+key+"=")
	if !found {
		_, rest, _ = strings.Cut(line, "|"+key+"=")
	}
	value, _, _ := strings.Cut(rest, " ")
	return value
}
