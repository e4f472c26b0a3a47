package clock

import "testing"

func TestTheSystemsCountIsTheSameForAllWhoAsk(t *testing.T) {
	t.Parallel()
	a := count("")
	b := count("some other id")
	passed, same := b.since(a)
	if !same || passed < 0 || a.Time <= 0 {
		t.Errorf("%+v, then %+v", a, b)
	}
}

func TestWhichCountItIs(t *testing.T) {
	t.Parallel()
	const id, offsets = "1c9f863e-c846-437e-a1fb-fa34e31284cf", "monotonic           0         0\nboottime            0         0\n"
	want := countOf(id+"\n", offsets)
	if want == ([16]byte{}) || want != countOf("1c9f863ec846437ea1fbfa34e31284cf", offsets) {
		t.Error("an id is another one as systemd writes it")
	}
	if countOf(id, "boottime 86400 0") == want || countOf("2"+id[1:], offsets) == want {
		t.Error("another count has the same name")
	}
	if countOf("\n", offsets) != ([16]byte{}) {
		t.Error("there is a count without an id")
	}
}

// What a script or a container's manager hands over unread is the same on all machines: no count may have its name.
func TestWhatIsNoIDNamesNoCount(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"%b", "none", "1c9f863e-c846-437e-a1fb-fa34e31284c", "1c9f863e-c846-437e-a1fb-fa34e31284cg", "00000000-0000-0000-0000-000000000000", "1c9f863ec846437ea1fbfa34e31284cf1c9f863ec846437ea1fbfa34e31284cf"} {
		if countOf(id, "") != ([16]byte{}) {
			t.Errorf("there is a count of %q", id)
		}
	}
	if countOf("1C9F863E-C846-437E-A1FB-FA34E31284CF", "") != countOf("1c9f863ec846437ea1fbfa34e31284cf", "") {
		t.Error("an id is another one in capitals")
	}
}
