"""The studio's database, and the folder with its files."""

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
    String,
    Table,
    cast,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from sqlalchemy.sql.elements import ColumnElement

from ornstein import files
from ornstein.arguments import shorten
from ornstein.studio.errors import one_line
from ornstein.studio.tables import jobs, metadata, pictures

__all__ = ["Store", "new_id"]

FOLDERS = ("pictures", "uploads", "sets", "runs", "logs")
DATABASE = "studio.sqlite"


def new_id() -> str:
    """A random id of 16 hexadecimal digits that cannot be guessed."""
    return secrets.token_hex(8)


class Store:
    """The studio's database, and the folder with its files.

    Args:
        folder: where the files are kept; created if missing.
        url: SQLAlchemy's URL of the database; None for a SQLite file in the folder.

    Raises:
        ValueError: the database is damaged or cannot be reached.
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
                check = connection.execute(text("PRAGMA quick_check")).scalar() if self.is_sqlite else "ok"
            if check != "ok":
                reason = shorten(one_line(str(check)), 120)
                raise ValueError(f"the studio's database is damaged ({reason}); {self.remedy}")
            with self.engine.begin() as connection:
                _migrate(connection)
                if self.is_sqlite and (damage := _damaged_value(connection)):
                    raise ValueError(f"the studio's database is damaged ({damage}); {self.remedy}")
        except DatabaseError as error:
            remedy = "give another --folder or --database" if isinstance(error, OperationalError) else self.remedy
            raise ValueError(f"the studio's database cannot be used ({error.orig}); {remedy}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the studio's database is damaged (it holds unreadable text); {self.remedy}") from None

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @property
    def remedy(self) -> str:
        """How to repair a damaged database, for messages."""
        return "rebuild it from the pictures with `ornstein studio --rebuild`" if self.is_sqlite else "check --database"

    def insert(self, table: Table, row: Mapping[str, Any]) -> bool:
        """Insert a row; return False if its id or key exists already."""
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(table), dict(row))
        except IntegrityError:
            return False
        return True

    def update(self, table: Table, where: ColumnElement[bool], **values: Any) -> None:
        """Update rows."""
        with self.engine.begin() as connection:
            connection.execute(update(table).where(where).values(**values))

    def delete(self, table: Table, where: ColumnElement[bool]) -> None:
        """Delete rows."""
        with self.engine.begin() as connection:
            connection.execute(delete(table).where(where))

    def get(self, table: Table, where: ColumnElement[bool]) -> dict[str, Any] | None:
        """The first matching row, or None."""
        with self.engine.connect() as connection:
            row = connection.execute(select(table).where(where)).mappings().first()
        return None if row is None else dict(row)

    def select(self, table: Table, *where: ColumnElement[bool], order: Sequence[Any] = (),
               limit: int | None = None) -> list[dict[str, Any]]:
        """The matching rows, in the given order."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(table).where(*where).order_by(*order).limit(limit)).mappings()
            return [dict(row) for row in rows]

    def count(self, table: Table, *where: ColumnElement[bool]) -> int:
        """The number of matching rows."""
        with self.engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()

    def finish_job(self, job: str, rows: Iterable[Mapping[str, Any]], result: Any) -> None:
        """Mark a job as done and insert the rows of its pictures, in one transaction."""
        with self.engine.begin() as connection:
            connection.execute(delete(pictures).where(pictures.c.job == job))
            if rows := [dict(row) for row in rows]:
                connection.execute(insert(pictures), rows)
            connection.execute(update(jobs).where(jobs.c.id == job).values(
                status="done", finished=time.time(), result=result))

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(url, pool_size=8, max_overflow=32)
    except Exception as error:  # a missing driver or an invalid URL raises many types
        raise ValueError(f"database {url!r} cannot be used ({error}); give a URL such as sqlite:///studio.sqlite"
                         ) from None
    if engine.dialect.name == "sqlite":
        @event.listens_for(engine, "connect")
        def configure(connection: Any, _: Any) -> None:
            # A write-ahead log allows reads during a write; each commit is on disk before it is acknowledged.
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=20000"):
                connection.execute(f"PRAGMA {pragma}")
    return engine


def _damaged_value(connection: Connection) -> str | None:
    """Describe the first text or JSON that cannot be read, which SQLite's own check does not find; None without one."""
    for column in (column for table in metadata.sorted_tables for column in table.columns):
        is_json = isinstance(column.type, JSON)
        if not is_json and not isinstance(column.type, String):
            continue
        suspect = column.op("GLOB", is_comparison=True)(literal_column("'*[^ -~]*'"))  # which may not be UTF-8
        if is_json:
            suspect = or_(suspect, func.json_valid(column) == 0)
        values: Iterable[Any] = connection.execute(
            select(cast(column, LargeBinary)).where(column.is_not(null()), suspect)).scalars()
        for value in values:
            try:
                json.loads(value) if is_json else value.decode()  # JSON may hold NaN, which SQLite does not accept
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
    except Exception as error:  # of a database that a newer version has written
        raise ValueError(f"the studio's database cannot be upgraded ({error}); a newer version of Ornstein may have "
                         "written it") from None
