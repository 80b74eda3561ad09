"""A local HTTP server of files that answers as badly as asked: cut, of other bytes, with a proxy's page."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """``files``: path -> bytes. ``faults``: what is wrong with the next answers, one each; '' is nothing.

    ``asked`` lists the paths and ranges that were asked for.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.faults, self.asked = dict(files), [], []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def file_server(files):
    """Serve ``files`` while the block runs."""
    with FileServer(files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

    def handle_error(self, request, client_address):
        """Quiet: a client that has seen enough hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        server = self.server
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.asked.append((self.path, int(span[1]) if span else 0))
        fault = server.faults.pop(0) if server.faults else ""
        content = server.files.get(self.path)
        if fault.isdigit() or content is None:
            return self.answer(int(fault or 404), b"no", {})
        if fault == "page":
            return self.answer(200, b"<html>Please sign in</html>", {"Content-Type": "text/html; charset=utf-8"})
        if fault == "other":
            content = content[::-1]
        if fault == "short":
            return self.answer(200, content[:-1], {})
        if fault == "long":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content + b"x")
            self.close_connection = True
            return None
        start = int(span[1]) if span and fault != "no ranges" else 0
        more = {"ETag": '"1"'} | (
            {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        )
        if fault == "elsewhere":
            more["Content-Range"] = f"bytes 0-{len(content) - 1}/{len(content)}"
        return self.answer(206 if start else 200, content[start:], more, cut=fault == "cut")

    def answer(self, status, content, headers, *, cut=False):
        self.send_response(status)
        for name, value in {"Content-Type": "application/octet-stream", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut or self.close_connection
