"""The curation page: a server on loopback, and the page that it sends."""

from cocuyo.server.app import App
from cocuyo.server.web import LOOPBACK, Server

__all__ = ["LOOPBACK", "App", "Server"]
