"""Send frames to ``cocuyo live zmq+tcp://127.0.0.1:PORT`` and print the events that come back.

    cocuyo live zmq+tcp://127.0.0.1:5556 --publish --out session1
    python examples/send_frames_zmq.py 5556 slice.npy 20

Needs pyzmq (``pip install "cocuyo[live]"``). A message is one part, the header (JSON), and for a
frame a second part, its values. docs/reference/live.md lists the messages.
"""

import json
import sys
import time

import numpy as np
import zmq


def main(port, path, rate_hz):
    movie = np.load(path, mmap_mode="r")
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(f"tcp://127.0.0.1:{port}")

    def send(header, *payload):
        socket.send_multipart([json.dumps(header).encode(), *payload])

    send(
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
    ready = json.loads(socket.recv())
    if ready["type"] == "error":
        sys.exit(ready["message"])
    send({"type": "listen"})
    began = time.monotonic()
    first = ready["next_index"]
    for index in range(first, len(movie)):
        time.sleep(max(0.0, began + (index - first) / rate_hz - time.monotonic()))
        frame = np.ascontiguousarray(movie[index])
        send(
            {"type": "frame", "index": index}, frame.astype(frame.dtype.newbyteorder("<")).tobytes()
        )
        while socket.poll(0):
            message = json.loads(socket.recv())
            if message["type"] == "event":
                print(f"frame {index}: {message['id']} is active since {message['onset_s']:.2f} s")
    send({"type": "end"})
    while json.loads(socket.recv())["type"] != "closed":
        pass
    context.destroy()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
