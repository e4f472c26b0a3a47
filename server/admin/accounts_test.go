package admin

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

func testKey(t *testing.T, seed byte) (line, fingerprint string) {
	t.Helper()
	pub, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)).Public())
	check(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))) + " test", ssh.FingerprintSHA256(pub)
}

func TestANewAccountHasExactlyWhatIsGiven(t *testing.T) {
	t.Parallel()
	f := start(t)
	line, fingerprint := testKey(t, 1)
	bare, err := f.AccountAdd(t.Context(), AccountAdd{Name: "bare"})
	check(t, err)
	if len(bare.Protocols) != 0 || bare.Paths != "[]" || bare.Password || len(bare.Keys) != 0 || !bare.Enabled {
		t.Errorf("bare account has %+v, want nothing granted", bare)
	}
	full, err := f.AccountAdd(t.Context(), AccountAdd{
		Name: "full", Protocols: []string{"sftp"}, Keys: []string{line}, Password: "long enough 42!",
		Paths: []PathRight{{"/in", []string{"list", "write"}}},
	})
	check(t, err)
	if !slices.Equal(full.Protocols, []string{"sftp"}) || full.Paths != "[{path: /in, allow: [list, write]}]" || !full.Password ||
		len(full.Keys) != 1 || full.Keys[0].Fingerprint != fingerprint || full.Keys[0].Comment != "test" {
		t.Errorf("got %+v", full)
	}
	e := f.policy.Current().Resolve("full")
	if policy.Permit(e, policy.OpWrite, "/in/a") != nil || policy.Permit(e, policy.OpWrite, "/out/a") == nil {
		t.Error("rights are not those given")
	}
	list, err := f.AccountList(t.Context())
	check(t, err)
	if len(list.Accounts) != 2 || list.Accounts[0].Name != "bare" {
		t.Errorf("list is %+v", list)
	}
	a, err := f.policy.Account("full")
	check(t, err)
	v, err := f.volumes.Volume(t.Context(), a.ID)
	check(t, err)
	view := v.View(vfs.ViewOptions{})
	defer view.Close()
	if fi, err := view.Stat("/in"); err != nil || !fi.IsDir() {
		t.Errorf("the folder that rights are given for is not there: %v, %v", fi, err)
	}
	if len(f.acts) != 2 || f.acts[0].Action != audit.AccountAdd || f.acts[0].Account.IsZero() {
		t.Errorf("audit acts: %+v", f.acts)
	}
}

func TestARefusedAccountLeavesNothing(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AccountAdd(t.Context(), AccountAdd{Name: "taken"})
	check(t, err)
	for _, tt := range []struct {
		name string
		add  AccountAdd
		code Code
		say  string
	}{
		{"exists", AccountAdd{Name: "taken"}, CodeInvalid, "exists already"},
		{"name", AccountAdd{Name: "../x"}, CodeInvalid, "not an account name"},
		{"weak password", AccountAdd{Name: "a", Password: "abcdefgh"}, CodeInvalid, "password.min_length = 12"},
		{"protocol", AccountAdd{Name: "b", Protocols: []string{"telnet"}}, CodeInvalid, `"telnet" is not one of`},
		{"verb", AccountAdd{Name: "c", Paths: []PathRight{{"/", []string{"everything"}}}}, CodeInvalid, "everything"},
		{"key", AccountAdd{Name: "d", Keys: []string{"ssh-ed25519 nonsense"}}, CodeInvalid, "key 1: not a usable public key: not one line of an authorized_keys file"},
		{"key options", AccountAdd{Name: "e", Keys: []string{`command="x" ` + first(testKey(t, 2))}}, CodeInvalid, `the option "command" is not supported`},
		{"group", AccountAdd{Name: "g", Groups: []string{"none"}}, CodeInvalid, "none"},
	} {
		_, err := f.AccountAdd(t.Context(), tt.add)
		if e := wantCode(t, err, tt.code); !strings.Contains(e.Message, tt.say) {
			t.Errorf("%s: message %q, want it to name %q", tt.name, e.Message, tt.say)
		}
	}
	if n := len(f.keyring.Accounts()); n != 1 {
		t.Errorf("%d keys in the keyring after the refusals, want 1", n)
	}
	dirs, err := os.ReadDir(filepath.Join(filepath.Dir(filepath.Dir(f.socket)), "accounts"))
	check(t, err)
	if len(dirs) != 1 {
		t.Errorf("%d volumes after the refusals, want 1", len(dirs))
	}
}

func first(a, _ string) string { return a }

func TestAccountLife(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	_, err := f.AccountAdd(ctx, AccountAdd{Name: "acme"})
	check(t, err)
	line, fingerprint := testKey(t, 3)
	keys, err := f.KeysAdd(ctx, KeysAdd{Account: "acme", Keys: []string{line}})
	check(t, err)
	if len(keys.Keys) != 1 || keys.Keys[0].Fingerprint != fingerprint {
		t.Fatalf("keys are %+v", keys)
	}
	_, err = f.KeysRemove(ctx, KeysRemove{Account: "acme", Fingerprint: "SHA256:none"})
	wantCode(t, err, CodeNotFound)
	keys, err = f.KeysRemove(ctx, KeysRemove{Account: "acme", Fingerprint: fingerprint})
	check(t, err)
	if len(keys.Keys) != 0 {
		t.Errorf("keys after removal: %+v", keys)
	}
	check(t, f.Passwd(ctx, Passwd{Account: "acme", Password: "a-fine-pass-77"}))
	e := wantCode(t, f.Passwd(ctx, Passwd{Account: "acme", Password: "abcdefghijklmn"}), CodeInvalid)
	if !strings.Contains(e.Message, "password.min_nonletters = 2") {
		t.Errorf("message %q names no rule", e.Message)
	}
	acc, err := f.AccountDisable(ctx, AccountRef{Name: "acme"})
	check(t, err)
	if acc.Enabled {
		t.Error("still enabled")
	}
	check(t, f.AccountRemove(ctx, AccountRef{Name: "acme"}))
	_, err = f.AccountShow(ctx, "acme")
	wantCode(t, err, CodeNotFound)
	if n := len(f.keyring.Accounts()); n != 0 {
		t.Errorf("%d keys left after the removal", n)
	}
	wantCode(t, f.AccountRemove(ctx, AccountRef{Name: "acme"}), CodeNotFound)
}

func TestSessionsKill(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AccountAdd(t.Context(), AccountAdd{Name: "acme"})
	check(t, err)
	now := time.Now()
	f.sessions = []Session{{ID: "b", Account: "acme", Since: now}, {ID: "a", Account: "acme", Since: now.Add(-time.Minute)}}
	s, err := f.SessionList(t.Context())
	check(t, err)
	if s.Sessions[0].ID != "a" {
		t.Errorf("not sorted by start: %+v", s)
	}
	_, err = f.SessionKill(t.Context(), SessionKill{ID: "zzz"})
	wantCode(t, err, CodeNotFound)
	_, err = f.SessionKill(t.Context(), SessionKill{})
	wantCode(t, err, CodeUsage)
	k, err := f.SessionKill(t.Context(), SessionKill{Account: "acme"})
	check(t, err)
	if k.Killed != 2 || len(f.killed) != 2 {
		t.Errorf("killed %d: %v", k.Killed, f.killed)
	}
	_, err = f.SessionKill(t.Context(), SessionKill{Account: "nobody"})
	wantCode(t, err, CodeNotFound)
}
