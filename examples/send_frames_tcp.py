"""Send frames to ``cocuyo live tcp://127.0.0.1:PORT`` and print the events that come back.

    cocuyo live tcp://127.0.0.1:5555 --publish --out session1
    python examples/send_frames_tcp.py 5555 slice.npy 20

Nothing but the standard library and NumPy. A program in another language does the same: each
message is ``coc1``, the length of the header (4 bytes, little-endian), the header (JSON), and for a
frame its values. docs/reference/live.md lists the messages.
"""

import json
import select
import socket
import sys
import time

import numpy as np


class Sender:
    """A connection to cocuyo."""

    def __init__(self, port, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port))

    def send(self, header, payload=b""):
        text = json.dumps(header).encode()
        self.socket.sendall(b"coc1" + len(text).to_bytes(4, "little") + text + payload)

    def receive(self):
        """Wait for one message."""
        prefix = self._read(8)
        return json.loads(self._read(int.from_bytes(prefix[4:], "little")))

    def arrived(self):
        """Give the messages that are there, without waiting."""
        while select.select([self.socket], [], [], 0)[0]:
            yield self.receive()

    def _read(self, n_bytes):
        data = b""
        while len(data) < n_bytes:
            part = self.socket.recv(n_bytes - len(data))
            if not part:
                msg = "cocuyo has closed the connection"
                raise ConnectionError(msg)
            data += part
        return data


def main(port, path, rate_hz):
    movie = np.load(path, mmap_mode="r")
    sender = Sender(port)
    sender.send(
        {
            "type": "start",
            "version": 1,
            "rows": movie.shape[1],
            "columns": movie.shape[2],
            "dtype": movie.dtype.name,
            "frame_rate_hz": rate_hz,
            "name": "example",
        }
    )
    ready = sender.receive()
    if ready["type"] == "error":
        sys.exit(ready["message"])
    sender.send({"type": "listen"})
    began = time.monotonic()
    # After an interruption cocuyo says from which frame on it needs them.
    first = ready["next_index"]
    for index in range(first, len(movie)):
        time.sleep(max(0.0, began + (index - first) / rate_hz - time.monotonic()))
        frame = np.ascontiguousarray(movie[index])
        sender.send(
            {"type": "frame", "index": index}, frame.astype(frame.dtype.newbyteorder("<")).tobytes()
        )
        for message in sender.arrived():
            if message["type"] == "event":
                print(f"frame {index}: {message['id']} is active since {message['onset_s']:.2f} s")
    sender.send({"type": "end"})
    while sender.receive()["type"] != "closed":
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
