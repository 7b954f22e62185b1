"""Creates a topic in Kafka and a stream in NATS, by their wire protocols, without a library.

It creates nothing that is there already under that name, and deletes nothing.
"""

import json
import socket
import struct


def create_stream(port, name, subjects, **config):
    """A stream on the NATS server at `port`; `config` in the words of its API."""
    wanted = {"name": name, "subjects": subjects, "storage": "file", "retention": "limits", **config}
    body = json.dumps(wanted).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as nats, nats.makefile("rb") as lines:
        lines.readline()  # INFO
        subject = f"$JS.API.STREAM.CREATE.{name}".encode()
        nats.sendall(
            b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB _INBOX.drill 1\r\n'
            + b"PUB %s _INBOX.drill %d\r\n%s\r\n" % (subject, len(body), body)
        )
        while line := lines.readline():
            if line.startswith(b"PING"):
                nats.sendall(b"PONG\r\n")
            elif line.startswith(b"MSG"):
                answer = json.loads(lines.read(int(line.split()[-1])))
                if "error" in answer:
                    raise RuntimeError(f"stream {name}: {answer['error']}")
                return
    raise RuntimeError(f"stream {name}: NATS gave no answer")


def create_topic(port, name, partitions=3):
    """A topic on the Kafka broker at `port`: CreateTopics, version 2."""
    text = lambda value: struct.pack(">h", len(value)) + value.encode()
    topic = text(name) + struct.pack(">ihii", partitions, 1, 0, 0)
    request = struct.pack(">hhi", 19, 2, 1) + text("drill") + struct.pack(">i", 1) + topic
    request += struct.pack(">i?", 10_000, False)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as kafka, kafka.makefile("rb") as answer:
        kafka.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", answer.read(4))
        body = answer.read(length)
    # Correlation id, throttle time, one topic: its name, the code, a message.
    at = 4 + 4 + 4
    (size,) = struct.unpack_from(">h", body, at)
    (code,) = struct.unpack_from(">h", body, at + 2 + size)
    if code:
        raise RuntimeError(f"topic {name}: Kafka answered with code {code}")
