"""The OpenAPI document of the studio: what every route answers has a schema and an example, every error the one form.
"""

from __future__ import annotations

import inspect

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from ornstein.studio import responses
from ornstein.studio.server import create_app
from ornstein.studio.state import Studio


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    studio = Studio(None, tmp_path_factory.mktemp("studio"))
    with TestClient(create_app(studio), "http://127.0.0.1") as client:
        return client.get("/openapi.json").json()


def routes(document):
    return [(f"{method} {path}", route) for path, methods in document["paths"].items()
            for method, route in methods.items()]


def resolved(document, schema):
    """A schema in place of what refers to it."""
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def test_every_answer_has_a_schema_and_an_example(document):
    assert len(routes(document)) > 35
    for name, route in routes(document):
        good = {status: one for status, one in route["responses"].items() if status.startswith("2")}
        assert good, name
        for status, answer in good.items():
            if status == "204":
                assert "content" not in answer, name
                continue
            for kind, one in answer["content"].items():
                schema = resolved(document, one["schema"])
                if kind == "application/json":
                    assert schema["type"] == "object", name
                    assert schema["properties"], name
                assert schema.get("format") == "binary" or schema.get("examples") or one.get("example"), (name, kind)


def test_every_error_that_is_named_has_the_one_form(document):
    """A route that names a thing in its address says what it answers if there is none."""
    for name, route in routes(document):
        errors = {status: one for status, one in route["responses"].items() if status[0] in "45"}
        assert {"400", "401", "403", "413", "422"} <= errors.keys(), name
        for status, answer in errors.items():
            assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Fault"), (name, status)
        assert ("{" not in name) or "404" in errors or name.startswith("put"), name
        bodies = route.get("requestBody", {"content": {}})["content"].values()
        assert all("schema" in body for body in bodies), name


@pytest.mark.parametrize("model", [one for _, one in inspect.getmembers(responses, inspect.isclass)
                                   if issubclass(one, BaseModel) and "examples" in str(one.model_config)],
                         ids=lambda one: one.__name__)
def test_an_example_is_such_an_answer(model):
    for example in model.model_config["json_schema_extra"]["examples"]:
        model.model_validate(example)
