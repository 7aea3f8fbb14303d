"""The server of the page: Bokeh on this machine's loopback, for nobody else."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import Server

from moe_replay.figures.live.answering_processes import AnsweringProcesses, Lanes
from moe_replay.figures.live.choice import Source
from moe_replay.figures.live.page import Page
from moe_replay.figures.live.page_inputs import PageInputs, read_inputs
from moe_replay.traces.errors import InputError

LOOPBACK = "127.0.0.1"
LAST_S = 5  # from Ctrl-C to the end at most


def served(inputs: PageInputs, processes: AnsweringProcesses, port: int = 0) -> Server:
    """Return a started server of the page; port 0 takes a free one. InputError where a port is taken."""

    def open_page(document: Document) -> None:
        def on_loop(function: Callable[[], None]) -> None:
            if document.session_context is not None:  # a window that was closed wants no answers
                document.add_next_tick_callback(function)

        Page(inputs, Lanes(processes, on_loop)).put_into(document)

    application = Application(FunctionHandler(open_page))
    try:
        port = port or free_port()
        # Pages of other sites in the same browser may not talk to this one.
        origins = [f"{LOOPBACK}:{port}", f"localhost:{port}"]
        server = Server({"/": application}, address=LOOPBACK, port=port, allow_websocket_origin=origins)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise InputError(f"--port is {port}, which is taken; allowed: another one, or 0 for any that is free") from None
    server.start()
    return server


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        return found.getsockname()[1]


def serve(source: Source, port: int) -> None:
    """Serve the page until Ctrl-C; InputError where the trace or the costs cannot be read, or the port is taken."""
    with AnsweringProcesses() as processes:
        server = served(read_inputs(source, processes), processes, port)
        print(
            f"http://{LOOPBACK}:{server.port}/ shows {source.trace}, on this machine alone; Ctrl-C ends it", flush=True
        )
        try:
            until_ctrl_c(server)
        finally:
            server.stop()


def until_ctrl_c(server: Server) -> None:
    """Answer until somebody presses Ctrl-C, which is the usual end, or asks the process to end."""
    loop = server.io_loop
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.add_callback_from_signal(loop.stop))
    loop.start()
    # A process that dies in the middle of an answer can leave its pool waiting for ever: this one ends all the same.
    last = threading.Timer(LAST_S, os._exit, (0,))
    last.daemon = True
    last.start()
    print("ended", flush=True)
