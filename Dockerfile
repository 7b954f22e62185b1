# syntax=docker/dockerfile:1
# The image: one program and the four libraries and the authorities that it needs of the system; no shell,
# no package manager, a user without rights. Its list of dependencies is in the program (`cargo audit bin`).
#   docker build -t onboarding-bridge .

FROM rust:1.95.0-bookworm AS builder
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN cargo install --locked cargo-auditable --version 0.7.7
WORKDIR /build

# The dependencies first, with an empty program: this layer is built again only when they change.
# Cargo wants every target that Cargo.toml names to be there, also those that are not built here.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir -p src benches fuzz tests/chaos \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs benches/bridge.rs benches/journal.rs benches/stages.rs fuzz/fuzz.rs tests/chaos/main.rs \
    && cargo auditable build --release --locked --bin onboarding-bridge --lib \
    && rm -r src

COPY src src
# The copied files may be older than the empty program was.
RUN find src -exec touch {} + \
    && cargo auditable build --release --locked --bin onboarding-bridge

# The root of the image. The journal's directory is writable by the user below; a named volume takes its
# ownership over.
RUN mkdir -p /root-of-image/{etc/ssl/certs,usr/local/bin,var/lib/onboarding-bridge} \
    && cp target/release/onboarding-bridge /root-of-image/usr/local/bin/ \
    && ldd target/release/onboarding-bridge | grep -o '/[^ ]*' | xargs cp -L --parents -t /root-of-image \
    && cp -L /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ \
    && chown 65532:65532 /root-of-image/var/lib/onboarding-bridge \
    && chmod 700 /root-of-image/var/lib/onboarding-bridge \
    && chroot /root-of-image /usr/local/bin/onboarding-bridge --version

FROM scratch
LABEL org.opencontainers.image.title="onboarding-bridge" \
      org.opencontainers.image.description="Carries the sFOX Connect feed private.enterprise.users to Kafka and NATS JetStream" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

COPY --from=builder /root-of-image /
VOLUME ["/var/lib/onboarding-bridge"]

# By number, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/onboarding-bridge"]
CMD ["run", "--config", "/etc/onboarding-bridge/bridge.yaml"]
