"""An HTTP server on this machine that answers as the Hugging Face hub does."""
import hashlib
import http.server

REPO = '/sail/dl2/resolve/main/'
COMMIT = '0' * 40


class Server(http.server.ThreadingHTTPServer):
    """What it serves, and how it misbehaves."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server_port}'
        # Files of the hub are kept elsewhere, on another host.
        self.storage = f'http://localhost:{self.server_port}'
        self.files = {}  # {path of a URL: content}
        self.cuts = []  # bytes of each body, after which the connection drops
        self.status = None  # instead of every file
        self.asked = []  # (method, path, Range)


class Handler(http.server.BaseHTTPRequestHandler):

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        self.path = self.path.partition('?')[0]
        self.wanted = self.headers.get('Range')
        server.asked.append((self.command, self.path, self.wanted))
        content = server.files.get(self.path)
        if server.status:
            self.answer(server.status, {})
        elif content is None:
            self.answer(404, {'X-Error-Code': 'EntryNotFound',
                              'X-Repo-Commit': COMMIT})
        elif self.path.startswith(REPO):
            digest = hashlib.sha256(content).hexdigest()
            server.files[f'/storage/{digest}'] = content
            self.answer(302, {
                'Location': f'{server.storage}/storage/{digest}',
                'X-Repo-Commit': COMMIT, 'X-Linked-Etag': f'"{digest}"',
                'X-Linked-Size': len(content)})
        else:
            self.send(content)

    def send(self, content):
        start = int(self.wanted[len('bytes='):-1]) if self.wanted else 0
        headers = {'Content-Length': len(content) - start}
        if start:
            headers['Content-Range'] = (
                f'bytes {start}-{len(content) - 1}/{len(content)}')
        self.answer(206 if start else 200, headers)
        if self.command == 'GET':
            cut = self.server.cuts.pop(0) if self.server.cuts else None
            self.wfile.write(content[start:][:cut])
            self.close_connection = True

    def answer(self, status, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
