# The image of one node. The wheel is built in the first stage; the second holds Python, the wheel and its
# dependencies, and runs as a user without rights. Data is in /data.
#
#   docker run -p 50051:50051 -p 50052:50052 -v ringhold:/data ringhold:0.1.0 serve --data-dir /data \
#     --grpc 0.0.0.0:50051 --http 0.0.0.0:50052 \
#     --advertise-grpc 127.0.0.1:50051 --advertise-http 127.0.0.1:50052 --expect 1

FROM python:3.13-slim AS builder
WORKDIR /source
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY __init__.py __main__.py py.typed ./
COPY api api
COPY ring ring
COPY gossip gossip
COPY node node
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
    && python -m venv /opt/ringhold \
    && /opt/ringhold/bin/pip install --no-cache-dir "$(echo /wheel/ringhold-*.whl)[rocksdb]"

FROM python:3.13-slim
LABEL org.opencontainers.image.title="ringhold" \
      org.opencontainers.image.description="A sharded, replicated key-value store with secondary indexes" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/ringhold/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GRPC_ENABLE_FORK_SUPPORT=0
RUN groupadd --gid 65532 ringhold \
    && useradd --uid 65532 --gid 65532 --no-create-home --shell /usr/sbin/nologin ringhold \
    && install --directory --owner=65532 --group=65532 --mode=0700 /data
COPY --from=builder /opt/ringhold /opt/ringhold
USER 65532:65532
VOLUME /data
EXPOSE 50051 50052
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:50052/health/live', timeout=2)"]
ENTRYPOINT ["ringhold"]
CMD ["serve", "--data-dir", "/data", "--grpc", "0.0.0.0:50051", "--http", "0.0.0.0:50052"]
