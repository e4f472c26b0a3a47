package statecopy

import (
	"bytes"
	"context"
	"io"

	"sallyport/vfs/blob"
)

// liar gives something else than it announced.
type liar struct {
	*fake
	swap, twice, less, after, longer, cut bool
	name                                  string
}

func (l *liar) Blobs(ctx context.Context, account AccountID, ids []blob.ID, fn func(blob.ID, int64, io.Reader) error) error {
	return l.fake.Blobs(ctx, account, ids, func(id blob.ID, size int64, r io.Reader) error {
		switch {
		case l.swap:
			id[5]++
		case l.twice:
			if err := fn(id, size, bytes.NewReader(l.accounts[account].blobs[id])); err != nil {
				return err
			}
		case l.less && id == ids[len(ids)-1]:
			return nil
		}
		return fn(id, size, r)
	})
}

func (l *liar) File(ctx context.Context, name string, fn func(int64, io.Reader) error) error {
	if name == ManifestName {
		switch {
		case l.cut:
			l.text = l.text[:bytes.LastIndex(l.text, []byte("signature"))]
		case l.after:
			l.small[PolicyFile] = []byte("policy"[:3] + "ICY")
		case l.name != "":
			l.text = bytes.Replace(l.text, []byte(" seal.json\n"), []byte(" "+l.name+"\n"), 1)
		}
		return l.fake.File(ctx, name, fn)
	}
	return l.fake.File(ctx, name, func(size int64, r io.Reader) error {
		if l.longer {
			r = io.MultiReader(r, bytes.NewReader([]byte("more")))
		}
		return fn(size, r)
	})
}
