#!/usr/bin/env bash
# An sshd of our own on a loopback port, key login only, for tests.
#
#   sshd.sh install   installs Debian's package (the only form that installs anything)
#   sshd.sh start     starts it on a free port, unless it runs already; prints its folder
#   sshd.sh stop      stops the sshd that `start` started, and nothing else
#
# The folder, $HOUSTON_PARTS_DIR/sshd (default /var/tmp/houston-parts/sshd), holds `port`, `id` and
# `id.pub` (the only key that may log in), `known_hosts`, `log`.
# Exit 77: the package is missing.
set -euo pipefail
base=${HOUSTON_PARTS_DIR:-/var/tmp/houston-parts}/sshd
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd || true)
running() { [ -s "$base/pid" ] && [ "$(cat "/proc/$(cat "$base/pid")/comm" 2>/dev/null)" = sshd ]; }

case ${1:-} in
install)
  [ -n "$sshd" ] && command -v ssh >/dev/null && exit 0
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 openssh-server openssh-client >/dev/null
  ;;
start)
  [ -n "$sshd" ] && command -v ssh >/dev/null || { echo "sshd.sh: sshd is not installed; run \`sshd.sh install\`" >&2; exit 77; }
  if running; then echo "$base"; exit 0; fi
  # A home of its own: what the account's login scripts do is slow, and what they say would be taken for output.
  mkdir -p "$base/home"; chmod 700 "$base"
  [ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd
  [ -s "$base/host" ] || ssh-keygen -q -t ed25519 -N '' -f "$base/host"
  [ -s "$base/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$base/id"
  cp "$base/id.pub" "$base/authorized_keys"; chmod 600 "$base/authorized_keys"
  for _ in $(seq 20); do
    # sshd cannot be given port 0: try until one is free.
    port=$((20000 + RANDOM % 12000))
    rm -f "$base/pid"
    # MaxStartups: every test connects, and all at once.
    "$sshd" -f /dev/null -h "$base/host" -E "$base/log" -o "ListenAddress=127.0.0.1:$port" \
      -o "PidFile=$base/pid" -o "AuthorizedKeysFile=$base/authorized_keys" -o PasswordAuthentication=no \
      -o KbdInteractiveAuthentication=no -o PermitRootLogin=prohibit-password -o UsePAM=no \
      -o StrictModes=no -o AllowStreamLocalForwarding=yes -o MaxStartups=100 -o "SetEnv=XDG_STATE_HOME=$base/state HOME=$base/home" || continue
    for _ in $(seq 50); do running && break; sleep .1; done
    if running; then
      echo "$port" >"$base/port"
      echo "[127.0.0.1]:$port,[localhost]:$port $(cut -d' ' -f1,2 "$base/host.pub")" >"$base/known_hosts"
      echo "$base"
      exit 0
    fi
  done
  echo "sshd.sh: sshd did not start" >&2
  tail -n 5 "$base/log" >&2
  exit 1
  ;;
stop)
  if running; then kill "$(cat "$base/pid")"; fi
  ;;
*)
  sed -n '2,12p' "$0" | sed 's/^# \{0,1\}//' >&2
  exit 64
  ;;
esac
