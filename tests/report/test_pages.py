"""The report folder: numbers equal to the library's, safe names, whole or not at all, no torch."""

import csv
import dataclasses
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from neurons.attribution.position_results import Positions
from neurons.cache.format import Cache
from neurons.clustering.clusters import cluster
from neurons.clustering.results import Clustering
from neurons.decomposition.cells import Activations
from neurons.decomposition.effects import LogitEffects, logit_effects
from neurons.decomposition.population import neuron_population
from neurons.ranking.ranking import rank
from neurons.ranking.results import COLUMNS, Ranking
from neurons.regression.composition import compose
from neurons.regression.results import Composition
from neurons.regression.tiling_results import composed_json
from neurons.report import markdown
from neurons.report.blocks import (
    Code,
    Column,
    Facts,
    Gallery,
    Page,
    Section,
    Span,
    Table,
    TokenRow,
    TokenText,
    number,
    with_space,
)
from neurons.report.contents import Contents, paged_neurons
from neurons.report.figures.plots import COLUMN
from neurons.report.numbers import behaviour_numbers
from neurons.report.pages.composition.clusters import cluster_pages
from neurons.report.pages.composition.composed import composition_page
from neurons.report.pages.ranking import positions_sections
from neurons.report.render import MANY, Site, row_data, shade, to_html
from neurons.report.report import write_report
from neurons.task.behaviour import measure, year_probabilities
from neurons.types import OutputError

TOP = 3
LIMITS_SAID = "What it does not show:"
NASTY = '../<script>alert(1)</script>/"message"\n| `name` [x](y)'


class Reader(HTMLParser):
    """Collects links, images and texts, and complains about tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [values[key] for key in ("href", "src") if values.get(key)]
        if tag == "img":
            self.images.append(values)
        if tag not in {"meta", "link", "img", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def effects(mini_cache: Cache) -> LogitEffects:
    return logit_effects(mini_cache)


@pytest.fixture(scope="module")
def ranking(effects: LogitEffects) -> Ranking:
    return rank(effects)


def shown(effects: LogitEffects, ranking: Ranking, top: int = 1) -> Contents:
    """The least that a report shows: the ranking, and pages of its first neurons."""
    return Contents(effects, ranking, paged_neurons(ranking, top))


@pytest.fixture(scope="module")
def report(effects: LogitEffects, ranking: Ranking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "mini"
    write_report(shown(effects, ranking, TOP), folder=folder, command="neurons report")
    return folder


@pytest.fixture(scope="module")
def numbers(report: Path) -> dict:
    return json.loads((report / "report.json").read_text(encoding="utf-8"))


def html_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.html"))


# --- numbers ---------------------------------------------------------------------------------------


def test_report_json_holds_the_ranking_as_the_library_gives_it(numbers, ranking):
    assert numbers["ranking"] == [ranking.record(row) for row in range(len(ranking))]


def test_csv_holds_every_ranked_neuron(report, ranking):
    with (report / "ranking.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [float(row["score"]) for row in rows] == ranking.score.tolist()


def test_behaviour_in_the_report_is_measured_as_in_the_library(numbers, effects):
    cache = effects.cache
    rows = np.isin(cache.start_year, effects.start_years)
    own = measure(year_probabilities(cache.year_logits, cache.logsumexp)[rows], cache.start_year[rows])
    assert numbers["behaviour"]["model"] == own.means()


def test_the_average_distribution_has_no_cutoff_of_its_own(effects):
    """Summed over start years, its sharpness telescopes: it depends on the four end years only."""
    probability = np.array(behaviour_numbers(effects)["mean_probability"])
    telescoped = probability.mean(0)[[98, 99]].sum() - probability.mean(0)[[1, 2]].sum()
    found = behaviour_numbers(effects)["average_distribution"]["cutoff_sharpness"]["mean"]
    assert found == pytest.approx(telescoped / len(probability), abs=3e-4)


def test_neuron_contrasts_average_to_the_score(numbers):
    for neuron in numbers["neurons"].values():
        assert np.mean(neuron["contrast"]) == pytest.approx(neuron["score"], rel=1e-4)


def test_tuning_times_readout_is_the_librarys_map(numbers, effects):
    for name, neuron in numbers["neurons"].items():
        shown = np.outer(neuron["tuning"], neuron["readout"])
        np.testing.assert_allclose(shown, effects.map(name), rtol=1e-4, atol=1e-6)


def test_tuning_lies_within_its_interval(numbers):
    for neuron in numbers["neurons"].values():
        low, mean, high = (np.array(neuron[key]) for key in ("tuning_low", "tuning", "tuning_high"))
        assert ((low <= mean) & (mean <= high)).mean() > 0.99


def test_every_called_neuron_of_a_planted_model_has_its_numbers_on_its_page(planted_case, tmp_path):
    planted = logit_effects(planted_case(0).cache)
    ranked = rank(planted)
    called = [*ranked.boosting_neurons(), *ranked.suppressing_neurons()]
    found = Contents(planted, ranked, tuple(called)).numbers("x")
    from neurons.report.pages.neuron import neuron_page

    site = Site(model="planted", footer="")
    for name, neuron in found["neurons"].items():
        page = neuron_page(neuron, found["start_years"], n_ranked=len(ranked), paged=frozenset())
        shown = " ".join(Reader(to_html(page, site)).texts)
        record = ranked.record(ranked.row_of(name))
        assert all(f"{number(record[key])} logits" in shown for key in ("static", "year_specific"))
        assert f"{record['rank']} of {len(ranked)}" in shown


def test_pages_show_the_fits_they_are_given(effects, ranking, tmp_path):
    neuron = ranking.neurons[0]
    clustering = cluster(neuron_population(effects), [neuron], resamples=2)
    fits = clustering.tuning
    contents = Contents(effects, ranking, (neuron,), clustering=clustering)
    write_report(contents, folder=tmp_path / "r", command="x")
    shown = " ".join(Reader((tmp_path / "r" / "neurons" / f"{neuron}.html").read_text(encoding="utf-8")).texts)
    assert fits.neurons[0].description in shown
    assert f"{fits.neurons[0].tuning.family}, held-out R² {fits.neurons[0].tuning.r2_cv:.2f}" in shown


# --- the folder ------------------------------------------------------------------------------------


def test_top_neurons_have_pages_and_the_suppressing_ones_their_share(planted_case):
    ranking = rank(logit_effects(planted_case(0).cache))
    chosen = paged_neurons(ranking, 8)
    assert len(chosen) == 8
    assert chosen[:6] == ranking.neurons[:6]
    assert set(chosen[6:]) == set(ranking.suppressing_neurons()[:2])


def test_every_link_and_image_leads_to_a_file_of_the_report(report):
    for file in html_files(report):
        for link in Reader(file.read_text(encoding="utf-8")).links:
            if link == "data:,":
                continue  # the explorer's favicon: none
            path, _, anchor = link.partition("#")
            place = (file.parent / path).resolve() if path else file
            assert place.is_relative_to(report.resolve()), link
            assert place.is_file(), (file, link)
            if anchor and place.name != "explorer.html":
                assert f'id="{anchor}"' in place.read_text(encoding="utf-8"), (file, link)


def test_every_markdown_link_leads_to_a_file_of_the_report(report):
    for file in report.rglob("*.md"):
        for link in re.findall(r"\]\(([^)]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / link).is_file(), (file, link)


def test_every_image_has_a_text_in_its_place(report):
    images = [image for file in html_files(report) for image in Reader(file.read_text(encoding="utf-8")).images]
    assert images
    assert all(image["alt"] for image in images)


def test_nothing_is_loaded_from_elsewhere(report):
    """In the text of the pages; the explorer's requests are watched in a browser (test_explorer.py)."""
    pages = [file for file in html_files(report) if file.name != "explorer.html"]
    for file in [*pages, *(report / "assets").glob("*.css")]:
        assert not re.search(r"(src|href)=\"(https?:)?//|@import|url\(", file.read_text(encoding="utf-8"))


def test_the_same_inputs_give_the_same_bytes(report, effects, ranking, tmp_path):
    again = tmp_path / "mini"
    write_report(shown(effects, ranking, TOP), folder=again, command="neurons report")
    files = {file.relative_to(report) for file in report.rglob("*") if file.is_file()}
    assert files == {file.relative_to(again) for file in again.rglob("*") if file.is_file()}
    assert all((report / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_names_with_tags_quotes_and_newlines_are_shown_as_text(effects, tmp_path):
    nouns = tuple(f"{noun}</td><script>" for noun in effects.cache.noun)
    cache = dataclasses.replace(effects.cache, model=NASTY, noun=nouns)
    nasty = dataclasses.replace(effects, activations=Activations(cache))
    ranking = rank(nasty)
    folder = tmp_path / "reports" / "safe"
    write_report(shown(nasty, ranking), folder=folder, command=f"neurons report --model {NASTY!r}")
    for file in html_files(folder):
        text = file.read_text(encoding="utf-8")
        assert "<script>alert" not in text
        assert "</td><script>" not in text
        assert "<script>alert(1)</script>" in " ".join(Reader(text).texts)
    for file in folder.rglob("*.md"):
        assert "<script>" not in re.sub(r"(?s)```.*?```", "", file.read_text(encoding="utf-8"))
    assert [path.name for path in tmp_path.rglob("*") if path.parent in (tmp_path, tmp_path / "reports")] == [
        "reports",
        "safe",
    ]


def test_interrupted_report_leaves_the_previous_one(effects, ranking, tmp_path):
    folder = tmp_path / "mini"
    folder.mkdir()
    (folder / "report.json").write_text('{"format": "neurons-report"}')

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(shown(effects, ranking), folder=folder, command="x", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]
    assert [path.name for path in folder.iterdir()] == ["report.json"]


def test_second_run_replaces_the_report(effects, ranking, tmp_path):
    folder = tmp_path / "mini"
    folder.mkdir()
    (folder / "report.json").write_text('{"format": "neurons-report"}')
    (folder / "old.html").write_text("old")
    index = write_report(shown(effects, ranking), folder=folder, command="x")
    assert index == folder / "index.html"
    assert index.is_file()
    assert not (folder / "old.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


def test_folder_that_is_no_report_is_never_replaced(effects, ranking, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="holds files that are no report"):
        write_report(shown(effects, ranking), folder=tmp_path, command="x")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_unwritable_folder_is_one_line(effects, ranking, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another with --report-dir") as caught:
        write_report(shown(effects, ranking), folder=tmp_path / "file" / "mini", command="x")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def clustering(effects: LogitEffects, ranking: Ranking) -> Clustering:
    return cluster(neuron_population(effects), ranking.neurons[:60], resamples=2)


@pytest.fixture(scope="module")
def composition(effects: LogitEffects, clustering: Clustering) -> Composition:
    groups = {str(one.id): one.members for one in clustering.clusters}
    return compose(neuron_population(effects), clustering.tuning, groups=groups)


@pytest.fixture(scope="module")
def clustered(effects, ranking, clustering, composition, tmp_path_factory) -> Path:
    """A report with clusters and composition."""
    folder = tmp_path_factory.mktemp("clustered") / "mini"
    paged = clustering.clusters[0].members[:1]
    contents = Contents(effects, ranking, paged, clustering=clustering, composition=composition)
    write_report(contents, folder=folder, command="x")
    return folder


def test_the_page_knows_which_figures_of_clusters_and_composition_take_two_columns(clustering, composition):
    pages = [*cluster_pages(clustering, frozenset()), composition_page(composition, None, None, frozenset())]
    blocks = [block for page in pages for section in page.sections for block in section.blocks]
    pictures = [picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures]
    assert {True, False} == {picture.wide for picture in pictures}
    for picture in pictures:
        assert picture.wide == (picture.draw().get_figwidth() > COLUMN), picture.name


def test_pages_of_analyses_are_linked_from_the_index_and_their_numbers_kept(clustered, composition):
    assert "composition.html" in Reader((clustered / "index.html").read_text(encoding="utf-8")).links
    pages = json.loads((clustered / "report.json").read_text(encoding="utf-8"))["pages"]
    assert pages["composition"] == json.loads(json.dumps(composed_json(composition, None, None)))


def test_the_page_of_provenance_names_the_cache_and_the_analyses(clustered, effects):
    texts = Reader((clustered / "provenance.html").read_text(encoding="utf-8")).texts
    cache = effects.cache
    written = datetime.fromtimestamp(cache.path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assert {cache.model_sha256, cache.key, cache.prompts_sha256, cache.path.name, written} <= set(texts)
    assert {"clusters and composition", "seed 0, from the cache alone"} <= set(texts)


def test_every_section_with_figures_says_what_it_does_not_show(clustered):
    for file in html_files(clustered):
        for section in file.read_text(encoding="utf-8").split("<section")[1:]:
            if "<figure" in section and "clusters/" not in file.as_posix():
                assert LIMITS_SAID in section, (file, section[:200])


def test_every_figure_is_as_wide_as_one_column_or_two(clustered, report):
    for file in [*clustered.rglob("*.svg"), *report.rglob("*.svg")]:
        width = re.search(r'<svg[^>]* width="([0-9.]+)pt"', file.read_text(encoding="utf-8"))
        assert float(width[1]) * 25.4 / 72 == pytest.approx(84, abs=0.1) or float(
            width[1]
        ) * 25.4 / 72 == pytest.approx(174, abs=0.1), file


def test_no_page_weighs_more_than_a_megabyte(clustered, report):
    """With its images, but not the explorer, which carries its plots."""
    for folder in (clustered, report):
        for file in html_files(folder):
            if file.name != "explorer.html":
                images = {image["src"] for image in Reader(file.read_text(encoding="utf-8")).images}
                assert file.stat().st_size + sum((file.parent / one).stat().st_size for one in images) < 1e6, file


def test_the_report_ends_on_how_to_cite(report):
    text = " ".join(Reader((report / "index.html").read_text(encoding="utf-8")).texts)
    assert "@inproceedings{hanna2023greater" in text.split("How to cite")[-1]
    assert "@software{neurons" in (report / "README.md").read_text(encoding="utf-8")


def test_a_neuron_leads_to_the_page_of_its_cluster(clustered, clustering):
    first = clustering.clusters[0]
    page = (clustered / "neurons" / f"{first.members[0]}.html").read_text(encoding="utf-8")
    assert f"../clusters/cluster-{first.id}.html" in Reader(page).links


def test_the_index_describes_every_cluster(clustered, clustering):
    text = " ".join(Reader((clustered / "index.html").read_text(encoding="utf-8")).texts)
    assert all(one.description in text for one in clustering.clusters)


def test_report_of_one_century_says_that_there_is_no_interval(effects, tmp_path):
    cache = dataclasses.replace(effects.cache, century=np.full(len(effects.cache), 17))
    one = dataclasses.replace(effects, activations=Activations(cache))
    write_report(shown(one, rank(one)), folder=tmp_path / "r", command="x")
    page = next((tmp_path / "r" / "neurons").glob("*.html")).read_text(encoding="utf-8")
    assert "needs 2 centuries" in page


def test_report_from_a_cache_loads_no_torch(mini_cache, tmp_path):
    program = f"""
import sys
from pathlib import Path
import neurons
from neurons.report.contents import Contents
from neurons.report.report import write_report
effects = neurons.logit_effects(neurons.open_cache({str(mini_cache.path)!r}))
ranking = neurons.rank(effects)
write_report(Contents(effects, ranking, ranking.neurons[:1]), folder=Path({str(tmp_path / "r")!r}), command="x")
loaded = {{"torch", "transformer_lens", "transformers", "pandas", "xarray", "matplotlib.pyplot"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# --- blocks ----------------------------------------------------------------------------------------


def test_table_shows_all_numbers_with_the_same_decimals():
    table = Table("", (Column("a", "number"), Column("b", "number")), ((1.23456, Span(-0.5, 0.00001)), (None, 2)))
    assert table.shown() == (("1.235", "−0.500 to 0.000"), ("–", "2.000"))


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.000"), (-0.0, "0.000"), (-1.5, "−1.500"), (1234.5, "1234")])
def test_numbers_have_four_digits_and_a_true_minus(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<b>&", "&lt;b&gt;&amp;"),
        ("a | b\nc", r"a \| b c"),
        ("[x](y)", r"\[x\](y)"),
        ("# head", r"\# head"),
        ("1. item", r"1\. item"),
        ("- item", r"\- item"),
        ("0.5", "0.5"),
    ],
)
def test_markdown_shows_exactly_the_text(text, escaped):
    assert markdown.escape(text) == escaped


TOKENS = TokenText("caption", (TokenRow("a", ((" 17", 4.0), ("<b>", -3.0), ("\n", 0.5))),), 4.0)


def test_the_strongest_tokens_carry_their_numbers_in_html():
    page = to_html(Page("page", "T", "l", (Section("S", (TOKENS,)),)), Site(model="m", footer=""))
    assert Reader(page).texts.count("4.00") == Reader(page).texts.count("−3.00") == 1
    assert "0.50" not in Reader(page).texts
    assert all(title in page for title in ('title="4"', 'title="-3"', 'title="0.5"'))
    assert "<b>" not in page
    assert "\\n" in Reader(page).texts


def test_the_strongest_tokens_carry_their_numbers_in_markdown():
    text = markdown.render(Page("page", "T", "l", (Section("S", (TOKENS,)),)), picture_file=str)
    assert r"| a | **17** (4.00) **&lt;b&gt;** (−3.00) \\n |" in text


def test_token_colours_are_centred_at_zero():
    assert shade(0.0) == "#ffffff"
    assert shade(1.0) == "#ef8a62"
    assert shade(-1.0) == shade(-2.0) == "#67a9cf"


@pytest.mark.parametrize("share", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_tokens_are_readable_on_their_colour(share):
    """Contrast of the text's colour (#1a1a1a) with the background: WCAG asks for 4.5."""
    assert contrast_ratio(shade(share), "#1a1a1a") > 4.5


def contrast_ratio(one: str, other: str) -> float:
    """By the relative luminance of WCAG 2."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("token", "text"), [(" 17", "␣17"), ("17", "17"), ("\x1f", r"\x1f"), ("  a", "␣␣a")])
def test_tokens_show_their_leading_spaces(token, text):
    assert with_space(token) == text


def test_a_table_cut_in_markdown_says_so():
    table = Table("", (Column("a", "count"),), tuple((i,) for i in range(60)), interactive=True)
    text = markdown.render(Page("page", "T", "l", (Section("S", (table,)),)), picture_file=str)
    assert "The first 50 of 60 rows." in text


def test_rows_held_by_a_script_cannot_end_it():
    rows = tuple((f"</script><b>{i}", 0.5 + i) for i in range(MANY + 1))
    table = Table("", (Column("a"), Column("b", "number")), rows, interactive=True)
    page = to_html(Page("page", "T", "l", (Section("S", (table,)),)), Site(model="m", footer=""))
    assert "</script><b>" not in page
    assert row_data(table, str, Site(model="m", footer=""))[3] == ["</script><b>3", ["3.5", 3.5]]


def test_fence_cannot_be_ended_by_the_text():
    assert markdown.fenced("a\n```\nb").startswith("````\n")


def test_html_and_markdown_show_the_same_numbers():
    table = Table("caption", (Column("a"), Column("b", "number")), (("x", 0.25), ("y", -1.0)))
    page = Page("page", "Title", "lead", (Section("S", (table, Facts((("term", "value"),)), Code("run"))),))
    shown = Reader(to_html(page, Site(model="m", footer=""))).texts
    written = markdown.render(page, picture_file=str)
    for text in ("0.250", "−1.000", "caption", "value", "run"):
        assert any(text in part for part in shown)
        assert text in written


@pytest.mark.parametrize("key", ["../out", "a/../b", "/etc/x", "a b", ""])
def test_page_keys_stay_inside_the_report(key):
    with pytest.raises(ValueError, match="page key"):
        Page(key, "t", "l", ())


def test_the_index_says_how_much_lies_before_end_where_that_was_measured():
    attribution = np.zeros((2, 3, 4))
    attribution[0, 0, 1], attribution[1, 2, 0] = -1.0, 3.0
    measured = Positions("m", "probability_difference", ("BOS", "XX", "YY", "to", "XX"), attribution)
    (section,) = positions_sections(measured.to_json())
    _, _, table = section.blocks
    assert section.claim.startswith("25 % of the absolute attribution")
    assert table.rows[0] == ("L0N1", "2: YY", -1.0)
    assert positions_sections(None) == ()
