# Restores a sample of a snapshot into a folder of its own, and compares it with what is there. Must not: change what is saved.
# $1 how to choose the snapshot, as restic's words quoted for a shell · $2 a number that chooses the sample · $3 how many
# files · $4 at most so many bytes
choose=$1 turn=$2 most=$3 bytes=$4
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
eval "run ls --json latest $choose" >"$box/ls" || exit $?
# Names that JSON or a pattern would write in another way are left out: the sample is one of the rest.
grep '"type":"file"' "$box/ls" | grep -v '\\' | sed -n 's/.*"path":"\([^"]*\)".*"size":\([0-9]*\).*/\2 \1/p' |
  grep -v '[][*?]' >"$box/files"
awk -v turn="$turn" -v most="$most" -v left="$bytes" '
  { size[NR] = $1; sub(/^[0-9]+ /, ""); path[NR] = $0 }
  END {
    every = int((NR + most - 1) / most); if (every < 1) every = 1
    for (i = turn % every + 1; i <= NR; i += every) if (size[i] <= left) { left -= size[i]; print path[i] }
  }' "$box/files" >"$box/sample"
files=$(grep -c . "$box/files")
[ -s "$box/sample" ] || { tell compared "\"files\":$files,\"compared\":0,\"changed\":0,\"bytes\":0"; exit 0; }
set --
while IFS= read -r file; do set -- "$@" --include "$file"; done <"$box/sample"
eval "run restore latest $choose --target \"\$box/restored\" \"\$@\"" >"$box/said" 2>&1 || { code=$?; cat "$box/said"; exit $code; }
compared=0 changed=0 wrong=0 size=0
while IFS= read -r file; do
  there=$box/restored$file
  if [ ! -f "$there" ]; then
    echo "$file: it is in the snapshot, and was not restored"
    wrong=$((wrong + 1))
    continue
  fi
  size=$((size + $(wc -c <"$there")))
  # What was written to since is no proof of anything.
  if [ ! -f "$file" ] || [ "$file" -nt "$there" ] || [ "$file" -ot "$there" ]; then
    changed=$((changed + 1))
  elif [ "$(sha256sum <"$file")" = "$(sha256sum <"$there")" ]; then
    compared=$((compared + 1))
  else
    echo "$file: what was restored is not what is there"
    wrong=$((wrong + 1))
  fi
done <"$box/sample"
tell compared "\"files\":$files,\"compared\":$compared,\"changed\":$changed,\"bytes\":$size"
[ $wrong -eq 0 ] || exit 65
