# syntax=docker/dockerfile:1
# One image for every role; `docker-compose.yml` has the roles. Build: docker build --tag tidemill:local .

FROM rust:1.95-slim-bookworm AS build
# OpenSSL and librdkafka are compiled in; the latter's configuration asks for a C++ compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# What was compiled for the last image is kept by the builder, so that a change compiles only what it touches.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --profile dist --bin tidemill \
    && install -D target/dist/tidemill /out/tidemill

FROM debian:bookworm-slim
# Certificates of the authorities, for an object store or a broker with TLS.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 tidemill \
    && useradd --uid 10001 --gid tidemill --no-create-home --home-dir /var/lib/tidemill --shell /usr/sbin/nologin tidemill \
    && install --directory --owner=tidemill --group=tidemill \
        /var/lib/tidemill /var/lib/tidemill/data /var/lib/tidemill/lake
COPY --from=build /out/tidemill /usr/local/bin/tidemill
USER tidemill
WORKDIR /var/lib/tidemill
# Each container gets one of its own, so that replicas do not meet in it.
VOLUME /var/lib/tidemill/data
EXPOSE 8080
# SIGTERM is an ordered shutdown, within 30 s.
STOPSIGNAL SIGTERM
# With another address or with TLS, TIDEMILL_URL and TIDEMILL_CA_FILE say so.
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 CMD ["tidemill", "health"]
ENTRYPOINT ["tidemill"]
CMD ["serve"]
