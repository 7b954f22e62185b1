# syntax=docker/dockerfile:1
# The image: one binary on a base without a shell, as a user without rights.
#   docker build -t onboarding-bridge .

FROM rust:1.95-bookworm AS builder
WORKDIR /build

# The dependencies first, with an empty program: this layer is built again only when they change.
# Cargo wants every target that Cargo.toml names to be there, also those that are not built here.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir -p src benches fuzz tests/chaos \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs benches/bridge.rs benches/journal.rs benches/stages.rs fuzz/fuzz.rs tests/chaos/main.rs \
    && cargo build --release --locked --bin onboarding-bridge --lib \
    && rm -r src

COPY src src
# The copied files may be older than the empty program was.
RUN find src -exec touch {} + \
    && cargo build --release --locked --bin onboarding-bridge \
    && mkdir -p /out/state \
    && cp target/release/onboarding-bridge /out/ \
    && /out/onboarding-bridge --version

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="onboarding-bridge" \
      org.opencontainers.image.description="Carries the sFOX Connect feed private.enterprise.users to Kafka and NATS JetStream" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

COPY --from=builder /out/onboarding-bridge /usr/local/bin/onboarding-bridge
# The journal's directory, writable by the user below; a named volume takes its ownership over.
COPY --from=builder --chown=65532:65532 /out/state /var/lib/onboarding-bridge
VOLUME ["/var/lib/onboarding-bridge"]

# By number, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/onboarding-bridge"]
CMD ["run", "--config", "/etc/onboarding-bridge/bridge.yaml"]
