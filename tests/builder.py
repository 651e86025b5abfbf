"""A process that builds a cache, to be killed, starved and raced: `python builder.py FOLDER CACHE_DIR [OPTIONS]`.

FOLDER holds `asked.pickle`: model, prompts and layers, so that nothing slow is imported. Each block that is
begun is a line in FOLDER/begun.log. OPTIONS is JSON: `seconds` a block takes at least, `largest` file in
bytes, `user` to become.
"""

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurons.types import NeuronsError

LOG = "begun.log"


def prepare(folder: Path, *asked: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "asked.pickle").write_bytes(pickle.dumps(asked))


def start(folder: Path, cache_dir: Path, **options: Any) -> "subprocess.Popen[str]":
    """A builder in a process of its own; it writes a line when it begins."""
    command = [sys.executable, __file__, str(folder), str(cache_dir), json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@dataclass(frozen=True)
class Ended:
    """How a builder ended, and what it said."""

    code: int
    out: list[str]
    err: str


def end(process: "subprocess.Popen[str]", *, kill: bool = False) -> Ended:
    """Wait for a builder, or kill it."""
    if kill:
        process.kill()
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out.splitlines(), err)


def begun(folder: Path) -> list[int]:
    """The blocks that were begun, in order, by any builder of this folder."""
    log = folder / LOG
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def main(folder: Path, cache_dir: Path, options: dict[str, Any]) -> None:
    import filelock  # noqa: F401 - imported when a lock is taken, and another user may not read the interpreter's files

    from neurons.cache import build

    model, prompts, layers = pickle.loads((folder / "asked.pickle").read_bytes())
    log = os.open(folder / LOG, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
    original = build.complete

    def logged(model: Any, plan: Any, block: Any, known: Any) -> Any:
        os.write(log, f"{block.index}\n".encode())
        time.sleep(options.get("seconds", 0))
        return original(model, plan, block, known)

    build.complete = logged
    if "largest" in options:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["largest"], options["largest"]))
    if "user" in options:
        os.setuid(options["user"])
    _say("begin")
    try:
        cache = build.cache_activations(model, prompts, layers=layers, cache_dir=cache_dir, waiting=_say)
    except NeuronsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    _say(f"done {cache.path}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
