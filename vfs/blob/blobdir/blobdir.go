// Package blobdir keeps blobs as files blobs/ab/<30 hex> under one directory, through os.Root.
package blobdir
