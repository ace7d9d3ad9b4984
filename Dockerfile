# Serves the run that is mounted at /run: docker run -p 8000:8000 -v $PWD/runs/demo:/run onesearch
FROM python:3.12-slim
WORKDIR /app
ENV HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive
COPY constraints.txt .
RUN pip install --no-cache-dir -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".[serve,evaluation,fast]"
RUN useradd --create-home server
USER server
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"
STOPSIGNAL SIGTERM
CMD ["onesearch", "serve", "/run", "--host", "0.0.0.0", "--port", "8000"]
