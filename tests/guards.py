"""Must be imported before the package: shapes are checked on every call, and no test reaches the network."""

import os
import socket
from typing import Any

from jaxtyping import install_import_hook

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are small: more threads mostly wait for each other

FLOORS = (
    "task", "model", "cache", "decomposition", "weights", "intervention", "clustering", "regression", "circuit",
    "comparison", "report",
)  # fmt: skip
install_import_hook([f"neurons.{floor}" for floor in ("types", "rounding", *FLOORS)], "beartype.beartype")

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
