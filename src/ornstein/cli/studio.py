"""`ornstein studio`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ornstein import __version__
from ornstein.cli.app import Out, app
from ornstein.display import say

__all__ = ["studio"]

DEFAULT_PORT, NEW_TOKEN = 8780, "new"


@app.command(sort_key=5)
def studio(
    runs: Annotated[Out | None, Parameter(
        name="RUN", help="A run, a model's file, or a folder of runs; by default only the studio's own trainings.")
        ] = None,
    *,
    port: Annotated[int, Parameter(help="Port to listen on; 0 for any free one.")] = DEFAULT_PORT,
    host: Annotated[str, Parameter(help="Address to listen on; any but this machine's own needs --token.")
                    ] = "127.0.0.1",
    token: Annotated[str | None, Parameter(
        help="Secret that clients must send, or 'new' to generate and print one.")] = None,
    database: Annotated[str | None, Parameter(
        help="URL of the database; by default a SQLite file in --folder.")] = None,
    rebuild: Annotated[bool, Parameter(
        help="Rebuild the database of --folder from its pictures, and exit.", negative=())] = False,
    folder: Annotated[Out, Parameter(help="Folder for pictures, uploads and trainings.")] = Path("studio"),
) -> None:
    """Serve a page to train, draw and edit in the browser, and models over HTTP."""
    if not 0 <= port < 65536:
        raise ValueError(f"--port is {port}; it must be from 0 to 65535")
    if runs is not None and not runs.exists():
        raise FileNotFoundError(f"{runs} does not exist; name a run, or a folder of runs")
    token = secrets.token_urlsafe(24) if token == NEW_TOKEN else token
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise ValueError("--token must be 16 or more printable characters without spaces; --token new makes one")
    try:
        from ornstein.studio.guard import is_local
        from ornstein.studio.rebuild import rebuild as rebuild_database
        from ornstein.studio.server import serve
        from ornstein.studio.state import Studio
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"the studio needs the package {error.name} (pip install 'ornstein[studio]')"
                                  ) from None
    if rebuild:
        counts = rebuild_database(folder)
        say(", ".join(f"{count:,} {name}" for name, count in counts.items()))
        return
    if token is None and not is_local(host):
        raise ValueError(f"--host is {host}, which others can reach; give --token new, and share the address that is "
                         "printed")
    serve(Studio(runs, folder, database, version=__version__), host, port, token)
