#!/usr/bin/env bash
# A Chromium and playwright-core, for the test of the demo's page.
#
#   browser.sh install   Debian's chromium and nodejs, playwright-core from npm (the only form that installs)
#   browser.sh start     prints the browser's path; playwright-core is in $HOUSTON_TEST_PLAYWRIGHT, default
#                        /var/tmp/houston-parts/playwright
#   browser.sh stop      nothing: the test stops its browser itself
#
# Exit 77: a package is missing.
set -euo pipefail
base=${HOUSTON_TEST_PLAYWRIGHT:-/var/tmp/houston-parts/playwright}

case ${1:-} in
install)
  # Only what is missing: a node from elsewhere refuses Debian's npm beside it.
  missing=()
  command -v chromium >/dev/null || missing+=(chromium)
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
  if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      -o DPkg::Lock::Timeout=300 "${missing[@]}" >/dev/null
  fi
  [ -d "$base/node_modules/playwright-core" ] && exit 0
  mkdir -p "$base"
  npm install --silent --no-audit --no-fund --prefix "$base" playwright-core@1 >/dev/null
  ;;
start)
  command -v node >/dev/null || { echo "browser.sh: node is not installed; run \`browser.sh install\`" >&2; exit 77; }
  [ -d "$base/node_modules/playwright-core" ] || { echo "browser.sh: playwright-core is not in $base; run \`browser.sh install\`" >&2; exit 77; }
  command -v chromium || { echo "browser.sh: chromium is not installed; run \`browser.sh install\`" >&2; exit 77; }
  ;;
stop) ;;
*) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 64 ;;
esac
