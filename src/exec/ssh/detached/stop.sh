# Stops a job: TERM to its group, a grace period, KILL; ends with 0 when nothing of it is left.
# $1 name · $2 grace in tenths of a second
job=${XDG_STATE_HOME:-$HOME/.local/state}/houston/jobs/$1
# Not begun: now it never will.
mkdir "$job/claim" 2>/dev/null && exit 0
[ -d "$job/claim" ] || exit 0
mkdir "$job/begun" 2>/dev/null && exit 0
[ -f "$job/status" ] && exit 0
[ -d "$job/begun" ] || { echo "it cannot be given up; in $job: $(df -P "$job" | tail -n 1)" >&2; exit 1; }
# It was given up before it began.
[ -s "$job/pid" ] || exit 0
read -r pid begun boot <"$job/pid"
now=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
[ "$boot" != - ] && [ "${now:--}" != "$boot" ] && exit 0
is=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)
[ -n "$is" ] && [ "$begun" != - ] && [ "$is" != "$begun" ] && exit 0
# No process of the group, of whichever user; what only waits to be reaped does not count.
gone() {
  if list=$(ps -e -o pgid=,stat= 2>/dev/null) && [ -n "$list" ]; then
    ! printf '%s\n' "$list" | grep -q "^ *$pid  *[^Z]"
  else
    ! kill -0 "-$pid" 2>/dev/null
  fi
}
# What sudo started belongs to root.
signal() { kill "-$1" "-$pid" 2>/dev/null; gone || sudo -n kill "-$1" -- "-$pid" 2>/dev/null; }
wait_gone() {
  n=0
  while [ $n -lt "$1" ]; do
    gone && return 0
    sleep 0.1 2>/dev/null || { sleep 1; n=$((n + 9)); }
    n=$((n + 1))
  done
  gone
}
signal TERM
wait_gone "$2" && exit 0
signal KILL
wait_gone 50 && exit 0
echo "process group $pid is still there" >&2
exit 1
