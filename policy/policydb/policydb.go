// Package policydb keeps policy revisions, the account table (name <-> id) and credentials in bbolt; every value is a sealed record and every
// key a token, so that a copied disk shows neither names nor networks.
package policydb
