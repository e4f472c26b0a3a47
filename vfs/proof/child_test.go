package proof

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// The child of the crash machine is this test binary under a tracer. It makes a site and works on it, and tells by
// marks what it begins and what was acknowledged to it:
//
//	begin <what>	ack <what>	fail <what>: <error>	synced <what>
//
// A mark is one write to a file beside the site, which the tracer sees among the other system calls.
const (
	childEnv   = "SALLYPORT_PROOF_CHILD" // root of the site
	seedOfWork = "SALLYPORT_PROOF_SEED"
	stepsEnv   = "SALLYPORT_PROOF_STEPS"

	workers = 2
	events  = 12 // in the audit log
	// rotations of the account and of the root, while the workers work
	rotations = 2
)

func TestMain(m *testing.M) {
	root := os.Getenv(childEnv)
	if root == "" {
		os.Exit(m.Run())
	}
	c := &child{root: root}
	if err := c.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func keyPath(root string) string { return root + ".key" }

func envInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

type child struct {
	root  string
	marks *os.File
}

func (c *child) mark(format string, a ...any) {
	if _, err := fmt.Fprintln(c.marks, fmt.Sprintf(format, a...)); err != nil {
		panic(err)
	}
}

// do does one thing between its marks.
func (c *child) do(what string, fn func() error) error {
	c.mark("begin %s", what)
	if err := fn(); err != nil {
		c.mark("fail %s: %v", what, strings.ReplaceAll(err.Error(), "\n", " "))
		return err
	}
	c.mark("ack %s", what)
	return nil
}

// run makes the site. An error that an injected fault has caused ends the part that met it; the rest goes on as far as it can.
func (c *child) run(ctx context.Context) (err error) {
	if c.marks, err = os.OpenFile(c.root+".marks", os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	defer c.marks.Close()
	var ring *keyring.Keyring
	if c.do("ring", func() (err error) {
		ring, err = keyring.Create(ctx, c.root, &keyring.KeyFile{Path: keyPath(c.root)})
		return err
	}) != nil {
		return nil
	}
	defer ring.Close()
	var id keyring.AccountID
	if c.do("account", func() (err error) { id, err = ring.NewAccount(ctx); return err }) != nil {
		return nil
	}
	c.mark("id %s", hex.EncodeToString(id[:]))
	if os.Getenv(repairEnv) != "" {
		return c.repair(ctx, ring, id)
	}
	if err := c.policy(ctx, ring); err != nil {
		return err
	}
	if err := c.audit(ctx, ring); err != nil {
		return err
	}
	return c.volume(ctx, ring, id)
}

func (c *child) policy(ctx context.Context, ring *keyring.Keyring) error {
	var p *policyWork
	if c.do("policy", func() (err error) { p, err = openPolicy(ctx, c.root, ring, dawn); return err }) != nil {
		return nil
	}
	for i, step := range policyScript() {
		if c.do(policyMark(i), func() error { return step.run(ctx, p) }) != nil {
			break
		}
	}
	if p.db == nil { // it did not open again
		return nil
	}
	return closeAfterFault(p.db.Close())
}

func (c *child) audit(ctx context.Context, ring *keyring.Keyring) error {
	var log *audit.Log
	if c.do("audit", func() (err error) { log, err = openAudit(c.root, ring); return err }) != nil {
		return nil
	}
	for i := range events {
		if c.do(fmt.Sprintf("audit %d", i), func() error { return log.Append(ctx, event(i)) }) != nil {
			break
		}
		if i%5 == 4 && c.do(fmt.Sprintf("sign %d", i), func() error { return log.Sign(ctx) }) != nil {
			break
		}
	}
	return closeAfterFault(log.Close())
}

// openAudit opens the log as the server does, with small files, so that it begins new ones.
func openAudit(root string, ring *keyring.Keyring) (*audit.Log, error) {
	return openAuditDir(filepath.Join(root, "audit"), ring)
}

func openAuditDir(dir string, ring *keyring.Keyring) (*audit.Log, error) {
	box, err := ring.Audit()
	if err != nil {
		return nil, err
	}
	signer, version, err := ring.AuditSigner()
	if err != nil {
		return nil, err
	}
	return audit.Open(audit.Options{Dir: dir, Box: box, MaxFile: 1200, Signer: signer, KeyVersion: version, Reserve: 8192})
}

func event(i int) audit.Event {
	return audit.Event{Action: audit.Actions()[0], Detail: fmt.Sprintf("event %d", i), Time: time.Unix(int64(i), 0).UTC()}
}

// closeAfterFault: what closing says after a fault is of no consequence; it must only come back.
func closeAfterFault(error) error { return nil }

func (c *child) volume(ctx context.Context, ring *keyring.Keyring, id keyring.AccountID) error {
	f, err := vfs.Open(ctx, vfs.Options{Dir: filepath.Join(c.root, "accounts"), Keyring: ring, IdleClose: -1})
	if err != nil {
		c.mark("fail volumes: %v", err)
		return nil
	}
	if c.do("volume", func() error { return f.Create(ctx, id) }) != nil {
		return closeAfterFault(f.Close())
	}
	var v *vfs.Volume
	if c.do("open", func() (err error) { v, err = f.Volume(ctx, id); return err }) != nil {
		return closeAfterFault(f.Close())
	}
	seed, steps := uint64(envInt(seedOfWork, 1)), envInt(stepsEnv, 12)
	var work sync.WaitGroup
	for k := range workers {
		work.Go(func() { c.work(v, k, seed, steps) })
	}
	// Meanwhile the account and the root get new keys. What a fault makes of that must not concern anyone else.
	work.Go(func() {
		for i := range rotations {
			_ = c.do(fmt.Sprintf("rotate %d", i), func() (err error) {
				failed := f.Rotate(ctx, []keyring.AccountID{id}, func(r vfs.Rotated) { err = r.Err })
				return errors.Join(err, failed)
			})
			_ = c.do(fmt.Sprintf("rotate root %d", i), func() error { return ring.RotateRoot(ctx) })
		}
	})
	work.Wait()
	_ = c.do("scrap", func() error { // whatever the sessions did: a blob is unlinked
		w := v.View(vfs.ViewOptions{Writer: "child", Note: note})
		defer w.Close()
		err := upload("/scrap", epilogue, 0)(w, func() {})
		if err == nil {
			err = w.Remove("/scrap")
		}
		if err == nil {
			err = tidy(w, nil)
		}
		return err
	})
	// A fault hits once. Whatever it broke, the volume must take writes again without a restart, at the latest when the
	// session that met it has ended.
	last := func() error {
		w := v.View(vfs.ViewOptions{Writer: "child", Note: note})
		return errors.Join(upload("/epilogue", epilogue, 0)(w, func() {}), w.Close())
	}
	if c.do("epilogue hit", last) != nil {
		if err := c.do("epilogue", last); err != nil {
			return fmt.Errorf("the volume takes no writes any more: %w", err)
		}
	} else {
		c.mark("ack epilogue")
	}
	return closeAfterFault(f.Close())
}

var epilogue = make([]byte, 10_000)

func note(ch vfs.Change) []byte { return []byte(ch.Op + " " + ch.Path) }

func (c *child) work(v *vfs.Volume, k int, seed uint64, n int) {
	w := v.View(vfs.ViewOptions{Writer: "child", Note: note})
	defer w.Close()
	dir := fmt.Sprintf("/w%d", k)
	if c.do("mkdir "+dir, func() error { return w.Mkdir(dir, 0o755) }) != nil {
		return
	}
	for i, s := range script(dir, seed+uint64(k)*1000, n) {
		name := fmt.Sprintf("step %d %d", k, i)
		if c.do(name, func() error { return s.run(w, func() { c.mark("synced %s", name) }) }) != nil {
			return
		}
	}
}
