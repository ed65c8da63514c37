# Saves what a command writes, if it ends well. Must not: make a snapshot of half of it.
# $1 the command's words, quoted for a shell · then restic's
dump=$1
shift
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
mkfifo "$box/data" "$box/copy" || exit 1
clear_stale
{ sha256sum <"$box/copy" >"$box/sum"; } &
summing=$!
restic "$@" <"$box/data" &
saving=$!
exec 3>"$box/data"
{ eval "$dump" 3>&-; echo $? >"$box/ended"; } | tee "$box/copy" >&3
wrote=$?
read -r ended <"$box/ended" || ended=1
if [ "$ended" -ne 0 ] || { [ $wrote -ne 0 ] && kill -0 $saving 2>/dev/null; }; then
  # Before its input ends, or it would save half a dump as a whole one.
  kill -TERM $saving 2>/dev/null
  exec 3>&-
  wait $saving
  wait $summing
  clear_stale
  tell dump_failed "\"code\":$ended"
  exit 1
fi
exec 3>&-
wait $saving
code=$?
wait $summing
[ $code -eq 0 ] && tell dumped "\"sha256\":\"$(cut -d' ' -f1 "$box/sum")\""
exit $code
