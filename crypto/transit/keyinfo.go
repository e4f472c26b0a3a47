package transit

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// keyInfo is what the service says of the key.
type keyInfo struct {
	Type            string `json:"type"`
	Derived         bool   `json:"derived"`
	Exportable      bool   `json:"exportable"`
	PlainBackup     bool   `json:"allow_plaintext_backup"`
	SoftDeleted     bool   `json:"soft_deleted"` // of OpenBao
	Imported        bool   `json:"imported_key"`
	Deletable       bool   `json:"deletion_allowed"`
	LatestVersion   int    `json:"latest_version"`
	MinAvailable    int    `json:"min_available_version"`  // older ones are deleted
	MinDecryption   int    `json:"min_decryption_version"` // older ones are there and must not decrypt
	MinEncryption   int    `json:"min_encryption_version"` // 0 = the latest is used
	SupportsEncrypt bool   `json:"supports_encryption"`
	SupportsDecrypt bool   `json:"supports_decryption"`
}

// info asks for the key.
func (s *Seal) info(ctx context.Context) (*keyInfo, error) {
	var info keyInfo
	if err := s.client.do(ctx, http.MethodGet, s.path("keys"), nil, &info); err != nil {
		return nil, s.explain("reading key", err)
	}
	if info.LatestVersion < 1 {
		return nil, fmt.Errorf("%w: %s has no version", ErrAnswer, s.Label())
	}
	return &info, nil
}

// suitable is info of a key that may wrap a root. Without it encrypting could make a key of that name.
func (s *Seal) suitable(ctx context.Context) (*keyInfo, error) {
	info, err := s.info(ctx)
	if err != nil {
		return nil, err
	}
	return info, s.judge(info)
}

// judge says why a key must not, or cannot, wrap a root; ErrUnsuitable, ErrSoftDeleted.
func (s *Seal) judge(info *keyInfo) error {
	unsuitable := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s %s", ErrUnsuitable, s.Label(), fmt.Sprintf(format, args...))
	}
	switch {
	case info.SoftDeleted:
		return fmt.Errorf("%w: %s", ErrSoftDeleted, s.Label())
	case !info.SupportsEncrypt || !info.SupportsDecrypt:
		return unsuitable("is of type %q, which cannot encrypt", info.Type)
	case !strings.HasPrefix(info.Type, "aes") && !strings.HasPrefix(info.Type, "chacha20"):
		return unsuitable("is of type %q, which cannot bind what it encrypts to a purpose; use aes256-gcm96", info.Type)
	case info.Derived:
		return unsuitable("was made with derived=true")
	case info.Exportable || info.PlainBackup:
		return unsuitable("may be exported or backed up in clear, so that nobody knows who has it, and destroying it destroys nothing")
	case info.Imported && !s.config.KeepOld:
		return unsuitable("was imported, so that whoever made it can have kept it, and destroying it destroys nothing; seal.transit.keep_old makes no such promise")
	}
	return nil
}

// Key tells what is unwise about a key that opens everything still: unsuitable is why it wraps no new root (ErrUnsuitable), nil if it would;
// deletable: its administrator has made it possible to delete it whole. It changes nothing.
func (s *Seal) Key(ctx context.Context) (unsuitable error, deletable bool, err error) {
	info, err := s.info(ctx)
	if err != nil {
		return nil, false, err
	}
	return s.judge(info), info.Deletable, nil
}

// Reachable asks for the key. It changes nothing.
func (s *Seal) Reachable(ctx context.Context) error {
	_, err := s.suitable(ctx)
	return err
}

// Identity is the id of the cluster, which all its nodes and its backups share. ErrUnavailable while it is sealed. It needs no token.
func (s *Seal) Identity(ctx context.Context) (string, error) {
	var status struct {
		Sealed  bool   `json:"sealed"`
		Cluster string `json:"cluster_id"`
	}
	if err := s.client.do(ctx, http.MethodGet, anybody, nil, &status); err != nil {
		return "", fmt.Errorf("asking the key service at %s which it is: %w", s.config.Address, err)
	}
	if status.Sealed {
		return "", fmt.Errorf("asking the key service at %s which it is: %w: it is sealed", s.config.Address, ErrUnavailable)
	}
	return status.Cluster, nil
}
