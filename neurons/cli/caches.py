"""`neurons cache`: build the cache of a model and prompt set, and list what is there."""

from pathlib import Path
from typing import Any

import typer

from neurons.cache.format import SUFFIX, format_layers, open_cache
from neurons.cli.common import (
    CACHE_DIR,
    CENTURIES,
    MODEL,
    NOUNS,
    SEED,
    CacheDirOption,
    CenturiesOption,
    JsonOption,
    LayersOption,
    ModelOption,
    NounsOption,
    SeedOption,
    help_without_command,
    open_or_build,
    print_json,
    print_table,
    request,
)
from neurons.types import CacheError

app = typer.Typer(help="The HDF5 cache of activations.", rich_markup_mode=None)
app.callback(invoke_without_command=True)(help_without_command)


@app.command()
def build(
    model: ModelOption = MODEL,
    layers: LayersOption = None,
    nouns: NounsOption = NOUNS,
    centuries: CenturiesOption = CENTURIES,
    seed: SeedOption = SEED,
    cache_dir: CacheDirOption = CACHE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Cache the activations of all start years, once; an existing cache is reused."""
    asked = request(model=model, layers=layers, nouns=nouns, centuries=centuries, seed=seed, cache_dir=cache_dir)
    reused = asked.path.exists()
    cache = open_or_build(asked)
    if as_json:
        print_json({"path": str(cache.path), "reused": reused, "prompts": len(cache), "layers": list(cache.layers)})
        return
    verb = "reused" if reused else "built"
    print(f"{verb} {cache.path}: {len(cache)} prompts, layers {format_layers(cache.layers)}")


@app.command(name="list")
def list_caches(cache_dir: CacheDirOption = CACHE_DIR, as_json: JsonOption = False) -> None:
    """List the cache files: model, prompts, layers, size, state."""
    entries = [_describe(path) for path in sorted(cache_dir.glob(f"*{SUFFIX}")) if not path.name.startswith(".")]
    if as_json:
        print_json(entries)
        return
    if not entries:
        print(f"no cache in {cache_dir}: `neurons cache build` makes one")
        return
    rows = [
        [entry["path"], entry["model"] or "-", _count(entry["prompts"]), format_layers(entry["layers"]) or "-",
         f"{entry['bytes'] / 1e6:.1f} MB", entry["state"]]
        for entry in entries
    ]  # fmt: skip
    print_table(f"Caches in {cache_dir}", ["file", "model", "prompts", "layers", "size", "state"], rows, left=2)


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _describe(path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": str(path), "model": None, "prompts": None, "layers": [],
                             "bytes": path.stat().st_size}  # fmt: skip
    try:
        cache = open_cache(path)
    except CacheError as error:
        return entry | {"state": str(error)}
    return entry | {"model": cache.model, "prompts": len(cache), "layers": list(cache.layers), "state": "complete"}
