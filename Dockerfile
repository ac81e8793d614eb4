# The product's image, for registries; tests and demo use `cargo xtask image`, which needs no container engine.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin gtm-sync \
    && cp target/release/gtm-sync /gtm-sync

# glibc, CA certificates and a user "nonroot" (65532), nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /gtm-sync /usr/bin/gtm-sync
USER 65532:65532
ENTRYPOINT ["/usr/bin/gtm-sync"]
