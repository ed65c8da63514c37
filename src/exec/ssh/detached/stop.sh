# Stops a job: TERM to its group, a grace period, KILL; ends with 0 when nothing of it is left.
# $1 name · $2 grace in tenths of a second
job=$jobs/$1
# Not begun: now it never will.
mkdir "$job/claim" 2>/dev/null && exit 0
[ -d "$job/claim" ] || exit 0
mkdir "$job/begun" 2>/dev/null && exit 0
[ -f "$job/status" ] && exit 0
[ -d "$job/begun" ] || { echo "it cannot be given up; in $job: $(df -P "$job" | tail -n 1)" >&2; exit 1; }
# It was given up before it began.
[ -s "$job/pid" ] || exit 0
read_group
[ $whose = ours ] || exit 0
# What sudo started belongs to root.
signal() { kill "-$1" "-$pid" 2>/dev/null; there && sudo -n kill "-$1" -- "-$pid" 2>/dev/null; }
wait_gone() {
  n=0
  while [ $n -lt "$1" ]; do
    there || return 0
    sleep 0.1 2>/dev/null || { sleep 1; n=$((n + 9)); }
    n=$((n + 1))
  done
  ! there
}
signal TERM
wait_gone "$2" && exit 0
signal KILL
wait_gone 50 && exit 0
echo "process group $pid is still there" >&2
exit 1
