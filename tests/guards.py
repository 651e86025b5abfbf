"""Must be imported before the package: shapes are checked on every call, and no test reaches the network."""

import os
import socket
from pathlib import Path
from typing import Any

from jaxtyping import install_import_hook

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are small: more threads mostly wait for each other

PACKAGE = Path(__file__).resolve().parents[1] / "neurons"
UNCHECKED = {"cli", "study", "__main__"}
"""What takes no arrays."""


def checked() -> list[str]:
    """The modules whose annotations are checked: all but `cache/results.py`, where one letter may have several sizes,
    since a kept result is a tree of arrays that are none of each other's business."""
    files = [path.relative_to(PACKAGE).with_suffix("") for path in sorted(PACKAGE.rglob("*.py"))]
    kept = [parts for file in files if (parts := file.parts)[0] not in UNCHECKED and parts != ("cache", "results")]
    return [".".join(["neurons", *parts]) for parts in kept if parts[-1] != "__init__"]


install_import_hook(checked(), "beartype.beartype")

attempts: list[object] = []
"""Addresses that a test tried to reach; `conftest.no_network` fails it, even where the error was swallowed."""

_connect = socket.socket.connect


def _refuse(self: socket.socket, address: Any) -> None:
    if self.family != socket.AF_UNIX:
        attempts.append(address)
        raise OSError(f"a test tried to reach {address}: tests run offline")
    _connect(self, address)


socket.socket.connect = _refuse  # type: ignore[method-assign]
socket.socket.connect_ex = _refuse  # type: ignore[method-assign,assignment]
