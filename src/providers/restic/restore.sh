# Puts the files of a snapshot in the place of those that are there, whole or not at all: they are restored and verified
# beside them, and then change names. Must not: remove what was there, except what Houston itself left half done.
# $1 `do` or `undo` · $2 the snapshot · $3 a word for names, the same on each attempt · then paths, in pairs: in the
# snapshot, and where it goes
act=$1 snapshot=$2 word=$3
shift 3
before() { printf '%s.before-%s' "$1" "$word"; }
stage() { printf '%s/.houston-restore-%s' "$(dirname "$1")" "$word"; }
if [ "$act" = undo ]; then
  while [ $# -gt 0 ]; do
    to=$2
    shift 2
    rm -rf "$(stage "$to")"
    if [ -e "$(before "$to")" ] || [ -L "$(before "$to")" ]; then
      [ ! -e "$to" ] || mv "$to" "$to.undone-$word" || exit 1
      mv "$(before "$to")" "$to" || exit 1
      rm -rf "$to.undone-$word"
    elif [ -e "$(before "$to").none" ]; then
      rm -rf "$to"
      rm -f "$(before "$to").none"
    fi
  done
  exit 0
fi
# All of them first: nothing is put in place before everything can be.
all=$#
turn=0
while [ $turn -lt $all ]; do
  from=$1 to=$2
  shift 2
  set -- "$@" "$from" "$to"
  turn=$((turn + 2))
  [ -e "$(before "$to")" ] || [ -e "$(before "$to").none" ] && [ ! -e "$(stage "$to")" ] && continue
  [ -e "$(stage "$to")/.in-place" ] && continue
  mkdir -p "$(dirname "$to")" || exit 1
  if mountpoint -q "$to" 2>/dev/null; then
    echo "$to is a mount point, which cannot change its name"
    exit 66
  fi
  run restore "$snapshot" --verify --target "$(stage "$to")" --include "$from" || exit $?
  if [ ! -e "$(stage "$to")$from" ]; then
    echo "the snapshot has no $from"
    exit 67
  fi
done
while [ $# -gt 0 ]; do
  from=$1 to=$2
  shift 2
  if [ -e "$(stage "$to")/.in-place" ]; then
    rm -rf "$(stage "$to")"
    continue
  fi
  [ -e "$(stage "$to")$from" ] || continue
  if [ -e "$to" ] || [ -L "$to" ]; then
    if [ -e "$(before "$to")" ]; then
      echo "$to is there again: stop what writes there"
      exit 66
    fi
    mv "$to" "$(before "$to")" || exit 1
  elif [ ! -e "$(before "$to")" ]; then
    : >"$(before "$to").none" || exit 1
  fi
  # Not into a folder that somebody has made there meanwhile.
  mv -T "$(stage "$to")$from" "$to" || exit 1
  : >"$(stage "$to")/.in-place"
  rm -rf "$(stage "$to")"
done
tell restored "\"snapshot\":\"$snapshot\""
