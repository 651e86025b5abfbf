"""scripts/benchmark.py: ratios are taken pair by pair, both sides must agree, and the tables say what was measured."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Any:
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


@pytest.fixture
def pairs() -> ModuleType:
    from benchmarks import pairs

    return pairs


def a_row(pairs: ModuleType, **asked: Any) -> Any:
    times = pairs.Times(ours=[1.0, 2.0, 1.0], peer=[4.0, 4.0, 6.0], limit=[1e9, 1e9, 1e9])
    return pairs.row(
        "one", times, work="work", peer_is="peer", found=1e-7, tolerance=1e-5, operations=5e8, **asked
    )  # fmt: skip


def test_the_ratio_is_the_median_of_the_pairs_ratios(pairs: ModuleType) -> None:
    row = a_row(pairs)
    assert (row.ours, row.peer) == (1, 4)
    assert (row.ratio_low, row.ratio, row.ratio_high) == (3, 4, 5)
    assert row.limit_share == 0.5


def test_a_row_fails_below_its_ratio_above_its_memory_or_its_seconds(pairs: ModuleType) -> None:
    assert a_row(pairs, at_least=4).passes
    assert not a_row(pairs, at_least=4.1).passes
    assert a_row(pairs, memory_share=0.5, memory_ours=5.0, memory_peer=10.0).passes
    assert not a_row(pairs, memory_share=0.5, memory_ours=6.0, memory_peer=10.0).passes
    assert not a_row(pairs, most_seconds=0.8).passes


def test_two_sides_that_differ_end_the_run(pairs: ModuleType) -> None:
    assert pairs.difference({"a": np.array([1.0, 2.1])}, {"a": np.array([1.0, 2.0])}) == pytest.approx(0.05)
    with pytest.raises(SystemExit, match=r"differ by 1.0e-01"):
        pairs.row("one", pairs.Times([1], [1], [1]), work="", peer_is="", found=0.1, tolerance=1e-5)


def test_pairs_take_turns_after_one_that_warms_up(pairs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SIDE", 8)
    seen: list[str] = []
    turns = pairs.Turns(lambda i: seen.append(f"ours {i}"), lambda i: seen.append(f"peer {i}"), peer_share=0.5)
    times, found = pairs.alternate(turns, pairs=2)
    assert seen == ["ours 0", "peer 0", "ours 0", "peer 0", "ours 1", "peer 1"]
    assert (len(times.ours), found) == (2, None)


def test_the_operations_counted_are_those_of_the_forward(random_small: Any, mini_prompts: Any) -> None:
    """Counted anew from the sizes of the products: five positions from YY to END, one in the last layer's output."""
    from benchmarks.cache import needed

    layer, vocabulary = 12 * 64 * 64, 64 * random_small.config.d_vocab
    by_hand = 2 * (11 * 5 * layer + 5 * 2 * 64 * 64 + 2 * 64 * 64 + 8 * 64 * 64 + vocabulary)
    assert needed(random_small.config, mini_prompts, 3) == 3 * by_hand


def test_a_page_weighs_its_text_and_the_figures_on_it_each_once(scripts: Any, tmp_path: Path) -> None:
    from benchmarks.report import heaviest

    (tmp_path / "neurons").mkdir()
    (tmp_path / "a.svg").write_bytes(b"x" * 1000)
    page = '<img class="wide" src="../a.svg" alt=""> <img src="../a.svg">'
    (tmp_path / "neurons" / "L9N43.html").write_text(page)
    (tmp_path / "index.html").write_text("x" * 900)
    (tmp_path / "explorer.html").write_text("x" * 9000)
    assert heaviest(tmp_path) == 1000 + len(page)


def test_both_sides_of_the_rows_on_answers_agree(mini_model: Any, tmp_path: Path) -> None:
    """On the bundled model, as the rows compare them; EAP-IG in fewer prompts."""
    from benchmarks import eap_ig, sets
    from benchmarks.pairs import difference
    from benchmarks.setting import Setting

    setting = Setting("mini", tmp_path)
    one = sets.Sets(setting)
    for measures in (sets.RECOVERED, sets.CONTRAST):
        ours, peer = one.keep(measures, 5), one.keep_hooked(measures, one.sizes(5)[2])
        assert difference({name: values[2] for name, values in ours.items()}, peer) < sets.TOLERANCE
    held = {name: values[3] for name, values in one.hold().items()}
    assert difference(held, one.hold_hooked(3)) < sets.TOLERANCE
    edges = eap_ig.Edges(setting)
    assert difference(edges.ours(0), edges.peer(0)) < eap_ig.TOLERANCE


def test_a_model_is_loaded_the_same_by_both_programs(mini_prompts: Any, pairs: ModuleType) -> None:
    from benchmarks import load
    from benchmarks.setting import BUNDLED

    given = (str(BUNDLED["mini"]), json.dumps(mini_prompts.tokens[0].tolist()),
             json.dumps(mini_prompts.year_token_ids.tolist()))  # fmt: skip
    ours, peer = (load._logits(program, given) for program in (load.OURS, load.BRIDGE))
    assert pairs.difference(ours, peer) < load.TOLERANCE


def test_models_of_other_sizes_are_made_in_memory(random_small: Any, tmp_path: Path) -> None:
    from benchmarks import growth

    model = growth._random(random_small, "other", 3, 32, 2)
    ctx = growth._context(model, tmp_path, 1)
    assert (model.config.n_layers, model.config.d_mlp, ctx.cache.layers) == (3, 128, (1, 2))
    assert growth._rate_of_attribution(ctx) > 0


def test_growth_is_the_largest_over_the_smallest_and_is_drawn(tmp_path: Path) -> None:
    from benchmarks import growth
    from benchmarks.figure import draw_growth

    one = growth._even("a small model: milliseconds a prompt of x", {97: 0.002, 970: 0.003}, "prompts", 1.2)
    assert one.value == pytest.approx(1.5)
    assert not one.passes
    found = json.loads(json.dumps({"limits": [asdict(one)]}))
    figures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for figure in figures:
        draw_growth(found, figure)
    assert figures[0].read_bytes() == figures[1].read_bytes()
    assert "milliseconds a prompt of x" in figures[0].read_text()
    with pytest.raises(SystemExit, match="nothing was measured at several sizes"):
        draw_growth({"limits": []}, figures[0])


def test_the_tables_go_between_the_marks_of_the_document(pairs: ModuleType, tmp_path: Path) -> None:
    import benchmark

    machine = {"processor": "P", "threads": 2, "matrix_rate": 1e11}
    row = asdict(a_row(pairs, at_least=9)) | {"passes": False}
    limit = asdict(pairs.Limit("report", "pages", 3.0, 30, "s")) | {"passes": True}
    measured = tmp_path / "measured.json"
    measured.write_text(json.dumps({"machine": machine, "model": "m", "rows": [row], "limits": [limit]}))
    document = tmp_path / "d.md"
    document.write_text("before\n<!-- measured -->\nold\n<!-- end of measured -->\nafter\n")
    assert benchmark.main(["--table", str(measured), "--into", str(document)]) == 0
    text = document.read_text()
    assert text.startswith("before\n<!-- measured -->\nP, 2 threads")
    assert text.endswith("<!-- end of measured -->\nafter\n")
    assert "| work | peer | 1 s | 4 s | 4 (3 - 5) | 9 |" in text
    assert "**does not reach what is asked for at least**" in text
    assert "| pages | 3 s | 30 s |" in text
    assert "old" not in text


def test_the_document_on_performance_has_the_marks() -> None:
    from benchmarks.table import between_marks

    document = (SCRIPTS.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "TABLES" in between_marks(document, "TABLES")
