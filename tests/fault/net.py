"""A TCP proxy that misbehaves on demand, and a webhook receiver that keeps a record. Each has a thread of its own."""
import asyncio
import http.server
import json
import random
import socket
import struct
import threading


class Connection:
    def __init__(self, client):
        self.client, self.server = client, None
        self.is_dead = False  # swallowed: nothing of it reaches the other side any more

    def close(self):
        for end in self.client, self.server:
            if end is not None:
                end.close()

    @staticmethod
    def reset(end):
        if end is None or end.is_closing():
            return
        sock = end.get_extra_info("socket")
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.transport.abort()


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes on to a unix socket (its path) or a (host, port).

    mode: pass; slow (a few bytes at a time); delay (each piece comes later); swallow (half-open: whoever is
    connected, or connects, is never heard of again, and nobody is told); refuse. cut() resets what is there.
    """

    def __init__(self, upstream):
        self.upstream, self.mode, self.connections = upstream, "pass", set()
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        self.listener = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=128))
        self.port = self.listener.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    def set(self, mode):
        self._do(self._set, mode)

    def cut(self):
        self._do(self._cut)

    def close(self):
        """Nobody is there: a client with several hosts goes on to the next one only if it cannot connect."""
        self._do(self.listener.close)
        self.cut()

    def _do(self, function, *arguments):
        """On the proxy's own thread; done when it returns."""
        is_done = threading.Event()

        def run():
            try:
                function(*arguments)
            finally:
                is_done.set()
        self.loop.call_soon_threadsafe(run)
        is_done.wait()

    def _set(self, mode):
        for c in self.connections:
            if mode == "swallow":
                c.is_dead = True
            elif self.mode == "swallow":
                # The network is back. The server's side of what it swallowed has timed out; who tried to connect
                # may try again. The clients' side is left to the clients: half-open for good.
                c.reset(c.server or c.client)
        self.mode = mode

    def _cut(self):
        for c in self.connections:
            c.reset(c.client)
            c.reset(c.server)

    async def _serve(self, reader, writer):
        c = Connection(writer)
        self.connections.add(c)
        try:
            if self.mode == "swallow":
                c.is_dead = True
                await self._pump(c, reader, None)
            elif self.mode != "refuse":
                if isinstance(self.upstream, str):
                    server, c.server = await asyncio.open_unix_connection(self.upstream)
                else:
                    server, c.server = await asyncio.open_connection(*self.upstream)
                await asyncio.gather(self._pump(c, reader, c.server), self._pump(c, server, c.client))
        except OSError:
            pass
        finally:
            self.connections.discard(c)
            c.close()

    async def _pump(self, c, reader, to):
        try:
            while data := await reader.read(65536):
                if self.mode == "delay":
                    await asyncio.sleep(random.uniform(0.01, 0.15))
                step = 400 if self.mode == "slow" else len(data)
                for i in range(0, len(data), step):
                    if c.is_dead:
                        break
                    to.write(data[i:i + step])
                    await to.drain()
                    if step < len(data):
                        await asyncio.sleep(0.002)
        except OSError:
            pass
        if c.is_dead and to is c.client:
            return  # the server's end is no news to the client
        while c.is_dead and self.mode == "swallow":
            await asyncio.sleep(0.05)  # nor is the client's to the server
        c.close()


class Receiver:
    """Takes webhooks. Each request begins a run and, answered with 204, ends it well; some get 500 instead."""

    def __init__(self, seed, record):
        dice, lock = random.Random(seed), threading.Lock()
        self.is_calm = False

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(handler):
                event = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
                subscription, position = handler.path.removeprefix("/"), event["position"]
                with lock:
                    is_good = self.is_calm or dice.random() < 0.95
                    # the attempt is not told; what is written down here was answered, heard or not
                    record(f"S 0 {subscription} {position} 0 -1\nE 0 {subscription} {position} 0 {0 if is_good else 1}\n")
                handler.send_response(204 if is_good else 500)
                if not is_good:
                    handler.send_header("content-length", "0")
                handler.end_headers()

            def log_message(handler, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(server, request, client_address):
                pass  # it was cut

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
