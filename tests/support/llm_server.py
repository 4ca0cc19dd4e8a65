"""A real HTTP server that speaks the OpenAI chat protocol, in place of a language model."""

import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from clipnb.describe import llm

KEY = "sk-a-key-that-nobody-may-see"


class Server(ThreadingHTTPServer):
    """`answer(classname, turn, server)` gives (status, headers, text or bytes); a string with status 200 is the
    model's answer."""

    daemon_threads = True

    def __init__(self, answer, now=lambda: 0.0):
        self.answer, self.seen, self.lock, self.now = answer, [], threading.Lock(), now
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][0]["content"]
        name = re.search(r'category is "([^"]+)"', text).group(1)
        with self.server.lock:
            turn = sum(seen == name for seen, _, _ in self.server.seen)
            self.server.seen.append((name, self.server.now(), text))
        status, headers, content = self.server.answer(name, turn, self)
        if isinstance(content, str):
            content = json.dumps(
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": body["model"],
                    "choices": [
                        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
                    ],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
                }
            ).encode()
        try:
            self.send_response(status)
            for key, value in {"content-type": "application/json", **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client gave up waiting

    def log_message(self, *_):
        pass


def good(name):
    return json.dumps([f"a {name} number {word}" for word in ("one", "two")])


class Clock:
    """Stands in for `time`: it stands still, except that whoever waits for a time moves it there at once."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def event(self):
        """An event like threading.Event, whose `wait` takes this clock's time."""
        event = threading.Event()
        event.wait = lambda seconds: setattr(self, "now", max(self.now, self.now + seconds))
        return event


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(llm, "time", clock)
    monkeypatch.setattr(llm, "threading", SimpleNamespace(Lock=threading.Lock, Event=clock.event))
    return clock


@pytest.fixture
def serve(monkeypatch, clock):
    """Starts servers; every connection out of this machine is an error."""
    servers, outside, connect = [], [], socket.socket.connect

    def watched(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1"):
            outside.append(address)
            raise OSError("no outside connections in tests")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def start(answer):
        servers.append(Server(answer, clock.monotonic))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    assert outside == []
