"""Peak memory of one side of a row, in a process of its own: python memory.py FILE FUNCTION CHECKPOINT FOLDER.

The function prepares one side (libraries, weights, what the work starts from) and returns its work; the kernel's
record of the peak is set back, and the work is done once. Printed: megabytes that the work added at its peak, and
the whole process's peak.
"""

import gc
import importlib
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.setting import Setting, environment, python  # noqa: E402  found from a process of its own, too


def peaks(file: str, setting: Setting, *, ours: str = "ours", peer: str = "peer") -> dict[str, float]:
    """Megabytes above libraries and weights, as fields of a row."""
    return {"memory_ours": peak(file, ours, setting), "memory_peer": peak(file, peer, setting)}


def peak(file: str, side: str, setting: Setting) -> float:
    """Megabytes that a side adds at its peak, in a process of its own."""
    command = python(str(HERE / "memory.py"), file, side, setting.checkpoint, str(setting.folder))
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout)["added"])


def measure(file: str, side: str, checkpoint: str, folder: str) -> dict[str, float]:
    module = importlib.import_module(f"benchmarks.{file}")
    work = getattr(module, side)(Setting(checkpoint, Path(folder)))
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from here
    work(0)
    after = _status("VmHWM")
    return {"added": after - before, "peak": after}


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
