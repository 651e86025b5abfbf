"""What reports of a checkpoint take from nothing, against limits of their own. Not part of `all`: it takes long."""

import json
import subprocess
import tempfile
from pathlib import Path

from benchmarks.attribution import LAUNCH
from benchmarks.pairs import Limit
from benchmarks.setting import Setting, environment, python

CAUSAL_SECONDS = 20 * 60


def limits(setting: Setting) -> list[Limit]:
    return [
        *_report(setting, "`neurons report`", (), None),
        *_report(setting, "`neurons report --causal --circuit`", ("--causal", "--circuit"), CAUSAL_SECONDS),
    ]


def _report(setting: Setting, command: str, options: tuple[str, ...], most: float | None) -> list[Limit]:
    with tempfile.TemporaryDirectory(dir=setting.folder) as temporary:
        folders = ("--cache-dir", str(Path(temporary) / "cache"), "--report-dir", str(Path(temporary) / "reports"))
        asked = python("-c", LAUNCH, "report", "--model", setting.checkpoint, *folders, *options)
        done = subprocess.run(asked, env=environment(), stdout=subprocess.PIPE, check=True)
    seconds, megabytes = json.loads(done.stdout)
    work = f"{command} of the default prompts from nothing"
    return [Limit("whole", work, seconds, most, "s"), Limit("whole", f"{work}: peak memory", megabytes, None, "MB")]
