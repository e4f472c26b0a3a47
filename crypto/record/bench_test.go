package record

import "testing"

func BenchmarkRecord(b *testing.B) {
	keys, err := Derive(NewKey(), AccountID{1}, 1)
	if err != nil {
		b.Fatal(err)
	}
	dbkey, plain := make([]byte, 33), make([]byte, 200)
	sealed := keys.Box().Seal(nil, DomainEntry, dbkey, plain)
	buf := make([]byte, 0, 1024)
	_, wrapped, err := keys.NewDataKey([16]byte{})
	if err != nil {
		b.Fatal(err)
	}
	var sum Sum
	run := func(name string, fn func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fn()
			}
		})
	}
	run("Seal200", func() { keys.Box().Seal(buf, DomainEntry, dbkey, plain) })
	run("Open200", func() { keys.Box().Open(buf, DomainEntry, dbkey, sealed) })
	run("NameToken", func() { keys.NameToken(1, "a file name.txt") })
	run("SetAdd", func() { keys.Set().Add(&sum, dbkey, sealed) })
	run("NewDataKey", func() { keys.NewDataKey([16]byte{}) })
	run("DataKey", func() { keys.DataKey([16]byte{}, wrapped) })
}
