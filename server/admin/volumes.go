package admin

import (
	"context"
	"fmt"

	"sallyport/policy/policydb"
	"sallyport/vfs"
)

// volumesOf are the accounts that a request means: one, or all.
func volumesOf(db *policydb.DB, account string) ([]*policydb.Account, error) {
	if account == "" {
		return db.Accounts()
	}
	a, err := db.Account(account)
	return []*policydb.Account{a}, err
}

func (s *Server) volumeStat(ctx context.Context, _ Peer, r VolumeRef) (VolumeStats, error) {
	accounts, err := volumesOf(s.o.Policy, r.Account)
	if err != nil {
		return VolumeStats{}, err
	}
	out := VolumeStats{Volumes: []VolumeStat{}}
	for _, a := range accounts {
		v, err := s.o.Volumes.Volume(ctx, a.ID)
		if err := ctx.Err(); err != nil {
			return VolumeStats{}, err
		}
		if err != nil { // the others are still shown
			out.Volumes = append(out.Volumes, VolumeStat{Account: a.Name, Error: err.Error()})
			continue
		}
		holds, err := s.o.Policy.Holds(a.ID)
		if err != nil {
			return VolumeStats{}, err
		}
		whole, err := v.Whole(ctx)
		if err != nil {
			return VolumeStats{}, err
		}
		st := v.Stats()
		out.Volumes = append(out.Volumes, VolumeStat{
			Account: a.Name, AwaitingShred: st.AwaitingShred, Held: len(holds) > 0, LiveBytes: st.LiveBytes, HistoryBytes: st.HistoryBytes, DoomedBytes: st.DoomedBytes,
			Files: st.Files, Dirs: st.Dirs, Versions: st.Versions, Blobs: st.Blobs, Damaged: st.Damaged,
			PastWhole: pastWhole(whole),
		})
	}
	return out, nil
}

func (s *Server) volumeVerify(ctx context.Context, _ Peer, r VolumeRef) (Check, error) {
	return VerifyVolumes(ctx, s.o.Policy, s.o.Volumes, r.Account)
}

func (s *Server) scrubStatus(context.Context, Peer, Empty) (ScrubStatus, error) {
	return s.o.Scrub(), nil
}

// maxFindings bounds a report; the rest is counted.
const maxFindings = 1000

// VerifyVolumes checks the volume of one account, or of all. A volume that does
// not open is a finding, not an error: the others are still checked.
func VerifyVolumes(ctx context.Context, db *policydb.DB, volumes *vfs.FS, account string) (Check, error) {
	accounts, err := volumesOf(db, account)
	if err != nil {
		return Check{}, err
	}
	out := Check{Checked: map[string]uint64{"accounts": uint64(len(accounts))}, Findings: []string{}}
	more := 0
	for _, a := range accounts {
		report := func(finding string) {
			if len(out.Findings) < maxFindings {
				out.Findings = append(out.Findings, a.Name+": "+finding)
			} else {
				more++
			}
		}
		v, err := volumes.Volume(ctx, a.ID)
		if err != nil {
			report("does not open: " + err.Error())
			continue
		}
		res, err := v.Verify(ctx, report)
		if err != nil {
			return Check{}, fmt.Errorf("verifying the volume of %s: %w", a.Name, err)
		}
		for kind, n := range map[string]uint64{"records": res.Records, "files": res.Files, "versions": res.Versions, "blobs": res.Blobs, "segments": res.Segments, "bytes": res.Bytes} {
			out.Checked[kind] += n
		}
	}
	if more > 0 {
		out.Findings = append(out.Findings, fmt.Sprintf("and %d more", more))
	}
	return out, ctx.Err()
}
