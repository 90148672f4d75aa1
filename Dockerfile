# syntax=docker/dockerfile:1
# bids-hsf as a BIDS App:
#   docker run --rm --user "$(id -u):$(id -g)" -v BIDS:/bids:ro -v OUT:/out hsf /bids /out participant
# Variants (CPU provider alone, CUDA) and build arguments: docker/README.md
ARG BASE_IMAGE=debian:12-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171

# The secrets are optional: a mirror's configuration that must not stay in the image.
FROM ${BASE_IMAGE} AS python
RUN --mount=type=secret,id=apt.conf,target=/etc/apt/apt.conf \
    apt-get update -q \
    && apt-get install -q -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/*

FROM python AS build
RUN --mount=type=secret,id=apt.conf,target=/etc/apt/apt.conf \
    apt-get update -q \
    && apt-get install -q -y --no-install-recommends python3-venv
WORKDIR /src
COPY . .
ARG ONNXRUNTIME=openvino
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG MODELS="longaxis bagging_accurate"
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    docker/install.sh /opt/bids-hsf

FROM python
COPY --from=build /opt/bids-hsf /opt/bids-hsf
COPY --from=build /opt/bids-hsf/version /version
# Sites without overlay support can mount only where a folder exists; whoever runs it may write to the last two.
RUN install -d -m 0755 /bids && install -d -m 1777 /out /work
ARG VERSION=dev
ARG REVISION=unknown
ARG IMAGE=clementpoiret/bids-hsf
# Nothing is written outside the output and work folders, whoever runs it: any user id, no home, read-only root.
ENV PATH=/opt/bids-hsf/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONUNBUFFERED=1 \
    BIDS_HSF_CACHE=/opt/bids-hsf/models \
    BIDS_HSF_CONTAINER=${IMAGE}:${VERSION}
LABEL org.opencontainers.image.title="bids-hsf" \
      org.opencontainers.image.description="BIDS App that segments hippocampal subfields" \
      org.opencontainers.image.url="https://github.com/clementpoiret/bids-hsf" \
      org.opencontainers.image.source="https://github.com/clementpoiret/bids-hsf" \
      org.opencontainers.image.documentation="https://github.com/clementpoiret/bids-hsf#readme" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/debian:12-slim"
# Nobody in particular, and not root; say --user to have the files belong to you.
USER 65532:65532
ENTRYPOINT ["/opt/bids-hsf/bin/bids-hsf"]
