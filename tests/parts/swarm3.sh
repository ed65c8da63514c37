#!/usr/bin/env bash
# Three Docker engines, each in a network namespace of its own, as the three managers of one Swarm, for tests.
#
#   swarm3.sh install   installs Debian's packages (the only form that installs anything)
#   swarm3.sh start     starts what does not run yet, makes it a Swarm, loads the images of images.sh into each;
#                       prints its folder: N/docker.sock is the engine of manager N (1 to 3)
#   swarm3.sh kill N    ends manager N and its tasks as a loss of power does
#   swarm3.sh revive N  starts it again on what is left on its disk
#   swarm3.sh cut N     takes manager N off the network: it goes on, and nobody reaches it but over its socket
#   swarm3.sh mend N    connects it again
#   swarm3.sh stop      stops what `start` started, and nothing else
#
# HOUSTON_PARTS_DIR (default /var/tmp/houston-parts) holds everything, below `swarm3`.
# The engines are reached over their sockets alone: nothing of their network is connected to that of the machine.
# Exit 77: not root, or the packages are missing.
set -euo pipefail
base=${HOUSTON_PARTS_DIR:-/var/tmp/houston-parts}/swarm3
here=$(cd "$(dirname "$0")" && pwd)
# Names of namespaces are the machine's: several copies of this part may run side by side.
tag=h$(printf %s "$base" | cksum | cut -d' ' -f1)
socket() { echo "$base/$1/docker.sock"; }
client() { local n=$1; shift; docker -H "unix://$(socket "$n")" "$@"; }
space() { echo "$tag-$1"; }
. "$here/lib/engine.sh"
runs() { engine_runs "$base/$1"; }
up() { engine_up "$base/$1" "$(space "$1")" "$tag-$1"; }

case ${1:-} in
install)
  "$here/docker.sh" install
  command -v ip >/dev/null && command -v nsenter >/dev/null && exit 0
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
    iproute2 util-linux >/dev/null
  ;;
start)
  [ "$(id -u)" = 0 ] || { echo "swarm3.sh: making network namespaces takes root" >&2; exit 77; }
  for program in dockerd docker ip nsenter; do
    command -v $program >/dev/null || { echo "swarm3.sh: $program is not installed; run \`swarm3.sh install\`" >&2; exit 77; }
  done
  mkdir -p "$base"
  echo "$tag" >"$base/started"
  # The bridge has a namespace of its own: where Docker filters what is forwarded, it would drop the frames.
  if ! [ -e "/run/netns/$tag" ]; then
    ip netns add "$tag"
    ip -n "$tag" link add br0 type bridge
    ip -n "$tag" link set br0 up
  fi
  for n in 1 2 3; do
    if ! [ -e "/run/netns/$(space $n)" ]; then
      ip netns add "$(space $n)"
      ip -n "$tag" link add "v$n" type veth peer name eth0 netns "$(space $n)"
      ip -n "$tag" link set "v$n" master br0 up
      ip -n "$(space $n)" addr add "10.77.0.1$n/24" dev eth0
      ip -n "$(space $n)" link set eth0 up
      ip -n "$(space $n)" link set lo up
    fi
    if ! runs $n; then up $n; fi
  done
  if [ "$(client 1 info --format '{{.Swarm.LocalNodeState}}')" != active ]; then
    client 1 swarm init --advertise-addr 10.77.0.11 >/dev/null
    token=$(client 1 swarm join-token --quiet manager)
    for n in 2 3; do client $n swarm join --advertise-addr "10.77.0.1$n" --token "$token" 10.77.0.11:2377 >/dev/null; done
  fi
  for n in 1 2 3; do
    client $n image inspect app:v4 >/dev/null 2>&1 || "$here/images.sh" "$(socket $n)" >&2
  done
  echo "$base"
  ;;
kill)
  n=${2:?usage: swarm3.sh kill N}
  engine_kill "$base/$n" "$tag-$n"
  ;;
revive)
  n=${2:?usage: swarm3.sh revive N}
  if ! runs "$n"; then up "$n"; fi
  ;;
cut) ip -n "$tag" link set "v${2:?usage: swarm3.sh cut N}" down ;;
mend) ip -n "$tag" link set "v${2:?usage: swarm3.sh mend N}" up ;;
stop)
  [ -s "$base/started" ] || exit 0
  tag=$(cat "$base/started")
  for n in 1 2 3; do
    if runs $n; then kill -KILL "$(cat "$base/$n/pid")"; fi
    engine_sweep "$base/$n" "$tag-$n"
  done
  sleep 1
  awk -v base="$base/" 'index($2, base) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r umount -l
  for n in 1 2 3; do ip netns del "$(space $n)" 2>/dev/null || true; done
  ip netns del "$tag" 2>/dev/null || true
  rm -rf "$base"
  ;;
*) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 64 ;;
esac
