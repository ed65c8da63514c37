# Runs restic on a host for Houston, and tells what came of it: restic's own JSON lines, and ours, whose `message_type`
# begins with `houston_`. Must not: put a secret into an argument or a file.
# Standard input: lines NAME='value' for restic's environment · $1 what to do · then its words
# shellcheck disable=SC2317
umask 077
set -a
eval "$(cat)"
set +a
exec </dev/null
export RESTIC_PROGRESS_FPS=0.2
tell() { printf '{"message_type":"houston_%s",%s}\n' "$1" "$2"; }
if ! command -v restic >/dev/null 2>&1; then
  tell absent '"program":"restic"'
  exit 127
fi
tell version "\"text\":\"$(restic version 2>/dev/null | head -n 1 | tr -d '"\\')\""

locks() { restic list locks --no-lock -q 2>/dev/null | grep -c .; }
# Locks whose process is gone: restic itself knows which, and removes no other.
clear_stale() {
  before=$(locks)
  [ "$before" -gt 0 ] || return 1
  restic unlock -q >/dev/null 2>&1
  after=$(locks)
  [ "$after" -lt "$before" ] || return 1
  tell unlocked "\"removed\":$((before - after))"
}
# Once more when only such a lock was in the way.
run() {
  restic "$@"
  code=$?
  case $code in 1 | 11) clear_stale || return $code ;; *) return $code ;; esac
  restic "$@"
}

what=$1
shift
case $what in
run)
  run "$@"
  exit $?
  ;;

# As `run`, each snapshot of the list on a line of its own: a line may be as long as it likes, but is cut when it is very long.
list)
  all=$(run "$@")
  code=$?
  printf '%s\n' "$all" | sed -e 's/^\[{/{/' -e 's/}\]$/}/' -e 's/},{"time"/}\
{"time"/g'
  exit $code
  ;;

# $1 the dump's words, quoted for a shell · then restic's. What the dump wrote is saved only when it ended well.
dump)
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
  ;;
*)
  echo "restic.sh: unknown: $what" >&2
  exit 64
  ;;
esac
