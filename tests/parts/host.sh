#!/usr/bin/env bash
# A machine of its own, as far as a network namespace is one: sshd and a Docker engine with a Swarm of one node behind
# a wire that can be cut, and a small disk for what commands leave there. For tests that break it.
#
#   host.sh install             installs Debian's packages (the only form that installs anything)
#   host.sh start               starts what does not run yet, loads the images of images.sh; prints its folder
#   host.sh kill ssh|docker     ends sshd with all of its connections, or the engine with its tasks
#   host.sh revive ssh|docker   starts it again on what is left on its disk
#   host.sh cut                 takes the wire away
#   host.sh drop                half-open: packets are lost in both directions, and nobody is told
#   host.sh mend                connects it again
#   host.sh fill                fills the small disk
#   host.sh room                makes room there again
#   host.sh stop                stops what `start` started, and nothing else
#
# The folder, $HOUSTON_PARTS_DIR/host (default /var/tmp/houston-parts/host), holds `address` (sshd listens on port
# 22), `id` (the only key that may log in), `known_hosts`, `docker/docker.sock`, `state` (the small disk).
# The wire ends on this machine, and is connected to nothing else.
# Exit 77: not root, or the packages are missing.
set -euo pipefail
base=${HOUSTON_PARTS_DIR:-/var/tmp/houston-parts}/host
here=$(cd "$(dirname "$0")" && pwd)
number=$(printf %s "$base" | cksum | cut -d' ' -f1)
# Names and addresses are the machine's: several copies of this part may run side by side.
tag=h$number net=10.79.$((number % 250))
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd || true)
. "$here/lib/engine.sh"

inside() { nsenter --net="/run/netns/$tag" "$@"; }
ssh_runs() { [ -s "$base/pid" ] && [ "$(cat "/proc/$(cat "$base/pid")/comm" 2>/dev/null)" = sshd ]; }

up_ssh() {
  ssh_runs && return 0
  rm -f "$base/pid"
  inside "$sshd" -f /dev/null -h "$base/key" -E "$base/log" -o "ListenAddress=$net.2:22" \
    -o "PidFile=$base/pid" -o "AuthorizedKeysFile=$base/authorized_keys" -o PasswordAuthentication=no \
    -o KbdInteractiveAuthentication=no -o PermitRootLogin=prohibit-password -o UsePAM=no -o StrictModes=no \
    -o AllowStreamLocalForwarding=yes -o "SetEnv=XDG_STATE_HOME=$base/state HOME=$base/home"
  for _ in $(seq 50); do ssh_runs && return 0; sleep .1; done
  tail -n 5 "$base/log" >&2
  return 1
}

# The listener and what it has started for each connection; not what a connection has left to the host.
kill_ssh() {
  local listener pid session
  listener=$(cat "$base/pid")
  for session in $(pgrep -P "$listener" || true); do
    for pid in $(pgrep -P "$session" -x sshd || true); do kill -KILL "$pid" 2>/dev/null || true; done
    kill -KILL "$session" 2>/dev/null || true
  done
  kill -KILL "$listener"
  rm -f "$base/pid"
}

up_docker() { engine_runs "$base/docker" || engine_up "$base/docker" "$tag" "$tag"; }

case ${1:-} in
install)
  "$here/docker.sh" install
  "$here/sshd.sh" install
  command -v ip >/dev/null && command -v nsenter >/dev/null && command -v iptables >/dev/null && exit 0
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
    iproute2 util-linux iptables >/dev/null
  ;;
start)
  [ "$(id -u)" = 0 ] || { echo "host.sh: making network namespaces takes root" >&2; exit 77; }
  for program in dockerd docker ip nsenter iptables ssh-keygen pgrep; do
    command -v $program >/dev/null || { echo "host.sh: $program is not installed; run \`host.sh install\`" >&2; exit 77; }
  done
  [ -n "$sshd" ] || { echo "host.sh: sshd is not installed; run \`host.sh install\`" >&2; exit 77; }
  mkdir -p "$base/home" "$base/state" /run/sshd
  chmod 700 "$base"
  echo "$tag" >"$base/started"
  if ! [ -e "/run/netns/$tag" ]; then
    ip netns add "$tag"
    ip link add "$tag" type veth peer name eth0 netns "$tag"
    ip addr add "$net.1/30" dev "$tag"
    ip link set "$tag" up
    ip -n "$tag" addr add "$net.2/30" dev eth0
    ip -n "$tag" link set eth0 up
    ip -n "$tag" link set lo up
  fi
  mountpoint -q "$base/state" || mount -t tmpfs -o size=1m,mode=700 tmpfs "$base/state"
  [ -s "$base/key" ] || ssh-keygen -q -t ed25519 -N '' -f "$base/key"
  [ -s "$base/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$base/id"
  cp "$base/id.pub" "$base/authorized_keys"; chmod 600 "$base/authorized_keys"
  echo "$net.2" >"$base/address"
  echo "$net.2 $(cut -d' ' -f1,2 "$base/key.pub")" >"$base/known_hosts"
  up_ssh
  up_docker
  socket=$base/docker/docker.sock
  if [ "$(docker -H "unix://$socket" info --format '{{.Swarm.LocalNodeState}}')" != active ]; then
    docker -H "unix://$socket" swarm init --advertise-addr "$net.2" >/dev/null
  fi
  docker -H "unix://$socket" image inspect app:v4 >/dev/null 2>&1 || "$here/images.sh" "$socket" >&2
  echo "$base"
  ;;
kill)
  case ${2:-} in
  ssh) kill_ssh ;;
  docker) engine_kill "$base/docker" "$tag" ;;
  *) echo "usage: host.sh kill ssh|docker" >&2; exit 64 ;;
  esac
  ;;
revive)
  case ${2:-} in
  ssh) up_ssh ;;
  docker) up_docker ;;
  *) echo "usage: host.sh revive ssh|docker" >&2; exit 64 ;;
  esac
  ;;
cut) ip -n "$tag" link set eth0 down ;;
drop)
  inside iptables -I INPUT -i eth0 -j DROP
  inside iptables -I OUTPUT -o eth0 -j DROP
  ;;
mend)
  ip -n "$tag" link set eth0 up
  while inside iptables -D INPUT -i eth0 -j DROP 2>/dev/null; do :; done
  while inside iptables -D OUTPUT -o eth0 -j DROP 2>/dev/null; do :; done
  ;;
fill) dd if=/dev/zero of="$base/state/filler" bs=4k 2>/dev/null || true ;;
room) rm -f "$base/state/filler" ;;
stop)
  [ -s "$base/started" ] || exit 0
  if ssh_runs; then kill_ssh; fi
  if engine_runs "$base/docker"; then kill -KILL "$(cat "$base/docker/pid")"; fi
  engine_sweep "$base/docker" "$tag"
  sleep 1
  awk -v base="$base/" 'index($2, base) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r umount -l
  ip netns del "$tag" 2>/dev/null || true
  ip link del "$tag" 2>/dev/null || true
  rm -rf "$base"
  ;;
*) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 64 ;;
esac
