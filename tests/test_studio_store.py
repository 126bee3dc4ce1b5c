"""The studio's database: one that is damaged is refused in words that mend it."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from ornstein.studio.store import Store
from ornstein.studio.tables import jobs


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


def test_damaged_json_in_a_sound_file_is_named_at_the_start(tmp_path):
    """SQLite's own check does not read it, and every list with such a row would fail."""
    store = Store(tmp_path)
    store.insert(jobs, {"id": "0" * 16, "client": "a", "kind": "generate", "model": "m", "status": "done",
                        "created": 1.0, "request": {}})
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET request = '{\"label\": '"))
    store.close()
    with pytest.raises(ValueError, match=r"jobs\.request holds .* `ornstein studio --rebuild`"):
        Store(tmp_path)
