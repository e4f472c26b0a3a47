// Package record seals small values: metadata records, wrapped keys, policy
// revisions and audit records. Format: docs/FORMAT.md "Sealed record".
package record
