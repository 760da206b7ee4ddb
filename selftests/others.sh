# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# holdfast-test: guest sample=stock,debug timeout=240
# What is not a download by plain HTTP/1, on a protected port: unharmed and counted while its
# server lives, a clean reset when it dies (topology: lib/site.sh).
set -euo pipefail
. "$(dirname "$0")/lib/site.sh"
lib=$(dirname "$0")/lib

PORTS=(80 81 82 83 443)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=site \
	-keyout "$SITE/key" -out "$SITE/certificate" 2>/dev/null
NGINX_MORE="
	http2 on;
	listen 443 ssl;
	listen [::]:443 ssl;
	ssl_certificate $SITE/certificate;
	ssl_certificate_key $SITE/key;"

serve() {
	nginx_start "$1"
	in_ns "$1" python3 "$lib/others.py" serve 2>/dev/null &
}
listens() {
	prints LISTEN in_ns "$1" ss -Hltn sport = :83
}

site_up a b
# Nobody is to have all of a file while it looks as if it was in the middle.
in_ns client sysctl -qw net.ipv4.tcp_rmem="4096 65536 131072"
object index.html 100
object big 2000000
site_start
for name in a b; do until_true 20 listens "$name"; done
addresses=("$V4")
[[ $SIZE == small ]] || addresses+=("$V6")

echo "--- nobody dies"
for address in "${addresses[@]}"; do
	in_ns client python3 "$lib/others.py" ask "$address" "$SITE"
done
in_ns a holdfast status --socket "$SITE/a.sock" >"$SITE/status" || true
for reason in tls http2 upgrade out-of-step method; do
	grep -Eq "unprotected-$reason:? +[1-9]" "$SITE/status" || fail "not counted: $reason: $(<"$SITE/status")"
done

echo "--- the server dies"
address=${addresses[-1]}
in_ns client python3 "$lib/others.py" ask "$address" "$SITE" "$SITE/ready" "$SITE/go" "$SITE/b.log" &
matrix_crash a b $!
