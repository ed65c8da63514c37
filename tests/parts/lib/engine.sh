# An engine in a network namespace, for the scripts that source this. Must not: do anything by itself.
# An engine is its folder: socket, data, log, number of the process.

# engine_up FOLDER SPACE CGROUP: starts it, and waits until it answers.
# `nsenter`, not `ip netns exec`: that mounts /sys anew, and hides the control groups.
engine_up() {
  local folder=$1 space=$2 cgroup=$3
  mkdir -p "$folder"
  # No default route: Swarm has every task try a pull, which fails at once so.
  setsid nohup nsenter --net="/run/netns/$space" dockerd --data-root "$folder/data" \
    --exec-root "$folder/run" --pidfile "$folder/pid" -H "unix://$folder/docker.sock" \
    --cgroup-parent "/$cgroup" --userland-proxy=false >>"$folder/log" 2>&1 </dev/null &
  for _ in $(seq 150); do docker -H "unix://$folder/docker.sock" info >/dev/null 2>&1 && return 0; sleep .2; done
  tail -n 10 "$folder/log" >&2
  return 1
}

engine_runs() { [ -s "$1/pid" ] && [ "$(cat "/proc/$(cat "$1/pid")/comm" 2>/dev/null)" = dockerd ]; }

# What a killed engine leaves: its containerd, the shims of its tasks, and the tasks. Known by the folder in their
# command lines, or by their control group.
engine_sweep() {
  local folder=$1 cgroup=$2 file pid
  for file in /proc/[0-9]*/cmdline; do
    pid=${file#/proc/}; pid=${pid%/cmdline}
    if { tr '\0' ' ' <"$file"; } 2>/dev/null | grep -qF -- "$folder/"; then
      [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null || true
    fi
  done
  for file in /sys/fs/cgroup/"$cgroup"/*/cgroup.procs /sys/fs/cgroup/*/"$cgroup"/*/cgroup.procs; do
    [ -e "$file" ] || continue
    while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$file"
  done
}

# engine_kill FOLDER CGROUP: as a loss of power does.
engine_kill() {
  kill -KILL "$(cat "$1/pid")"
  # Its number may be somebody else's by now, whom the next one would take for it.
  rm -f "$1/pid" "$1/run/containerd/containerd.pid"
  engine_sweep "$1" "$2"
}
