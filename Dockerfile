# The builder has the tools; the image has one binary, its TLS roots, no shell, and nobody to log in as.
#
# The bases are named here alone. To pin one to what it is today, and to renew that: ask for its digest with
#   docker buildx imagetools inspect rust:1.95-bookworm --format '{{.Manifest.Digest}}'
# and write it behind the tag (rust:1.95-bookworm@sha256:…), or pass it: --build-arg BUILD_IMAGE=…
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG ROOTS_IMAGE=debian:bookworm-slim
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# Crates and what was built of them stay in the builder's cache, so that the next build makes Herald alone.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --features oidc && cp target/release/herald /herald && strip --strip-debug /herald

FROM ${ROOTS_IMAGE} AS roots
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && mkdir /data

FROM ${RUNTIME_IMAGE} AS base
COPY --from=roots /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A volume that is mounted here belongs to Herald's user; the service itself writes no file.
COPY --from=roots --chown=65532:65532 /data /data
COPY --from=build /herald /usr/local/bin/herald
USER 65532:65532

# The OneSignal sandbox by itself: docker build --target sandbox. Containers that reach it by a name need `--host NAME`.
FROM base AS sandbox
EXPOSE 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/herald", "sandbox", "--listen", "0.0.0.0:8081", "--data", "/data"]

FROM base
ENV HERALD_LISTEN=0.0.0.0:8080 HERALD_LOG__FORMAT=json
EXPOSE 8080
STOPSIGNAL SIGTERM
# Whoever changes the port of HERALD_LISTEN sets HERALD_URL, too: the probe asks there.
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s CMD ["/usr/local/bin/herald", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/herald"]
CMD ["serve"]
