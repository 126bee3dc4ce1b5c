"""What the studio remembers: rows in a database, by SQLAlchemy, and files beside it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    JSON,
    Connection,
    Engine,
    LargeBinary,
    Table,
    cast,
    create_engine,
    delete,
    event,
    func,
    insert,
    null,
    select,
    text,
    update,
)
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from sqlalchemy.sql.elements import ColumnElement

from ornstein import files
from ornstein.arguments import shorten
from ornstein.studio.refusal import sentence
from ornstein.studio.tables import jobs, metadata, pictures

__all__ = ["Store", "new_id"]

FOLDERS = ("pictures", "uploads", "sets", "runs", "logs")
DATABASE = "studio.sqlite"


def new_id() -> str:
    """An id of 16 hexadecimal digits that nobody guesses."""
    return secrets.token_hex(8)


class Store:
    """The studio's database, and the folder with its files.

    Args:
        folder: of the data, made if missing.
        url: of the database, as SQLAlchemy takes it; a SQLite file in the folder unless given.

    Raises:
        ValueError: a database that is damaged or cannot be reached.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        for name in FOLDERS:
            files.make_folder(folder / name)
            files.remove_leftovers(folder / name)
        self.url = url or f"sqlite:///{folder / DATABASE}"
        self.engine = _engine(self.url)
        try:
            with self.engine.connect() as connection:
                sound = connection.execute(text("PRAGMA quick_check")).scalar() if self.lite else "ok"
            if sound != "ok":
                told = shorten(sentence(str(sound)), 120)
                raise ValueError(f"the database of the studio is damaged ({told}); {self.remedy}")
            with self.engine.begin() as connection:
                _migrate(connection)
                if self.lite and (damaged := _damaged_values(connection)):
                    raise ValueError(f"the database of the studio is damaged ({damaged}); {self.remedy}")
        except DatabaseError as error:
            place = "give another --folder or --database" if isinstance(error, OperationalError) else self.remedy
            raise ValueError(f"the database of the studio cannot be used ({error.orig}); {place}") from None
        except UnicodeDecodeError:
            raise ValueError("the database of the studio is damaged (it holds text that cannot be read); "
                             f"{self.remedy}") from None

    @property
    def lite(self) -> bool:
        """Whether the database is a file of SQLite's."""
        return self.engine.dialect.name == "sqlite"

    @property
    def remedy(self) -> str:
        """What makes a damaged database whole again."""
        return "make it anew from the pictures with `ornstein studio --rebuild`" if self.lite else "look at --database"

    def add(self, table: Table, row: Mapping[str, Any]) -> bool:
        """Add a row; False where one with its id or key is there already."""
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(table), dict(row))
        except IntegrityError:
            return False
        return True

    def change(self, table: Table, where: ColumnElement[bool], **values: Any) -> int:
        """Change rows; gives how many there were."""
        with self.engine.begin() as connection:
            return connection.execute(update(table).where(where).values(**values)).rowcount

    def remove(self, table: Table, where: ColumnElement[bool]) -> int:
        """Delete rows; gives how many there were."""
        with self.engine.begin() as connection:
            return connection.execute(delete(table).where(where)).rowcount

    def one(self, table: Table, where: ColumnElement[bool]) -> dict[str, Any] | None:
        """The row that there is, or None."""
        with self.engine.connect() as connection:
            row = connection.execute(select(table).where(where)).mappings().first()
        return None if row is None else dict(row)

    def many(self, table: Table, *where: ColumnElement[bool], order: Sequence[Any] = (),
             most: int | None = None) -> list[dict[str, Any]]:
        """The rows that there are, in an order."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(table).where(*where).order_by(*order).limit(most)).mappings()
            return [dict(row) for row in rows]

    def count(self, table: Table, *where: ColumnElement[bool]) -> int:
        """How many rows there are."""
        with self.engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()

    def finish(self, job: str, rows: Iterable[Mapping[str, Any]], result: Any) -> None:
        """Write a finished job with its pictures, all in one transaction."""
        with self.engine.begin() as connection:
            connection.execute(delete(pictures).where(pictures.c.job == job))
            if rows := [dict(row) for row in rows]:
                connection.execute(insert(pictures), rows)
            connection.execute(update(jobs).where(jobs.c.id == job).values(
                status="done", finished=time.time(), result=result))

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(url, pool_size=8, max_overflow=32)
    except Exception as error:  # whatever a driver that is missing or a text that is no URL raises
        raise ValueError(f"database {url!r} cannot be used ({error}); give a URL such as sqlite:///studio.sqlite"
                         ) from None
    if engine.dialect.name == "sqlite":
        @event.listens_for(engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            # A write-ahead log lets readers read while one writes; each commit is on disk before it is answered.
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=20000"):
                connection.execute(f"PRAGMA {pragma}")
    return engine


def _damaged_values(connection: Connection) -> str | None:
    """The first column that holds broken JSON, at which SQLite's own check does not look; None if there is none."""
    for column in (column for table in metadata.sorted_tables for column in table.columns):
        if isinstance(column.type, JSON):
            suspect = select(cast(column, LargeBinary)).where(column.is_not(null()), func.json_valid(column) == 0)
            for value in connection.execute(suspect).scalars():
                try:
                    json.loads(value)  # it takes NaN, which SQLite does not
                except ValueError:
                    return f"{column} holds {value[:40]!r}"
    return None


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "ornstein.studio:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except OperationalError:
        raise
    except Exception as error:  # of a database that a newer version has made
        raise ValueError(f"the database of the studio cannot be brought to this version ({error}); it may be of a "
                         "newer one") from None
