"""`neurons models`, `prompts` and `cache`: what can be named, what is run, and what is stored."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from neurons.cache.folder import FOLDER, is_being_built, is_there
from neurons.cache.format import format_layers, open_cache, verify_cache
from neurons.cache.layout import SUFFIX
from neurons.cache.parts import count_blocks, folders_beside
from neurons.cache.results import results_beside
from neurons.cli.common import (
    JobsOption,
    JsonOption,
    SchedulerOption,
    help_without_command,
    note,
    print_json,
    print_table,
)
from neurons.cli.options import CacheDirOption, is_file, on_options, on_study
from neurons.model.files import BUNDLED, HUB_MODELS, fetch, local_hub_folder, split_revision
from neurons.study.study import Study
from neurons.task.own_prompts import write_prompts
from neurons.task.years import spans
from neurons.types import CacheError, InputError

NOUNS = 5
"""Nouns of a cache that the list names."""

app = typer.Typer(help="The HDF5 cache of activations.", rich_markup_mode=None)
app.callback(invoke_without_command=True)(help_without_command)


def register(above: typer.Typer) -> None:
    for command in (models, prompts):
        above.command()(command)
    above.add_typer(app, name="cache")


FilesArgument = Annotated[
    list[str] | None, typer.Argument(help="Cache files, by path or by name within --cache-dir.", show_default=False)
]


@on_study("years", "layers", "dtype", "device", "cache_dir", "no_attribution")
def prompts(
    study: Study,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write them to this file, .csv or .jsonl.", show_default="none"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print or export the prompts as CSV: clean, corrupted, label.

    Other tools run on the same prompts with it, and --prompts reads it.
    """
    found = study.plan.prompts.to_layout()
    if output is not None:
        write_prompts(found, output)
        print(f"{len(found):,} prompts in {output}")
    elif as_json:
        print_json(found.to_dict("records"))
    else:
        print(found.to_csv(index=False), end="")


@app.command()
@on_options("years")
def build(
    options: dict[str, Any],
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the cache of activations; what exists is reused.

    Then the answer is attributed to neurons, and kept beside it.
    """
    study = Study(**options, jobs=jobs, scheduler=scheduler)
    reused, attribution = is_there(study.plan.path), study.plan.settings.attribution
    cache = study.cache
    if attribution:
        study.attributed()
        study.positions()
    if as_json:
        print_json({"path": str(cache.path), "reused": reused, "prompts": len(cache), "layers": list(cache.layers),
                    "attribution": attribution})  # fmt: skip
        return
    verb, shares = (
        "reused" if reused else "built",
        "shares of the answer beside it" if attribution else "no attribution",
    )
    print(f"{verb} {cache.path}: {len(cache)} prompts, layers {format_layers(cache.layers)}, {shares}")


@app.command()
@on_study("years", "device", "no_attribution")
def path(study: Study, as_json: JsonOption = False) -> None:
    """Print where the cache of these options lies, or would lie."""
    if as_json:
        print_json({"path": str(study.plan.path), "exists": is_there(study.plan.path)})
    else:
        print(study.plan.path)


@app.command(name="list")
def list_caches(cache_dir: CacheDirOption = FOLDER, as_json: JsonOption = False) -> None:
    """List the cache files, their prompts and their state."""
    entries = [_describe(path) for path in _all_files(cache_dir, unfinished=True)]
    if as_json:
        print_json(entries)
        return
    if not entries:
        print(f"no cache in {cache_dir}: `neurons cache build` makes one")
        return
    print(f"Caches in {cache_dir}")
    for entry in entries:
        print("\n".join(_lines(entry)))


@app.command()
def verify(
    files: FilesArgument = None,
    cache_dir: CacheDirOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Check every byte and name what is damaged.

    Of the files named, or of all in --cache-dir where none is.
    """
    results: dict[str, str] = {}
    for file in _named(files, cache_dir) if files else _all_files(cache_dir):
        try:
            verify_cache(file)
            results[str(file)] = "good"
        except CacheError as error:
            results[str(file)] = str(error)
    if as_json:
        print_json([{"path": name, "state": state} for name, state in results.items()])
    for name, state in results.items():
        if not as_json and state == "good":
            print(f"good {name}")
    bad = [state for state in results.values() if state != "good"]
    for state in bad[:-1]:
        note(f"neurons: {state}")
    if bad:
        raise CacheError(bad[-1])
    if not results and not as_json:
        print(f"no cache in {cache_dir}")


@app.command()
def delete(
    files: Annotated[list[str], typer.Argument(help="Cache files, by path or by name within --cache-dir.")],
    cache_dir: CacheDirOption = FOLDER,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete cache files with everything that lies beside them.

    That is the finished parts of builds and analyses, and the kept results.
    """
    import shutil

    for file in _named(files, cache_dir, unfinished=True):
        if is_being_built(file):
            raise CacheError(f"cache {file} is being built by another process: stop that first")
        if not yes and not typer.confirm(f"delete {file} ({_bytes(file) / 1e6:.1f} MB)?", err=True):
            note(f"kept {file}")
            continue
        try:
            for kept in [file, *results_beside(file)]:
                kept.unlink(missing_ok=True)
            for folder in folders_beside(file):
                shutil.rmtree(folder)
        except OSError as error:
            raise CacheError(f"cache {file} cannot be deleted ({error.strerror}): check its permissions") from None
        print(f"deleted {file}")


def _all_files(cache_dir: Path, *, unfinished: bool = False) -> list[Path]:
    """The cache files of a folder; with `unfinished` also those of which there are parts alone."""
    found = {path for path in cache_dir.glob(f"*{SUFFIX}") if not path.name.startswith(".")}
    if unfinished:
        found |= {path.with_suffix(SUFFIX) for path in cache_dir.glob("*.parts") if path.is_dir()}
    return sorted(found)


def _named(names: list[str], cache_dir: Path, *, unfinished: bool = False) -> list[Path]:
    """The files that were named; `InputError` for one that is not there or has no cache file's name."""
    known = _all_files(cache_dir, unfinished=unfinished)
    found = []
    for name in names:
        path = next((path for path in known if path.name == name), Path(name))
        if path not in known and not is_file(path):
            raise InputError(f"no cache {name!r} here or in {cache_dir}: `neurons cache list` shows what is there")
        if not re.search(rf"-[0-9a-f]{{16}}{re.escape(SUFFIX)}$", path.name):
            raise InputError(f"{name!r} has no cache file's name, MODEL-0123456789abcdef{SUFFIX}: give one that has")
        found.append(path)
    return found


def _lines(entry: dict[str, Any]) -> list[str]:
    """A cache in a few lines: its file, then what is in it."""
    lines = [f"\n{Path(entry['path']).name}", f"  {entry['state']}"]
    if entry["prompts"] is not None:
        lines += [
            f"  layers {format_layers(entry['layers'])} of {entry['model']} as {entry['dtype']}",
            f"  {entry['prompts']:,} prompts '{entry['template']}'",
            f"  {_first(entry['nouns'])}; centuries {spans(entry['centuries'])}",
        ]
    return [*lines, f"  {entry['bytes'] / 1e6:.1f} MB with what lies beside it, {_age(entry['modified'])} old"]


def _first(nouns: Sequence[str]) -> str:
    """`3 nouns: war, siege, plague`, and not more than the first few of many."""
    shown, count = ", ".join(nouns[:NOUNS]), f"{len(nouns)} noun{'s' if len(nouns) != 1 else ''}"
    return f"{count}: {shown}{', ...' if len(nouns) > NOUNS else ''}"


def _age(modified: float) -> str:
    seconds = max(0.0, time.time() - modified)
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(file: Path) -> int:
    parts = [part for folder in folders_beside(file) for part in folder.iterdir()]
    return sum(path.stat().st_size for path in [file, *results_beside(file), *parts] if path.exists())


def _describe(file: Path) -> dict[str, Any]:
    place = file if file.exists() else file.with_suffix(".parts")
    entry: dict[str, Any] = {"path": str(file), "model": None, "prompts": None, "layers": [], "dtype": None,
                             "template": None, "nouns": [], "centuries": [], "bytes": _bytes(file),
                             "modified": place.stat().st_mtime}  # fmt: skip
    if not file.exists():
        state = "being built" if is_being_built(file) else "unfinished"
        blocks = count_blocks(file)
        return entry | {"model": file.stem.rpartition("-")[0], "state": f"{state}: {blocks} finished blocks"}
    try:
        cache = open_cache(file)
    except CacheError as error:
        return entry | {"state": str(error)}
    state = "complete" if cache.bytes_checked else "complete (larger than 1 GiB: bytes checked by verify alone)"
    return entry | {"model": cache.model, "prompts": len(cache), "layers": list(cache.layers), "dtype": cache.dtype,
                    "template": cache.template.strip(), "nouns": list(dict.fromkeys(cache.noun)),
                    "centuries": np.unique(cache.century).tolist(), "state": state}  # fmt: skip


def models(
    download: Annotated[
        str | None,
        typer.Option(
            "--download", help="Fetch this model of the hub first: NAME or NAME@REVISION.", show_default="none"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models: bundled, on the hub, in the local hub cache."""
    if download is not None:
        name, revision = split_revision(download)
        note(f"{download} is in {fetch(name, revision)}")
    entries: list[dict[str, Any]] = [
        {"model": name, "kind": "bundled", "ready": True, "path": str(folder)} for name, folder in BUNDLED.items()
    ]
    for name in HUB_MODELS:
        folder = local_hub_folder(name)
        entries.append(
            {"model": name, "kind": "hub", "ready": folder is not None, "path": str(folder) if folder else None}
        )
    if as_json:
        print_json(entries)
        return
    state = {"bundled": "works now", True: "in the local hub cache", False: "fetched from the hub on first use"}
    rows = [[e["model"], state["bundled"] if e["kind"] == "bundled" else state[e["ready"]]] for e in entries]
    rows.append(["DIR", "any directory with a GPT-2 checkpoint: config.json, model.safetensors, tokenizer"])
    print_table("Models for --model", ["model", "state"], rows, left=2)
