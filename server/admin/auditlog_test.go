package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestAuditShowsNamesAndFollows(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AccountAdd(t.Context(), AccountAdd{Name: "acme"})
	check(t, err)
	r, err := f.AuditTail(t.Context(), AuditTail{Last: 5, Resolve: true})
	check(t, err)
	if len(r.Records) != 1 || r.Records[0].Account != "acme" || r.Records[0].Seq != 7 || r.Records[0].Bytes != 5 {
		t.Errorf("got %+v", r.Records)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var got []AuditRecord
	err = f.AuditFollow(ctx, AuditTail{Last: 3, Resolve: true}, func(r AuditRecord) error {
		got = append(got, r)
		cancel() // as Ctrl-C does
		return nil
	})
	wantCode(t, err, CodeTimeout)
	if len(got) != 1 || got[0].Account != "acme" {
		t.Errorf("followed %+v", got)
	}
}

func TestAStreamEndsWithTheServer(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	t.Cleanup(func() { check(t, <-ended) }) // runs after start's cleanup
	f := start(t)
	seen := make(chan struct{})
	go func() {
		ended <- f.AuditFollow(context.Background(), AuditTail{Last: 1}, func(AuditRecord) error { close(seen); return nil })
	}()
	<-seen
}

func TestAnUnrecordedActIsSaid(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.actError = errors.New("disk full")
	_, err := f.PolicySet(t.Context(), PolicySet{Set: []KeyValue{{"session.max", "5"}}})
	if e := wantCode(t, err, CodeInternal); !strings.Contains(e.Message, "done, but") {
		t.Errorf("message %q", e.Message)
	}
}
