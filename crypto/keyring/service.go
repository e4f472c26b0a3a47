package keyring

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrElsewhere means that a key service is not the one that wrapped, or may not be: what was to be destroyed is not destroyed.
var ErrElsewhere = errors.New("keyring: another key service has wrapped it")

// Identified is a Seal that can tell which of several services has its key. Mount and name of a key are the same at two of them as
// soon as somebody sets up the second by the same script.
type Identified interface {
	// Identity stays the same when the service gets another address, or is restored from a backup. "" = it does not tell.
	Identity(ctx context.Context) (string, error)
}

// learnTime bounds asking for it: nothing depends on the answer until another seal takes the place.
const learnTime = 5 * time.Second

// identity tells whether it can be noted: 1 … 64 printable characters of ASCII.
func identity(s string) bool { return len(s) <= 64 && (&labelParams{s}).valid() == nil }

// learnService asks the service that has the key in force who it is, once. It may be away when another seal takes its place, and
// then has to be known. Called with rotating held.
func (k *Keyring) learnService(ctx context.Context) {
	i, ok := k.sealNow().(Identified)
	if !ok || k.service != "" {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, learnTime) // rotating is held
	defer cancel()
	if id, err := i.Identity(bounded); err == nil && identity(id) { // it is asked again
		k.service = id
	}
}

// rightService refuses to have a former seal destroy at another service than the one that wrapped: whatever that says of a version
// of its own key of that name would be believed. What is noted of a service that was not known is believed where it still
// unwraps, and the service is noted before it destroys, because afterwards it could not be told any more. Called with rotating held.
func (k *Keyring) rightService(ctx context.Context, s Seal) error {
	i, ok := s.(Identified)
	if !ok { // a helper is what its command says
		return nil
	}
	former := k.sealed.Former
	id, err := i.Identity(ctx)
	switch {
	case former.Service != "" && err != nil:
		return err
	case former.Service != "" && id == "":
		return fmt.Errorf("%w: %s at the service %s, and the one that is configured now does not tell which it is", ErrElsewhere, former.Label, former.Service)
	case former.Service != "" && id != former.Service:
		return fmt.Errorf("%w: %s at the service %s, and not at %s, which is configured now", ErrElsewhere, former.Label, former.Service, id)
	case former.Service != "":
		return nil
	}
	if err := former.unwrapsAt(ctx, s); err != nil {
		return err
	}
	if err != nil || !identity(id) {
		return nil
	}
	return k.changeSeal(ctx, func(f *sealFile, root *root) (*sealFile, error) {
		known := *former
		known.Service = id
		return f.withFormer(root, &known)
	})
}

// unwrapsAt tells whether the seal has the key that wrapped.
func (f *formerSeal) unwrapsAt(ctx context.Context, s Seal) error {
	var last error
	for _, w := range f.Wrapped {
		root, err := s.Unwrap(ctx, w)
		clear(root)
		if err == nil {
			return nil
		}
		last = err
	}
	if errors.Is(last, ErrWrongKey) {
		return fmt.Errorf("%w, or has destroyed it: which one it was is not noted, and the one that is configured now does not unwrap it: %w", ErrElsewhere, last)
	}
	return last
}
