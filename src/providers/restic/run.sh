# Runs restic with the words that it is given. Must not: do anything else.
run "$@"
