package main

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/server/admin"
)

// TestSealedMemoryHoldsNoKey reads the memory of a real server, as root can:
// before sealing the keys are found there, with the same scanner, and after it
// none is. So it is the new process image that does it, not a scanner that sees nothing.
func TestSealedMemoryHoldsNoKey(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may read the memory of a process that is not dumpable")
	}
	const name, password, content = "canary-account", "Canary-password-42", "canary content of a file, "
	h := startHost(t)
	h.addAccount(t, name, password)
	st, err := h.cl.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := h.upload(t, name, content)
	defer client.close()

	keys := h.keys(t)
	before := scan(t, st.PID, keys, map[string][]byte{"name": []byte(name), "content": []byte(content + content)})
	for _, what := range []string{"root", "wrap of an account", "record of an account", "policy record", "audit record", "name", "content"} {
		if before[what] == 0 {
			t.Errorf("unsealed: %s is not found in memory, so this test could not fail", what)
		}
	}
	t.Logf("unsealed: %v", before)

	if err := h.cl.Seal(t.Context(), admin.Change{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "sealed")
	now, err := h.cl.Status(t.Context())
	if err != nil || now.PID != st.PID {
		t.Fatalf("process %d became %d: %v", st.PID, now.PID, err)
	}
	keys = h.keys(t) // the database is closed: all data keys are in it
	dataKeys := 0
	for what := range keys {
		if strings.HasPrefix(what, "data key") {
			dataKeys++
		}
	}
	if dataKeys < 2 {
		t.Fatalf("only %d data keys are looked for", dataKeys)
	}
	after := scan(t, st.PID, keys, map[string][]byte{"name": []byte(name), "content": []byte(content), "password": []byte(password)})
	for what, n := range after {
		if n > 0 {
			t.Errorf("sealed: %s is in memory, %d times", what, n)
		}
	}
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Fatal(err)
	}
	if again := scan(t, st.PID, keys, nil); again["root"] == 0 {
		t.Error("unsealed again: the root key is not found")
	}
}

// mayLock leaves a test out where the kernel locks less memory for this user than the server's keys take; not where everything is to be proved.
func mayLock(t *testing.T) {
	t.Helper()
	some := make([]byte, 128<<10)
	if err := unix.Mlock(some); err != nil {
		const say = "128 KiB of memory cannot be locked (%v), nor can the server's keys: raise the limit (ulimit -l)"
		if os.Getenv("CI") == "true" {
			t.Fatalf(say, err)
		}
		t.Skipf(say, err)
	}
	if err := unix.Munlock(some); err != nil {
		t.Fatal(err)
	}
}

// TestUnsealedMemory reads the memory of a server in use. Key bytes are in locked memory that is not dumped, and nowhere
// else but where crypto/aes has expanded them. Once the account is idle its keys are gone in every form, and the server's are not.
func TestUnsealedMemory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may read the memory of a process that is not dumpable")
	}
	mayLock(t)
	const name, content = "canary-account", "canary content of a file, "
	h := initHost(t)
	h.serve(t, "SALLYPORT_STATE__IDLE_CLOSE=1s")
	h.await(t, "ready")
	h.addAccount(t, name, "Canary-password-42")
	st, err := h.cl.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := h.upload(t, name, content)
	defer client.close()

	keys := h.keys(t)
	inUse := h.awaitHashes(t, st.PID, client, keys)
	t.Logf("in use: %v", inUse)
	for what, found := range inUse {
		if found.raw > 0 {
			t.Errorf("in use: %s is in memory that is not locked, %d times, and not in a cipher object", what, found.raw)
		}
	}
	for _, what := range []string{"root", "name of an account", "dir of an account", "set of an account", "wrap of an account"} {
		if inUse[what].locked == 0 {
			t.Errorf("in use: %s is not found in locked memory", what)
		}
	}
	for _, what := range []string{"record of an account", "wrap of an account", "policy record", "audit record"} {
		if inUse[what].cipher == 0 {
			t.Errorf("in use: %s is not found in its expanded form, so its absence later would mean nothing", what)
		}
	}
	for _, what := range []string{"name of an account", "dir of an account"} {
		if inUse[what].hash == 0 {
			t.Errorf("in use: %s is not found as the state of an HMAC, so its absence later would mean nothing", what)
		}
	}

	client.close()
	var idle map[string]occurrences
	keys, idle = h.awaitIdle(t, st.PID, len(inUse))
	t.Logf("idle: %v", idle)
	if idle["root"].locked == 0 || idle["policy record"].cipher == 0 {
		t.Errorf("the keys of the server itself went, too: %v", idle)
	}
	again := h.upload(t, name, content)
	defer again.close()
	if found := inspect(t, st.PID, keys); found["name of an account"].locked == 0 {
		t.Errorf("in use again: %v", found)
	}
}

// TestMemoryOfARemovedAccount: an account is removed while its session reads a file, and another one that nobody has used
// yet. No key of theirs is left in any form, nor waits for the garbage collections that come anyway.
func TestMemoryOfARemovedAccount(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may read the memory of a process that is not dumpable")
	}
	const name = "canary-account"
	h := initHost(t)
	h.serve(t, "SALLYPORT_STATE__IDLE_CLOSE=1s")
	h.await(t, "ready")
	h.addAccount(t, name, "Canary-password-42")
	st, err := h.cl.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := h.upload(t, name, "content of a file")
	open := len(h.keys(t)) // while a session keeps the server from closing the database
	client.close()
	keys, _ := h.awaitIdle(t, st.PID, open) // with the data keys: nothing is written afterwards
	reader := h.dial(t, name)
	defer reader.close()
	file, err := reader.c.Open("/whole")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	inUse := inspect(t, st.PID, keys)
	t.Logf("in use: %v", inUse)
	opened := 0
	for what, found := range inUse {
		if strings.HasPrefix(what, "data key") && found.cipher+found.locked+found.hash > 0 {
			opened++
		}
	}
	if inUse["wrap of an account"].locked == 0 || inUse["record of an account"].cipher == 0 || opened == 0 {
		t.Fatalf("the account is in use, and its keys are not found: their absence later would mean nothing")
	}
	if _, err := h.cl.AccountDestroy(t.Context(), admin.AccountRef{Name: name}); err != nil {
		t.Fatal(err)
	}
	destroyed := h.awaitGone(t, st.PID, func() map[string][]byte { return keys })
	t.Logf("destroyed: %v", destroyed)
	if destroyed["policy record"].cipher == 0 {
		t.Errorf("the keys of the server itself went, too: %v", destroyed)
	}
	for _, what := range []string{"root", "wrap of the root"} { // keys is of the time before
		if destroyed[what] != (occurrences{}) {
			t.Errorf("the old %s is in memory: %v", what, destroyed[what])
		}
	}

	h.addAccount(t, "unused", "Canary-password-43")
	keys = h.keys(t)
	t.Logf("unused: %v", inspect(t, st.PID, keys)) // what making the volume has left, unless it was collected already
	if err := h.cl.AccountRemove(t.Context(), admin.AccountRef{Name: "unused"}); err != nil {
		t.Fatal(err)
	}
	h.awaitGone(t, st.PID, func() map[string][]byte { return keys })
}

// awaitHashes inspects a server that is used. States of HMACs are in a sync.Pool: a collection just now may have taken them. The
// tokens of directories are kept, so each round asks for one that is new: nothing else would hash with that key again.
func (h *realHost) awaitHashes(t *testing.T, pid int, client overSFTP, keys map[string][]byte) map[string]occurrences {
	t.Helper()
	wait := patient(20 * time.Millisecond)
	defer wait.Stop()
	for n := 0; ; n++ {
		dir := fmt.Sprintf("/new-%d", n)
		if err := client.c.Mkdir(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := client.c.ReadDir(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := client.c.Stat("/whole"); err != nil {
			t.Fatal(err)
		}
		found := inspect(t, pid, keys)
		if found["name of an account"].hash > 0 && found["dir of an account"].hash > 0 || wait.over() {
			return found
		}
	}
}

// awaitIdle waits until the account's keys are gone, data keys among them: its database must be closed for those to be known,
// so that there are more keys than some.
func (h *realHost) awaitIdle(t *testing.T, pid, some int) (keys map[string][]byte, found map[string]occurrences) {
	t.Helper()
	found = h.awaitGone(t, pid, func() map[string][]byte {
		if keys = h.keys(t); len(keys) <= some {
			return nil
		}
		return keys
	})
	return keys, found
}

// stir has the server do many other things at once. What a register, a dead goroutine's stack or the frame of a signal has kept of a hash (see
// docs/DESIGN.md, Sealed and unsealed) stays there on a machine where nothing else happens: the threads of this one have other things to do.
func (h *realHost) stir(t *testing.T) {
	t.Helper()
	var work sync.WaitGroup
	for range 32 {
		work.Go(func() {
			_, err := h.cl.AccountList(t.Context())
			if _, failed := h.cl.Status(t.Context()); err != nil || failed != nil {
				t.Errorf("a server that nobody else uses: %v, %v", err, failed)
			}
		})
	}
	work.Wait()
}

// awaitGone waits until no key of an account is in memory in any form, and returns what is found of the others. nil = not yet known.
func (h *realHost) awaitGone(t *testing.T, pid int, keys func() map[string][]byte) map[string]occurrences {
	t.Helper()
	wait := patient(200 * time.Millisecond)
	defer wait.Stop()
	var found map[string]occurrences
	for {
		if wait.over() {
			t.Fatalf("nobody uses the account, and its keys are in memory: %v", found)
		}
		look := keys()
		if look == nil {
			continue
		}
		h.stir(t)
		left := false
		found = inspect(t, pid, look)
		for what, n := range found {
			left = left || (strings.HasSuffix(what, "account") || strings.HasPrefix(what, "data key")) && n != (occurrences{})
		}
		if !left {
			return found
		}
	}
}

func (h *realHost) addAccount(t *testing.T, name, password string) {
	t.Helper()
	if _, err := h.cl.AccountAdd(t.Context(), admin.AccountAdd{Name: name, Protocols: []string{"sftp"}, Password: admin.Secret(password),
		Paths: []admin.PathRight{{Path: "/", Allow: []string{"all"}}}, Keys: []string{h.publicKey}}); err != nil {
		t.Fatal(err)
	}
}

// upload stores one file, and leaves another open whose upload is under way: its data key is in use.
func (h *realHost) upload(t *testing.T, name, content string) overSFTP {
	t.Helper()
	client := h.dial(t, name)
	if err := client.put("/whole", bytes.Repeat([]byte(content), 10_000), func(int, bool) {}); err != nil {
		t.Fatal(err)
	}
	open, err := client.c.OpenFile("/open", os.O_WRONLY|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Write(bytes.Repeat([]byte(content), 10_000)); err != nil {
		t.Fatal(err)
	}
	return client
}

func (h *realHost) dial(t *testing.T, name string) overSFTP {
	t.Helper()
	st, err := h.cl.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(st.Listeners[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	r, err := dialSFTP(&connection{Host: "127.0.0.1", SFTPPort: n, Account: name, KeyFile: h.keyFile})
	if err != nil {
		t.Fatal(err)
	}
	return r.(overSFTP)
}

// realHost is a server of the real binary with a key file.
type realHost struct {
	state, config, key, keyFile, publicKey string
	cl                                     *admin.Client
	log                                    bytes.Buffer // read after the end only
}

func startHost(t *testing.T) *realHost {
	t.Helper()
	h := initHost(t)
	h.serve(t)
	h.await(t, "ready")
	return h
}

func initHost(t *testing.T, args ...string) *realHost {
	t.Helper()
	dir := t.TempDir()
	h := &realHost{state: filepath.Join(dir, "var/lib/sallyport"), key: filepath.Join(dir, "etc/sallyport/sallyport.key"), keyFile: filepath.Join(dir, "id")}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run(append([]string{"sallyport", "init", "--root", dir, "--no-systemd", "--sftp", "127.0.0.1:0", "--ftps", "", "--ftps-implicit", ""}, args...)...)
	run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", h.keyFile)
	pub, err := os.ReadFile(h.keyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	h.publicKey = string(pub)
	h.cl = admin.NewClient(filepath.Join(dir, "run/sallyport/admin.sock"))
	h.config = filepath.Join(dir, "etc/sallyport/sallyport.yaml")
	return h
}

func (h *realHost) serve(t *testing.T, env ...string) {
	t.Helper()
	cmd := exec.Command("sallyport", "serve", "--config", h.config)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = &h.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the server ended with %v\n%s", err, h.log.String())
		}
	})
}

func (h *realHost) await(t *testing.T, state string) {
	t.Helper()
	wait := patient(20 * time.Millisecond)
	defer wait.Stop()
	for {
		st, err := h.cl.Status(t.Context())
		if err == nil && st.State == state {
			return
		}
		if wait.over() {
			t.Fatalf("not %s: %+v, %v", state, st, err)
		}
	}
}

// keys are those of the state directory, opened by the format's own words
// (docs/FORMAT.md "Keys"). Data keys can be read only while no server has the database.
func (h *realHost) keys(t *testing.T) map[string][]byte {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var seal struct {
		Roots []struct {
			Epoch   uint32
			Wrapped []byte
		}
	}
	text, err := os.ReadFile(filepath.Join(h.state, "seal.json"))
	check(err)
	check(json.Unmarshal(text, &seal))
	root, err := (&keyring.KeyFile{Path: h.key}).Unwrap(t.Context(), seal.Roots[0].Wrapped)
	check(err)
	found := map[string][]byte{"root": root}
	derive := func(what string, key []byte, label, purpose string, tail ...byte) *record.Key {
		out, err := hkdf.Expand(sha256.New, key, label+purpose+"\x00"+string(tail), 32)
		check(err)
		found[what] = out
		return (*record.Key)(out)
	}
	u32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	kek, err := record.NewKEK(derive("wrap of the root", root, "sallyport.root.v1\x00", "wrap", u32(seal.Roots[0].Epoch)...), seal.Roots[0].Epoch)
	check(err)
	ring, err := os.ReadFile(filepath.Join(h.state, "keyring"))
	check(err)
	for what, at := range map[string]int{"policy": 16, "audit": 169} {
		d := map[string]record.Domain{"policy": record.DomainPolicyKey, "audit": record.DomainAuditKey}[what]
		key, err := kek.Unwrap(record.AccountID{}, d, ring[at:at+4], ring[at+12:at+153])
		check(err)
		found[what] = key[:]
		derive(what+" record", key[:], "sallyport.site.v1\x00", "record", ring[at:at+4]...)
	}
	id, version := record.AccountID(ring[322:338]), ring[338:342]
	account, err := kek.Unwrap(id, record.DomainAccountKey, version, ring[350:491])
	check(err)
	found["account"] = account[:]
	for _, purpose := range []string{"name", "dir", "set", "wrap", "record"} {
		derive(purpose+" of an account", account[:], "sallyport.account.v1\x00", purpose, append(id[:], version...)...)
	}
	derived, err := record.Derive(account, id, binary.BigEndian.Uint32(version))
	check(err)
	tree := filepath.Join(h.state, "accounts", id.String(), fmt.Sprintf("tree-%d.db", binary.BigEndian.Uint32(version)))
	db, err := bbolt.Open(tree, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Millisecond})
	if err != nil {
		return found // the server has it
	}
	defer db.Close()
	check(db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte{byte(record.DomainBlobKey)}).ForEach(func(k, v []byte) error {
			plain, err := derived.Box().Open(nil, record.DomainBlobKey, append([]byte{byte(record.DomainBlobKey)}, k...), v)
			if err != nil {
				return err
			}
			key, err := derived.DataKey([16]byte(k), plain[4:4+record.WrappedSize])
			if err != nil {
				return err
			}
			found["data key of "+fmt.Sprintf("%x", k)] = key[:]
			return h.segmentKey(found, id, k, key[:])
		})
	}))
	return found
}

// segmentKey adds what the first segments of a blob are sealed with: FLOE's second derivation from its data key (c2sp.org/FLOE).
func (h *realHost) segmentKey(found map[string][]byte, account record.AccountID, blob, dataKey []byte) error {
	name := fmt.Sprintf("%x", blob)
	data, err := os.ReadFile(filepath.Join(h.state, "accounts", account.String(), "blobs", name[:2], name[2:]))
	if err != nil {
		return err
	}
	header := string(data[24 : 24+10+32]) // parameters ‖ IV
	aad := "sallyport.blob.v1\x00" + string(account[:]) + string(blob)
	message, err := hkdf.Expand(sha512.New384, dataKey, header+"MESSAGE_KEY:"+aad, 48)
	if err != nil {
		return err
	}
	found["data key of "+name+", for segments"], err = hkdf.Expand(sha512.New384, message, header+"DEK:"+string(make([]byte, 8))+aad, 32)
	return err
}
