package meta

// A page of a bucket that overflows is split in two, and these say how full the first one stays. Half, as bbolt has it, is best
// for keys that come in no order, and leaves every page half empty where they come in order: history is records of the one kind or
// the other, and its trees were a level higher for it. fillMiddle costs keys in no order nothing (both leave pages 68 % full)
// and suits the versions of files that are overwritten in turns (64 % instead of 50 %); much more of it is bad for either.
const (
	fillMiddle = 0.65
	fillEnd    = 0.9 // of a bucket that a commit only appends to
)
