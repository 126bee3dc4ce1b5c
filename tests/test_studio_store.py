"""The studio's database: one that is damaged is refused in words that mend it."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from ornstein.studio.store import Store
from ornstein.studio.tables import jobs
from test_studio import opened


def test_a_damaged_database_opens_sound_or_is_refused_in_a_line(tmp_path):
    """Cut at any place, or bytes of it replaced."""
    store, draw = Store(tmp_path), np.random.default_rng(0)
    for number in range(40):
        store.insert(jobs, {"id": f"{number:016x}", "client": "a", "kind": "generate", "model": "m", "status": "done",
                            "request": {"label": "x" * 200}, "created": 1.0})
    store.close()
    place, refused = tmp_path / "studio.sqlite", list[str]()
    content = place.read_bytes()
    for number in range(40):
        at = int(draw.integers(len(content)))
        damaged = content[:at] + draw.bytes(min((0, 1, 100, 4096)[number % 4], len(content) - at))
        for path in tmp_path.glob("studio.sqlite*"):
            path.unlink()
        place.write_bytes(damaged if number % 4 == 0 else damaged + content[len(damaged):])
        try:
            Store(tmp_path).close()
        except ValueError as error:
            refused.append(str(error))
    assert all("ornstein studio --rebuild" in text and "\n" not in text for text in refused)
    assert len(refused) >= 10  # a damage within a value is no damage of the file


@pytest.mark.parametrize(("column", "value"), [
    ("request", "'{\"label\": '"), ("request", "CAST(x'7b2261223a22ff227d' AS TEXT)"),
    ("model", "CAST(x'ff' AS TEXT)")])
def test_values_that_cannot_be_read_in_a_sound_file_are_named_at_the_start(tmp_path, column, value):
    """Broken JSON and text that is not UTF-8: SQLite's own check does not see it, and lists with such a row would fail.
    """
    store = Store(tmp_path)
    store.insert(jobs, {"id": "0" * 16, "client": "a", "kind": "generate", "model": "m", "status": "done",
                        "created": 1.0, "request": {}})
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE jobs SET {column} = {value}"))  # noqa: S608
    store.close()
    with pytest.raises(ValueError, match=rf"jobs\.{column} holds .* `ornstein studio --rebuild`"):
        Store(tmp_path)


def test_the_events_of_a_job_that_could_not_be_saved_end(tmp_path):
    """Its row says that it runs, and nobody runs it."""
    with opened(None, tmp_path) as client:
        client.app.state.studio.store.insert(jobs, {
            "id": "f" * 16, "client": "a", "kind": "generate", "model": "m", "status": "running", "created": 1.0,
            "request": {"kind": "generate", "count": 1, "nfe": 2, "seed": 0, "sampler": "auto", "steps": None,
                        "label": None, "condition": None, "guidance": None}})
        events = client.get(f"/api/jobs/{'f' * 16}/events").text
    assert "event: failed" in events
    assert "at its next start" in events
