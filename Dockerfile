# Built from the repository's root: `docker build -t houston .`
#
# The base images can be others of the same kind, from a mirror or made locally:
#   docker build --build-arg RUST_IMAGE=… --build-arg BASE_IMAGE=… -t houston .
# It needs no BuildKit.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

# All but the program, and first, so that `--target runtime` makes it without compiling.
FROM ${BASE_IMAGE} AS runtime
# `ssh` for hosts, roots for TLS.
RUN apt-get update \
 && apt-get install -y --no-install-recommends openssh-client ca-certificates tzdata \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 houston \
 && useradd --uid 10001 --gid houston --create-home --shell /usr/sbin/nologin houston \
 && install -d -o houston -g houston -m 0700 /state
COPY LICENSE /usr/share/doc/houston/LICENSE
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /home/houston
# All that is ever written; the rest may be mounted read only. The configuration is expected in /config.
VOLUME /state
# Asks the running daemon over its admin socket in the state folder; needs no HTTP port. It tests the process alone:
# an outage of Rocket.Chat must not have Houston restarted in the middle of a run.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["houston", "healthcheck", "--state", "/state"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["houston"]
CMD ["serve", "--config", "/config", "--state", "/state"]

FROM ${RUST_IMAGE} AS build
# ring compiles a little C.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The dependencies first: they change less often than our own code. Cargo wants a file for each target.
COPY Cargo.toml Cargo.lock ./
RUN sed -n 's/^path = "\(.*\)"/\1/p' Cargo.toml | while read -r file; do \
      mkdir -p "$(dirname "$file")" && echo 'fn main() {}' > "$file" || exit 1; \
    done \
 && touch src/lib.rs \
 && cargo build --release --locked \
 && rm -rf src benches tests
COPY . .
# cargo goes by time stamps, and the copied files may be older than the empty ones were.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM runtime
COPY --from=build /src/target/release/houston /usr/local/bin/houston
