package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"sallyport/server/admin"
)

// maxPassword bounds what is read as a password, bytes.
const maxPassword = 1024

// passwordFrom reads one line.
func (a *app) passwordFrom(r io.Reader) (admin.Secret, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxPassword+2)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case line == "":
		return "", &admin.Error{Code: admin.CodeInvalid, Message: "the password is empty"}
	case len(line) > maxPassword:
		return "", &admin.Error{Code: admin.CodeInvalid, Message: fmt.Sprintf("the password is longer than %d bytes", maxPassword)}
	}
	return admin.Secret(line), nil
}

// askPassword asks twice on the terminal, without echo.
func (a *app) askPassword(account string) (admin.Secret, error) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", usage("no terminal to ask for the password", "pass it on standard input with --stdin")
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(a.stderr, prompt)
		p, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
		return string(p), err
	}
	first, err := ask("New password for " + account + ": ")
	if err != nil {
		return "", err
	}
	second, err := ask("Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", &admin.Error{Code: admin.CodeInvalid, Message: "the two passwords differ"}
	}
	return a.passwordFrom(strings.NewReader(first + "\n"))
}

// confirm asks before something that cannot be undone. Without a terminal only --yes agrees.
func (a *app) confirm(format string, args ...any) error {
	if a.yes {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &admin.Error{Code: admin.CodeRefused, Message: "not confirmed: " + what, Hint: "add --yes"}
	}
	fmt.Fprintf(a.stderr, "%s Type yes to go on: ", what)
	answer, err := bufio.NewReader(io.LimitReader(f, 16)).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return &admin.Error{Code: admin.CodeTimeout, Message: "not confirmed"}
	}
	return nil
}
