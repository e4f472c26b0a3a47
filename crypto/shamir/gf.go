package shamir

// Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, without tables and
// without branches that depend on the values: neither the time nor the cache
// lines touched tell anything about a secret.

const reduction = 0x1b

// mul is a·b.
func mul(a, b byte) byte {
	var product byte
	for range 8 {
		product ^= a & -(b & 1)
		a = a<<1 ^ reduction&-(a>>7)
		b >>= 1
	}
	return product
}

// inverse is a^254, hence 1/a, and 0 for 0.
func inverse(a byte) byte {
	// 254 = 2 + 4 + … + 128
	square, out := a, byte(1)
	for range 7 {
		square = mul(square, square)
		out = mul(out, square)
	}
	return out
}
