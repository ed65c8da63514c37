# Reads the newest snapshot of a dump back, and tells the sum of what comes. Must not: keep any of it.
# $1 how to choose the snapshot, as restic's words quoted for a shell · $2 the dump's name
choose=$1 name=$2
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
clear_stale
{ eval "restic dump latest $choose \"/\$name\""; echo $? >"$box/code"; } | sha256sum >"$box/sum"
read -r code <"$box/code" || code=1
[ "$code" -eq 0 ] || exit "$code"
tell read_back "\"sha256\":\"$(cut -d' ' -f1 "$box/sum")\""
