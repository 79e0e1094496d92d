"""A real HTTP server on this machine, which can misbehave."""
import contextlib
import http.server
from pathlib import Path
from urllib.parse import urlparse

BASE = 'mmiformer://iformer_base'  # no sha256 of it is known
CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes


class Server(http.server.ThreadingHTTPServer):
    """What it serves, how it misbehaves, and what it was asked."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server_address[1]}'
        self.files = {}
        self.headers = {'ETag': '"one"'}
        self.ranges = True  # heeds Range, and If-Range
        self.if_range = True
        self.early = 0  # bytes by which it begins before the Range
        self.terse = False  # no version in answers to Range
        self.most = None  # bytes per answer that are declared and sent
        self.cuts = []  # bytes per answer, after which the connection drops
        self.status = None  # in place of everything
        self.location = None  # where it sends everybody on to
        self.gate = None  # (bytes, event, event): stops there, says so, waits
        self.asked = []  # (path, Range, If-Range)


class Handler(http.server.BaseHTTPRequestHandler):

    def log_message(self, *args):
        pass

    def do_GET(self):
        server, name = self.server, Path(urlparse(self.path).path).name
        asked = self.headers.get('Range'), self.headers.get('If-Range')
        server.asked.append((self.path, *asked))
        if server.location:
            self.send_response(302)
            self.send_header('Location', server.location)
            self.end_headers()
            return
        if server.status or name not in server.files:
            self.send_error(server.status or 404)
            return
        content, start = server.files[name], 0
        version = next(iter(server.headers.values()), None)
        if asked[0] and server.ranges and (
                asked[1] == version or not server.if_range):
            start = int(asked[0].removeprefix('bytes=')[:-1]) - server.early
            if start >= len(content):
                self.send_error(416)
                return
        body = content[start:][:server.most]
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-'
                             f'{start + len(body) - 1}/{len(content)}')
        if 'Content-Length' not in server.headers:
            self.send_header('Content-Length', str(len(body)))
        for key, value in server.headers.items():
            if value and not (start and server.terse):
                self.send_header(key, value)
        self.end_headers()
        if server.gate:
            size, reached, go_on = server.gate
            self.wfile.write(body[:size])
            reached.set()
            go_on.wait(20)
            body = body[size:]
        self.wfile.write(body[:server.cuts.pop(0) if server.cuts else None])

    def finish(self):
        with contextlib.suppress(OSError):  # the reader is gone
            super().finish()


def names(folder):
    return sorted(path.name for path in folder.iterdir())
