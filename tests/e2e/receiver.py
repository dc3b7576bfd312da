#!/usr/bin/env python3
"""A webhook receiver for tests, on a free port of 127.0.0.1. Prints `port N`, then one JSON line for
each request: {"path", "headers", "body"}. The path says how it answers:

  /ok...          204
  /status/N       N
  /fail/N/...     500 to the first N requests of each webhook-id, then 204
  /retry-after/N  503 with Retry-After: N
  /redirect       302 to /ok/target
  /big            200 and a megabyte
  /hold/FILE      answers 204 once the file exists
  /switch/FILE    while the file exists what it says: a status, or "hold" until it says something else; else 204
  /redirect/N/P   status N to port P
  /text/N/BYTES   status N with so many bytes of text
  /raw/N          status N with bytes that are no text

With a certificate and its key (PEM files) as arguments it speaks TLS; a third argument is the address to
listen on.
"""
import http.server
import json
import os
import ssl
import sys
import threading
import time

lock = threading.Lock()
attempts = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        message = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()},
                   "body": body.decode("utf-8", "replace"), "time": time.time()}
        with lock:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
        self.answer(self.path.split("/")[1:], self.headers.get("webhook-id", ""))

    def do_GET(self):
        with lock:
            print(json.dumps({"path": "GET " + self.path, "headers": {}, "body": ""}), flush=True)
        self.reply(200)

    def answer(self, path, webhook_id):
        if path[0] == "status":
            self.reply(int(path[1]))
        elif path[0] == "fail":
            with lock:
                key = (self.path, webhook_id)
                attempts[key] = attempts.get(key, 0) + 1
                seen = attempts[key]
            self.reply(500 if seen <= int(path[1]) else 204, b"out of order" if seen <= int(path[1]) else b"")
        elif path[0] == "retry-after":
            self.reply(503, b"", {"Retry-After": path[1]})
        elif path[0] == "redirect":
            if len(path) > 2:
                self.reply(int(path[1]), b"", {"Location": "http://127.0.0.1:%s/ok/canary" % path[2]})
            else:
                self.reply(302, b"", {"Location": "/ok/target"})
        elif path[0] == "big":
            self.reply(200, b"x" * 1000000)
        elif path[0] == "switch":
            file = ("/" + "/".join(path[1:])).split("?")[0]
            deadline = time.monotonic() + 120
            while self.word(file) in ("hold", "") and time.monotonic() < deadline:
                time.sleep(0.02)
            self.reply(int(self.word(file)))
        elif path[0] == "text":
            self.reply(int(path[1]), b"y" * int(path[2]))
        elif path[0] == "raw":
            self.reply(int(path[1]), b"a\x00b\xff\xc3\xa9\n\"c\" \\ {,}")
        elif path[0] == "hold":
            deadline = time.monotonic() + 120
            while not os.path.exists("/" + "/".join(path[1:])) and time.monotonic() < deadline:
                time.sleep(0.02)
            self.reply(204)
        else:
            self.reply(204)

    @staticmethod
    def word(path):
        try:
            with open(path) as file:
                return file.read().strip()
        except FileNotFoundError:
            return "204"

    def reply(self, status, body=b"", headers=None):
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # the client went away

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server((sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1", 0), Handler)
if len(sys.argv) > 2 and sys.argv[1]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("port %d" % server.server_address[1], flush=True)
server.serve_forever()
