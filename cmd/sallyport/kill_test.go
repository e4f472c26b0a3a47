package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// killsEnv is how many times TestKill kills the server; its default is what a test run can bear.
const killsEnv = "SALLYPORT_KILLS"

// TestKill kills the real server with SIGKILL at random moments of uploads over both protocols, starts it again and looks:
// what was acknowledged is there to the byte, what was under way is as before, complete, or (of a new name) a prefix that can
// be resumed; nothing else is listed; vfs verify finds nothing.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 20
	if s := os.Getenv(killsEnv); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s: %v", killsEnv, err)
		}
	}
	const perState = 10 // history is kept: a state that is killed for ever grows for ever
	var total tally
	for first := 0; first < rounds; first += perState {
		k := newKilled(t, uint64(first)+1)
		for round := range min(perState, rounds-first) {
			k.round(first + round)
			if t.Failed() {
				t.Fatalf("in round %d", first+round)
			}
		}
		total.add(k.tally())
		k.end()
	}
	t.Logf("%d kills: %d operations acknowledged, %d cut off: %d as before, %d complete, %d partial, %d resumed", rounds, total.acked, total.cut, total.before, total.after, total.partial, total.resumed)
	if total.acked < rounds || total.cut < rounds/2 {
		t.Errorf("the kills came at the wrong moments: %+v", total)
	}
}

type tally struct{ acked, cut, before, after, partial, resumed int }

func (a *tally) add(b tally) {
	a.acked, a.cut, a.before, a.after = a.acked+b.acked, a.cut+b.cut, a.before+b.before, a.after+b.after
	a.partial, a.resumed = a.partial+b.partial, a.resumed+b.resumed
}

// killed is a server that is killed and started again, and its clients.
type killed struct {
	t       *testing.T
	state   string
	rng     *rand.Rand
	cmd     *exec.Cmd
	log     *os.File
	conn    connection
	clients []*uploader
}

func newKilled(t *testing.T, seed uint64) *killed {
	t.Helper()
	k := &killed{t: t, state: filepath.Join(t.TempDir(), "state"), rng: rand.New(rand.NewPCG(seed, 11))}
	var err error
	if k.log, err = os.Create(k.state + ".log"); err != nil {
		t.Fatal(err)
	}
	for i, dial := range []func(*connection) (remote, error){dialSFTP, dialSFTP, dialFTPS} {
		k.clients = append(k.clients, &uploader{dir: fmt.Sprintf("/c%d", i), dial: dial, rng: rand.New(rand.NewPCG(seed, uint64(i))), files: map[string][]byte{}, broken: map[string]bool{}, loose: map[string]bool{}})
	}
	return k
}

func (k *killed) start() {
	k.t.Helper()
	ready := filepath.Join(k.state, "connection.json")
	_ = os.Remove(ready)
	k.cmd = exec.Command("sallyport", "demo", "--state", k.state, "--sftp", "127.0.0.1:0", "--ftps", "127.0.0.1:0", "--ftps-implicit", "127.0.0.1:0")
	k.cmd.Stdout, k.cmd.Stderr = k.log, k.log
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	wait := patient(5 * time.Millisecond)
	defer wait.Stop()
	for {
		raw, err := os.ReadFile(ready)
		if err == nil && json.Unmarshal(raw, &k.conn) == nil {
			return
		}
		if wait.over() {
			k.kill()
			text, _ := os.ReadFile(k.log.Name())
			k.t.Fatalf("the server does not start:\n%s", text)
		}
	}
}

func (k *killed) kill() {
	k.t.Helper()
	if err := k.cmd.Process.Kill(); err != nil {
		k.t.Fatal(err)
	}
	_ = k.cmd.Wait() // it was killed
}

// round starts the server, looks at what the last kill has left, works, and kills it.
func (k *killed) round(n int) {
	k.t.Helper()
	k.start()
	k.look(n)
	var work sync.WaitGroup
	ready := make(chan struct{}, len(k.clients))
	for _, c := range k.clients {
		work.Go(func() {
			if err := c.work(&k.conn, ready); err != nil {
				k.t.Errorf("round %d, client %s: %v", n, c.dir, err)
			}
		})
	}
	for range k.clients {
		<-ready
	}
	// The kill comes at a random moment. There is nothing to wait for: that is the point.
	<-time.After(time.Duration(k.rng.IntN(250)) * time.Millisecond)
	k.kill()
	work.Wait()
}

// look compares what every client finds with what it knows.
func (k *killed) look(n int) {
	k.t.Helper()
	for _, c := range k.clients {
		if err := c.look(&k.conn); err != nil {
			k.t.Errorf("after kill %d, client %s: %v", n, c.dir, err)
		}
	}
	out, err := exec.CommandContext(k.t.Context(), "sallyport", "--socket", k.conn.AdminSocket, "vfs", "verify", "--account", k.conn.Account).CombinedOutput()
	if err != nil {
		k.t.Errorf("after kill %d: vfs verify: %v\n%s", n, err, out)
	}
}

// end looks for the last time.
func (k *killed) end() {
	k.t.Helper()
	k.start()
	k.look(-1)
	k.kill()
	if err := errors.Join(k.log.Close(), os.RemoveAll(k.state)); err != nil {
		k.t.Error(err)
	}
}

func (k *killed) tally() (sum tally) {
	for _, c := range k.clients {
		sum.add(c.count)
	}
	return sum
}

// remote is what an uploader needs of a protocol.
type remote interface {
	// put tells progress before an fsync that asks for the first n bytes, and again when it was acknowledged.
	put(name string, data []byte, progress func(n int, acknowledged bool)) error
	appendTo(name string, data []byte) error
	rename(from, to string) error
	remove(name string) error
	mkdir(name string) error
	get(name string) ([]byte, error)
	sizes(dir string) (map[string]int64, error)
	close()
}

// uploader is a client in a directory of its own. It knows what was acknowledged to it, and what it was about to do.
type uploader struct {
	dir    string
	dial   func(*connection) (remote, error)
	rng    *rand.Rand
	next   int
	files  map[string][]byte // acknowledged
	before map[string][]byte // files, before the look that goes on
	// broken marks names where an overwrite broke off: only a whole upload is allowed there (docs/SEMANTICS.md I5).
	broken map[string]bool
	// loose marks new files that came whole and were not acknowledged: they may be partial still, and what breaks off while it is
	// appended to them, or uploaded over them, is kept as far as it came (I2).
	loose map[string]bool
	doing *operation
	count tally
}

// operation is one that was not acknowledged when the server was killed.
type operation struct {
	name, to string
	after    map[string][]byte // all files, if it was carried out
	new      []byte            // content under way
	loose    bool              // a prefix of new may be there
	least    int               // bytes of it at least: acknowledged by fsync, or there before
	asked    int               // bytes of it that an fsync asked for: carried out or not
}

func (c *uploader) noise(n int) []byte {
	p := make([]byte, n)
	var key [32]byte
	for i := range key {
		key[i] = byte(c.rng.Uint32())
	}
	rand.NewChaCha8(key).Read(p)
	return p
}

// work does operations until the connection breaks. An error is one that no kill explains.
func (c *uploader) work(conn *connection, ready chan<- struct{}) error {
	r, err := c.dial(conn)
	if err == nil && c.files != nil {
		err = r.mkdir(c.dir)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	ready <- struct{}{}
	if err != nil {
		return err
	}
	defer r.close()
	for {
		c.doing = nil
		if err := c.operate(r); err != nil {
			c.count.cut++
			var refused *refusal
			if errors.As(err, &refused) {
				return err
			}
			return nil
		}
		c.settle(c.doing, false)
		c.count.acked++
	}
}

// settle takes over an operation that was carried out.
func (c *uploader) settle(o *operation, loose bool) {
	c.files = o.after
	if o.to != "" {
		loose = c.loose[o.name]
		delete(c.loose, o.name)
		o.name = o.to
	}
	delete(c.loose, o.name)
	if loose {
		c.loose[o.name] = true
	}
}

// refusal is an answer that is not a success: the server was not killed but said no.
type refusal struct{ err error }

func (r *refusal) Error() string { return "refused: " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func (c *uploader) operate(r remote) error {
	names := slices.Sorted(maps.Keys(c.files))
	data := c.noise([]int{10, 4096, 5000, 65_536, 99_999, 250_000, 600_000, 2_500_000}[c.rng.IntN(8)]) // put syncs in the middle of those that three divides
	o := &operation{after: maps.Clone(c.files), new: data}
	c.doing = o
	if len(names) > 0 {
		o.name = names[c.rng.IntN(len(names))]
	}
	switch k := c.rng.IntN(10); {
	case len(names) < 3 || k < 3 && len(names) < 8: // a new file
		c.next++
		o.name, o.loose, o.least = fmt.Sprintf("%s/%d", c.dir, c.next), true, -1
	case k < 6 || c.broken[o.name]: // the whole file anew
		delete(c.broken, o.name)
		o.loose = c.loose[o.name]
	case k == 6:
		o.to = fmt.Sprintf("%s/r%d", c.dir, c.rng.IntN(4))
		if o.to == o.name || c.broken[o.to] {
			o.to, o.loose = "", c.loose[o.name]
			break
		}
		o.after[o.to] = o.after[o.name]
		delete(o.after, o.name)
		return r.rename(o.name, o.to)
	case k == 7:
		delete(o.after, o.name)
		return r.remove(o.name)
	default:
		o.new = append(slices.Clone(c.files[o.name]), data...)
		o.after[o.name] = o.new
		o.loose, o.least = c.loose[o.name], len(c.files[o.name])
		return r.appendTo(o.name, data)
	}
	o.after[o.name] = o.new
	return r.put(o.name, o.new, func(n int, acknowledged bool) {
		o.asked = n
		if acknowledged {
			o.loose, o.least = true, n
		}
	})
}

// look compares everything with what is known, and takes over what the kill has decided.
func (c *uploader) look(conn *connection) error {
	r, err := c.dial(conn)
	if err != nil {
		return err
	}
	defer r.close()
	sizes, err := r.sizes(c.dir)
	if errors.Is(err, fs.ErrNotExist) && len(c.files) == 0 && c.doing == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	found := map[string][]byte{}
	for name, size := range sizes {
		b, err := r.get(name)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if int64(len(b)) != size {
			return fmt.Errorf("%s: %d bytes, listed with %d", name, len(b), size)
		}
		found[name] = b
	}
	o := c.doing
	c.doing = nil
	switch {
	case same(found, c.files):
		if o != nil {
			c.count.before++
			if _, there := c.files[o.name]; there && o.to == "" {
				c.broken[o.name] = true
			}
		}
		return nil
	case o == nil:
		return fmt.Errorf("what was acknowledged is not there: %s", differ(found, c.files))
	case same(found, o.after):
		c.count.after++
		c.settle(o, o.loose)
		return nil
	}
	part := found[o.name]
	rest := maps.Clone(o.after)
	rest[o.name] = part
	synced := o.asked > 0 && len(part) == o.asked // the kill came between an fsync and its answer
	if !o.loose && !synced || !bytes.HasPrefix(o.new, part) || len(part) < o.least || len(part) == 0 || !same(found, rest) {
		return fmt.Errorf("%s to %q was cut off, and neither before nor after is there: %s", o.name, o.to, differ(found, c.files))
	}
	c.count.partial++
	c.before, c.files = c.files, found
	return c.resume(r, o, part)
}

// resume completes a partial upload, as a client does that comes back.
func (c *uploader) resume(r remote, o *operation, part []byte) error {
	err := r.appendTo(o.name, o.new[len(part):])
	if _, over := c.before[o.name]; over && err != nil { // an overwrite that broke off after an fsync: it may take only a whole upload (I5)
		err = r.put(o.name, o.new, func(int, bool) {})
	}
	if err != nil {
		return fmt.Errorf("resuming %s: %w", o.name, err)
	}
	b, err := r.get(o.name)
	if err != nil || !bytes.Equal(b, o.new) {
		return fmt.Errorf("%s after it was resumed: %d of %d bytes, %v", o.name, len(b), len(o.new), err)
	}
	c.count.resumed++
	delete(c.loose, o.name)
	c.files[o.name] = o.new
	return nil
}

func same(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

func differ(got, want map[string][]byte) string {
	var out []string
	for name, b := range want {
		if g, ok := got[name]; !ok {
			out = append(out, fmt.Sprintf("%s is missing", name))
		} else if !bytes.Equal(g, b) {
			out = append(out, fmt.Sprintf("%s has %d bytes, want %d", name, len(g), len(b)))
		}
	}
	for name, b := range got {
		if _, ok := want[name]; !ok {
			out = append(out, fmt.Sprintf("%s with %d bytes is there", name, len(b)))
		}
	}
	return fmt.Sprint(out)
}

// overSFTP is a session of pkg/sftp.
type overSFTP struct {
	c    *sftp.Client
	conn *ssh.Client
}

func dialSFTP(c *connection) (remote, error) {
	pem, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, err
	}
	conn, err := ssh.Dial("tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.SFTPPort)), &ssh.ClientConfig{
		User: c.Account, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: deadline,
	})
	if err != nil {
		return nil, err
	}
	s, err := sftp.NewClient(conn)
	return overSFTP{s, conn}, err
}

// answered tells a status that the server sent from a broken connection.
func answered(err error) error {
	var status *sftp.StatusError
	if errors.As(err, &status) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return &refusal{err}
	}
	return err
}

func (s overSFTP) put(name string, data []byte, progress func(int, bool)) error {
	f, err := s.c.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return answered(err)
	}
	half := len(data) / 2
	_, err = f.ReadFrom(bytes.NewReader(data[:half]))
	if err == nil && len(data)%3 == 0 { // some of them
		progress(half, false)
		if err = f.Sync(); err == nil {
			progress(half, true)
		}
	}
	if err == nil {
		_, err = f.ReadFrom(bytes.NewReader(data[half:]))
	}
	return answered(errors.Join(err, f.Close()))
}

func (s overSFTP) appendTo(name string, data []byte) error {
	f, err := s.c.OpenFile(name, os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return answered(err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(data, info.Size())
	}
	return answered(errors.Join(err, f.Close()))
}

func (s overSFTP) rename(from, to string) error { return answered(s.c.PosixRename(from, to)) }
func (s overSFTP) remove(name string) error     { return answered(s.c.Remove(name)) }
func (s overSFTP) close()                       { s.c.Close(); s.conn.Close() }

func (s overSFTP) mkdir(name string) error {
	if _, err := s.c.Stat(name); err == nil {
		return fs.ErrExist
	}
	return s.c.Mkdir(name)
}

func (s overSFTP) get(name string) ([]byte, error) {
	f, err := s.c.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (s overSFTP) sizes(dir string) (map[string]int64, error) {
	list, err := s.c.ReadDir(dir)
	sizes := map[string]int64{}
	for _, i := range list {
		sizes[dir+"/"+i.Name()] = i.Size()
	}
	return sizes, err
}
