"""Page and interface for programs in one server."""

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from huggingface_hub.constants import HF_HOME
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ..photo_index import PhotoIndex
from . import drawing
from .api import make_api
from .decoding import MOST_BYTES
from .explorer import Explorer
from .limits import LimitedBodies
from .no_files import NoFiles
from .page import make_page
from .photos import ServedPhotos
from .theme import theme

MOST_BODY = MOST_BYTES * 4 // 3 + 2**16  # a photo in base64, and what is around it
BODY_SECONDS = 60.0


def make_app(index: PhotoIndex, cache: str | Path | None = None, title: str | None = None) -> FastAPI:
    """Everything that is served for an index: the page at `/`, the interface for programs beside it.

    Args:
        index: of the photos.
        cache: folder for thumbnails, default one in the cache of Hugging Face.
        title: of the page; default the name of the collection.
    """
    explorer = Explorer(index, ServedPhotos(index, cache or Path(HF_HOME) / "concepthash" / "thumbnails"))
    app = make_api(explorer)
    app.state.explorer = explorer
    app.add_middleware(NoFiles)
    app.add_middleware(LimitedBodies, most_bytes=MOST_BODY, seconds=BODY_SECONDS)
    title = title or Path(index.source.photos or "Photos").stem.replace("_", " ")
    return gr.mount_gradio_app(
        app,
        make_page(explorer, title),
        path="/",
        theme=theme(),
        css=drawing.style(explorer.spec.num_concepts),
        footer_links=[],
        ssr_mode=False,
        run_history=False,
        show_error=False,  # only what is meant for visitors
    )


def listen(app: FastAPI, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        app: from `make_app`.
        host: the address to listen on; others than this machine's own let everybody in who can reach it.
        port: to listen on.

    Raises:
        OSError: if it cannot listen there, as when the port is taken.
    """
    if _is_own(host):
        # a page elsewhere must not reach it through a name of its own for this machine
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
    shown = f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # whoever comes from now on is answered as soon as all is there
        except OSError as error:
            raise OSError(
                f"cannot listen on {shown}:{port} ({error.strerror}): give another --port or --host"
            ) from None
        print(f"open http://{shown}:{listening.getsockname()[1]}", flush=True)
        # pages that are open hold a connection each, and never end it
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        with suppress(KeyboardInterrupt):  # which is how a server ends
            uvicorn.Server(config).run(sockets=[listening])
    app.state.explorer.close()


def _is_own(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
