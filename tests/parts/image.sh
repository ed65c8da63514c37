#!/usr/bin/env bash
# The image of the Dockerfile, on an engine that reaches no registry: its base images are made here.
#
#   image.sh install   a Debian of debootstrap, with the packages that the Dockerfile installs; kept as a tarball in
#                      $HOUSTON_TEST_IMAGE_CACHE, default /var/tmp/houston-parts/image (the only form that installs)
#   image.sh start     builds the Dockerfile up to the program, without network; prints the image's name
#   image.sh compile   builds the whole Dockerfile, the program compiled in it: takes minutes, needs the network
#                      for Debian's packages, this machine's Rust and the crates that it has; prints the image's name
#   image.sh stop      removes the images
#
# HOUSTON_TEST_DOCKER names the engine's socket (`docker.sh start` prints it).
# Exit 77: something is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
cache=${HOUSTON_TEST_IMAGE_CACHE:-/var/tmp/houston-parts/image}
base=$cache/bookworm.tar
client() { DOCKER_BUILDKIT=0 docker -H "unix://${HOUSTON_TEST_DOCKER:?name the socket of an engine}" "$@"; }
missing() { echo "image.sh: $1; run \`image.sh install\`" >&2; exit 77; }
have_base() {
  [ -s "$base" ] || missing "$base is not there"
  # By content, so that a new tarball is imported and an old one is not imported again.
  local tag
  tag=houston-test-base:$(sha256sum "$base" | cut -c1-16)
  client image inspect "$tag" >/dev/null 2>&1 || client import "$base" "$tag" >/dev/null
  echo "$tag"
}

case ${1:-} in
install)
  [ -s "$base" ] && exit 0
  if ! command -v debootstrap >/dev/null; then
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      -o DPkg::Lock::Timeout=300 debootstrap >/dev/null
  fi
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/making.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  # The mirror that this machine uses itself.
  mirror=$(sed -nE 's/^(URIs:|deb) +(\[[^]]*\] +)?(http[^ ]+).*/\3/p' /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1) || true
  debootstrap --variant=minbase --include=openssh-client,ca-certificates,tzdata bookworm "$work/root" "${mirror:-http://deb.debian.org/debian}"
  rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
  tar -C "$work/root" -cf "$work/tar" .
  mv "$work/tar" "$base"
  ;;
start)
  command -v docker >/dev/null || { echo "image.sh: there is no docker; run \`docker.sh install\`" >&2; exit 77; }
  tag=$(have_base)
  # The packages are in the base, so the network is not needed, and Debian being away breaks no test.
  client build --quiet --network none --target runtime --build-arg "BASE_IMAGE=$tag" -t houston-test-runtime "$here" >/dev/null
  echo houston-test-runtime
  ;;
compile)
  tag=$(have_base)
  # What the image `rust` has: a toolchain, and CARGO_HOME with the crates, so that cargo stays off line.
  work=$(mktemp -d "$cache/rust.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  (cd "$here" && cargo fetch --locked --quiet)
  mkdir -p "$work/cargo"
  sysroot=$(cd "$here" && rustc --print sysroot)
  mkdir "$work/rust"
  cp -a "$sysroot/bin" "$sysroot/lib" "$work/rust/"
  cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/cargo/registry"
  rm -rf "$work/cargo/registry/src"
  [ ! -f "${CARGO_HOME:-$HOME/.cargo}/config.toml" ] || cp "${CARGO_HOME:-$HOME/.cargo}/config.toml" "$work/cargo/"
  cat >"$work/Dockerfile" <<DOCKERFILE
FROM $tag
COPY rust /usr/local/rust
COPY cargo /usr/local/cargo
ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true
DOCKERFILE
  client build --quiet -t houston-test-rust "$work" >/dev/null
  # Its output is the only sign of life for minutes, so it goes to stderr.
  client build --network host --build-arg "BASE_IMAGE=$tag" --build-arg RUST_IMAGE=houston-test-rust -t houston-test-compiled "$here" >&2
  echo houston-test-compiled
  ;;
stop)
  for image in image runtime rust compiled; do client image rm -f "houston-test-$image" >/dev/null 2>&1 || true; done
  ;;
*) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 64 ;;
esac
