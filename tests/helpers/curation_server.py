"""The curation page served by a process of its own, which may be killed."""

from pathlib import Path


def serve(folder, addresses):
    """Serve a result, or the start page of a folder; put the address into a queue."""
    from cocuyo.io import is_result
    from cocuyo.server import App, Server

    place = Path(folder)
    server = Server(App(place, result=place if is_result(place) else None))
    addresses.put(server.url)
    server.serve_forever()
