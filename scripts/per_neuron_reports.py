"""Pages for chosen neurons from an existing cache: no model is loaded.

    python scripts/per_neuron_reports.py L9N12 L10N7 --model mini
    python scripts/per_neuron_reports.py --file neurons.txt --cache cache/mini-0123456789abcdef.h5

The neurons come from the command line or from a file, one a line (`#` begins a comment). The cache is the
one that the options name, or the file given with --cache; `neurons cache build` makes one. The report
lands in <report-dir>/<model>-neurons/, the pages in the order given. What an earlier `neurons report` kept beside
the cache of these neurons' weights is shown too.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from neurons.cache.folder import default_folder
from neurons.cache.format import Cache, open_cache
from neurons.cli.common import REPORT_DIR
from neurons.cli.from_weights import kept_weights
from neurons.cli.request import CENTURIES, MODEL, NOUNS, SEED, request
from neurons.decomposition.effects import logit_effects
from neurons.decomposition.ranking import rank
from neurons.report.report import write_report
from neurons.task.years import parse_years
from neurons.types import CacheError, InputError, NeuronId, NeuronsError


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    try:
        print(f"The pages are in {write_pages(asked)}")
    except NeuronsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def write_pages(asked: argparse.Namespace) -> Path:
    neurons = [NeuronId.parse(text) for text in [*asked.neurons, *_names_in(asked.file)]]
    if not neurons:
        raise InputError("no neuron given: name some like L9N12, or a file with --file")
    cache = find_cache(asked)
    chosen = [cache.check_neuron(neuron) for neuron in neurons]
    effects = logit_effects(cache, years=asked.years and parse_years(asked.years))
    return write_report(
        effects,
        rank(effects, seed=asked.seed),
        folder=asked.report_dir / f"{cache.path.stem.rsplit('-', 1)[0]}-neurons",
        command=shlex.join(["python", *sys.argv]),
        neurons=chosen,
        weights=kept_weights(cache),
        figures=asked.figures,
    )


def find_cache(asked: argparse.Namespace) -> Cache:
    """The cache file given, or the one of the common options; never built here."""
    if asked.cache is not None:
        return open_cache(asked.cache)
    path = request(
        model=asked.model,
        layers=asked.layers,
        years=asked.years,
        nouns=asked.nouns,
        centuries=asked.centuries,
        seed=asked.seed,
        cache_dir=asked.cache_dir,
    ).path
    if not path.exists():
        raise CacheError(f"no cache for these options at {path}: run `neurons cache build` with them first")
    return open_cache(path)


def _names_in(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"file of neurons {str(file)!r} cannot be read as text: {error}") from None
    return [name for line in lines for name in line.split("#")[0].split()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("neurons", nargs="*", metavar="NEURON", help="like L9N12")
    parser.add_argument("--file", type=Path, help="a file with one neuron a line")
    parser.add_argument("--cache", type=Path, help="a cache file; else the one of the options below")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--layers", help="like 8-11; default the last third")
    parser.add_argument("--years", help="start years measured, within 01-98; default those of 02-98 that have a prompt")
    parser.add_argument("--nouns", default=NOUNS, help="how many, or a file")
    parser.add_argument("--centuries", default=CENTURIES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cache-dir", type=Path, default=default_folder())
    parser.add_argument("--report-dir", type=Path, default=REPORT_DIR)
    parser.add_argument("--figures", choices=("svg", "pdf", "png"), help="also write each figure in this format")
    return parser


if __name__ == "__main__":
    sys.exit(main())
