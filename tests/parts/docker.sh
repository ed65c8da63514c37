#!/usr/bin/env bash
# A Docker engine of our own with a Swarm of one node, for tests.
#
#   docker.sh install   installs Debian's packages (the only form that installs anything)
#   docker.sh start     starts dockerd on its own socket and data folder, unless one answers there
#                       already; makes it a Swarm manager on loopback; prints the socket's path
#   docker.sh stop      stops the dockerd that `start` started, and nothing else
#
# HOUSTON_PARTS_DIR (default /var/tmp/houston-parts) holds socket, data and log.
# Exit 77: the packages are missing.
set -euo pipefail
base=${HOUSTON_PARTS_DIR:-/var/tmp/houston-parts}/docker
socket=$base/docker.sock
client() { docker -H "unix://$socket" "$@"; }

case ${1:-} in
install)
  # A busybox that needs libraries would find none in an image that holds nothing else.
  command -v dockerd >/dev/null && command -v docker >/dev/null && busybox=$(command -v busybox) &&
    ! ldd "$busybox" >/dev/null 2>&1 && exit 0
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 docker.io busybox-static >/dev/null
  ;;
start)
  command -v dockerd >/dev/null && command -v docker >/dev/null || { echo "docker.sh: dockerd is not installed; run \`docker.sh install\`" >&2; exit 77; }
  mkdir -p "$base"
  if ! client info >/dev/null 2>&1; then
    # Images are made locally. Swarm has every task try a pull all the same; a proxy that refuses at once
    # makes that fail in no time, where a default route without a way out costs ten seconds a task.
    env -u NO_PROXY -u no_proxy HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 \
      setsid nohup dockerd -H "unix://$socket" --data-root "$base/data" --exec-root "$base/run" \
      --pidfile "$base/dockerd.pid" >"$base/log" 2>&1 </dev/null &
    echo $! >"$base/started"
    for _ in $(seq 150); do client info >/dev/null 2>&1 && break; sleep .2; done
    client info >/dev/null 2>&1 || { tail -n 20 "$base/log" >&2; exit 1; }
  fi
  if [ "$(client info --format '{{.Swarm.LocalNodeState}}')" != active ]; then
    # Left over from a dockerd that was killed in the middle: begin anew.
    client swarm leave --force >/dev/null 2>&1 || true
    # Another Swarm of this machine may have the usual port.
    port=2377
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    client swarm init --advertise-addr "127.0.0.1:$port" --listen-addr "127.0.0.1:$port" >/dev/null
  fi
  echo "$socket"
  ;;
stop)
  [ -s "$base/started" ] || exit 0
  pid=$(cat "$base/started")
  rm -f "$base/started"
  # The id may belong to somebody else by now.
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || exit 0
  kill "$pid"
  for _ in $(seq 100); do [ -d "/proc/$pid" ] || break; sleep .2; done
  if [ -d "/proc/$pid" ]; then kill -KILL "$pid"; fi
  # What it leaves mounted (the name of a network namespace) could not be removed with the folder.
  awk -v base="$base/" 'index($2, base) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r umount -l
  ;;
*)
  sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//' >&2
  exit 64
  ;;
esac
