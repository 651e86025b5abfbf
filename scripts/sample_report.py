"""The sample report: Markdown and figures of `mini`, small enough to be kept in the repository.

    python scripts/sample_report.py reports/sample

Runs `neurons report` with few pages into a temporary folder and keeps what a forge shows. The folder is
replaced; the same checkpoint and versions give the same files.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from neurons.analysis.effects import logit_effects
from neurons.analysis.ranking import rank
from neurons.cli.common import CACHE_DIR, CENTURIES, MODEL, NOUNS, SEED, open_or_build, request
from neurons.report.pages import write_report

TOP = 4
KEPT = ("*.md", "figures/*.svg", "neurons/*.md", "ranking.csv", "report.json")
"""Everything that the Markdown links to."""


def main() -> None:
    target = Path(sys.argv[1])
    asked = request(model=MODEL, layers=None, nouns=NOUNS, centuries=CENTURIES, seed=SEED, cache_dir=CACHE_DIR)
    effects = logit_effects(open_or_build(asked))
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / "mini"
        write_report(effects, rank(effects), folder=written, command=f"neurons report --top {TOP}", top=TOP)
        shutil.rmtree(target, ignore_errors=True)
        for file in sorted(file for pattern in KEPT for file in written.glob(pattern)):
            place = target / file.relative_to(written)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    print(f"{sum(file.stat().st_size for file in target.rglob('*') if file.is_file()) / 1e6:.2f} MB in {target}")


if __name__ == "__main__":
    main()
