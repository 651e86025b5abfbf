"""What a report takes, against limits of its own: it has no peer."""

import tempfile
from pathlib import Path

import neurons
from benchmarks.pairs import Limit, timed
from benchmarks.query import command
from benchmarks.setting import Setting
from neurons.report.explorer import write_explorer
from neurons.report.render import Site

PAGES_SECONDS, EXPLORER_SECONDS, EXPLORER_BYTES = 30, 15, 12e6


def limits(setting: Setting) -> list[Limit]:
    with tempfile.TemporaryDirectory(dir=setting.folder) as temporary:
        return [*_pages(Path(temporary)), *_explorer(setting, Path(temporary))]


def _pages(folder: Path) -> list[Limit]:
    options = ("--cache-dir", str(folder / "cache"))
    command("-m", "neurons", "cache", "build", *options)
    written = ("-m", "neurons", "report", *options, "--report-dir", str(folder / "reports"), "--top", "24")
    first, _ = timed(lambda: command(*written))
    second, _ = timed(lambda: command(*written))
    return [
        Limit(
            "report",
            "24 pages of mini from an existing cache, clusters and composition found",
            first,
            PAGES_SECONDS,
            "s",
        ),
        Limit("report", "the same once these are kept", second, PAGES_SECONDS, "s"),
    ]


def _explorer(setting: Setting, folder: Path) -> list[Limit]:
    effects = neurons.logit_effects(setting.cache)
    ranking = neurons.rank(effects)
    page, site = folder / "explorer.html", Site(model=setting.model.name, footer="")
    seconds, _ = timed(lambda: write_explorer(effects, ranking, page, site=site))
    work = f"explorer of {len(ranking):,} neurons"
    return [
        Limit("report", f"{work} written", seconds, EXPLORER_SECONDS, "s"),
        Limit("report", f"{work}, its size", page.stat().st_size / 1e6, EXPLORER_BYTES / 1e6, "MB"),
    ]
