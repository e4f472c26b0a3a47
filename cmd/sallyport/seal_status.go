package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) sealStatus() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show the keys: kind of seal, epochs and ages, and what is pending", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				s, err := cl.SealStatus(ctx)
				if err != nil {
					return err
				}
				return a.show(view{value: s, names: []string{s.Kind}, rows: sealRows(&s, time.Now())})
			})
		}}
}

func sealRows(s *admin.SealStatus, now time.Time) [][]string {
	destroys := "no: replace its secret to make old copies useless"
	if s.Destroys {
		destroys = "yes"
	}
	kind := s.Kind
	if s.Set != "" {
		kind += " of set " + s.Set
	}
	rows := [][]string{
		{"seal", kind}, {"destroys old roots", destroys},
		{"root", fmt.Sprintf("epoch %d, %s", s.Epoch, age(s.Created, now))},
		{"policy key", keyAge(s.Policy, now)}, {"audit key", keyAge(s.Audit, now)},
	}
	for _, kit := range s.Kits {
		rows = append(rows, []string{"recovery kit " + kit.ID, fmt.Sprintf("%s, made for recipient %s", age(kit.Created, now), kit.Recipient)})
	}
	if len(s.Kits) == 0 {
		rows = append(rows, []string{"recovery kit", "none"})
	}
	if s.Service != "" {
		rows = append(rows, []string{"key service", s.Service})
	}
	if s.Token != "" {
		rows = append(rows, []string{"token", s.Token})
	}
	if s.Changing {
		rows = append(rows, []string{"pending", "the root or the seal is being changed"})
	}
	for _, x := range s.Accounts {
		name := x.Account
		if name == "" {
			name = x.ID + " (of no account)"
		}
		row := []string{"account " + name, keyAge(x.KeyState, now)}
		if x.AwaitingShred > 0 {
			row[1] += fmt.Sprintf("; %d purged bytes await shredding", x.AwaitingShred)
		}
		rows = append(rows, row)
	}
	if s.Owed > 0 {
		rows = append(rows, []string{"pending", fmt.Sprintf("%d account keys were replaced or removed under this root; the next new root ends them", s.Owed)})
	}
	if s.OldRoot > 0 {
		rows = append(rows, []string{"pending", fmt.Sprintf("the root of epoch %d is not destroyed yet: %s%s", s.OldRoot, s.OldRootError, again(s.NextTry, now))})
	}
	if s.Former != "" {
		rows = append(rows, []string{"pending", fmt.Sprintf("what the seal before wrapped (%s) is not destroyed yet: %s%s", s.Former, s.FormerError, again(s.NextTry, now))})
	}
	return rows
}

// again says when the server tries again by itself.
func again(next, now time.Time) string {
	if next.IsZero() {
		return ""
	}
	return fmt.Sprintf("; tried again in %s", max(0, next.Sub(now)).Round(time.Second))
}

func keyAge(k admin.KeyState, now time.Time) string {
	return fmt.Sprintf("version %d, %s", k.Version, age(k.Created, now))
}

// age in days, or in what is left of one.
func age(made, now time.Time) string {
	if made.IsZero() {
		return "age not known"
	}
	d := now.Sub(made)
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days old", int(d.Hours())/24)
	}
	return d.Round(time.Second).String() + " old"
}
