"""`onesearch serve`: an HTTP server with a search page."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from .arguments import Commands, add_checkpoint, add_command, add_search_settings, checkpoint_folder, positive, search_settings

if TYPE_CHECKING:
    from onesearch.serving.http.served import ServedModel
    from onesearch.serving.http.server_config import ServerConfig


KEEP_ALIVE = 75
"""Seconds after which an idle connection is closed; our choice.

It is more than the 60 that proxies and clients keep one: with uvicorn's own 5, a request may meet a connection that is being closed, and
gets no answer.
"""


def add(commands: Commands) -> None:
    """Add `serve` to the command line."""
    parser = add_command(
        commands, "serve", _serve, "serve a checkpoint over HTTP, with a search page at / and the API at /docs"
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 listens to the network, and whoever reaches it can search (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen at; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="file with API keys, one per line; changes and events need one (also: environment variable ONESEARCH_API_KEYS)",
    )
    parser.add_argument(
        "--shoppers",
        type=int,
        metavar="N",
        help="users of the market that the page offers to search as, with their histories; whoever reaches the page can read them "
        "(default: 50 of a simulated market, none of any other)",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--batch", type=positive, metavar="N", help="requests that are searched together at most (default: 32)")
    limits.add_argument(
        "--batch-wait",
        type=float,
        metavar="SECONDS",
        help="time to wait for a batch to fill before it is searched (default: 0)",
    )
    limits.add_argument(
        "--queue", type=positive, metavar="N", help="requests that may wait; further ones are answered with 503 (default: 256)"
    )
    limits.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="time after which a request is answered with 503 (default: 10)"
    )
    limits.add_argument("--max-body", type=positive, metavar="BYTES", help="largest body of a request (default: 4194304)")
    limits.add_argument("--max-beams", type=positive, metavar="N", help="most beams that a request may ask for (default: 512)")
    add_search_settings(parser)


def _serve(options: argparse.Namespace) -> None:
    from onesearch.extras import require

    require("serve", needed_by="onesearch serve")
    import uvicorn

    from onesearch.serving.http.app import make_app
    from onesearch.serving.http.keys import ApiKeys
    from onesearch.serving.http.service import SearchService

    config, keys = _config(options), ApiKeys.load(options.keys)
    model = served_model(options.checkpoint, search_settings(options), config.batch_size)
    service = SearchService(model, config)
    service.warm_up()
    market = model.market
    is_simulated = market is not None and "simulat" in str(market.info.get("source", ""))
    shoppers = options.shoppers if options.shoppers is not None else 50 * is_simulated
    app = make_app(service, keys, shoppers)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=options.host,
            port=options.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(config.grace),
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _already_stopped)
    with server.config.bind_socket() as socket:
        host, port = socket.getsockname()[:2]
        writes = "with API keys" if len(keys) else "refused, because no API key is set"
        print(f"{len(service.index):,} items at http://{host}:{port}/ (API: /docs); changes are {writes}", flush=True)
        server.run([socket])
    print("stopped; all requests were answered", file=sys.stderr)


def _already_stopped(number: int, frame: FrameType | None) -> None:
    """Do nothing: uvicorn raises the signal that stopped it once more when all requests are answered."""


def _config(options: argparse.Namespace) -> ServerConfig:
    from onesearch.serving.http.server_config import ServerConfig

    from .arguments import given

    return ServerConfig(
        **given(
            batch_size=options.batch,
            batch_wait=options.batch_wait,
            queue_size=options.queue,
            timeout=options.timeout,
            max_body=options.max_body,
            max_beams=options.max_beams,
        )
    )


def served_model(folder: Path, settings: Mapping[str, Any] | None = None, batch_size: int = 32) -> ServedModel:
    """Load a checkpoint for serving, with a writer of its catalogue.

    Args:
        folder: folder of a checkpoint, or of a run that has one.
        settings: fields of `SearchConfig` that replace those of the checkpoint.
        batch_size: largest number of requests that are searched at once.
    """
    from onesearch.pipeline.live_catalogue import LiveCatalogue
    from onesearch.serving.http.served import load_served

    checkpoint = checkpoint_folder(folder)
    return load_served(checkpoint, settings, batch_size, LiveCatalogue)
