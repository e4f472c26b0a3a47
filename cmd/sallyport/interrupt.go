package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilInterrupted ends with the first SIGINT or SIGTERM, so that the server drains and a client's call is given up. Before
// that is seen anywhere the default disposition is back: the second one kills at once, which the on-disk formats are made to survive.
func untilInterrupted() context.Context {
	release := signal.Stop
	if signal.Ignored(os.Interrupt) { // a shell's background job: the default disposition would be to ignore the second one, too
		release = func(came chan<- os.Signal) {
			second := make(chan os.Signal, 1)
			signal.Notify(second, os.Interrupt, syscall.SIGTERM)
			signal.Stop(came)
			go func() { // ends with the process
				<-second
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}()
		}
	}
	came := make(chan os.Signal, 2)
	signal.Notify(came, os.Interrupt, syscall.SIGTERM)
	return until(came, func() { release(came) }, func(s os.Signal) { _ = syscall.Kill(os.Getpid(), s.(syscall.Signal)) })
}

// until ends with the first of came, after release, which has further ones go elsewhere; one that came in between goes to again.
func until(came <-chan os.Signal, release func(), again func(os.Signal)) context.Context {
	ctx, end := context.WithCancel(context.Background())
	go func() { // ends with the process
		<-came
		release()
		select {
		case s := <-came:
			again(s)
		default:
		}
		end()
	}()
	return ctx
}
