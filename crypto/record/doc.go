// Package record seals small values: metadata records, wrapped keys, policy
// revisions and audit records. It also derives what an account's metadata
// needs from the account key: tokens that hide names in database keys, and a
// keyed hash over the set of all records.
//
// A sealed record says nothing but its length, rounded up to 64 bytes, and the
// epoch of its key. It opens only under its key, for its account, as its kind
// of record (Domain) and at its place (database key), so a store that moves,
// exchanges or damages records is found out. A store that puts back an older
// value of the same place, or drops a record, is found out by Set.
//
// Sealing is XAES-256-GCM (https://c2sp.org/XAES-256-GCM), whose 192-bit
// random nonces allow 2^80 records under one key. Everything is standard
// library and works under GODEBUG=fips140=only.
//
// Layout and derivations: docs/FORMAT.md "Sealed record", "Keys".
package record
