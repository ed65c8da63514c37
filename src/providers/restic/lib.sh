# What comes before every script of ours around restic: its environment, and the words with which we tell what came of
# it, JSON lines whose `message_type` begins with `houston_`. Must not: put a secret into an argument or a file.
# Standard input: lines NAME='value' for restic's environment
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

