package proof

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"sallyport/crypto/approved"
	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobdir"
	"sallyport/vfs/content"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// fixturePassword is tried on every account of a fixture.
const fixturePassword = "correct horse battery 42"

// unverified is read where there is a password, and fips140=only does not let its hash be verified (docs/FIPS.md).
const unverified = "a hash that may not be verified"

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// printable is a name as it stands in a manifest.
func printable(name string) string { return strings.ToValidUTF8(name, "\ufffd") }

// wholeSite is everything of a state directory, opened.
type wholeSite struct {
	ring   *keyring.Keyring
	policy *policydb.DB
	audit  *audit.Log
	fs     *vfs.FS
}

// openSite opens dir/state with dir/key in the order of the server. What is opened before an error is closed again.
func openSite(dir string) (s *wholeSite, err error) {
	state := filepath.Join(dir, "state")
	s = &wholeSite{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	ctx := context.Background()
	if s.ring, err = keyring.Open(ctx, state, &keyring.KeyFile{Path: filepath.Join(dir, "key")}); err != nil {
		return s, err
	}
	box, err := s.ring.Policy()
	if err != nil {
		return s, err
	}
	names, err := s.ring.Names()
	if err != nil {
		return s, err
	}
	s.policy, err = policydb.Open(ctx, policydb.Options{Path: filepath.Join(state, "policy.db"), Box: box, Token: s.ring.PolicyToken, Names: names, NameToken: s.ring.NameToken, PasswordCost: 4})
	if err != nil {
		return s, err
	}
	if box, err = s.ring.Audit(); err != nil {
		return s, err
	}
	signer, version, err := s.ring.AuditSigner()
	if err != nil {
		return s, err
	}
	if s.audit, err = audit.Open(audit.Options{Dir: filepath.Join(state, "audit"), Box: box, Signer: signer, KeyVersion: version}); err != nil {
		return s, err
	}
	s.fs, err = vfs.Open(ctx, vfs.Options{Dir: filepath.Join(state, "accounts"), Keyring: s.ring, IdleClose: -1})
	return s, err
}

func (s *wholeSite) close() error {
	var err error
	if s.fs != nil {
		err = s.fs.Close()
	}
	if s.audit != nil {
		s.audit.Close()
	}
	if s.policy != nil {
		s.policy.Close()
	}
	if s.ring != nil {
		s.ring.Close()
	}
	return err
}

// readState reads a whole state directory through the front doors, and its history below them.
func readState(t *testing.T, dir string) manifest {
	t.Helper()
	s, err := openSite(dir)
	check(t, err)
	defer s.close()
	m := manifest{Accounts: map[string]fixtureAccount{}}
	accounts, err := s.policy.Accounts()
	check(t, err)
	for _, a := range accounts {
		f := fixtureAccount{ID: hex.EncodeToString(a.ID[:]), Enabled: a.Enabled}
		if a.CheckPassword(fixturePassword) {
			f.Password = fixturePassword
		} else if errors.Is(a.PasswordUsable(), approved.ErrNotFIPS) {
			f.Password = unverified
		}
		for _, k := range a.Keys {
			f.Keys = append(f.Keys, k.Fingerprint())
		}
		if f.Files, err = readFiles(s, a.ID); err != nil {
			t.Fatalf("%s: %v", a.Name, err)
		}
		m.Accounts[a.Name] = f
	}
	revisions, err := s.policy.Revisions(0, math.MaxInt32)
	check(t, err)
	for _, r := range slices.Backward(revisions) {
		m.Policy = append(m.Policy, string(r.Document.Text()))
	}
	check(t, s.audit.Tail(t.Context(), math.MaxInt32, false, func(r audit.Record) error {
		m.Audit = append(m.Audit, r.Event)
		return nil
	}))
	check(t, s.fs.Close())
	s.fs = nil
	for name, f := range m.Accounts {
		check(t, readHistory(t, s.ring, dir, &f))
		m.Accounts[name] = f
	}
	return m
}

// readFiles walks a volume and reads every file; a full check must find nothing.
func readFiles(s *wholeSite, id keyring.AccountID) (map[string]fixtureFile, error) {
	ctx := context.Background()
	vol, err := s.fs.Volume(ctx, id)
	if err != nil {
		return nil, err
	}
	w := vol.View(vfs.ViewOptions{Writer: "reader"})
	defer w.Close()
	files := map[string]fixtureFile{}
	below := []string{"/"}
	for len(below) > 0 {
		dir := below[0]
		below = below[1:]
		err := w.ReadDir(ctx, dir, func(batch []*vfs.Info) error {
			for _, i := range batch {
				name := path.Join(dir, i.Name())
				f := fixtureFile{Kind: 1, Size: uint64(i.Size()), Mode: uint32(i.Mode().Perm()), Mtime: i.ModTime().UnixNano(), State: 1}
				switch {
				case i.IsDir():
					f.Kind = 2
					below = append(below, name)
				case i.Mode()&os.ModeSymlink != 0:
					f.Kind = 3
					if f.Target, err = w.Readlink(name); err != nil {
						return err
					}
					f.Size = 0 // that of the record
				default:
					data, err := readOne(w, name)
					if err != nil {
						return err
					}
					f.SHA256 = digest(data)
					if i.Partial() {
						f.State = 2
					}
				}
				files[printable(name)] = f
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	_, err = vol.Verify(ctx, func(finding string) { err = wrong("%s", finding) })
	return files, err
}

func readOne(w *vfs.View, name string) ([]byte, error) {
	f, err := w.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// readHistory reads all versions, past names and events of a volume from its database.
func readHistory(t *testing.T, ring *keyring.Keyring, dir string, f *fixtureAccount) error {
	t.Helper()
	raw, err := hex.DecodeString(f.ID)
	check(t, err)
	keys, err := ring.Account(keyring.AccountID(raw))
	check(t, err)
	home := filepath.Join(dir, "state", "accounts", f.ID)
	files, err := filepath.Glob(filepath.Join(home, "tree-*.db"))
	check(t, err)
	db, err := meta.Open(t.Context(), files[0], keys, meta.Options{})
	check(t, err)
	defer db.Close()
	blobs, err := blobdir.Open(filepath.Join(home, "blobs"))
	check(t, err)
	defer blobs.Close()
	return db.View(func(tx *meta.Tx) error {
		f.Marks = &fixtureMarks{tx.Stats().PurgedTo, tx.Stats().LackingTo}
		store := &content.Store{Blobs: blobs, Keys: dataKeys{tx, keys}, Account: keys.ID()}
		versions := func(id meta.Inode) (all []fixtureVersion, err error) {
			verr := tx.Versions(id, func(v *meta.Version) bool {
				var data []byte
				if data, err = readLayout(store, &v.Layout); err == nil {
					all = append(all, fixtureVersion{int(v.State), v.Size, digest(data)})
				}
				return err == nil
			})
			if err == nil {
				err = verr
			}
			return all, err
		}
		var walk func(dir meta.Inode, at string) error
		walk = func(dir meta.Inode, at string) (err error) {
			_, lerr := tx.List(dir, nil, func(e meta.Entry, n *meta.Node) bool {
				name := path.Join(at, e.Name)
				switch n.Kind {
				case meta.Dir:
					err = walk(n.ID, name)
				case meta.File:
					file := f.Files[printable(name)]
					file.Versions, err = versions(n.ID)
					f.Files[printable(name)] = file
				}
				return err == nil
			})
			if err == nil {
				err = lerr
			}
			return err
		}
		if err := walk(meta.Root, "/"); err != nil {
			return err
		}
		err := tx.Superseded(0, math.MaxInt64, func(s meta.Superseded) bool {
			if s.Entry == nil {
				return true
			}
			g := fixtureGone{Name: printable(s.Entry.Name)}
			n, err := tx.Node(s.Inode)
			check(t, err)
			if n.Kind == meta.File {
				g.Versions, err = versions(s.Inode)
				check(t, err)
			}
			f.Gone = append(f.Gone, g)
			return true
		})
		if err != nil {
			return err
		}
		return tx.Outbox(func(_ uint64, event []byte) bool {
			f.Outbox = append(f.Outbox, string(event))
			return true
		})
	})
}

// dataKeys finds data keys for reading only.
type dataKeys struct {
	tx   *meta.Tx
	keys *record.AccountKeys
}

func (k dataKeys) New(context.Context, uint64, bool) (blob.ID, *record.Key, error) {
	panic("read only")
}
func (k dataKeys) Scatter(context.Context, blob.ID) error { panic("read only") }
func (k dataKeys) Key(_ context.Context, id blob.ID) (*record.Key, error) {
	b, err := k.tx.Blob(id)
	if err != nil {
		return nil, err
	}
	return k.keys.DataKey(id, b.Wrapped)
}

func readLayout(s *content.Store, l *extent.Layout) ([]byte, error) {
	r, err := s.Open(context.Background(), l)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out bytes.Buffer
	_, err = r.CopyTo(&out, 0, -1)
	return out.Bytes(), err
}

// fromReader makes a manifest of what reader.py printed.
func fromReader(t *testing.T, out []byte) manifest {
	t.Helper()
	var got struct {
		Accounts map[string]map[string]fixtureFile
		History  map[string]struct {
			Gone   []fixtureGone
			Outbox []string
			fixtureMarks
		}
		Policy struct {
			Texts   []string
			Details map[string]struct {
				ID      string
				Enabled bool
				Hash    string
				Keys    []struct{ Blob []byte }
			}
		}
		Audit []audit.Event
	}
	check(t, json.Unmarshal(out, &got))
	m := manifest{Accounts: map[string]fixtureAccount{}, Policy: got.Policy.Texts, Audit: got.Audit}
	for _, name := range slices.Sorted(maps.Keys(got.Policy.Details)) {
		a := got.Policy.Details[name]
		f := fixtureAccount{ID: a.ID, Enabled: a.Enabled, Files: got.Accounts[a.ID], Gone: got.History[a.ID].Gone, Outbox: got.History[a.ID].Outbox}
		if past, ok := got.History[a.ID]; ok {
			f.Marks = &past.fixtureMarks
		}
		for _, k := range a.Keys {
			p, err := ssh.ParsePublicKey(k.Blob)
			check(t, err)
			f.Keys = append(f.Keys, ssh.FingerprintSHA256(p))
		}
		if bcrypt.CompareHashAndPassword([]byte(a.Hash), prehash(fixturePassword)) == nil {
			f.Password = fixturePassword
		}
		m.Accounts[name] = f
	}
	return m
}

// prehash is what bcrypt is given of a password (docs/FORMAT.md "policy.db").
func prehash(password string) []byte {
	m := hmac.New(sha512.New384, []byte("sallyport.password.v1"))
	m.Write([]byte(password))
	return base64.RawStdEncoding.AppendEncode(nil, m.Sum(nil))
}
