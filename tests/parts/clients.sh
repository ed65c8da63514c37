#!/usr/bin/env bash
# Rocket.Chat clients that nobody here wrote, for the test that they are at home in the sandbox.
#
#   clients.sh install   nodejs and python3 from Debian; from npm ddp-client, api-client and what they call,
#                        from PyPI rocketchat-async and rocketchat_API
#   clients.sh start     prints the folder that holds them: $HOUSTON_CLIENTS_DIR, default
#                        /var/tmp/houston-parts/clients
#   clients.sh stop      nothing: the tests stop their clients themselves
#
# Exit 77: a client is missing.
set -euo pipefail
base=${HOUSTON_CLIENTS_DIR:-/var/tmp/houston-parts/clients}
marker=$base/installed-1

case ${1:-} in
install)
  [ -e "$marker" ] && exit 0
  missing=()
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
  if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      -o DPkg::Lock::Timeout=300 "${missing[@]}" >/dev/null
  fi
  mkdir -p "$base"
  cd "$base"
  npm install --silent --no-audit --no-fund --prefix "$base" ws@8 query-string@7 >/dev/null
  # A plain install asks for packages of types that are not to be had; the code runs without them.
  for package in ddp-client@1.1.2 api-client@0.2.57 emitter@0.33.0; do
    folder=node_modules/@rocket.chat/${package%@*}
    rm -rf "$folder"
    mkdir -p "$folder"
    archive=$(npm pack --silent "@rocket.chat/$package")
    tar -xzf "$archive" -C "$folder" --strip-components=1
    rm "$archive"
  done
  python3 -m venv python
  python/bin/pip install --quiet rocketchat-async==4.3.0 rocketchat_API==3.7.1
  touch "$marker"
  ;;
start)
  [ -e "$marker" ] || { echo "clients.sh: the clients are not in $base; run \`clients.sh install\`" >&2; exit 77; }
  echo "$base"
  ;;
stop) ;;
*) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 64 ;;
esac
