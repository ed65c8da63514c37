# What is known of a job on its host, for the scripts that come after this text. Must not: do anything by itself.
jobs=${XDG_STATE_HOME:-$HOME/.local/state}/houston/jobs
# How much room there is for jobs: kilobytes, and where.
room() {
  at=$jobs
  [ -d "$at" ] || at=${XDG_STATE_HOME:-$HOME}
  df -Pk "$at" 2>/dev/null | { read -r _; read -r _ _ _ free _ on; echo "${free:-?} KiB are free on ${on:-$at}"; }
}
# Reads the number of the process group. `whose` says what has that number now, as far as can be told: `ours`; `rebooted`,
# when the host was started since; `other`, when somebody else's process has got it since.
read_group() {
  read -r pid begun boot <"$job/pid"
  now=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
  is=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)
  whose=ours
  [ -n "$is" ] && [ "$begun" != - ] && [ "$is" != "$begun" ] && whose=other
  [ "$boot" != - ] && [ "${now:--}" != "$boot" ] && whose=rebooted
  :
}
# Whether a process of the group is there, of whichever user; what only waits to be reaped does not count.
there() {
  if list=$(ps -e -o pgid=,stat= 2>/dev/null) && [ -n "$list" ]; then
    printf '%s\n' "$list" | grep -q "^ *$pid  *[^Z]"
  else
    kill -0 "-$pid" 2>/dev/null
  fi
}
