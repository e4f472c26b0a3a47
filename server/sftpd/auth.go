package sftpd

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/policy"
	"sallyport/server/session"
)

// login authenticates one connection through x/crypto's callbacks, which run
// one after another in the goroutine of the handshake.
//
// An offered key costs nothing but a try (MaxAuthTries): agents offer all they
// have, and that is no guessing. Only a proven key and a password reach
// visitor.login, which counts, delays, audits and admits.
type login struct {
	ctx     context.Context // ends with the connection; callbacks have none
	visitor visitor
	facts   policy.Facts // of the connection; what was agreed on is added when the client first asks
	agreed  bool
	// signatures are those that clients may make with their keys.
	signatures []string
	report     reporter
	guest      guest  // set once, by the method that succeeded
	method     string // its name
	told       bool   // the client has been told why it may not enter
}

var (
	errKeyRefused      = errors.New("sftpd: key not accepted")
	errPasswordRefused = errors.New("sftpd: password not accepted")
	errCodeRefused     = errors.New("sftpd: code not accepted")
)

// configure sets the callbacks. Everybody is offered the methods that anybody may use: offers that went by the account would
// tell strangers which accounts there are. Whether the account may use what it proved itself with is decided at the login.
func (l *login) configure(c *ssh.ServerConfig) {
	c.PublicKeyAuthAlgorithms = l.signatures
	c.PublicKeyCallback = l.offered
	c.VerifiedPublicKeyCallback = l.proven
	if slices.Contains(l.visitor.Methods(), "password") {
		c.PasswordCallback = l.password
	}
}

// offered answers whether a key would do; it may not be proven yet.
func (l *login) offered(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if !acceptable(key) {
		return nil, errKeyRefused
	}
	switch err := l.visitor.KeyAllowed(l.ctx, c.User(), key.Marshal()); {
	case err == nil:
		return nil, nil
	case errors.Is(err, session.ErrAuth):
		return nil, errKeyRefused
	default:
		return nil, l.explained(err)
	}
}

func (l *login) proven(c ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, signature string) (*ssh.Permissions, error) {
	if err := l.agree(c); err != nil {
		return nil, l.explained(err)
	}
	if signature == ssh.KeyAlgoRSA { // over SHA-1, and somebody may have forged it: only for accounts whose policy says so
		l.facts.Profile = legacyName
		if d := l.visitor.SetFacts(l.facts); d != nil {
			return nil, l.explained(d)
		}
	}
	return l.enter(c, "publickey", session.Credential{PublicKey: key.Marshal()})
}

func (l *login) password(c ssh.ConnMetadata, secret []byte) (*ssh.Permissions, error) {
	return l.enter(c, "password", session.Credential{Password: session.Secret(secret)})
}

func (l *login) enter(c ssh.ConnMetadata, method string, cred session.Credential) (*ssh.Permissions, error) {
	if err := l.agree(c); err != nil {
		return nil, l.explained(err)
	}
	if l.guest != nil {
		return nil, errors.New("sftpd: internal error: second login on one connection")
	}
	g, err := l.visitor.login(l.ctx, c.User(), cred)
	if errors.Is(err, session.ErrCodeNeeded) {
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
			KeyboardInteractiveCallback: func(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				return l.code(c, ask, method, cred)
			},
		}}
	}
	if d, ok := errors.AsType[*policy.Denial](err); ok && d.Code == policy.CodeMustChange && cred.NewPassword == "" {
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
			KeyboardInteractiveCallback: func(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				return l.newPassword(c, ask, method, cred)
			},
		}}
	}
	if weak, ok := errors.AsType[*policy.WeakPasswordError](err); ok {
		return nil, &ssh.BannerError{Err: errPasswordRefused, Message: weak.Error() + "\r\n"}
	}
	if err != nil {
		return nil, l.explained(err)
	}
	l.guest, l.method = g, method
	return nil, nil
}

// newPassword has a password chosen in place of one that is right and must be changed. A bad choice is a failed
// authentication, after which the client may try again.
func (l *login) newPassword(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge, method string, cred session.Credential) (*ssh.Permissions, error) {
	answers, err := ask("", "Your password must be changed now.", []string{"New password: ", "New password again: "}, []bool{false, false})
	if err != nil {
		return nil, err
	}
	if len(answers) != 2 || answers[0] == "" {
		return nil, errPasswordRefused
	}
	if answers[0] != answers[1] {
		return nil, &ssh.BannerError{Err: errPasswordRefused, Message: "the two passwords differ\r\n"}
	}
	cred.NewPassword = session.Secret(answers[0])
	return l.enter(c, method, cred)
}

// agree tells the session manager which algorithms protect the connection, before a credential is looked at.
func (l *login) agree(c ssh.ConnMetadata) error {
	a, ok := c.(ssh.AlgorithmsConnMetadata)
	if l.agreed || !ok {
		return nil
	}
	l.agreed = true
	l.facts.Cipher, l.facts.Profile = a.Algorithms().Read.Cipher, judged(a.Algorithms())
	if d := l.visitor.SetFacts(l.facts); d != nil {
		return d
	}
	return nil
}

// maxCode bounds what is looked at of an answer; the longest code is a recovery code.
const maxCode = 64

// code asks for the second factor of an account whose first one is right (RFC 4256). A wrong answer is a failed
// authentication, after which the client may try again (MaxAuthTries).
func (l *login) code(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge, method string, cred session.Credential) (*ssh.Permissions, error) {
	answers, err := ask("", "", []string{"Code: "}, []bool{false})
	if err != nil {
		return nil, err
	}
	if len(answers) != 1 || len(answers[0]) > maxCode {
		return nil, errCodeRefused
	}
	if cred.Code = session.Secret(strings.TrimSpace(answers[0])); cred.Code == "" {
		return nil, errCodeRefused
	}
	return l.enter(c, method, cred)
}

// explained adds a sentence for the client to a refusal that is not about its
// credentials. SSH has no text in an authentication failure, so it travels as a
// banner (RFC 4252, section 5.4).
func (l *login) explained(err error) error {
	var text string
	switch d, denied := errors.AsType[*policy.Denial](err); {
	case denied:
		text = d.Error()
	case errors.Is(err, session.ErrAuth):
		return err
	case errors.Is(err, session.ErrSealed):
		text = "the server is sealed: an operator must unseal it before anyone can log in"
	default:
		text = l.report.status("login", err).text
	}
	if l.told { // an agent with ten keys need not read it ten times
		return err
	}
	l.told = true
	return &ssh.BannerError{Err: err, Message: text + "\r\n"}
}
