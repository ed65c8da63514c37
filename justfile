# `just` lists these. Each is one command, so that nobody needs `just`.

_default:
    @just --list

# A chat server, the bot in it, and something to deploy
demo:
    cargo run --release -- demo

# Everything that has to hold before a change goes in
test *ARGS:
    ./test {{ARGS}}

# The quick part of it, while working
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test --lib

fmt:
    cargo fmt

# The figures that the README quotes
bench:
    cargo bench

# Houston beside other bots, which it installs into target/peers
peers *ARGS:
    benches/peers/peers.sh {{ARGS}}

image TAG="houston":
    docker build -t {{TAG}} .
