# For GPU clusters: docker build -t gansharing . && docker run --gpus all --shm-size 4g \
#   -v "$PWD/data:/data" -v "$PWD/runs:/app/runs" gansharing fit --config experiments/demo.yaml
# torch's Linux wheels carry their own CUDA libraries: the host needs only its driver.
FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    GANSHARING_CACHE=/app/cache

# libfribidi: text shaping, with which Pillow draws OpenMoji's joined characters. Not pinned: Debian keeps the
# latest security update of a stable release only.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libfribidi0 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 gan && mkdir -p /app/runs /app/cache && chown -R gan /app
WORKDIR /app

# What changes rarely first: the dependencies' layer survives a change of the code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY gansharing/__init__.py gansharing/__init__.py
RUN pip install -c constraints.txt ".[parquet,dinov2,video,deploy,shards]" && pip uninstall -y gansharing

COPY gansharing gansharing
COPY experiments experiments
RUN pip install -c constraints.txt ".[parquet,dinov2,video,deploy,shards]"

USER 1000:1000
ENTRYPOINT ["gansharing"]
CMD ["--help"]
