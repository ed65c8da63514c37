#!/usr/bin/env bash
# Simulated loss of power under the store: an ext4 image on a loop device, the writer stopped in its tracks,
# the image copied (what the device had been given by then), the copy mounted and verified. Half of the
# trials begin with an empty store, half go on with one that was there. Needs root and e2fsprogs.
# What a device loses from its own cache is not modelled.
#
#   power-loss.sh TRIALS SECONDS TEST_BINARY
set -uo pipefail
trials=${1:?trials} seconds=${2:?seconds} binary=${3:?the test binary \`it\`}
child=(--exact runs::store::child_that_writes_until_it_is_killed --nocapture)
work=$(mktemp -d) pid=
cleanup() {
  [ -n "$pid" ] && kill -KILL -- "-$pid" 2>/dev/null
  umount -q "$work/m" "$work/m2" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/m" "$work/m2"
lost=0
for trial in $(seq "$trials"); do
  truncate -s 0 "$work/img" && truncate -s 256M "$work/img"
  mkfs.ext4 -q -F "$work/img" || exit 1
  mount -o loop,commit=30 "$work/img" "$work/m" || exit 1
  mkdir "$work/m/state" && sync -f "$work/m"
  before=0
  if [ $((trial % 2)) -eq 0 ]; then
    HOUSTON_TEST_STORE_WRITE=$work/m/state timeout -s KILL 1 "$binary" "${child[@]}" >"$work/acks" 2>/dev/null
    before=$(grep -c 'ACK' "$work/acks")
  fi
  HOUSTON_TEST_STORE_WRITE=$work/m/state setsid "$binary" "${child[@]}" >"$work/acks" 2>"$work/err" &
  pid=$!
  sleep "$seconds"
  kill -STOP -- "-$pid"
  acked=$((before + $(grep -c 'ACK' "$work/acks")))
  cp --sparse=never "$work/img" "$work/snap"
  kill -KILL -- "-$pid" && wait "$pid" 2>/dev/null
  pid=
  umount "$work/m" && mount -o loop "$work/snap" "$work/m2" || exit 1
  if HOUSTON_TEST_STORE_VERIFY=$work/m2/state=$acked "$binary" "${child[@]}" >"$work/out" 2>&1; then
    echo "trial $trial: $acked acknowledged, all there"
  else
    echo "trial $trial: $acked acknowledged, LOST or damaged"
    tail -n 5 "$work/out"
    lost=$((lost + 1))
  fi
  umount "$work/m2"
done
[ "$lost" -eq 0 ]
