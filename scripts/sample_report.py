"""The sample report: Markdown and figures of `mini`, small enough to be kept in the repository.

    python scripts/sample_report.py reports/sample

Runs `neurons report` with all analyses and one neuron page into a temporary folder, and keeps what a forge
shows. The folder is replaced; the same checkpoint and versions give the same files, so the time at which the
cache was written is left out.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from neurons.report.markdown import escape

KEPT = ("*.md", "neurons/*.md", "clusters/*.md", "figures/*.svg")
MARK = "README.md"


def main() -> None:
    target = Path(sys.argv[1])
    if target.exists() and not (target / MARK).is_file():
        sys.exit(f"{target} is no sample report: remove it or name another folder")
    with tempfile.TemporaryDirectory() as temporary:
        command = ["report", "--causal", "--circuit", "--top", "1", "--report-dir", temporary]
        subprocess.run([sys.executable, "-m", "neurons", *command], check=True)
        shutil.rmtree(target, ignore_errors=True)
        keep(
            Path(temporary) / "mini", target, shown_command="neurons report --causal --circuit --top 1", command=command
        )
    print(f"{sum(file.stat().st_size for file in target.rglob('*') if file.is_file()) / 1e6:.2f} MB in {target}")


def keep(written: Path, target: Path, *, shown_command: str, command: list[str]) -> None:
    """Copy what the Markdown shows; report.json and ranking.csv are left out for their size."""
    for file in sorted(file for pattern in KEPT for file in written.glob(pattern)):
        place = target / file.relative_to(written)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != ".md":
            shutil.copyfile(file, place)
            continue
        text = re.sub(r"- cache written: .*\n", "", file.read_text(encoding="utf-8"))
        for left_out in ("report.json", "ranking.csv"):
            text = text.replace(f"]({left_out})", "]")
        made_by = escape(f"neurons {' '.join(command)}")
        place.write_text(text.replace(made_by, escape(shown_command)), encoding="utf-8")


if __name__ == "__main__":
    main()
