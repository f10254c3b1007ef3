# What CI runs, and what a developer runs. `just` alone lists the recipes.

set shell := ["bash", "-euo", "pipefail", "-c"]

# List the recipes
@default:
    just --list --unsorted

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

# Format, lints and documentation, warnings as errors
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo clippy --lib --no-default-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib

# Put the code into shape
fmt:
    cargo fmt

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

# Everything that CI does
ci:
    .ci/run
