"""Imports flow one way, outside packages stay on their floors, and `import neurons` is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import neurons

PACKAGE = Path(neurons.__file__).parent
SHARED = (
    "neurons.types", "neurons.labelled", "neurons.shown", "neurons.rounding", "neurons.intervals", "neurons.parallel",
    "neurons.remembered",
)  # fmt: skip
"""What every floor may import."""
FLOORS = (
    "task", "model", "cache", "decomposition", "weights", "intervention", "attribution", "ranking", "routes",
    "clustering", "regression", "circuit", "comparison", "report", "study", "cli",
)  # fmt: skip
"""From the top of the house down: a floor imports only floors above it, what is shared and itself."""
WITHOUT_A_MODEL = (
    "results", "curve_results", "search_results", "position_results", "set_results", "mask_results",
    "specificity_results", "files", "graph", "edges",
    "agreement", "neighbours", "draws", "ranking",
    "faithfulness_results", "tiling_results", "tiling", "composition", "parts", "terms", "sparse", "described",
)  # fmt: skip
"""Modules of floors that run the model which open without one, so that a report loads no torch."""
NEEDS_A_MODEL = {f"neurons.model.{module}" for module in
                 ("checkpoint", "hugging_face", "model", "device", "forward", "at_end", "rerun")}  # fmt: skip
NEEDS_A_MODEL |= {"neurons.cache.build", "neurons.cache.compute", "neurons.comparison.sampled"}
NEEDS_A_MODEL |= {"neurons.comparison.replication"}
"""What runs with a model in memory, beside the floors that do. Nothing else may load torch, even through others."""
RUN_THE_MODEL = ("weights", "intervention", "attribution", "ranking", "routes", "regression", "circuit")
HOMES = {
    "h5py": ("cache/",),
    "msgspec": ("cache/results.py",),
    "xarray": ("labelled.py",),
    "transformer_lens": ("model/hugging_face.py",),
    "transformers": ("model/hugging_face.py",),
    "huggingface_hub": ("model/files.py",),
    "diptest": ("clustering/continuum.py",),
    "sklearn": ("clustering/partition.py",),
    "matplotlib": ("report/",),
    "jinja2": ("report/",),
    "plotly": ("report/",),
    "typer": ("cli/",),
    "rich": ("cli/",),
}
"""Where an outside package may be imported: folders and files."""
HEAVY = {"torch", "transformers", "transformer_lens"}


def name_of(file: Path) -> str:
    parts = ("neurons", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imported_by(node: ast.AST) -> Iterator[str]:
    """Full names of what one import statement names: `from a import b` is `a.b`, which may be no module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(name: str) -> set[str]:
    """Everything that a module imports anywhere, in functions and for annotations too."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    return {found for node in ast.walk(tree) for found in imported_by(node)}


def imports_to_run(name: str) -> set[str]:
    """What a module imports to run, in functions too, but not for annotations alone."""
    waiting: list[ast.AST] = [ast.parse(FILES[name].read_text(encoding="utf-8"))]
    found: set[str] = set()
    while waiting:
        node = waiting.pop()
        found.update(imported_by(node))
        is_for_annotations = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        waiting += [] if is_for_annotations else ast.iter_child_nodes(node)
    return found


def imports_at_once(name: str) -> set[str]:
    """What is imported when the module is: not in functions, not for annotations alone."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    return {found for node in tree.body for found in imported_by(node)}


def module_of(imported: str) -> str | None:
    """The module of ours that an imported name lies in."""
    while imported not in FILES and "." in imported:
        imported = imported.rpartition(".")[0]
    return imported if imported in FILES else None


def floor_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else None


def needs_a_model(module: str) -> bool:
    name = module.rpartition(".")[2]
    return module in NEEDS_A_MODEL or (floor_of(module) in RUN_THE_MODEL and name not in WITHOUT_A_MODEL)


def loaded_with(name: str) -> set[str]:
    """Modules of ours and outside packages that importing a module brings in, to the end."""
    seen, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in FILES:
            waiting += [module_of(found) or found.split(".")[0] for found in imports_at_once(current)]
    return seen


INSIDE = [name for name in FILES if floor_of(name)]


@pytest.mark.parametrize("name", INSIDE)
def test_a_floor_imports_only_floors_above_it(name: str) -> None:
    floor = FLOORS.index(str(floor_of(name)))
    for found in imports(name):
        module = module_of(found)
        if module in {None, *SHARED} or found == "neurons.__version__":
            continue
        other = floor_of(str(module))
        assert other is not None, f"{name} imports {found}"
        assert FLOORS.index(other) <= floor, f"{name} imports {found}: {other} is below"


@pytest.mark.parametrize("name", SHARED)
def test_what_is_shared_by_all_imports_no_floor(name: str) -> None:
    assert {module_of(found) for found in imports(name)} <= {None, *SHARED}


def test_no_module_imports_itself_through_others() -> None:
    modules = {name: {module_of(found) for found in imports_to_run(name)} - {None, name} for name in FILES}
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("package", HOMES)
def test_an_outside_package_stays_in_its_home(package: str) -> None:
    for name, file in FILES.items():
        if package in {found.split(".")[0] for found in imports_to_run(name)}:
            place = file.relative_to(PACKAGE).as_posix()
            assert place.startswith(HOMES[package]), f"{place} imports {package}"


@pytest.mark.parametrize("name", [name for name in FILES if not needs_a_model(name)])
def test_what_needs_no_model_loads_no_torch(name: str) -> None:
    assert not loaded_with(name) & HEAVY


@pytest.mark.parametrize("name", FILES)
def test_tables_and_labelled_arrays_cost_nothing_until_one_is_made(name: str) -> None:
    assert not {"xarray", "pandas"} & {found.split(".")[0] for found in imports_at_once(name)}


FOLDERS = sorted({file.parent for file in FILES.values()})
MOST_MODULES, MOST_LINES, MOST_LINES_OF_A_FUNCTION = 12, 299, 39


@pytest.mark.parametrize("folder", FOLDERS, ids=[str(folder.relative_to(PACKAGE)) for folder in FOLDERS])
def test_a_folder_has_few_enough_modules_to_be_seen_at_once(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= MOST_MODULES


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions if node.end_lineno}
    assert {called: lines for called, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def test_loading_a_checkpoint_imports_no_library_of_models() -> None:
    program = (
        "import sys, neurons\n"
        "neurons.load_model('mini')\n"
        "sys.exit(', '.join({'transformers', 'transformer_lens'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_package_is_light() -> None:
    program = (
        "import sys, neurons\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'h5py', 'numpy', 'scipy', 'pandas', 'matplotlib'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", neurons.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(neurons, name) is not None
    assert name in dir(neurons)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        neurons.nonesuch  # noqa: B018
