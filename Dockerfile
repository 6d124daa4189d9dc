# Sweeps a store again and again: docs/operating.md, "As a service".
#   docker build --tag writeahead .
#   docker build --tag writeahead --build-arg EXTRAS=cli,http,obstore .
FROM python:3.13-slim AS build
ARG EXTRAS=cli,dataverse,s3
WORKDIR /checkout
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY examples/sessions examples/sessions
RUN python -m venv /opt/writeahead \
 && /opt/writeahead/bin/python -m pip install --no-cache-dir --disable-pip-version-check ".[$EXTRAS]"

FROM python:3.13-slim
COPY --from=build /opt/writeahead /opt/writeahead
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin writeahead \
 && install --directory --owner 10001 --mode 0700 /var/lib/writeahead
ENV PATH="/opt/writeahead/bin:$PATH"
USER 10001
# Where writeahead.toml, and the module of an adapter of your own, are looked for.
WORKDIR /var/lib/writeahead
STOPSIGNAL SIGTERM
# No HEALTHCHECK: a sweep that can't go on ends, and each call it makes has a deadline.
ENTRYPOINT ["writeahead"]
CMD ["sweep", "--write", "--every", "60s", "--json-lines"]
