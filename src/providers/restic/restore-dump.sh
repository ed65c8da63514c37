# Feeds a dump to the command that takes it back. Must not: begin before all of it was read once.
# $1 the snapshot · $2 the dump's name · $3 the command's words, quoted for a shell
snapshot=$1 name=$2 command=$3
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
clear_stale
restic dump "$snapshot" "/$name" >/dev/null || exit $?
{ restic dump "$snapshot" "/$name"; echo $? >"$box/code"; } | eval "$command"
took=$?
read -r code <"$box/code" || code=1
# The reader first: when it stops, restic is stopped with it.
[ $took -eq 0 ] || { tell restore_failed "\"code\":$took"; exit 1; }
[ "$code" -eq 0 ] || exit "$code"
tell restored "\"snapshot\":\"$snapshot\""
