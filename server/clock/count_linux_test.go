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
