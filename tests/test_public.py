"""The public face is documented: docstrings, shapes and units on everything public."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import neurons

PUBLIC = [name for name in neurons.__all__ if name != "__version__"]
UNIT = re.compile(
    r"logit|probabilit|a/sigma|activation|0\.\.|share|cosine|sigma|rows? of|token id|weight|as stored|measure|G G\^T",
    re.I,
)
"""What a reader is message of an array: its unit, or what its numbers are."""


def members(name: str) -> Iterator[tuple[str, Any]]:
    """A public function; a public class with its methods and properties."""
    thing = getattr(neurons, name)
    yield name, thing
    if inspect.isclass(thing):
        for part, value in vars(thing).items():
            if part.startswith("_"):
                continue
            function = getattr(value, "fget", None) or getattr(value, "func", None) or value
            function = getattr(function, "__func__", function)
            if inspect.isfunction(function):
                yield f"{name}.{part}", function


def _is_array(hint: Any) -> bool:
    return "jaxtyping" in str(hint) or "ndarray" in str(hint)


def _returns_array(thing: Any) -> bool:
    return _is_array(inspect.get_annotations(thing).get("return"))


def _arrays_held(thing: Any) -> list[str]:
    if not dataclasses.is_dataclass(thing):
        return []
    return [field.name for field in dataclasses.fields(thing) if _is_array(field.type)]


ALL = [(label, thing) for name in PUBLIC for label, thing in members(name)]
OBVIOUS = {"summary", "to_json", "record"}
"""Named and documented once, where they are defined for all results."""


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name: str) -> None:
    text = inspect.getdoc(getattr(neurons, name)) or ""
    assert len(text) > 20
    assert not text.startswith(f"{name}("), "that is what dataclass writes"


@pytest.mark.parametrize(("label", "thing"), ALL, ids=[label for label, _ in ALL])
def test_arrays_that_are_returned_or_held_have_shapes(label: str, thing: Any) -> None:
    if inspect.isclass(thing):
        hints = [str(field.type) for field in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []
    else:
        hints = [str(hint) for hint in inspect.get_annotations(thing).values()]
    bare = [hint for hint in hints if re.search(r"^<class 'numpy\.ndarray'>", hint)]
    assert not bare or label == "Cache.read", "a bare array would leave the reader to guess"


RETURN_ARRAYS = [(label, thing) for label, thing in ALL if not inspect.isclass(thing) and _returns_array(thing)]


@pytest.mark.parametrize(("label", "thing"), RETURN_ARRAYS, ids=[label for label, _ in RETURN_ARRAYS])
def test_an_array_that_is_returned_is_explained_with_its_unit(label: str, thing: Any) -> None:
    assert UNIT.search(inspect.getdoc(thing) or ""), f"{label} says nothing of its numbers"


HOLD_ARRAYS = [(label, thing, arrays) for label, thing in ALL if (arrays := _arrays_held(thing))]


@pytest.mark.parametrize(("label", "thing", "arrays"), HOLD_ARRAYS, ids=[label for label, *_ in HOLD_ARRAYS])
def test_a_class_explains_the_arrays_that_it_holds(label: str, thing: Any, arrays: list[str]) -> None:
    text = inspect.getdoc(thing) or ""
    assert [name for name in arrays if not re.search(rf"\b{name}\b", text)] == []
    assert UNIT.search(text)


@pytest.mark.parametrize("label", [label for label, thing in ALL if inspect.isfunction(thing)])
def test_public_functions_and_methods_have_a_docstring(label: str) -> None:
    if label.rpartition(".")[2] not in OBVIOUS:
        assert inspect.getdoc(dict(ALL)[label]), f"{label} has no docstring"


FUNCTIONS = [pair for pair in ALL if inspect.isfunction(pair[1])]


@pytest.mark.parametrize(("label", "thing"), FUNCTIONS, ids=[label for label, _ in FUNCTIONS])
def test_no_default_is_longer_than_a_name(label: str, thing: Any) -> None:
    shown = [repr(parameter.default) for parameter in inspect.signature(thing).parameters.values()]
    assert max(map(len, shown), default=0) < 120
