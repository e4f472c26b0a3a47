// Package vfs is one account's encrypted, versioned volume: directories,
// files with history, symlinks, sealed names, durable commits. It knows keys
// and blobs, never policies. Semantics: docs/SEMANTICS.md.
//
//	FS      all volumes of a state directory
//	Volume  one account's tree, opened on first use, closed when idle
//	View    one session's face of a volume
//	File    an open handle
//
// On disk (docs/FORMAT.md), below the directory of volumes:
//
//	<32 hex account id>/tree-<key version>.db	names, versions, wrapped data keys; every value sealed
//	<32 hex account id>/blobs/ab/<30 hex>	content in sealed segments, immutable
//	<32 hex account id>.new, .gone	a volume under creation or destruction; removed at the next start
//
// A success is durable: content is on the disk before the one metadata
// transaction that names it, and the audit event rides in that transaction. An
// error never leaves a mixture of old and new.
package vfs
