# One image for every role: `docker run confhot loader …`, `docker run confhot serve …`.
# Plain instructions only, so that the classic builder builds it as BuildKit does.

FROM rust:1-slim-bookworm AS build
WORKDIR /src

# The dependencies alone, with sources that do nothing: this layer changes when the manifest does. The other targets
# that it names must exist for it to be valid.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches tests/it \
    && benches=$(sed -n '/^\[\[bench\]\]/{n;s|^name = "\(.*\)"|benches/\1.rs|p}' Cargo.toml) \
    && echo 'fn main() {}' | tee src/main.rs $benches tests/it/main.rs >/dev/null \
    && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -r src

COPY src src
# COPY keeps the time of each file, which may be older than what was built from the sources that do nothing.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked
# By which `just clean` finds what the classic builder leaves of this stage, and of former builds.
LABEL confhot.stage=build

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="confhot" \
      org.opencontainers.image.description="Gets a changed configuration file into every running service" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      confhot.stage="image"
COPY --from=build /src/target/release/confhot /usr/local/bin/confhot
USER 1000:1000
ENTRYPOINT ["confhot"]
CMD ["--help"]
