#!/usr/bin/env bash
# Makes four small images without a registry, for tests of deployments:
#   app:v1, app:v2   healthy; serve {"version":"v1",…} on 8080, /health answers 200
#   app:v3           exits at once, having said why on stderr
#   app:v4           serves, but /health answers 404: its health check fails
#
#   images.sh SOCKET
set -euo pipefail
socket=${1:?usage: images.sh SOCKET}
client() { docker -H "unix://$socket" "$@"; }
busybox=$(command -v busybox) || { echo "images.sh: busybox is not installed; run \`docker.sh install\`" >&2; exit 77; }
if ldd "$busybox" >/dev/null 2>&1; then echo "images.sh: \`$busybox\` is no static program; run \`docker.sh install\`" >&2; exit 77; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,tmp,etc}
cp "$busybox" "$root/bin/busybox"
for applet in sh httpd wget cat echo sleep hostname mkdir true false; do ln -s busybox "$root/bin/$applet"; done
echo 'root:x:0:0::/:/bin/sh' >"$root/etc/passwd"
cat >"$root/bin/serve" <<'SERVE'
#!/bin/sh
# $1: the version to serve.
mkdir -p /tmp/www
echo "{\"version\":\"$1\",\"host\":\"$(hostname)\"}" >/tmp/www/index.html
[ "$1" = v4 ] || echo ok >/tmp/www/health
echo "serving $1 on 8080"
trap 'exit 0' TERM
httpd -f -p 8080 -h /tmp/www &
wait $!
SERVE
chmod +x "$root/bin/serve"
tar -C "$root" -cf "$work/root.tar" .

check='HEALTHCHECK --interval=1s --timeout=10s --start-period=1s --retries=2 CMD wget -q -O /dev/null http://127.0.0.1:8080/health'
for version in v1 v2 v4; do
  client import -c "$check" -c 'EXPOSE 8080' -c "LABEL org.opencontainers.image.version=$version" \
    -c "CMD [\"/bin/serve\",\"$version\"]" "$work/root.tar" "app:$version" >/dev/null
done
client import -c 'LABEL org.opencontainers.image.version=v3' \
  -c 'CMD ["/bin/sh","-c","echo fatal: configuration is missing >&2; exit 1"]' "$work/root.tar" app:v3 >/dev/null
