package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrNeeded means that a seal cannot destroy what it wrapped, because what is in force would go with it.
var ErrNeeded = errors.New("keyring: it cannot be destroyed without what is in force")

// errKept: the seal that was found does not destroy.
var errKept = errors.New("the seal may not destroy what it wrapped")

// formerSeal is a seal that another took the place of, and that has not destroyed yet what it wrapped. It is in seal.json from the
// change on, so that neither a crash nor a key service that is away leaves it undone, and it is authenticated: who can write to the
// disk must not choose what a key service destroys.
type formerSeal struct {
	Kind    string   `json:"kind"`
	Label   string   `json:"label"`
	Wrapped [][]byte `json:"wrapped"` // the root in force when it was replaced, and another that it had not destroyed
	// Service is the Identity of the service that wrapped; "" = it was not known.
	Service string `json:"service,omitempty"`
}

// maxFormer bounds what one wrapped. A root that a helper wrapped is at most 16 KiB, so all of them fit into seal.json.
const (
	maxFormer     = maxRoots
	maxFormerSize = 16 << 10
)

func (f *formerSeal) about(b *fields) {
	b.add([]byte(f.Kind))
	b.add([]byte(f.Label))
	b.number(len(f.Wrapped))
	for _, w := range f.Wrapped {
		b.add(w)
	}
	if f.Service != "" { // format 4
		b.add([]byte(f.Service))
	}
}

func (f *formerSeal) valid() error {
	if f.Kind != KindTransit && f.Kind != KindHelper {
		return damagedSeal("a former seal of kind %q", f.Kind)
	}
	if err := (&labelParams{f.Label}).valid(); err != nil {
		return damagedSeal("a former seal: %v", err)
	}
	if f.Service != "" && !identity(f.Service) {
		return damagedSeal("a former seal at a service of no good name")
	}
	if len(f.Wrapped) == 0 || len(f.Wrapped) > maxFormer {
		return damagedSeal("a former seal of %d roots", len(f.Wrapped))
	}
	for _, w := range f.Wrapped {
		if len(w) == 0 || len(w) > maxFormerSize {
			return damagedSeal("a former seal that wrapped a root to %d bytes", len(w))
		}
	}
	return nil
}

// Finder finds a seal by kind and label where Seal is not at hand any more, because the process that used it has ended.
type Finder func(ctx context.Context, kind, label string) (Seal, error)

// FindSeals says who finds seals. Without it what a former seal wrapped is destroyed by the process only that replaced it.
func (k *Keyring) FindSeals(find Finder) {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	k.find = find
}

// destroyer finds a seal that can destroy what it wrapped.
func (k *Keyring) destroyer(ctx context.Context, kind, label string) (Destroyer, Seal, error) {
	if k.find == nil {
		return nil, nil, fmt.Errorf("the %s seal %s is not at hand", kind, label)
	}
	s, err := k.find(ctx, kind, label)
	if err != nil {
		return nil, nil, err
	}
	l, ok := s.(Labelled)
	if !ok || s.Kind() != kind || l.Label() != label {
		return nil, nil, fmt.Errorf("the %s seal %s is not the one that is configured", kind, label)
	}
	d, ok := s.(Destroyer)
	if !ok {
		return nil, nil, fmt.Errorf("%w: %s, %s", errKept, kind, label)
	}
	return d, s, nil
}

// formerOf is what the seal in force will have to destroy once another has taken its place; nil where it could not.
// A recovery kit stands in for a seal that may be able to.
func (k *Keyring) formerOf(before Seal) *formerSeal {
	label := ""
	switch s := before.(type) {
	case *recoverySeal:
		if k.sealed.Kind != KindTransit && k.sealed.Kind != KindHelper {
			return nil
		}
		info, err := k.sealed.info()
		if err != nil { // it was read when it was opened
			return nil
		}
		label = info.Label
	case Labelled:
		if _, ok := before.(Destroyer); !ok {
			return nil
		}
		label = s.Label()
	default:
		return nil
	}
	// A service that is not known yet is asked by rightService, which wants a proof: it may be another by now.
	f := &formerSeal{Kind: k.sealed.Kind, Label: label, Service: k.service}
	for _, r := range k.sealed.Roots {
		f.Wrapped = append(f.Wrapped, r.Wrapped)
	}
	return f
}

// Finished is what Finish had destroyed.
type Finished struct {
	OldRoot             uint32 // its epoch; 0 = none
	Former, FormerLabel string // kind and label of a seal that another took the place of; "" = none
}

// Tell says who is told of everything that a seal has destroyed: after that, and before seal.json forgets it. So a crash has it told
// again rather than never. Where tell fails it stays in seal.json, and is destroyed and told once more. ctx has the values of the
// call that had it destroyed; tell must change nothing of the keyring. Without it, or with nil, nobody is told.
func (k *Keyring) Tell(tell func(context.Context, Finished) error) {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	k.tell = tell
}

// told tells it. Called with rotating held.
func (k *Keyring) told(ctx context.Context, done Finished) error {
	if k.tell == nil {
		return nil
	}
	if err := k.tell(ctx, done); err != nil {
		return fmt.Errorf("it is destroyed, and stays noted until that could be told: %w", err)
	}
	return nil
}

// Finish has seals destroy what earlier changes left, or a crash: an old root, and what a former seal wrapped; Pending tells whether
// there is anything. ErrOldRoot if something could not be destroyed now, and ErrNeeded if it never can and is forgotten.
func (k *Keyring) Finish(ctx context.Context) (done Finished, err error) {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	k.learnService(ctx)
	older := k.olderRoot()
	if err = k.dropRoots(ctx); err == nil && older != 0 {
		done.OldRoot = older
	}
	former := k.sealed.Former
	if again := k.dropFormer(ctx, nil); again != nil {
		err = errors.Join(err, again)
	} else if former != nil {
		done.Former, done.FormerLabel = former.Kind, former.Label
	}
	return done, oldRoot(err)
}

// olderRoot is the epoch of the root in seal.json that the seal has to destroy; 0 = none. Called with rotating held.
func (k *Keyring) olderRoot() uint32 {
	for _, r := range k.sealed.Roots {
		if r.Epoch < k.Epoch() {
			return r.Epoch
		}
	}
	return 0
}

// GiveUpFormer forgets what a former seal has not destroyed. Who has its secret and an old copy of seal.json opens that for ever.
func (k *Keyring) GiveUpFormer(ctx context.Context) error {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	if k.sealed.Former == nil {
		return nil
	}
	return k.changeSeal(ctx, (*sealFile).withoutFormer)
}

// dropFormer takes the former seal out of seal.json after it destroyed what it wrapped. before is that seal, nil = to be found. Called with rotating held.
func (k *Keyring) dropFormer(ctx context.Context, before Seal) (err error) {
	former := k.sealed.Former
	if former == nil {
		return nil
	}
	defer func() {
		k.formerErr = oldRoot(err)
		k.show()
	}()
	if len(k.sealed.Roots) > 1 { // which of them must stay would have to be known
		if err := k.dropRoots(ctx); err != nil {
			return err
		}
	}
	d, ok := before.(Destroyer)
	if !ok {
		if d, before, err = k.destroyer(ctx, former.Kind, former.Label); err != nil {
			return err
		}
	}
	// Also where before is the seal that wrapped: another service may have taken the address since.
	if err := k.rightService(ctx, before); err != nil {
		return err
	}
	inForce := k.sealed.Roots[0].Wrapped
	keep, err := k.keepOf(ctx, before, inForce)
	if err != nil {
		return err
	}
	for _, w := range slices.Backward(former.Wrapped) {
		if err := d.DestroyOld(ctx, w, keep); err != nil {
			if !errors.Is(err, ErrNeeded) {
				return err
			}
			// It never will: nothing is gained by asking for ever.
			return errors.Join(err, k.changeSeal(ctx, (*sealFile).withoutFormer))
		}
	}
	if err := k.told(ctx, Finished{Former: former.Kind, FormerLabel: former.Label}); err != nil {
		return err
	}
	return k.changeSeal(ctx, (*sealFile).withoutFormer)
}

// keepOf is what a former seal must not destroy. The new one may use the same key, under whatever name, so whether it does is not
// concluded from names but tried.
func (k *Keyring) keepOf(ctx context.Context, before Seal, wrapped []byte) ([]byte, error) {
	if before.Kind() != k.sealed.Kind {
		return nil, nil
	}
	root, err := before.Unwrap(ctx, wrapped)
	clear(root)
	switch {
	case err == nil:
		return wrapped, nil
	case errors.Is(err, ErrWrongKey) || errors.Is(err, ErrDamaged):
		return nil, nil
	}
	return nil, err
}

// withoutFormer is f without its former seal.
func (f *sealFile) withoutFormer(root *root) (*sealFile, error) { return f.withFormer(root, nil) }

func (f *sealFile) withFormer(root *root, former *formerSeal) (*sealFile, error) {
	i := slices.IndexFunc(f.Roots, func(r sealedRoot) bool { return r.Epoch == root.epoch })
	if i < 0 || len(f.Roots) > 1 { // the other root could not be authenticated anew: it is not at hand
		return nil, ErrPending
	}
	next := *f
	next.Former = former
	r := f.Roots[i]
	r.Auth = nil
	if next.extended() {
		r.Auth = next.auth(root, &r)
	}
	return next.withRoots(r), nil
}
