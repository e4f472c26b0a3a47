package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/crypto/keyring"
)

// Defaults of places on a real host.
const (
	DefaultConfigFile = "/etc/sallyport/sallyport.yaml"
	DefaultStateDir   = "/var/lib/sallyport"
	// KeyCredential is the systemd credential that holds the seal key.
	KeyCredential = "sallyport.key"
)

// Config is sallyport.yaml: how the process runs. What accounts may do is
// policy and does not stand here. Every key has a default, so that no file
// is needed. The yaml tags are the documented names; a key's environment
// variable is SALLYPORT_<SECTION>__<KEY>.
type Config struct {
	State      State      `yaml:"state" json:"state"`
	Seal       Seal       `yaml:"seal" json:"seal"`
	Listeners  []Listener `yaml:"listeners" json:"listeners"`
	Passive    Passive    `yaml:"passive" json:"passive"`
	Algorithms Algorithms `yaml:"algorithms" json:"algorithms"`
	TLS        TLS        `yaml:"tls" json:"tls"`
	HostKeys   HostKeys   `yaml:"hostkeys" json:"hostkeys"`
	Admin      Admin      `yaml:"admin" json:"admin"`
	Audit      Audit      `yaml:"audit" json:"audit"`
	Health     Health     `yaml:"health" json:"health"`
	Log        Log        `yaml:"log" json:"log"`
	Shutdown   Shutdown   `yaml:"shutdown" json:"shutdown"`
	Scrub      Scrub      `yaml:"scrub" json:"scrub"`
	Retention  Retention  `yaml:"retention" json:"retention"`
	Clock      Clock      `yaml:"clock" json:"clock"`
	Shred      Shred      `yaml:"shred" json:"shred"`
	Copies     Copies     `yaml:"copies" json:"copies"`
	Limits     Limits     `yaml:"limits" json:"limits"`
}

// State is where everything durable lies.
type State struct {
	Dir string `yaml:"dir" json:"dir"`
	// IdleClose is how long after its last use an account's database is open and its keys are in memory.
	IdleClose time.Duration `yaml:"idle_close" json:"idle_close"`
}

// Seal says how the root key is unwrapped. Kind is that of a state directory
// which is made; an existing one knows its own (seal.json). If systemd passes a
// credential sallyport.key it is used instead of KeyFile, because the file is
// then not meant to be readable by the server's user. KeyFile empty means
// "<state>.key" beside the state directory.
type Seal struct {
	Kind    string      `yaml:"kind" json:"kind"` // keyfile, passphrase, shares, transit, helper
	KeyFile string      `yaml:"key_file" json:"key_file"`
	Transit SealTransit `yaml:"transit" json:"transit"`
	Helper  SealHelper  `yaml:"helper" json:"helper"`
}

// SealTransit is where a Vault or OpenBao has the key (package crypto/transit).
type SealTransit struct {
	Address   string        `yaml:"address" json:"address"`
	Namespace string        `yaml:"namespace" json:"namespace"`
	Mount     string        `yaml:"mount" json:"mount"`
	Key       string        `yaml:"key" json:"key"`
	TokenFile string        `yaml:"token_file" json:"token_file"` // "credential:NAME" names a systemd credential
	CAFile    string        `yaml:"ca_file" json:"ca_file"`
	Timeout   time.Duration `yaml:"timeout" json:"timeout"`   // of one request
	KeepOld   bool          `yaml:"keep_old" json:"keep_old"` // never destroy old versions of the key
}

// SealHelper is the program that has the key (package crypto/sealhelper).
type SealHelper struct {
	Command []string      `yaml:"command" json:"command"`
	Timeout time.Duration `yaml:"timeout" json:"timeout"` // of one operation
}

// Protocols of listeners.
const (
	ProtocolSFTP         = "sftp"
	ProtocolFTPSExplicit = "ftps-explicit"
	ProtocolFTPSImplicit = "ftps-implicit"
)

// Listener is one TCP address. "HOST:0" lets the kernel choose the port;
// "systemd:NAME" takes the socket that systemd passes under that name.
type Listener struct {
	Protocol string `yaml:"protocol" json:"protocol"`
	Address  string `yaml:"address" json:"address"`
}

// Passive is what FTP data connections use. Ports "A-B"; empty lets the kernel
// choose. PublicAddress "auto" tells clients the address they reached; an IP
// is told to everyone except clients of Networks.
type Passive struct {
	Ports         string           `yaml:"ports" json:"ports"`
	PublicAddress string           `yaml:"public_address" json:"public_address"`
	Networks      []PassiveNetwork `yaml:"networks" json:"networks"`
}

// PassiveNetwork overrides the public address for clients of one network.
type PassiveNetwork struct {
	From    string `yaml:"from" json:"from"`
	Address string `yaml:"address" json:"address"`
}

// Profiles of algorithms.
const (
	ProfileModern     = "modern"
	ProfileCompatible = "compatible"
	ProfileLegacy     = "legacy-insecure"
)

// Algorithms says what the listeners offer in TLS and SSH handshakes
// (docs/PROTOCOLS.md names them one by one). The listener decides what is
// offered, before anybody has said who they are; policy transport.ciphers and
// transport.tls_min can only refuse an account after the handshake.
type Algorithms struct {
	Profile string `yaml:"profile" json:"profile"` // modern, compatible, legacy-insecure
	Legacy  Legacy `yaml:"legacy" json:"legacy"`
}

// Legacy is what the profile legacy-insecure needs beside its name: why, and
// the last day (2027-01-31, UTC) on which it is offered. After it the profile is
// modern, without a restart.
type Legacy struct {
	Reason string `yaml:"reason" json:"reason"`
	Until  string `yaml:"until" json:"until"`
}

// end is the first moment after Until; the zero time if it is no date.
func (l Legacy) end() time.Time {
	t, err := time.Parse(time.DateOnly, l.Until)
	if err != nil {
		return time.Time{}
	}
	return t.AddDate(0, 0, 1)
}

// offersLegacy tells whether insecure algorithms are offered at a time.
func (a Algorithms) offersLegacy(now time.Time) bool {
	return a.Profile == ProfileLegacy && a.Legacy.Reason != "" && now.Before(a.Legacy.end())
}

// advice is what an operator must know about insecure algorithms, with the way
// out; "" if none were asked for.
func (a Algorithms) advice(now time.Time) (text, hint string) {
	if a.Profile != ProfileLegacy {
		return "", ""
	}
	if !a.offersLegacy(now) {
		return fmt.Sprintf("algorithms.profile legacy-insecure ended on %s: modern is offered instead", a.Legacy.Until),
			"set algorithms.profile to modern or compatible, or a new algorithms.legacy.until"
	}
	return fmt.Sprintf("the listeners offer insecure algorithms (legacy-insecure) until %s: %s", a.Legacy.Until, a.Legacy.Reason),
		"set algorithms.profile to modern or compatible as soon as the old clients are gone"
}

// TLS names the certificate pairs; the one that matches the client's server
// name is served, the first otherwise. None means "<state>/tls/server.crt",
// self-signed and made at the first start.
type TLS struct {
	Certificates []CertificatePair `yaml:"certificates" json:"certificates"`
}

// CertificatePair is two PEM files. "credential:NAME" names a systemd credential.
type CertificatePair struct {
	Certificate string `yaml:"certificate" json:"certificate"`
	Key         string `yaml:"key" json:"key"`
}

// HostKeys is where SSH host keys lie; empty means "<state>/hostkeys".
type HostKeys struct {
	Dir string `yaml:"dir" json:"dir"`
}

// Admin is the operator's socket. root and the server's own user always may;
// UIDs are others who may. UnsealUIDs and UnsealGIDs, if there are any, are who
// may unseal the server, beside root; they may do nothing else here.
type Admin struct {
	Socket string   `yaml:"socket" json:"socket"`
	UIDs   []uint32 `yaml:"uids" json:"uids"`
	// ResolveUIDs are those of UIDs who may have account ids of the audit log turned into names.
	ResolveUIDs []uint32 `yaml:"resolve_uids" json:"resolve_uids"`
	UnsealUIDs  []uint32 `yaml:"unseal_uids" json:"unseal_uids"`
	UnsealGIDs  []uint32 `yaml:"unseal_gids" json:"unseal_gids"`
}

// What a server does that cannot write its audit log.
const (
	AuditRefuse   = "refuse"
	AuditContinue = "continue"
)

// Audit is how the audit log is kept. Keep and MaxAge of 0 mean "for ever" and
// "by size alone"; Reserve is in bytes.
type Audit struct {
	Keep      time.Duration `yaml:"keep" json:"keep"`             // whole files older than this go
	MaxAge    time.Duration `yaml:"max_age" json:"max_age"`       // of a file, before the next is begun
	Reserve   int64         `yaml:"reserve" json:"reserve"`       // disk space allocated ahead
	OnFailure string        `yaml:"on_failure" json:"on_failure"` // refuse, continue
}

// Health serves /healthz and /metrics over HTTP on a loopback address or on
// "unix:PATH". Empty means off.
type Health struct {
	Address string `yaml:"address" json:"address"`
}

// Log says what is written to standard error.
type Log struct {
	Level  string `yaml:"level" json:"level"`   // debug, info, warn, error
	Format string `yaml:"format" json:"format"` // auto (text on a terminal, else json), text, json
}

// Scrub is the verification of volumes in the background.
type Scrub struct {
	Interval time.Duration `yaml:"interval" json:"interval"` // between two rounds; 0 = none
	Rate     int64         `yaml:"rate" json:"rate"`         // bytes of blobs read per second; 0 = no limit
}

// Shutdown is how long transfers under way may finish after SIGTERM.
type Shutdown struct {
	Drain time.Duration `yaml:"drain" json:"drain"`
}

// Limits bound what strangers and the process may take.
type Limits struct {
	Connections               int           `yaml:"connections" json:"connections"`                                 // at once, in all
	PerAddress                int           `yaml:"per_address" json:"per_address"`                                 // at once, of one address (IPv6: of one /64)
	Unauthenticated           int           `yaml:"unauthenticated" json:"unauthenticated"`                         // before login, in all
	UnauthenticatedPerAddress int           `yaml:"unauthenticated_per_address" json:"unauthenticated_per_address"` // before login, of one address
	LoginTime                 time.Duration `yaml:"login_time" json:"login_time"`                                   // from connect to login
	PasswordWorkers           int           `yaml:"password_workers" json:"password_workers"`                       // passwords hashed at once; 0 = half of the processors
	WindowMemory              int64         `yaml:"window_memory" json:"window_memory"`                             // bytes of uploads not yet on disk, all sessions together
	OpenFiles                 int64         `yaml:"open_files" json:"open_files"`                                   // RLIMIT_NOFILE asked for; 0 = as high as allowed
}

// Retention is the destruction of what policy lets go, in the background.
type Retention struct {
	Rate int `yaml:"rate" json:"rate"` // names and versions per second, all accounts together; 0 = no limit
}

// Clock says how far the system's clock may be ahead of what the server can explain, to be followed unasked.
type Clock struct {
	MaxOff  time.Duration `yaml:"max_off" json:"max_off"`   // after a start of the machine, of the last known time: it was off; and in all, until counted time makes up for it
	MaxJump time.Duration `yaml:"max_jump" json:"max_jump"` // while running
}

// Shred says when what was purged is made unreadable: At "15:04", local time,
// up to Jitter later; "never" leaves it to `backup purge --now`.
type Shred struct {
	At     string        `yaml:"at" json:"at"`
	Jitter time.Duration `yaml:"jitter" json:"jitter"`
}

// Copies says how old the last copy of the state and the last trial of a restore may be before it is warned of; 0 = never.
type Copies struct {
	MaxAge      time.Duration `yaml:"max_age" json:"max_age"`
	DrillMaxAge time.Duration `yaml:"drill_max_age" json:"drill_max_age"`
}

// never is a time of day that does not come.
const never = "never"

// time is At as a time since midnight; false = never, or not a time.
func (s Shred) time() (time.Duration, bool) {
	t, err := time.Parse("15:04", s.At)
	return t.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)), err == nil
}

// DefaultConfig is the configuration of a host without sallyport.yaml.
func DefaultConfig() *Config {
	return &Config{
		State: State{Dir: DefaultStateDir, IdleClose: 5 * time.Minute},
		Seal:  Seal{Kind: keyring.KindKeyFile, Transit: SealTransit{Mount: "transit", Timeout: 10 * time.Second}, Helper: SealHelper{Timeout: 30 * time.Second}},
		Listeners: []Listener{
			{Protocol: ProtocolSFTP, Address: ":2022"},
			{Protocol: ProtocolFTPSExplicit, Address: ":21"},
			{Protocol: ProtocolFTPSImplicit, Address: ":990"},
		},
		Passive:    Passive{Ports: "50000-50999", PublicAddress: "auto"},
		Algorithms: Algorithms{Profile: ProfileModern},
		Audit:      Audit{MaxAge: 24 * time.Hour, Reserve: 4 << 20, OnFailure: AuditRefuse},
		Log:        Log{Level: "info", Format: "auto"},
		Shutdown:   Shutdown{Drain: 10 * time.Second},
		Scrub:      Scrub{Interval: 24 * time.Hour, Rate: 16 << 20},
		Retention:  Retention{Rate: 20_000},
		Clock:      Clock{MaxOff: 72 * time.Hour, MaxJump: time.Hour},
		Shred:      Shred{At: "03:30", Jitter: time.Hour},
		Copies:     Copies{MaxAge: 48 * time.Hour, DrillMaxAge: 90 * 24 * time.Hour},
		Limits: Limits{
			Connections: 10_000, PerAddress: 1024, Unauthenticated: 512, UnauthenticatedPerAddress: 64,
			LoginTime: time.Minute, WindowMemory: 256 << 20,
		},
	}
}

// KeyFile is the seal key file in force.
func (c *Config) KeyFile() string {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if p := filepath.Join(dir, KeyCredential); fileExists(p) {
			return p
		}
	}
	if c.Seal.KeyFile != "" {
		return credentialPath(c.Seal.KeyFile)
	}
	return strings.TrimRight(c.State.Dir, "/") + ".key"
}

// AdminSocket is the path of the operator's socket.
func (c *Config) AdminSocket() string {
	if c.Admin.Socket != "" {
		return c.Admin.Socket
	}
	return filepath.Join(c.State.Dir, "admin.sock")
}

// HostKeyDir is the directory of the SSH host keys.
func (c *Config) HostKeyDir() string {
	if c.HostKeys.Dir != "" {
		return c.HostKeys.Dir
	}
	return filepath.Join(c.State.Dir, "hostkeys")
}

// Certificates are the pairs in force; own says that they are the
// self-signed one that the server makes and may rotate itself.
func (c *Config) Certificates() (pairs []CertificatePair, own bool) {
	if len(c.TLS.Certificates) == 0 {
		dir := filepath.Join(c.State.Dir, "tls")
		return []CertificatePair{{Certificate: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}}, true
	}
	for _, p := range c.TLS.Certificates {
		pairs = append(pairs, CertificatePair{Certificate: credentialPath(p.Certificate), Key: credentialPath(p.Key)})
	}
	return pairs, false
}

// credentialPath resolves "credential:NAME" below $CREDENTIALS_DIRECTORY.
func credentialPath(p string) string {
	if name, ok := strings.CutPrefix(p, "credential:"); ok {
		return filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), filepath.Base(name))
	}
	return p
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
