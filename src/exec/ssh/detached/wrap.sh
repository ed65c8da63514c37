# Houston's wrapper around one command: claims the name, keeps process number, output and exit status beside it.
# Must not: end before the command has, or be started by hand. $1 the job's folder
job=$1
# Whoever makes this folder runs the command. Nobody else ever does.
mkdir "$job/claim" 2>/dev/null || { [ -d "$job/begun" ] && rm -f "$job/in"; exit 0; }
. "$job/command"
exec 3<"$job/in"
begun=$(sed 's/.*) //' "/proc/$$/stat" 2>/dev/null | cut -d' ' -f20)
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
echo "$$ ${begun:--} ${boot:--}" >"$job/pid.new" && mv "$job/pid.new" "$job/pid" || exit 1
# From here on it has begun; whoever gave it up before made this, and then it never does.
mkdir "$job/begun" 2>/dev/null || exit 0
# A second start may put it there again: then its own wrapper takes it away.
rm -f "$job/in"
# Stopping goes to the whole group, and this one stays to tell how the command ended.
trap : TERM HUP INT
"$@" <&3 3<&- >>"$job/out" 2>&1 &
child=$!
exec 3<&-
while :; do
  wait "$child"
  status=$?
  kill -0 "$child" 2>/dev/null || break
done
# On a full disk: as soon as there is room.
until echo "$status" >"$job/status.new" && mv "$job/status.new" "$job/status"; do
  [ -d "$job" ] || exit 0
  sleep 1
done 2>/dev/null
