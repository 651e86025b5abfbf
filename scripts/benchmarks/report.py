"""What users of `mini` and of a report wait for, against limits of its own: it has no peer."""

import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import neurons
from benchmarks.pairs import Limit, timed
from benchmarks.query import command
from benchmarks.setting import Setting
from neurons.report.explorer import write_explorer
from neurons.report.render import Site

RANK_SECONDS, FIRST_SECONDS, KEPT_SECONDS, PAGE_BYTES = 5, 30, 8, 1e6
EXPLORER_SECONDS, EXPLORER_BYTES, SHOWN_SECONDS = 15, 12e6, 3
REPEATS = 3
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SHOWN = """
const look = () => document.querySelector(".plot .main-svg") ? (window.shown = performance.now() / 1000)
                                                             : requestAnimationFrame(look);
look();
"""
"""Run before the page's own scripts: notes when the first map is there, in seconds since the page was asked for."""


def limits(setting: Setting) -> list[Limit]:
    with tempfile.TemporaryDirectory(dir=setting.folder) as temporary:
        return [*_pages(Path(temporary)), *_explorer(setting, Path(temporary))]


def _pages(folder: Path) -> list[Limit]:
    options, reports = ("--cache-dir", str(folder / "cache")), folder / "reports"
    nothing = [timed(lambda n=n: command("-m", "neurons", "rank", "--cache-dir", str(folder / f"{n}")))[0]
               for n in range(REPEATS)]  # fmt: skip
    written = ("-m", "neurons", "report", *options, "--report-dir", str(reports), "--top", "24")
    first, _ = timed(lambda: command(*written))
    anew = []
    for _ in range(REPEATS):
        shutil.rmtree(reports)
        anew.append(timed(lambda: command(*written))[0])
    again = [timed(lambda: command(*written))[0] for _ in range(REPEATS)]
    return [
        Limit("report", "`neurons rank` of mini from nothing, whole process", median(nothing), RANK_SECONDS, "s"),
        Limit("report", "24 pages of mini from nothing, clusters and composition found", first, FIRST_SECONDS, "s"),
        Limit("report", "the same from kept results, every figure drawn", median(anew), KEPT_SECONDS, "s"),
        Limit("report", "the same once more, no figure changed", median(again), KEPT_SECONDS, "s"),
        Limit("report", "its heaviest page, with the figures on it", heaviest(reports / "mini") / 1e6,
              PAGE_BYTES / 1e6, "MB"),
    ]  # fmt: skip


def heaviest(report: Path) -> int:
    """Bytes of the largest page but the explorer, with the figures that it shows; what all pages share is left out."""
    return max(_weight(page) for page in report.rglob("*.html") if page.name != "explorer.html")


def _weight(page: Path) -> int:
    shown = set(re.findall(r'<img[^>]* src="([^"]+)"', text := page.read_text(encoding="utf-8")))
    return len(text.encode()) + sum((page.parent / figure).stat().st_size for figure in shown)


def _explorer(setting: Setting, folder: Path) -> list[Limit]:
    effects = neurons.logit_effects(setting.cache)
    ranking = neurons.rank(effects)
    page, site = folder / "explorer.html", Site(model=setting.model.name, footer="")
    seconds, _ = timed(lambda: write_explorer(effects, ranking, page, site=site))
    work = f"explorer of {len(ranking):,} neurons"
    return [
        Limit("report", f"{work} written", seconds, EXPLORER_SECONDS, "s"),
        Limit("report", f"{work}, its size", page.stat().st_size / 1e6, EXPLORER_BYTES / 1e6, "MB"),
        *_shown(work, page),
    ]


def _shown(work: str, page: Path) -> list[Limit]:
    """How long a browser takes to show the first neuron; nothing, with a note, where there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or find_spec("playwright") is None:
        print("no browser here: the explorer's first neuron is not timed", file=sys.stderr)
        return []
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(REPEATS):
            opened = chromium.new_page()
            opened.add_init_script(SHOWN)
            opened.goto(page.as_uri())
            opened.wait_for_function("window.shown !== undefined")
            seconds.append(float(opened.evaluate("window.shown")))
            opened.close()
        chromium.close()
    return [Limit("report", f"{work}, from opening to its first neuron", median(seconds), SHOWN_SECONDS, "s")]
