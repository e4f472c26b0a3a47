package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sallyport/policy"
	"sallyport/server/admin"
)

func (a *app) policyEdit() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{Use: "edit", Short: "Edit the policy in $EDITOR; it is checked before it counts", Args: exactly(),
		Long: "Edit the policy in $VISUAL, $EDITOR or vi. What does not parse leads back to its line. Then come the\n" +
			"differences, marked LOOSER or tighter, the sessions that would end, the tests, and a question.",
		RunE: func(c *cobra.Command, _ []string) error { return a.edit(c.Context(), f) }}
	f.add(c)
	return c
}

// edit never throws the operator's text away: unless it became policy it stays in the file that is named.
func (a *app) edit(ctx context.Context, f changeFlags) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	p, err := cl.PolicyShow(ctx, admin.PolicyQuery{})
	if err != nil {
		return err
	}
	if f.base != 0 && f.base != p.Revision {
		return &admin.Error{Code: admin.CodeConflict, Message: fmt.Sprintf("the policy is at revision %d, not %d", p.Revision, f.base)}
	}
	file, err := os.CreateTemp("", "sallyport-policy-*.yaml") // 0600
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%s%d\n%s", exportMark, p.Revision, p.Document)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	text, err := a.editUntilValid(ctx, file.Name())
	if err != nil {
		return kept(err, file.Name())
	}
	if text == p.Document {
		a.say("nothing changed")
		return os.Remove(file.Name())
	}
	r := admin.PolicyChange{Change: a.change(), Name: file.Name(), Text: text, Base: p.Revision, Confirm: f.confirm, Yes: a.yes}
	if err := a.review(ctx, cl, &r); err != nil {
		return kept(err, file.Name())
	}
	if err := a.apply(ctx, r, file.Name()); err != nil {
		return kept(err, file.Name())
	}
	return os.Remove(file.Name())
}

// kept adds where the text is.
func kept(err error, file string) error {
	e := *explain(err)
	if !strings.Contains(e.Hint, file) {
		if e.Hint != "" {
			e.Hint += "; "
		}
		e.Hint += "your text is in " + file + ": `sallyport policy apply` takes it"
	}
	return &e
}

// editUntilValid runs the editor until the text parses or the operator gives up.
func (a *app) editUntilValid(ctx context.Context, file string) (string, error) {
	line := 1
	for {
		if err := a.runEditor(ctx, file, line); err != nil {
			return "", err
		}
		whole, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		if len(whole) > policy.MaxDocument+len(exportMark)+32 {
			return "", &admin.Error{Code: admin.CodeInvalid, Message: "the document is too large"}
		}
		// Parsed as it stands in the file, first line included, so that the lines of errors are those of the editor.
		_, err = policy.Parse(file, whole)
		var parse *policy.ParseError
		if errors.As(err, &parse) {
			line = max(parse.Problems[0].Line, 1)
			if !a.ask(parse.Excerpt() + "\nEdit again? [Y/n] ") {
				return "", invalid(err)
			}
			continue
		}
		text, _, err := a.readPolicy(file)
		return string(text), err
	}
}

// runEditor opens the file at a line, which is what every common editor understands.
func (a *app) runEditor(ctx context.Context, file string, line int) error {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	args := strings.Fields(editor)
	if line > 1 {
		args = append(args, fmt.Sprintf("+%d", line))
	}
	c := exec.CommandContext(ctx, args[0], append(args[1:], file)...)
	c.Stdin, c.Stdout, c.Stderr = a.stdin, a.stderr, a.stderr
	if err := c.Run(); err != nil {
		return &admin.Error{Code: admin.CodeUsage, Message: "the editor " + editor + ": " + err.Error(), Hint: "set EDITOR"}
	}
	return nil
}

// ask is yes unless the answer begins with n; without a terminal it is no.
func (a *app) ask(question string) bool {
	answer, ok := a.answer(question)
	return ok && !strings.HasPrefix(strings.ToLower(answer), "n")
}

func (a *app) answer(question string) (string, bool) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", false
	}
	fmt.Fprint(a.stderr, question)
	line, err := bufio.NewReader(io.LimitReader(f, 512)).ReadString('\n')
	return strings.TrimSpace(line), err == nil
}

// review shows what a change does and asks; where it loosens, for the reason too.
func (a *app) review(ctx context.Context, cl *admin.Client, r *admin.PolicyChange) error {
	p, err := cl.PolicyPlan(ctx, *r)
	var e *admin.Error
	if errors.As(err, &e) && e.Code == admin.CodeConflict {
		return nil // apply shows the conflict
	}
	if err != nil {
		return err
	}
	a.sayPlan(p)
	if p.Looser && strings.TrimSpace(r.Reason) == "" {
		r.Reason, _ = a.answer("This loosens the policy. Why? ")
	}
	if len(p.Changes) == 0 {
		return nil
	}
	return a.confirm("This makes revision %d.", p.Base+1)
}
