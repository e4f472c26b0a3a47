package policydb

import (
	"golang.org/x/crypto/ssh"

	"sallyport/crypto/record"
)

// decoy is what is looked at in the place of an account that does not exist: two records as others are, sealed, in memory. Finding
// nothing takes a quarter of the time that finding something takes, and a stranger could measure it.
type decoy struct{ key, name, record []byte }

func newDecoy(o *Options) *decoy {
	d := &decoy{key: make([]byte, 17)}
	a := &Account{Enabled: true, PasswordVersion: 1, hash: string(make([]byte, 60)), // as long as one of bcrypt
		Keys: []PublicKey{{Type: ssh.KeyAlgoED25519, Blob: make([]byte, 51), Comment: "alice@laptop"}}}
	d.name = o.Names.Seal(nil, record.DomainNames, d.key, a.ID[:])
	d.record = o.Box.Seal(nil, record.DomainAccounts, d.key, a.encode())
	return d
}

// look does the work of tx.account, and keeps nothing of it.
func (d *decoy) look(o *Options) {
	if _, err := o.Names.Open(nil, record.DomainNames, d.key, d.name); err != nil {
		panic("policydb: internal error: the decoy does not open: " + err.Error())
	}
	plain, err := o.Box.Open(nil, record.DomainAccounts, d.key, d.record)
	if err == nil {
		_, err = decodeAccount("", plain)
	}
	if err != nil {
		panic("policydb: internal error: the decoy does not open: " + err.Error())
	}
}
