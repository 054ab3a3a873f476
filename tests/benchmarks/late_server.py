"""A server that answers copies as AWS does: late, but any number at once. There the client is the limit.

nginx with Debian's echo module answers each request that has `x-amz-copy-source` after 40 ms, without copying anything,
and hands the rest to SeaweedFS: also the copies by which Sealift tries whether conditions are heeded, since it looks
before each write where they are not. It listens for plain HTTP and for TLS.

The answer's status is 206: with 200, nginx's own not-modified filter turns the answer to `If-None-Match: *` into a 304;
awscrt, boto3 and s5cmd take 206 as success.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.doubles.certificates import Certificate
from tests.doubles.servers import free_ports

LATENCY_SECONDS = 0.04
CONNECTIONS = 8192
PACKAGES = "nginx-light libnginx-mod-http-echo"
MODULE = "ngx_http_echo_module.so"
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

_CONFIG = """\
load_module {module};
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300; if_modified_since off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_x_amz_copy_source $late {{ default 1; "" 0; "~\\.sealift[-/]" 0; }}
  upstream store {{ server {store}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl backlog=4096;
    ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      error_page 418 = @late;
      if ($late) {{ return 418; }}
      proxy_pass http://store; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_buffering off; proxy_request_buffering off; client_max_body_size 0;
    }}
    location @late {{
      echo_status 206; default_type application/xml; echo_sleep {latency};
      echo '<?xml version="1.0" encoding="UTF-8"?>'
           '<CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
           '<LastModified>2026-11-25T00:00:00.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag></CopyObjectResult>';
    }}
  }}
}}
"""


class Missing(Exception):
    """What the late server needs is not on this machine. The message says how to get it."""


def find() -> tuple[str, Path]:
    """nginx and its echo module. Raises Missing."""
    nginx = shutil.which("nginx", path=_PATH)
    if nginx is None:
        raise Missing(f"nginx is not installed: apt-get install {PACKAGES}")
    built = subprocess.run([nginx, "-V"], check=True, capture_output=True, text=True).stderr
    told = re.search(r"--modules-path=(\S+)", built)
    folders = [told.group(1)] if told else []
    for folder in [*folders, "/usr/lib/nginx/modules", "/usr/local/lib/nginx/modules"]:
        if (module := Path(folder) / MODULE).exists():
            return nginx, module
    raise Missing(f"nginx has no {MODULE}: apt-get install {PACKAGES}")


@contextmanager
def late_server(endpoint: str, etag: str, certificate: Certificate) -> Iterator[dict[str, str]]:
    """Runs the server before the store at `endpoint` and yields its own endpoints by scheme.

    Every copy answers `etag`. Raises Missing.
    """
    nginx, module = find()
    store = urlsplit(endpoint)
    if store.scheme != "http":
        raise Missing(f"the late server reaches its store over plain HTTP, and {endpoint} is none")
    port, tls_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="sealift-late-") as folder:
        os.chmod(folder, 0o755)  # nginx's worker is another user when root starts it
        config = Path(folder) / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                module=module,
                folder=folder,
                files=CONNECTIONS * 2,
                connections=CONNECTIONS,
                store=store.netloc,
                port=port,
                tls_port=tls_port,
                chain=certificate.chain,
                key=certificate.key,
                latency=LATENCY_SECONDS,
                etag=etag,
            )
        )
        process = subprocess.Popen([nginx, "-e", f"{folder}/error.log", "-p", folder, "-c", str(config)])
        try:
            _await_port(process, port, Path(folder) / "error.log")
            yield {"http": f"http://127.0.0.1:{port}", "https": f"https://127.0.0.1:{tls_port}"}
        finally:
            process.terminate()
            process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"nginx did not start: {log.read_text() if log.exists() else process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nginx does not listen on port {port} after 10 seconds")
