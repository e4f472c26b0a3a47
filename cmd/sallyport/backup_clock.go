package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) backupClock() *cobra.Command {
	c := &cobra.Command{Use: "clock", Short: "Show the time that history is kept by, and whether the system's clock is believed", Args: exactly(),
		Long: "What retention destroys is gone for good, so a clock that is further ahead than the server can explain is not\n" +
			"followed: after a start of the machine by more than clock.max_off (it was off), from then on by more than\n" +
			"clock.max_jump. What is believed because the clock says so is at most clock.max_off in all, over all starts; each hour\n" +
			"that is counted gives back one. The server goes on by its own count until the clock is right, or until\n" +
			"`backup clock confirm`.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				st, err := cl.BackupClock(ctx)
				if err != nil {
					return err
				}
				return a.showClock(st)
			})
		}}
	c.AddCommand(a.clockConfirm(), a.clockForget())
	return c
}

func (a *app) clockForget() *cobra.Command {
	return &cobra.Command{Use: "forget", Short: "Say that dates are ages where the clock's record was lost", Args: exactly(),
		Long: "The record of the clock knows when the server's time was too early, and by how much. If it was lost, could not be\n" +
			"read, or is older than the state, what was replaced and deleted before counts as of then, and is kept for its\n" +
			"whole retention from then on. This ends that: it is as old as its date says, and what is too old by that is\n" +
			"destroyed within a minute. A record that cannot be read is put aside, not removed.",
		Example: "  sallyport backup clock\n  sallyport backup clock forget --reason 'the clock was never confirmed on this server'",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				st, err := cl.BackupClock(ctx)
				if err != nil {
					return err
				}
				if !st.Known.IsZero() {
					if err := a.confirm("What was replaced and deleted before %s will be as old as its date says. What is past its time by that is destroyed. There is no way back.", stamp(st.Known)); err != nil {
						return err
					}
				}
				if st, err = cl.ForgetLeaps(ctx, admin.ClockForget{Change: a.change(), Known: st.Known}); err != nil {
					return err
				}
				return a.showClock(st)
			})
		}}
}

func (a *app) clockConfirm() *cobra.Command {
	return &cobra.Command{Use: "confirm", Short: "Say that the system's clock is right", Args: exactly(),
		Long: "A clock that is ahead is followed from then on, and what that makes old is destroyed within a minute. What was\n" +
			"replaced and deleted since the server has not believed the clock is as old as it really is. For a clock\n" +
			"that is behind, the server's time runs at half speed until the clock has caught up.",
		Example: "  sallyport backup clock\n  sallyport backup clock confirm --reason 'the server was off from August to November'",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				st, err := cl.BackupClock(ctx)
				if err != nil {
					return err
				}
				if st.Status != "trusted" && !st.Slowed { // or the server says that there is nothing to confirm
					if err := a.confirm("The system's clock says %s, and the server's own count %s. What is past its time by the clock is destroyed. There is no way back.", stamp(st.System), stamp(st.Now)); err != nil {
						return err
					}
				}
				if st, err = cl.ConfirmClock(ctx, admin.ClockConfirm{Change: a.change(), Offset: st.Offset}); err != nil {
					return err
				}
				return a.showClock(st)
			})
		}}
}

func (a *app) showClock(c admin.Clock) error {
	v := view{value: c, names: []string{c.Status}, rows: [][]string{
		{"status", c.Status}, {"history is kept by", stamp(c.Now)}, {"the system says", stamp(c.System)},
	}}
	if c.Status != "trusted" {
		v.rows = append(v.rows, []string{"since", stamp(c.Since)})
	}
	if c.Slowed {
		v.rows = append(v.rows, []string{"slowed", "until the system's clock has caught up"})
	}
	if c.Unproven >= time.Second {
		v.rows = append(v.rows, []string{"not proven", fmt.Sprintf("%s of %s", c.Unproven.Round(time.Second), c.MaxOff)})
	}
	if c.Unwritten {
		v.rows = append(v.rows, []string{"record", "cannot be written"})
	}
	switch {
	case c.Unread != "":
		v.rows = append(v.rows, []string{"record", c.Unread + ": " + c.Cause})
	case c.Damaged:
		v.rows = append(v.rows, []string{"record", "of before was lost"})
	}
	if !c.Known.IsZero() {
		v.rows = append(v.rows, []string{"ages known since", stamp(c.Known)})
	}
	if err := a.show(v); err != nil {
		return err
	}
	if c.Advice != "" {
		a.say("sallyport: hint: %s", c.Advice)
	}
	return nil
}
