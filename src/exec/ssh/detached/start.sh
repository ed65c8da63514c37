# Starts a command once under a name, apart from the connection, and tells that it has begun. Run again under
# the same name it starts nothing. Must not: wait for the command, or give up what may still begin.
# $1 mark of our lines · $2 name · $3 text of wrap.sh · $4 text of the command · $5 `known`: it wrote something
# already · standard input: the command's. Ends with 3 when it has not begun, and never will.
mark=$1 name=$2 known=$5
umask 077
job=$jobs/$name
# Not again: what it has done was seen, and what the host knew of it is gone.
if [ "$known" = known ] && [ ! -d "$job/claim" ]; then
  echo "$mark absent"
  exit 0
fi
cannot() {
  echo "nothing can be written in $job, so it does not begin: $(room); make room there, or let this account write there" >&2
  exit 1
}
mkdir -p "$job" || cannot
# What nobody came back for.
find "$jobs" -mindepth 2 -maxdepth 2 -name status -mtime +30 2>/dev/null | while read -r old; do
  rm -rf "${old%/status}"
done
if [ ! -d "$job/claim" ]; then
  cat >"$job/in.$$" && mv "$job/in.$$" "$job/in" || cannot
  printf '%s\n' "$4" >"$job/command.$$" && mv "$job/command.$$" "$job/command" || cannot
  printf '%s\n' "$3" >"$job/wrap.$$" && mv "$job/wrap.$$" "$job/wrap" || cannot
  if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && command -v systemd-run >/dev/null 2>&1; then
    # A unit of its own: it survives the end of the login session, and nothing of it is left behind.
    systemd-run --quiet --collect --unit="$name" --working-directory="$PWD" \
      --setenv=HOME="$HOME" --setenv=PATH="$PATH" sh "$job/wrap" "$job" </dev/null >/dev/null 2>&1
  elif command -v setsid >/dev/null 2>&1; then
    setsid sh "$job/wrap" "$job" </dev/null >/dev/null 2>&1 &
  else
    echo "there is no \`setsid\` on this host (util-linux or busybox have it)" >&2
    exit 1
  fi
fi
n=0
while [ ! -s "$job/pid" ]; do
  n=$((n + 1))
  if [ $n -gt 100 ]; then
    # Whoever makes one of these before the wrapper does decides that it never begins.
    late="it did not begin within 10 s" disk=$(df -P "$job" | tail -n 1)
    if mkdir "$job/claim" 2>/dev/null || mkdir "$job/begun" 2>/dev/null; then
      echo "$late, and will not any more; in $job: $disk" >&2
      exit 3
    fi
    [ -s "$job/pid" ] && break
    # The number stands before `begun` does.
    [ -d "$job/begun" ] && { echo "it was given up before it began" >&2; exit 3; }
    echo "$late, and cannot be given up; in $job: $disk" >&2
    exit 1
  fi
  sleep 0.1 2>/dev/null || { sleep 1; n=$((n + 9)); }
done
now=$(date +%s) since=$(stat -c %Y "$job/claim" 2>/dev/null) || since=$now
echo "$mark $((now - since))"
