"""Receives Berth's hooks on 127.0.0.1:9099 and writes a line about each. The key is in the variable HOOK_KEY."""

import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

KEY = os.environ["HOOK_KEY"].encode()
# How old a signature may be: nobody can send later again what they have seen.
MAX_AGE_SECONDS = 300
# Longest body that is read. Berth's events have a few hundred bytes.
MAX_BODY_BYTES = 1 << 20


def is_genuine(header, body):
    """Whether the body is signed with the key, and not long ago."""
    fields = dict(part.partition("=")[::2] for part in header.split(","))
    stamp = fields.get("t", "")
    expected = hmac.new(KEY, stamp.encode() + b"." + body, "sha256").hexdigest()
    is_signed = hmac.compare_digest(expected.encode(), fields.get("v1", "").encode())
    return is_signed and abs(time.time() - int(stamp)) < MAX_AGE_SECONDS


def describe(event):
    end = event.get("exit") or {}
    code = "" if end.get("code") is None else f", code {end['code']}"
    return f"{event['type']} of {event['class']}/{event['name']}" + (f": {end['reason']}{code}" if end else "")


class Hooks(BaseHTTPRequestHandler):
    timeout = 10  # seconds for a sender that is slow

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length) if 0 <= length <= MAX_BODY_BYTES else b""
        genuine = is_genuine(self.headers.get("berth-signature", ""), body)
        if genuine:
            print(describe(json.loads(body)), flush=True)
        # Anything but 200 to 299, and Berth tells it again later.
        self.send_response(200 if genuine else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Nothing but the lines above is written."""


HTTPServer(("127.0.0.1", 9099), Hooks).serve_forever()
