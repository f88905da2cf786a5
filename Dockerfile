# A server of an index, on a CPU. The index, its model and its photos are given as volumes, under the paths that they
# had where the index was made, or wherever --model and --photos say:
#
#   docker build -t concepthash .
#   docker run --rm -p 7860:7860 -v "$PWD:$PWD:ro" -v thumbnails:/thumbnails concepthash "$PWD/outputs/index-my_photos"
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY src ./src
# torch for the CPU, without the gigabytes for GPUs
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu ".[app,heif]" \
    && useradd --create-home --uid 1000 server \
    && install -d -o server /thumbnails

USER server
WORKDIR /home/server
ENV HF_HUB_DISABLE_TELEMETRY=1 GRADIO_ANALYTICS_ENABLED=False
VOLUME /thumbnails
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://localhost:7860/health')"]
# inside a container every address is its own: who gets in is up to what -p publishes
ENTRYPOINT ["concepthash", "serve", "--host", "0.0.0.0", "--cache_dir", "/thumbnails"]
CMD ["/index"]
