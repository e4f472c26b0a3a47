package policy

// suggest returns "did you mean …" for the nearest word, "" if none is near.
func suggest(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

// Nearest is the known word that somebody may have meant: within two edits, which are at most half of what they wrote. "" if there is none.
func Nearest(word string, known []string) string {
	best, bestAt := "", 3
	if len(word) > 64 {
		return ""
	}
	for _, k := range known {
		if d := distance(word, k); d < bestAt && 2*d <= len(word) && d < len(k) {
			best, bestAt = k, d
		}
	}
	return best
}

// distance is the number of edits (Levenshtein) between short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
