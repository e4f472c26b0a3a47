//go:build race

package proof

// raceEnabled: the detector makes a case about ten times as dear.
const raceEnabled = true
