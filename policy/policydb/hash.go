package policydb

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"sallyport/crypto/approved"
)

// DefaultPasswordCost is bcrypt's cost: 2^12 rounds, about a quarter of a second (OWASP Password Storage Cheat Sheet asks
// for at least 10).
const DefaultPasswordCost = 12

// Parameters of argon2id: OWASP Password Storage Cheat Sheet, 2026, first choice for 19 MiB.
var (
	argonNormal = argonCost{memory: 19 << 10, time: 2, threads: 1}
	argonTests  = argonCost{memory: 64, time: 1, threads: 1}
)

// Iterations of PBKDF2-HMAC-SHA-256: OWASP Password Storage Cheat Sheet, 2023 and later, where FIPS 140 is asked for. Those of tests are the
// least of NIST SP 800-132, section 5.2, because the module calls fewer not approved.
const (
	pbkdf2Normal = 600_000
	pbkdf2Tests  = 1_000
	pbkdf2Most   = 10_000_000
)

const pbkdf2Prefix = "$pbkdf2-sha256$"

// argonCost is memory in KiB, passes, and lanes.
type argonCost struct {
	memory, time uint32
	threads      uint8
}

// Bounds of imported hashes: whoever writes the import file must not be able to make a login cost gigabytes or minutes.
const (
	maxArgonMemory = 256 << 10 // KiB
	maxArgonTime   = 16
	maxBcryptCost  = 15
)

// imported stands before a hash that another system made, of the plain password. Own bcrypt hashes are of prehash.
const imported = "imported:"

// prehash makes 64 characters of any password, so that bcrypt's limit of 72 bytes loses nothing and NUL is safe. The
// label keeps a plain SHA-384 of the password that leaked elsewhere from being tried as it is.
func prehash(secret string) []byte {
	m := hmac.New(sha512.New384, []byte("sallyport.password.v1"))
	m.Write([]byte(secret))
	sum := m.Sum(nil)
	return base64.RawStdEncoding.AppendEncode(nil, sum)
}

// randomHash has the form and the cost of what hash makes of that kind. No password fits it, but for one in 2^184.
func (db *DB) randomHash(kind string) string {
	random := make([]byte, 16+32)
	rand.Read(random) // never fails
	salt, key := random[:16], random[16:]
	switch allowed(kind) {
	case "pbkdf2":
		return formatPBKDF2(db.iterations(), salt, key)
	case "argon2id":
		return formatArgon(db.argon(), salt, key)
	}
	return fmt.Sprintf("$2b$%02d$%s%s", db.o.PasswordCost, bcryptText.EncodeToString(salt), bcryptText.EncodeToString(key[:23]))
}

// bcryptText is how bcrypt writes 16 bytes of salt and 23 of hash.
var bcryptText = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

func (db *DB) argon() argonCost {
	if db.o.PasswordCost < DefaultPasswordCost {
		return argonTests
	}
	return argonNormal
}

func (db *DB) iterations() int {
	if db.o.PasswordCost < DefaultPasswordCost {
		return pbkdf2Tests
	}
	return pbkdf2Normal
}

// allowed is the kind of hash that is made where the policy asks for kind: under fips140=only there is one.
func allowed(kind string) string {
	if approved.Only() {
		return "pbkdf2"
	}
	return kind
}

// hash makes the stored form of a password: $pbkdf2-sha256$i=…, $2b$cost$… or $argon2id$v=19$….
func (db *DB) hash(kind, secret string) (string, error) {
	kind = allowed(kind)
	if kind == "pbkdf2" {
		salt := make([]byte, 16)
		rand.Read(salt)
		key, err := pbkdf2.Key(sha256.New, secret, salt, db.iterations(), 32)
		if err != nil {
			return "", fmt.Errorf("hashing a password: %w", err)
		}
		return formatPBKDF2(db.iterations(), salt, key), nil
	}
	if kind == "argon2id" {
		salt := make([]byte, 16)
		rand.Read(salt)
		return formatArgon(db.argon(), salt, argonKey(db.argon(), salt, secret, 32)), nil
	}
	// Go names its bcrypt $2a$, which is the same function as $2b$ in others.
	h, err := bcrypt.GenerateFromPassword(prehash(secret), db.o.PasswordCost)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return "$2b$" + strings.TrimPrefix(string(h), "$2a$"), nil
}

// fresh says whether a stored hash is what hash would make today.
func (db *DB) fresh(kind, stored string) bool {
	kind = allowed(kind)
	if kind == "pbkdf2" {
		n, _, _, err := parsePBKDF2(stored)
		return err == nil && n == db.iterations()
	}
	if kind == "argon2id" {
		c, _, _, err := parseArgon(stored)
		return err == nil && c == db.argon()
	}
	cost, err := bcrypt.Cost([]byte(stored))
	return err == nil && cost >= db.o.PasswordCost
}

// checkable returns approved.ErrNotFIPS for a stored form that may not be verified: bcrypt and argon2id come from outside the module,
// which cannot forbid them.
func checkable(stored string) error {
	if strings.HasPrefix(stored, pbkdf2Prefix) {
		return nil
	}
	return approved.Refuse("a password whose hash is bcrypt or argon2id")
}

// matches verifies a password against any stored form that is checkable.
func matches(stored, secret string) bool {
	if checkable(stored) != nil {
		return false
	}
	if strings.HasPrefix(stored, pbkdf2Prefix) {
		n, salt, key, err := parsePBKDF2(stored)
		if err != nil {
			return false
		}
		got, err := pbkdf2.Key(sha256.New, secret, salt, n, len(key))
		return err == nil && subtle.ConstantTimeCompare(key, got) == 1
	}
	foreign, isForeign := strings.CutPrefix(stored, imported)
	if strings.HasPrefix(foreign, "$argon2id$") {
		c, salt, key, err := parseArgon(foreign)
		return err == nil && subtle.ConstantTimeCompare(key, argonKey(c, salt, secret, uint32(len(key)))) == 1
	}
	if isForeign {
		plain := []byte(secret)
		return bcrypt.CompareHashAndPassword([]byte(foreign), plain[:min(len(plain), 72)]) == nil // as every other bcrypt cuts it
	}
	return bcrypt.CompareHashAndPassword([]byte(stored), prehash(secret)) == nil
}

func argonKey(c argonCost, salt []byte, secret string, length uint32) []byte {
	return argon2.IDKey([]byte(secret), salt, c.time, c.memory, c.threads, length)
}

func formatArgon(c argonCost, salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.time, c.threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

func parseArgon(stored string) (c argonCost, salt, key []byte, err error) {
	parts := strings.Split(strings.TrimPrefix(stored, "$argon2id$"), "$")
	if !strings.HasPrefix(stored, "$argon2id$") || len(parts) != 4 || parts[0] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, badHash("argon2id is written $argon2id$v=19$m=…,t=…,p=…$salt$key")
	}
	if n, err := fmt.Sscanf(parts[1], "m=%d,t=%d,p=%d", &c.memory, &c.time, &c.threads); n != 3 || err != nil {
		return c, nil, nil, badHash("its parameters cannot be read")
	}
	if c.memory < 8 || c.memory > maxArgonMemory || c.time < 1 || c.time > maxArgonTime || c.threads < 1 || c.threads > 16 {
		return c, nil, nil, badHash("its parameters are out of range")
	}
	if salt, err = base64.RawStdEncoding.DecodeString(parts[2]); err != nil || len(salt) < 8 || len(salt) > 64 {
		return c, nil, nil, badHash("its salt cannot be read")
	}
	if key, err = base64.RawStdEncoding.DecodeString(parts[3]); err != nil || len(key) < 16 || len(key) > 64 {
		return c, nil, nil, badHash("its key cannot be read")
	}
	return c, salt, key, nil
}

func formatPBKDF2(iterations int, salt, key []byte) string {
	return fmt.Sprintf("%si=%d$%s$%s", pbkdf2Prefix, iterations, base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

func parsePBKDF2(stored string) (iterations int, salt, key []byte, err error) {
	rest, ok := strings.CutPrefix(stored, pbkdf2Prefix+"i=")
	parts := strings.Split(rest, "$")
	if !ok || len(parts) != 3 {
		return 0, nil, nil, badHash("PBKDF2 is written $pbkdf2-sha256$i=…$salt$key")
	}
	if iterations, err = strconv.Atoi(parts[0]); err != nil || iterations < pbkdf2Tests || iterations > pbkdf2Most {
		return 0, nil, nil, badHash("its iterations are out of range")
	}
	// NIST SP 800-132, section 5.1: at least 128 bits of salt; section 5.3: at least 112 of key.
	if salt, err = base64.RawStdEncoding.DecodeString(parts[1]); err != nil || len(salt) < 16 || len(salt) > 64 {
		return 0, nil, nil, badHash("its salt cannot be read")
	}
	if key, err = base64.RawStdEncoding.DecodeString(parts[2]); err != nil || len(key) < 16 || len(key) > 64 {
		return 0, nil, nil, badHash("its key cannot be read")
	}
	return iterations, salt, key, nil
}

// importHash checks a hash of another system and marks it. approved.ErrNotFIPS where it could not be verified anyway.
func importHash(text string) (string, error) {
	switch {
	case strings.HasPrefix(text, "$argon2id$"):
		if _, _, _, err := parseArgon(text); err != nil {
			return "", err
		}
	case len(text) == 60 && (strings.HasPrefix(text, "$2a$") || strings.HasPrefix(text, "$2b$") || strings.HasPrefix(text, "$2y$")):
		cost, err := bcrypt.Cost([]byte(text))
		if err != nil {
			return "", badHash("its cost cannot be read")
		}
		if cost > maxBcryptCost {
			return "", badHash(fmt.Sprintf("a cost of %d", cost))
		}
	default:
		return "", badHash("it begins with none of $2a$, $2b$, $2y$, $argon2id$")
	}
	if err := approved.Refuse("a hash of another system (bcrypt, argon2id)"); err != nil {
		return "", err
	}
	return imported + text, nil
}
