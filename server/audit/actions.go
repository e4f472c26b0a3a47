package audit

import (
	"bytes"
	"fmt"
)

// Meaning says what an action is. docs/reference/audit.md is made from the table.
type Meaning struct {
	Action Action
	Text   string
}

// Meanings is the closed list.
func Meanings() []Meaning {
	return []Meaning{
		{Login, "somebody is in"},
		{LoginRefused, "somebody is not; `code` and `detail` say which rule and where it stands; without `code` the credential was wrong; `count` of like ones from an address"},
		{Logout, "a session ended by itself"},
		{ConnectRefused, "a connection was refused before login; `count` of like ones from an address within a minute"},
		{Ban, "an address or network is kept out, by failed logins or (`who`) an operator"},
		{Unban, "and no more"},
		{SessionKill, "a session was ended by an operator, a policy change or a limit"},
		{Upload, "a file was written; `result` is complete, partial or interrupted"},
		{Download, "a file was read"},
		{Mkdir, "a directory was made"},
		{Remove, "a file was removed"},
		{Rmdir, "a directory was removed"},
		{Rename, "`path` is now `to`"},
		{Symlink, "`path` points to `to`"},
		{SetAttr, "mode, times or size were set"},
		{Copy, "a file was copied on the server"},
		{Truncate, "a file was cut"},
		{Restore, "`path` is as it was at the time in `detail`; `op` if it was not there then and was removed. An operator's (`who`) ends with a record of all of it: `count` names"},
		{Refused, "a file operation (`op`) was refused; `code` and `detail` say which rule and where it stands; `count` of like ones"},
		{Damage, "stored data failed its integrity check"},
		{Repair, "a volume was repaired by an operator"},
		{Purge, "`count` replaced and deleted names and versions (`bytes`) were destroyed, because retention let them go or (`who`) an operator asked for it; one record for each transaction"},
		{Hold, "`path` may not be destroyed any more, `detail` says why; `version` is the number of the hold"},
		{Release, "a hold (`version` is its number) ended"},
		{Clock, "the system's clock is not believed any more (`result`: ahead, behind), or again (trusted), or its record is missing, older than the state, cannot be read, or can again, or an operator (`who`) says that it is right (confirmed) or that dates are ages where its record was lost (forgotten), which did not come true (failed) or is not known to have (uncertain); `detail` says by how much it differs from the server's own time"},
		{Ransom, "a session overwrote and deleted more than `ransom.limit`: `count` files; `result` says whether it was suspended"},
		{AccountAdd, "an account was made"},
		{AccountRemove, "an account was removed"},
		{AccountEnable, "an account may log in again"},
		{AccountDisable, "an account may not log in any more"},
		{AccountSet, "settings of an account were changed"},
		{Password, "a password was set, by an operator (`who`) or its owner"},
		{KeyAdd, "a public key was added"},
		{KeyRemove, "a public key was removed"},
		{SecondFactor, "a second factor was enabled or reset, or a recovery code was used"},
		{AccountUnlock, "failed logins were forgotten"},
		{AccountDestroy, "key and files of an account were destroyed with a new root; `version` of the key"},
		{AccountRekey, "an account has a new key; `version` is its version"},
		{RootRotate, "there is a new root key; `version` is its epoch"},
		{Shred, "what was purged cannot be decrypted any more; `version` is the root's epoch"},
		{RootDestroy, "an old root was destroyed at a seal that can do that: the root of epoch `version`, or what the seal in `detail` had wrapped before another took its place. Written before it is forgotten, so that a crash leaves two records of one root rather than none; or an operator (`who`) gave it up (`result`)"},
		{TrustChange, "an authority or a revocation came or went"},
		{PolicyApply, "a revision of the policy (`revision`) is in force; `who` made it, `detail` says what and why"},
		{PolicyConfirm, "a revision that would have been rolled back stays"},
		{ServerStart, "the server started"},
		{ServerStop, "the server stopped"},
		{Unseal, "the server was given its key"},
		{SealNow, "an operator sealed the server"},
		{UnsealRefused, "an attempt to unseal failed; noted while sealed, recorded at the next unsealing"},
		{UnsealShare, "one share was given; noted in the same way"},
		{SealChange, "the kind or the key of the seal was changed"},
		{KitExport, "a recovery kit was made"},
		{KitRevoke, "recovery kits were revoked"},
		{CertRotate, "TLS certificates were replaced"},
		{HostRotate, "SSH host keys were replaced"},
		{Expire, "`count` old records are removed, by `audit.keep`"},
		{Lost, "`count` records could not be written; only with `audit.on_failure: continue`"},
		{Export, "somebody took a copy of the log that can be read"},
		{StateCopy, "a copy of the whole state, sealed as it is, was `begun`, is `complete`, is in force but `incomplete` because accounts are damaged, or was `interrupted` (`result`); `bytes` went out, `count` accounts, `detail` says which copy and where"},
		{StateRestore, "this state was restored from a copy; `detail` says which"},
		{StateDrill, "the restore of a copy was tried; `result` is good or findings (`count`), `detail` says of which copy, and how much of it was read"},
	}
}

// Actions are those of the list.
func Actions() []Action {
	var list []Action
	for _, m := range Meanings() {
		list = append(list, m.Action)
	}
	return list
}

// Reference is docs/reference/audit.md.
func Reference() []byte {
	var b bytes.Buffer
	b.WriteString("# Actions of the audit log\n\nMade from `server/audit/actions.go`; a test compares them. The list is closed: a reader may rely on it. `sallyport audit search --action NAME` finds them.\n\n")
	b.WriteString("Every record has a number and `time`, and where they apply `account` (an id, never a name), `session`, `who` (the operator), `remote`, `protocol`, `client`, `method`, `path`, `to`, `op`, `bytes`, `version`, `revision`, `count`, `result`, `code` ([refusals.md](refusals.md)) and `detail`.\n\n")
	b.WriteString("| action | what happened |\n|---|---|\n")
	for _, m := range Meanings() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", m.Action, m.Text)
	}
	return b.Bytes()
}
