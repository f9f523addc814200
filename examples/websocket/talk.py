"""Says a text to a WebSocket echo and prints what comes back: talk.py HOST:PORT PATH TEXT. Short texts only."""

import base64
import os
import socket
import sys

place, path, text = sys.argv[1:]
host, port = place.rsplit(":", 1)
request = (
    f"GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
)
# Seconds: a container may have to start before it answers.
with socket.create_connection((host, int(port)), timeout=30) as connection:
    connection.sendall(request.encode())
    answer = connection.makefile("rb")
    print(answer.readline().decode().strip())
    while answer.readline() != b"\r\n":
        pass
    # A text in one frame. Clients mask what they send (RFC 6455, 5.3).
    payload, mask = text.encode(), os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    connection.sendall(bytes([0x81, 0x80 | len(payload)]) + mask + masked)
    _, length = answer.read(2)
    print(answer.read(length).decode())
