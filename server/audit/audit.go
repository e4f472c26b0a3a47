// Package audit is the durable, hash-chained log of what happened: sealed records, one chain, append only (docs/FORMAT.md "Audit").
package audit
