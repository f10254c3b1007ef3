# What CI runs, and what a developer runs. `just` alone lists the recipes.

set shell := ["bash", "-euo", "pipefail", "-c"]

# List the recipes
@default:
    just --list --unsorted

alias help := default

# The demo in Docker: build its image, start all of it, in the background
[group("demo")]
start: build up

# Build the image of the demo
[group("demo")]
build: (compose "build" "loader")

# Start the demo; its documents are in ./configs, or in CONFHOT_CONFIGS
[group("demo")]
up: (compose "up" "--detach" "--no-build")
    @echo "just logs follows what happens; just down ends it"

# Follow what the demo says: just logs, just logs service1
[group("demo")]
logs *services: (compose "logs" "--follow" "--tail" "100" services)

# Stop and start what runs, or a part of it
[group("demo")]
restart *services: (compose "restart" services)

# Stop the demo and remove its containers and networks; what it stored stays
[group("demo")]
down: (compose "down" "--remove-orphans")

# As down, and remove what it stored and the images that were built for it
[group("demo")]
clean: (compose "down" "--remove-orphans" "--volumes")
    docker image rm --force confhot:local
    docker image prune --force --filter label=confhot.stage

# Anything else of Docker Compose: just compose ps
[group("demo")]
compose *args:
    @if docker compose version >/dev/null 2>&1; then docker compose {{ args }}; else docker-compose {{ args }}; fi

# The demo, tested: built, started, edited, broken, taken down
[group("demo")]
demo-test:
    cargo test --test it -- --ignored --nocapture compose::

# The product, running here: a private nats-server, the loader on configs/, a sample service for each document
dev *args:
    cargo run --release -- dev {{ args }}

# Does it compile, everywhere it should
check:
    cargo check --all-targets
    cargo check --lib --no-default-features

# All tests, against real servers
test *args:
    cargo test {{ args }}

# The long counts of the fault tests
soak *args:
    CONFHOT_SOAK=1 cargo test --release --test it -- --nocapture {{ args }}

# Inputs that nobody would think of, for every parser of what comes from outside: just fuzz 3600 spends an hour on all of them
fuzz seconds="60":
    #!/usr/bin/env bash
    # On nightly, which cargo-fuzz needs, and without a sanitizer: confhot has no unsafe code, and the bound on memory is meant.
    set -euo pipefail
    targets=$(cargo fuzz list)
    each=$(( ({{ seconds }} + $(wc -w <<<"$targets") - 1) / $(wc -w <<<"$targets") ))
    cargo +nightly fuzz build --sanitizer none
    for target in $targets; do
        mkdir -p "fuzz/corpus/$target"
        printf '%-12s' "$target"
        cargo +nightly fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
            -max_total_time="$each" -timeout=1 -rss_limit_mb=256 -print_final_stats=1 >"fuzz/target/$target.log" 2>&1 \
            || { echo failed; tail -n 40 "fuzz/target/$target.log" >&2; exit 1; }
        awk '/executed_units/ { runs = $2 } /peak_rss/ { print runs " inputs, at most " $2 " MB" }' "fuzz/target/$target.log"
    done

# Format, lints and documentation, warnings as errors
lint:
    cargo fmt --check
    cargo fmt --check --manifest-path fuzz/Cargo.toml
    cargo clippy --all-targets -- -D warnings
    cargo clippy --lib --no-default-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib

# Put the code into shape
fmt:
    cargo fmt
    cargo fmt --manifest-path fuzz/Cargo.toml

# Licences, duplicates and sources of everything that is in the tree, as deny.toml has them
deny:
    cargo deny --locked check licenses bans sources

# Known vulnerabilities and yanked versions; asks the RustSec database at github.com
advisories:
    cargo deny --locked check advisories

# Completions and man pages, from the binary's own definition of its command line
generate:
    cargo build
    target/debug/confhot completions bash > completions/confhot.bash
    target/debug/confhot completions zsh > completions/_confhot
    target/debug/confhot completions fish > completions/confhot.fish
    target/debug/confhot completions powershell > completions/_confhot.ps1
    target/debug/confhot man --dir completions/man

# Are the generated files what the binary generates
generated: generate
    @git diff --exit-code -- completions || (echo "completions/ is out of date: just generate" >&2; exit 1)
    @test -z "$(git ls-files --others --exclude-standard -- completions)"

# The bars of latency, growth, first sync and memory, as ratios measured in one run
bench *args:
    cargo bench --bench e2e -- {{ args }}

# What it costs to know who runs what, with 1,000 instances
bench-status *args:
    cargo bench --bench status -- {{ args }}

# What a read of the current value costs, beside arc-swap's bare load and a lock
bench-read *args:
    cargo bench --profile embedded --bench read -- {{ args }}

# One change to very many subscribers, beside the other ways to do it: just bench-scale --subscribers 10000
bench-scale *args:
    cargo bench --bench scale -- {{ args }}

# Everything that CI does
ci:
    .ci/run
