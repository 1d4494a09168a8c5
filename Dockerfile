# One image for every service: orchestrator, workers, migration, Flower.
#
#   docker build -t metafleet:local .                                computes on CPUs
#   docker build -t metafleet:local-gpu --build-arg VARIANT=gpu .    computes on GPUs
#
# TORCH_INDEX is a package index to take PyTorch from as well, such as that of its CPU builds,
# which are some GB smaller, or of its builds for another CUDA. PIP_ARGS is anything else for pip.

# the dependencies: made anew only when pyproject.toml or the pins change
FROM python:3.11-slim-bookworm AS dependencies
ARG TORCH_INDEX=""
ARG PIP_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
WORKDIR /src
RUN python3 -m venv /opt/venv
COPY pyproject.toml constraints.txt ./
RUN touch README.md \
    && set -- -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} $PIP_ARGS \
    && pip install "$@" setuptools \
    && pip install "$@" --no-build-isolation ".[fleet,data,postgres,flower,dashboard,monitoring]" \
    && pip uninstall --yes metafleet
ARG VARIANT=cpu
RUN python -c 'import sys, torch; sys.exit("gpu" == sys.argv[1] and not torch.version.cuda \
    and f"VARIANT=gpu but torch {torch.__version__} has no CUDA; point TORCH_INDEX at a CUDA build")' "$VARIANT"

# the wheel of the code
FROM dependencies AS wheel
COPY README.md LICENSE ./
COPY metafleet metafleet
COPY contracts contracts
COPY workers workers
COPY db db
COPY orchestrator orchestrator
COPY experiments experiments
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --no-log-init \
        --home-dir /var/lib/metafleet --shell /usr/sbin/nologin metafleet \
    && mkdir -p /var/lib/metafleet/data \
    && chown -R metafleet:metafleet /var/lib/metafleet
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 METAFLEET_HOME=/var/lib/metafleet
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --no-index --no-cache-dir --disable-pip-version-check /wheels/*.whl
WORKDIR /app
COPY experiments experiments
USER 10001:10001
CMD ["metafleet", "--help"]
