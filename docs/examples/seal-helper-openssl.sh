#!/bin/sh
# A seal helper in the fewest lines: an RSA key in a file, used by openssl. It
# shows the protocol (docs/SEAL-HELPER.md); as a key file it is no better than
# the seal of kind "keyfile".
#
#   openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out /etc/sallyport/helper.pem
#   seal.helper.command: ["/usr/local/lib/sallyport/seal-helper-openssl.sh", "/etc/sallyport/helper.pem"]
set -u
key=$1
oaep="-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256"

answer() { printf '{"protocol":1%s}\n' "$1"; exit 0; }
fail() { answer ",\"error\":{\"code\":\"$1\",\"message\":\"$2\"}"; }

# The request is one line that the server wrote; its members have no blanks and no escapes.
read -r request
op=$(printf %s "$request" | sed -n 's/.*"op":"\([a-z]*\)".*/\1/p')
data=$(printf %s "$request" | sed -n 's/.*"data":"\([A-Za-z0-9+\/=]*\)".*/\1/p')
case $request in *'"protocol":1,'*) ;; *) fail failed "unknown protocol" ;; esac

[ -r "$key" ] || fail unavailable "the key file cannot be read"
case $(stat -L -c %a "$key") in *[1-7] | *[2367]?) fail denied "the key file lets others at it: run chmod 600 on it" ;; esac
case $op in
info) answer ",\"label\":\"RSA key $key\"" ;;
wrap)
	# shellcheck disable=SC2086
	out=$(printf %s "$data" | openssl base64 -d -A | openssl pkeyutl -encrypt -inkey "$key" $oaep | openssl base64 -A) && [ -n "$out" ] || fail failed "openssl could not encrypt"
	answer ",\"data\":\"$out\"" ;;
unwrap)
	# shellcheck disable=SC2086
	out=$(printf %s "$data" | openssl base64 -d -A | openssl pkeyutl -decrypt -inkey "$key" $oaep 2>/dev/null | openssl base64 -A) && [ -n "$out" ] || fail wrong-key "this key does not decrypt it"
	answer ",\"data\":\"$out\"" ;;
*) fail failed "unknown operation" ;;
esac
