package server

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"time"
)

// watch reloads on SIGHUP and takes over changed certificate files; it ends with ctx.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.certs.Reload() // says itself what is wrong, once per change
		case <-s.o.Hangup:
			if err := s.reload(ctx); err != nil {
				s.log.Error("reload failed, the running configuration stays", "error", err)
			}
		}
	}
}

// reload reads the configuration, certificates and host keys again. What can
// change while running is taken over: log level, certificates, host keys. A
// bad file changes nothing. Settings that need a restart are named in the log.
func (s *Server) reload(context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.tell(reloading())
	defer func() { s.tell("READY=1\nSTATUS=" + string(s.life.now())) }()
	next, err := LoadConfig(s.o.Source)
	if err != nil {
		return err
	}
	s.level.Set(logLevel(next.Log.Level))
	for i, leaf := range leaves(next.Config) {
		was := leaves(s.config.Config)[i]
		// The seal is read anew whenever it is opened or changed.
		if leaf.key != "log.level" && !strings.HasPrefix(leaf.key, "seal.") && !reflect.DeepEqual(leaf.value.Interface(), was.value.Interface()) {
			s.log.Warn("setting changed, it needs a restart", "key", leaf.key)
		}
	}
	if err := errors.Join(s.certs.Reload(), s.hostKeys.Reload()); err != nil {
		return err
	}
	select {
	case s.again <- struct{}{}: // who mends something and reloads wants it used now
	default:
	}
	s.log.Info("reloaded", "file", next.File)
	return nil
}
