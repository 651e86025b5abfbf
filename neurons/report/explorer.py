"""Every neuron of the cached layers in one self-contained page.

1. A neuron's map is its tuning curve times its readout, so only these two are stored: float16, each divided
   by its largest size, which is kept beside it.
2. All columns are packed one after the other, deflated and written into the page as base64; the first neuron's
   once more alone, so that it is drawn before the others are unpacked.
3. In the browser `templates/explorer.js` unpacks them, multiplies, and draws with Plotly; the list is DataTables'.

Nothing is loaded from another file or host, so the page can be mailed.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from neurons.decomposition.effects import LogitEffects
from neurons.ranking.results import Ranking
from neurons.report.folder import write_text
from neurons.report.render import Site, environment, html_file, template_text
from neurons.types import NeuronId

SCORES = (
    "share", "ci_low", "ci_high", "written_share", "score", "static", "year_specific", "tuning_centre", "readout_edge",
)  # fmt: skip
"""Columns of the list, float32, as in the ranking."""

Labels = Mapping[str, Mapping[NeuronId, str]]
"""Further columns by name, `family` or `cluster`: what a neuron is there."""


def write_explorer(
    effects: LogitEffects, ranking: Ranking, path: Path, *, site: Site, labels: Labels | None = None
) -> None:
    """Write the page. Raises `OSError` when the file cannot be written."""
    labels = labels or {}
    about = {
        "model": site.model,
        "start_years": list(effects.start_years),
        "count": len(ranking),
        "scores": list(SCORES),
        "pages": {name: html_file(f"neurons/{name}") for name in sorted(site.paged)},
        "labels": {name: [known.get(neuron, "") for neuron in ranking.neurons] for name, known in labels.items()},
    }
    columns = columns_of(effects, ranking)
    page = environment().get_template("explorer.html")
    write_text(
        path,
        page.render(
            site=site,
            about=about,
            first=pack(columns.first()),
            data=pack(columns),
            style=Markup(template_text("style.css")),
            scripts=[
                Markup(_plotly()),
                Markup(template_text("datatables.min.js")),
                Markup(template_text("explorer.js")),
            ],
        ),
    )


@dataclass(frozen=True, eq=False)
class Columns:
    """What the page holds of each of M neurons, in rank order. call: 0 neither, 1 boosting, 2 suppressing."""

    tuning: Float[np.ndarray, "M Y"]
    readout: Float[np.ndarray, "M 100"]
    scores: Float[np.ndarray, "S M"]
    layer: Int[np.ndarray, " M"]
    index: Int[np.ndarray, " M"]
    call: Int[np.ndarray, " M"]

    def first(self) -> "Columns":
        """The first neuron alone."""
        return Columns(
            self.tuning[:1], self.readout[:1], self.scores[:, :1], self.layer[:1], self.index[:1], self.call[:1]
        )


def columns_of(effects: LogitEffects, ranking: Ranking) -> Columns:
    tuning, readout = _factors(effects, ranking)
    scores = np.stack([getattr(ranking, name) for name in SCORES])
    return Columns(tuning, readout, scores, ranking.layer, ranking.index, ranking.boosting + 2 * ranking.suppressing)


def pack(columns: Columns) -> str:
    """Base64 of the deflated bytes of all columns, little-endian.

    float32 [M] each: the sizes of tuning and readout, then `SCORES`; uint16 [M]: layer, index, and the call;
    float16: tuning [M, Y] and readout [M, 100] over their sizes, each as all its low bytes, then all its high
    bytes, which deflates a sixth better.
    """
    factors = (columns.tuning, columns.readout)
    sizes = [np.abs(values).max(1) for values in factors]
    scaled = [
        np.divide(values, size[:, None], where=size[:, None] > 0, out=np.zeros_like(values))
        for values, size in zip(factors, sizes, strict=True)
    ]
    parts = [
        *(values.astype("<f4") for values in (*sizes, *columns.scores)),
        *(values.astype("<u2") for values in (columns.layer, columns.index, columns.call)),
        *(values.astype("<f2").reshape(-1, 1).view("u1").T for values in scaled),
    ]
    return base64.b64encode(zlib.compress(b"".join(part.tobytes() for part in parts), 6)).decode("ascii")


def _factors(effects: LogitEffects, ranking: Ranking) -> tuple[Float[np.ndarray, "M Y"], Float[np.ndarray, "M 100"]]:
    place = {layer: i * effects.cache.d_mlp for i, layer in enumerate(effects.layers)}
    order = np.array([place[layer] for layer in ranking.layer.tolist()]) + ranking.index
    tuning = np.concatenate([effects.tuning(layer).T for layer in effects.layers])[order]
    readout = np.concatenate([effects.readout(layer) for layer in effects.layers])[order]
    return tuning, readout


def _plotly() -> str:
    return (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
