# The builder has the tools; the image has one binary, root certificates, no shell, and no login accounts.
#
# The base images are only defined here. To pin one, or to update the pin, get its digest with
#   docker buildx imagetools inspect rust:1.95-bookworm --format '{{.Manifest.Digest}}'
# and append it to the tag (rust:1.95-bookworm@sha256:…), or pass it: --build-arg BUILD_IMAGE=…
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG ROOTS_IMAGE=debian:bookworm-slim
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# Dependencies stay in the builder's cache, so that the next build only compiles Herald.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --features oidc && cp target/release/herald /herald && strip --strip-debug /herald

FROM ${ROOTS_IMAGE} AS roots
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && mkdir /data

FROM ${RUNTIME_IMAGE} AS base
COPY --from=roots /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A volume mounted here belongs to Herald's user; the service itself writes no files.
COPY --from=roots --chown=65532:65532 /data /data
COPY --from=build /herald /usr/local/bin/herald
USER 65532:65532

# The standalone OneSignal sandbox: docker build --target sandbox. Containers that access it by name need `--host NAME`.
FROM base AS sandbox
EXPOSE 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/herald", "sandbox", "--listen", "0.0.0.0:8081", "--data", "/data"]

FROM base
ENV HERALD_LISTEN=0.0.0.0:8080 HERALD_LOG__FORMAT=json
EXPOSE 8080
STOPSIGNAL SIGTERM
# If you change the port in HERALD_LISTEN, also set HERALD_URL, which the health check uses.
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s CMD ["/usr/local/bin/herald", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/herald"]
CMD ["serve"]
