// Package blobtest is the conformance suite of blob.Store and a fault injector around one.
package blobtest
