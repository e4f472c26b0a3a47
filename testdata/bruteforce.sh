#!/bin/bash
# bruteforce.sh BINARY [SECONDS]: how many guesses of a password get looked at, from one address (hydra, FTPS and SSH) and from
# fifty addresses of fifty networks (curl), and how long the owner's login takes meanwhile. Needs hydra and curl.
# docs/PERFORMANCE.md has what came of it. A guess was looked at if the audit log has it refused without a code.
set -euo pipefail
bin=$(realpath "$1") seconds=${2:-60}
dir=$(mktemp -d); cd "$dir"
trap 'kill $server 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT
"$bin" init --quiet --root host --sftp 127.0.0.1:0 --ftps 127.0.0.1:0 --ftps-implicit 127.0.0.1:0 --no-systemd > /dev/null 2>&1
export SALLYPORT_CONFIG=$dir/host/etc/sallyport/sallyport.yaml SALLYPORT_PASSIVE__PORTS= NO_COLOR=1
"$bin" serve > log 2>&1 & server=$!
until "$bin" status > status 2>/dev/null && grep -q ready status; do sleep 0.2; done
port() { "$bin" status -o json | tr -d ' \n' | grep -o "\"protocol\":\"$1\",\"address\":\"[^\"]*" | grep -o '[0-9]*$'; }
sftp=$(port sftp) explicit=$(port ftps-explicit) implicit=$(port ftps-implicit) ca=host/var/lib/sallyport/tls/server.crt
echo kestrel-tulip-93 | "$bin" account add victim --protocols sftp,ftps --password-stdin --paths /:all > /dev/null 2>&1
"$bin" policy set 'site.auth.sftp=[publickey, password]' > /dev/null
seq -f 'guess-%g' 1 100000 > words
own() { curl -sS -o /dev/null -w '%{time_total}\n' --interface 127.9.9.9 --cacert $ca -u victim:kestrel-tulip-93 ftps://127.0.0.1:$implicit/ 2>&1 || true; }
own > /dev/null
seen() { "$bin" audit tail -n 1000000 -o json | tr -d ' \n' | sed 's/},{/}\n{/g' | grep '"action":"login-refused"' | grep -vc '"code"' || true; }
measure() { # NAME COMMAND...
	local name=$1 before after; shift
	before=$(seen)
	"$@" > attack.log 2>&1 & local attack=$!
	: > times; end=$((SECONDS + seconds))
	while [ $SECONDS -lt $end ]; do own >> times; sleep 2; done
	kill $attack 2>/dev/null; pkill -P $attack 2>/dev/null || true; wait $attack 2>/dev/null || true
	after=$(seen)
	[ -z "${DEBUG:-}" ] || head -c 800 attack.log >&2
	echo "$name: $((after - before)) guesses looked at in $seconds s; the owner's logins: $(grep -c '^[0-9.]*$' times) good of $(wc -l < times), median $(sort -n times | sed -n "$((($(wc -l < times) + 1) / 2))p") s"
}
unban() { "$bin" ban list -o json | tr -d ' \n' | grep -o '"address":"[^"]*' | cut -d'"' -f4 | while read -r a; do "$bin" ban remove "$a" > /dev/null 2>&1; done; }
fifty() { for n in $(seq 1 100000); do for k in $(seq 1 50); do
	curl -sS -m 20 -o /dev/null --interface 127.0.$k.1 --cacert $ca -u victim:guess-$n-$k ftps://127.0.0.1:$implicit/ & done; wait; done; }
measure 'hydra, FTPS, one address' hydra -I -q -l victim -P words -t 16 -s $explicit ftps://127.0.0.1
unban || true
measure 'hydra, SSH, one address' hydra -I -q -l victim -P words -t 16 -s $sftp ssh://127.0.0.1
measure 'curl, FTPS, fifty addresses of fifty networks' fifty
"$bin" ban list
