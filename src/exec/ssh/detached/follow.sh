# Hands out the output of a job from an offset on, until it has ended, and says how. Must not: change anything.
# $1 mark of our lines, which go to standard error · $2 name · $3 bytes seen already · $4 `once`: do not wait
mark=$1 seen=$3 once=$4
job=$jobs/$2
say() { echo "$mark $*" >&2 || exit 1; }
if [ ! -d "$job/claim" ]; then
  say absent
  exit 0
fi
rounds=0 full=
# Says when there is no room left for what it writes, and when there is some again.
look_for_room() {
  left=$(room)
  case ${left%% *} in
  0 | 1 | 2 | 3) [ -n "$full" ] || say full "$left"; full=full ;;
  *) [ -z "$full" ] || say roomy; full= ;;
  esac
}
# Asking for every process of the host takes a while, so most rounds ask for ours alone.
alive() { kill -0 "-$pid" 2>/dev/null && [ $((rounds % 25)) -ne 0 ] || there; }
# How it stands, as one word.
stands() {
  [ -s "$job/pid" ] || { echo starting; return; }
  read_group
  case $whose in
  rebooted) echo rebooted ;;
  other) echo killed ;;
  *) if alive; then echo alive; else echo killed; fi ;;
  esac
}
while :; do
  how=
  if [ -f "$job/status" ]; then
    read -r status <"$job/status"
    how="ended $status"
  else
    how=$(stands)
    # It may have ended between the two looks.
    [ "$how" = killed ] && [ -f "$job/status" ] && continue
  fi
  if [ "$once" != once ]; then
    size=$(wc -c <"$job/out" 2>/dev/null) || size=0
    if [ $((size)) -gt "$seen" ]; then
      tail -c +$((seen + 1)) "$job/out" | head -c $((size - seen)) || exit 1
      seen=$((size))
    fi
  fi
  case $how in
  alive | starting)
    if [ "$once" = once ]; then say "$how"; exit 0; fi
    [ $how = starting ] && [ $rounds -gt 50 ] && { say killed; exit 0; }
    ;;
  *)
    say "$how"
    exit 0
    ;;
  esac
  # Writing is how it is noticed that nobody listens any more.
  rounds=$((rounds + 1))
  [ $((rounds % 25)) -eq 0 ] && say listening
  [ $((rounds % 10)) -eq 5 ] && look_for_room
  sleep 0.2 2>/dev/null || sleep 1
done
