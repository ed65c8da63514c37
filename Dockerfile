# Built from the repository's root: `docker build -t houston .`

FROM rust:1.95-slim-bookworm AS build
# ring compiles a little C.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The dependencies first: they change less often than our own code.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches tests/it \
 && echo 'fn main() {}' | tee src/main.rs benches/figures.rs tests/it/main.rs > /dev/null \
 && touch src/lib.rs \
 && cargo build --release --locked \
 && rm -rf src
COPY . .
# cargo goes by time stamps, and the copied files may be older than the empty ones were.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:bookworm-slim
# `ssh` for hosts, roots for TLS.
RUN apt-get update \
 && apt-get install -y --no-install-recommends openssh-client ca-certificates tzdata \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home --home-dir /home/houston --shell /usr/sbin/nologin houston \
 && install -d -o houston -g houston -m 0700 /state
COPY --from=build /src/target/release/houston /usr/local/bin/houston
COPY LICENSE /usr/share/doc/houston/LICENSE
USER houston
WORKDIR /home/houston
# All that has to outlive the container. The configuration is mounted at /config, read only.
VOLUME /state
# Asks the running daemon over its admin socket in the state folder; needs no HTTP port.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["houston", "healthcheck", "--state", "/state"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["houston"]
CMD ["serve", "--config", "/config", "--state", "/state"]
