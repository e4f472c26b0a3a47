package admin

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzRequests calls the socket of a whole administration with any path and body: the answer is JSON and has a status that the
// interface knows, the server goes on, and no request is an internal error.
func FuzzRequests(f *testing.F) {
	for _, s := range [][2]string{
		{"status", "{}"}, {"policy/show", `{"account":"a"}`}, {"policy/set", `{"key":"site.session.max","value":"3","reason":"x"}`},
		{"policy/apply", `{"base":0,"text":"dmVyc2lvbjogMQo=","reason":"x"}`}, {"account/add", `{"name":"a","protocols":["sftp"],"paths":[{"path":"/","allow":["all"]}],"keys":["ssh-ed25519 AAAA"]}`},
		{"account/passwd", `{"name":"a","password":"x"}`}, {"account/show", `{"name":"\u0000"}`}, {"session/kill", `{"id":"*"}`}, {"audit/tail", `{"n":-1}`},
		{"vfs/stat", `{}`}, {"vfs/verify", `{"account":"a"}`}, {"../status", "{}"}, {"status", "{}{}"}, {"status", "["}, {"unban", `{"address":"::"}`},
	} {
		f.Add(s[0], []byte(s[1]))
	}
	for _, path := range strings.Fields("account/list account/enable account/disable account/remove account/keys/add account/keys/list account/keys/remove session/list " +
		"ban/list ban/remove policy/get audit/verify hostkey/list hostkey/rotate cert/list cert/rotate reload") {
		f.Add(path, []byte(`{"name":"a"}`))
	}
	h := start(f)
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		if strings.HasPrefix(path, "audit/follow") {
			return // a stream that ends when the client goes
		}
		ask := func(path, body string) *http.Response {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/v1/", strings.NewReader(body))
			check(t, err)
			req.URL.Path = "/v1/" + path
			hc := *h.http
			hc.Timeout = 30 * time.Second
			res, err := hc.Do(req)
			if err != nil {
				return nil // not a request that HTTP can carry
			}
			return res
		}
		if res := ask(path, string(body)); res != nil {
			answer, err := io.ReadAll(res.Body)
			check(t, err)
			res.Body.Close()
			if res.StatusCode == http.StatusInternalServerError && path != "audit/verify" && path != "reload" {
				t.Errorf("%s %q: %d %s", path, body, res.StatusCode, answer)
			}
		}
		res := ask("status", "{}")
		if res == nil || res.StatusCode != http.StatusOK {
			t.Fatalf("after %s %q the server answers with %v", path, body, res)
		}
		res.Body.Close()
	})
}
