"""Sections of a neuron's page from the model's weights: vocabulary, strongest and weakest prompts, control prompts.

Made from its numbers (`weight_numbers.py`) alone.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurons.report.blocks import (
    Block,
    Column,
    Facts,
    Gallery,
    Picture,
    Section,
    Table,
    Text,
    TokenRow,
    TokenText,
    number,
    with_space,
)
from neurons.report.figures import neuron_plots

Numbers = Mapping[str, Any]

LISTED = 10
"""Tokens shown at each end; report.json has twice as many."""
CLASSES = {
    "prediction": "prediction: raises few tokens strongly",
    "suppression": "suppression: lowers few tokens strongly",
    "entropy": "entropy-like: large norm, equal effect on all tokens",
}


def weight_sections(numbers: Numbers) -> tuple[Section, ...]:
    """Those of which the numbers are known."""
    sections: list[Section] = []
    if numbers["weights"] or numbers["vocabulary"]:
        sections.append(Section("Direct effect on the vocabulary", _vocabulary(numbers)))
    if numbers["prompts"]:
        sections.append(Section("Strongest and weakest prompts", _prompts(numbers)))
    if numbers["controls"]:
        sections.append(Section("Activation on control prompts", _controls(numbers)))
    return tuple(sections)


def _vocabulary(numbers: Numbers) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if numbers["weights"]:
        blocks.append(_moments(numbers["weights"]))
    if numbers["vocabulary"]:
        found = numbers["vocabulary"]
        blocks += [Gallery((_histogram(numbers["neuron"], found),)), _tokens(found)]
    return tuple(blocks)


def _classes(weights: Numbers) -> str:
    found = [CLASSES[name] for name in weights["neuron_classes"]]
    return "; ".join(found) or "none of prediction, suppression, entropy-like"


def _moments(weights: Numbers) -> Facts:
    def shown(name: str) -> str:
        return "undefined" if weights[name] is None else number(weights[name])

    years = weights["explained"]["years"]
    return Facts(
        (
            ("classes, by its weights", _classes(weights)),
            ("variance of the cosine", shown("variance")),
            ("skew", shown("skew")),
            ("kurtosis (normal: 3)", shown("kurtosis")),
            ("norm of w_out", f"{shown('norm')}, robust z {shown('norm_z')}"),
            ("cosine of w_in and w_out", shown("in_out_cosine")),
            ("variance of the logits", shown("logit_variance")),
            ("share of the variance between years and other tokens", "undefined" if years is None else f"{years:.1%}"),
        )
    )


def _histogram(name: str, found: Numbers) -> Picture:
    total = sum(found["counts"])
    return Picture(
        f"{name}-vocabulary",
        partial(
            neuron_plots.cosine_histogram,
            np.array(found["edges"]),
            np.array(found["counts"]),
            np.array(found["year_counts"]),
        ),
        f"Histogram of the cosine of {name}'s output weights with each of {total:,} tokens, from"
        f" {number(found['edges'][0])} to {number(found['edges'][-1])}; the 100 years are marked.",
        f"Cosine of w_out with the unembedding of each of {total:,} tokens: number of tokens by cosine, on a"
        " logarithmic scale.",
    )


def _tokens(found: Numbers) -> Table:
    rows = tuple(
        (with_space(up["token"]), up["logit"], up["cosine"], with_space(down["token"]), down["logit"], down["cosine"])
        for up, down in zip(found["promoted"][:LISTED], found["suppressed"][:LISTED], strict=True)
    )
    columns = (
        Column("promoted"), Column("logits", "number"), Column("cosine", "number"),
        Column("suppressed"), Column("logits", "number"), Column("cosine", "number"),
    )  # fmt: skip
    caption = "Most promoted and most suppressed tokens of the vocabulary: logits per unit of a/σ, minus the mean"
    " over all tokens"
    return Table(caption, columns, rows)


def _prompts(numbers: Numbers) -> tuple[Block, ...]:
    found = numbers["prompts"]
    note = Text(
        (
            "Background of each token: the neuron's activation there, red above zero, blue below; the strongest are"
            " printed. First column: a/σ at END, by which the prompts are chosen.",
        )
    )
    limit = max(abs(value) for end in found.values() for one in end for value in one["activation"]) or 1.0
    return (note, *(_token_text(end, found[end], limit) for end in ("strongest", "weakest")))


def _token_text(end: str, prompts: Sequence[Numbers], limit: float) -> TokenText:
    rows = tuple(
        TokenRow(f"a/σ {number(one['strength'])}", tuple(zip(one["tokens"], one["activation"], strict=True)))
        for one in prompts
    )
    return TokenText(f"{end.capitalize()} prompts; colour scale ±{number(limit)}", rows, limit)


def _controls(numbers: Numbers) -> tuple[Block, ...]:
    found, name = numbers["controls"], numbers["neuron"]
    by_year = {one["kind"]: one for one in found if one["labels"] == found[0]["labels"]}
    picture = Picture(
        f"{name}-controls",
        partial(
            neuron_plots.control_curves,
            list(map(int, found[0]["labels"])),
            {kind: np.array(one["mean"]) for kind, one in by_year.items()},
        ),
        f"Activation of {name} by the two digits YY on {len(by_year)} types of prompt: {', '.join(by_year)}.",
        "Mean activation a/σ at END by the two digits YY. Nouns and century are the same on all types of prompt, and"
        " fewer than those of the tuning curve above.",
    )
    rows = tuple(
        (one["kind"], one["about"], one["example"], one["summary"]["mean"], one["summary"]["min"],
         one["summary"]["max"])
        for one in found
    )  # fmt: skip
    columns = (
        Column("prompts"), Column("description"), Column("example"),
        Column("mean a/σ", "number"), Column("minimum", "number"), Column("maximum", "number"),
    )  # fmt: skip
    left_out = tuple(
        Text((f"{name} is not possible with this tokenizer: {reason}.",))
        for name, reason in numbers["controls_left_out"].items()
    )
    return (Gallery((picture,)), Table("Activation at END over all prompts of each type", columns, rows), *left_out)
