"""The pages in a real browser: the index sorts and filters, the explorer draws, and no request leaves the page."""

from pathlib import Path

import numpy as np
import pytest
from browsers import browser_needed

from neurons.decomposition.effects import LogitEffects, logit_effects
from neurons.ranking.ranking import rank
from neurons.ranking.results import Ranking
from neurons.report.blocks import decimals_for, number
from neurons.report.contents import Contents
from neurons.report.explorer import write_explorer
from neurons.report.render import EXPLORER, Site
from neurons.report.report import write_report

MAX_BYTES = 12e6


@pytest.fixture(scope="module")
def effects(planted_case) -> LogitEffects:
    return logit_effects(planted_case(0).cache)


@pytest.fixture(scope="module")
def ranking(effects: LogitEffects) -> Ranking:
    return rank(effects)


@pytest.fixture(scope="module")
def report(effects: LogitEffects, ranking: Ranking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "planted"
    labels = {"family": dict.fromkeys(ranking.boosting_neurons(), "step <b>")}
    write_report(Contents(effects, ranking, ranking.neurons[:1]), folder=folder, command="neurons report")
    site = Site(model="planted", footer="", layers=effects.layers, paged=frozenset({str(ranking.neurons[0])}))
    write_explorer(effects, ranking, folder / EXPLORER, site=site, labels=labels)
    return folder


@pytest.fixture
def explorer(page, report):
    page.goto((report / "explorer.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    return page


def plotted(page, place: str) -> np.ndarray:
    """The numbers of the heat map or bars as Plotly has them."""
    key = "z" if place.endswith("map") else "y"
    return np.array(page.evaluate(f"Array.from(element('{place}').data[0].{key}, (v) => v.length ? [...v] : v)"))


def next_frame(page) -> None:
    """Sliders draw at most once a frame."""
    page.evaluate("painted()")


@browser_needed
def test_index_sorts_by_a_column(page, report, ranking):
    page.goto((report / "index.html").as_uri())
    page.locator("th", has_text="direct effect").click()
    page.locator("th[aria-sort=ascending]").wait_for()
    first = page.locator("table.interactive tbody tr").first.locator("td").nth(1).inner_text()
    assert first == str(ranking.neurons[int(np.argmin(ranking.year_specific))])


@browser_needed
def test_index_sorts_from_the_keyboard(page, report):
    page.goto((report / "index.html").as_uri())
    page.locator("th", has_text="rank").get_by_role("button").focus()
    page.keyboard.press("Enter")
    page.locator("th[aria-sort=ascending]").wait_for()


@browser_needed
def test_index_filters_by_call(page, report, ranking):
    page.goto((report / "index.html").as_uri())
    page.locator(".filter", has_text="verdict").locator("select").select_option("suppressing")
    rows = page.locator("table.interactive tbody tr")
    assert rows.count() == int(ranking.suppressing.sum())


@browser_needed
def test_index_holds_every_neuron_and_finds_one(page, report, ranking):
    """Also those far down, of which no element is made before they are seen."""
    page.goto((report / "index.html").as_uri())
    last = len(ranking) - 1
    page.locator(".dt-search input").fill(str(ranking.neurons[last]))
    cells = page.locator("table.interactive tbody tr").first.locator("td").all_inner_texts()
    assert cells[:2] == [f"{last + 1:,}", str(ranking.neurons[last])]
    assert cells[4] == "–"
    assert cells[8] == number(ranking.year_specific[last], decimals=decimals_for(widest(ranking)))


def widest(ranking: Ranking) -> float:
    """The largest number of the ranked table."""
    columns = ("ci_low", "ci_high", "static", "year_specific")
    return max(np.abs(getattr(ranking, name)).max() for name in columns)


@browser_needed
def test_neuron_page_shows_its_map(page, report, ranking):
    page.goto((report / "neurons" / f"{ranking.neurons[0]}.html").as_uri())
    image = page.locator(f"img[src$='{ranking.neurons[0]}-map.svg']")
    assert image.evaluate("(image) => image.complete && image.naturalWidth") > 200


@browser_needed
def test_explorer_finds_a_neuron_by_name_and_shows_its_map(explorer, effects):
    explorer.fill("#name", "l10n7")
    explorer.press("#name", "Enter")
    assert explorer.inner_text("#chosen") == "L10N7"
    expected = effects.map("L10N7")
    np.testing.assert_allclose(plotted(explorer, "map"), expected, rtol=0, atol=2e-3 * np.abs(expected).max())


@browser_needed
def test_slider_shows_the_effect_at_its_start_year(explorer, effects, ranking):
    before = plotted(explorer, "logits")
    explorer.locator("#year").fill("75")
    next_frame(explorer)
    expected = effects.of(ranking.neurons[0], start_year=75)
    shown = plotted(explorer, "logits")
    np.testing.assert_allclose(shown, expected, rtol=0, atol=2e-3 * max(np.abs(expected).max(), 1e-9))
    assert not np.array_equal(shown, before)


@browser_needed
def test_basket_of_the_planted_neurons_shows_the_triangle(explorer, ranking):
    explorer.locator("#first").fill(str(int(ranking.boosting.sum())))
    next_frame(explorer)
    summed = plotted(explorer, "basket-map")
    later = np.arange(100)[None, :] > np.array(ranking.start_years)[:, None]
    assert summed[later].mean() - summed[~later].mean() > 1.0
    assert (summed[later] > 0).mean() > 0.8


@browser_needed
def test_neurons_are_taken_out_of_the_basket(explorer):
    explorer.click("#add")
    assert np.abs(plotted(explorer, "basket-map")).max() > 0
    explorer.locator("#basket button").click()
    assert not plotted(explorer, "basket-map").any()


@browser_needed
def test_the_address_names_the_neuron_and_the_sum_and_opens_both(explorer, browser, report, ranking):
    explorer.keyboard.press("j")
    explorer.keyboard.press("a")
    explorer.keyboard.press("j")
    second, third = ranking.neurons[1], ranking.neurons[2]
    assert explorer.evaluate("location.hash") == f"#{third}&sum={second}"
    again = browser.new_page()
    again.goto(explorer.url)
    again.wait_for_selector("body[data-ready]")
    assert again.inner_text("#chosen") == str(third)
    assert again.locator("#basket button").all_inner_texts() == [f"{second} ×"]
    again.evaluate(f"location.hash = '#{str(second).lower()}&first=3'")
    again.wait_for_function(f"element('chosen').textContent === '{second}'")
    assert again.locator("#basket button").count() == 3
    again.close()


@browser_needed
def test_an_address_of_no_neuron_says_so(page, report):
    page.goto((report / "explorer.html").as_uri() + "#L99N1")
    page.wait_for_selector("body[data-ready]")
    assert page.inner_text("#unknown") == "no neuron L99N1 in the cached layers"


@browser_needed
def test_keys_walk_the_ranking_the_years_and_the_search(explorer, ranking):
    for key, place in (("j", 1), ("j", 2), ("k", 1)):
        explorer.keyboard.press(key)
        assert explorer.inner_text("#chosen") == str(ranking.neurons[place])
    before = explorer.inner_text("#shown-year")
    explorer.keyboard.press(".")
    assert int(explorer.inner_text("#shown-year")) == int(before) + 1
    explorer.keyboard.press("/")
    explorer.keyboard.type(str(ranking.neurons[5]).lower() + "\n")
    assert explorer.inner_text("#chosen") == str(ranking.neurons[5])


@browser_needed
def test_pages_and_explorer_lead_to_each_other(page, report, ranking):
    first = str(ranking.neurons[0])
    page.goto((report / "explorer.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    page.locator("#page a").click()
    page.locator("h1", has_text=first).wait_for()
    page.locator("header a", has_text="in the explorer").click()
    page.wait_for_selector("body[data-ready]")
    assert page.inner_text("#chosen") == first


@browser_needed
def test_bounds_keep_the_neurons_between_them(explorer, ranking):
    values = ranking.tuning_centre
    explorer.get_by_label("tuning centre at least").fill("40")
    explorer.get_by_label("tuning centre at most").fill("60")
    kept = int(((values >= 40) & (values <= 60)).sum())
    assert f"of {kept} entries" in explorer.inner_text(".dt-info")


@browser_needed
def test_maps_are_square(explorer):
    size = "element('map').querySelector('.heatmaplayer image').getBoundingClientRect()"
    width, height = explorer.evaluate(f"[{size}.width, {size}.height]")
    rows = explorer.evaluate("startYears[Y - 1] - startYears[0] + 1")
    assert width / 100 == pytest.approx(height / rows, rel=0.03)


@browser_needed
@pytest.mark.parametrize("file", ["index.html", "explorer.html", "provenance.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_by_axe_in_light_and_dark(browser, report, file, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(color_scheme=scheme)
    page.goto((report / file).as_uri())
    if file == "explorer.html":
        page.wait_for_selector("body[data-ready]")
    found = Axe().run(page).response["violations"]
    page.close()
    assert [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found] == []


@browser_needed
def test_dark_is_dark(browser, report):
    page = browser.new_page(color_scheme="dark")
    page.goto((report / "index.html").as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    page.close()


@browser_needed
def test_list_filters_by_label_and_chooses_a_neuron(explorer, ranking):
    explorer.locator(".filter", has_text="family").locator("select").select_option("step <b>")
    explorer.locator("th", has_text="direct effect").click()
    explorer.locator("th[aria-sort=ascending]").wait_for()
    last = ranking.boosting_neurons()[-1]
    explorer.locator("#list tbody button").first.click()
    assert explorer.inner_text("#chosen") == str(last)


@browser_needed
def test_unknown_neuron_is_told(explorer):
    explorer.fill("#name", "L99N1")
    explorer.press("#name", "Enter")
    assert "no neuron L99N1" in explorer.inner_text("#unknown")


@browser_needed
def test_the_first_neuron_is_drawn_before_the_others_are_unpacked(explorer):
    first, ready = (int(explorer.get_attribute("body", f"data-{name}")) for name in ("first", "ready"))
    print(f"first neuron drawn after {first} ms, all neurons listed after {ready} ms")  # noqa: T201
    assert first < ready


@browser_needed
def test_a_neuron_is_redrawn_at_once(explorer):
    """The time is message, not judged: this machine may be busy."""
    maps, all_plots = explorer.evaluate(
        """async () => {
          const maps = [], all = [];
          for (let k = 1; k <= 15; k++) {
            await new Promise((resolve) => setTimeout(resolve, 30));
            const start = performance.now();
            choose((k * 37) % M);
            document.body.offsetHeight;
            maps.push(performance.now() - start);
            await painted();
            all.push(performance.now() - start);
          }
          return [maps, all].map((times) => times.sort((a, b) => a - b)[7]);
        }"""
    )
    print(f"medians: a neuron's map {maps:.0f} ms, its curves too {all_plots:.0f} ms")  # noqa: T201
    assert explorer.inner_text("#chosen") != ""


@browser_needed
@pytest.mark.parametrize("file", ["index.html", "explorer.html"])
def test_page_fits_a_phone(browser, report, file):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((report / file).as_uri())
    page.wait_for_timeout(300)
    width = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert width <= 390


def test_explorer_of_a_gpt2_small_is_small_enough(effects, monkeypatch, tmp_path):
    """12,288 neurons with noisy curves, which deflate worse than a model's."""
    rng = np.random.default_rng(0)
    M = 12288
    factors = tuple(rng.standard_normal((M, width)).astype(np.float32) for width in (97, 100))
    monkeypatch.setattr("neurons.report.explorer._factors", lambda effects, ranking: factors)
    numbers = {name: rng.standard_normal(M) for name in
               ("share", "ci_low", "ci_high", "written_share", "sharpness_share", "score", "static", "year_specific",
                "total", "indirect", "tuning_centre", "readout_edge", "edge_gap")}  # fmt: skip
    layer, index = np.divmod(np.arange(M), 3072)
    none = np.zeros(M, bool)
    years = tuple(range(2, 99))
    numbers |= {"layer": layer + 8, "index": index, "boosting": none, "suppressing": none}
    ranking = Ranking("x", 1, (8, 9, 10, 11), years, None, "direct", None, (), **numbers)
    write_explorer(effects, ranking, tmp_path / "e.html", site=Site("x", ""))
    assert (tmp_path / "e.html").stat().st_size < MAX_BYTES


def test_explorer_holds_no_markup_of_names(effects, ranking, tmp_path):
    write_explorer(effects, ranking, tmp_path / "e.html", site=Site('</script><img src="x">', ""))
    assert '</script><img src="x">' not in (tmp_path / "e.html").read_text(encoding="utf-8")
