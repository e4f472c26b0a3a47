package server

import (
	"fmt"

	"sallyport/crypto/keyring"
)

// needsPeople tells whether only people can open a seal of that kind.
func needsPeople(kind string) bool {
	return kind == keyring.KindPassphrase || kind == keyring.KindShares
}

// keyIsLocal tells whether looking for the key again costs next to nothing.
func keyIsLocal(kind string) bool { return kind == keyring.KindKeyFile }

// whatPeopleGive names it.
func whatPeopleGive(info *keyring.SealInfo) string {
	if info.Kind == keyring.KindShares {
		return fmt.Sprintf("%d of %d shares", info.K, info.N)
	}
	return "the passphrase"
}
