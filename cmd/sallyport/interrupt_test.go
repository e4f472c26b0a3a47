package main

import (
	"context"
	"os"
	"syscall"
	"testing"
)

// TestASecondSignalIsNotSwallowed: whoever sees that the first one was taken may send the second, which must find the default disposition; and one that
// was there before that was back is not lost.
func TestASecondSignalIsNotSwallowed(t *testing.T) {
	t.Parallel()
	came := make(chan os.Signal, 2)
	var ctx context.Context
	var again []os.Signal
	begin := make(chan struct{})
	ctx = until(came, func() {
		<-begin
		if ctx.Err() != nil {
			t.Error("it was told before the default disposition was back")
		}
		came <- syscall.SIGTERM
	}, func(s os.Signal) { again = append(again, s) })
	if ctx.Err() != nil {
		t.Error("it ended without a signal")
	}
	came <- os.Interrupt
	close(begin)
	<-ctx.Done()
	if len(again) != 1 || again[0] != syscall.SIGTERM {
		t.Errorf("the second went to nobody: %v", again)
	}
}
