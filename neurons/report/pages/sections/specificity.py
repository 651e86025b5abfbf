"""Specificity on a text: a section of a neuron's page, and a sentence for its lead."""

from collections.abc import Mapping, Sequence
from typing import Any

from neurons.report.blocks import Block, Facts, Section, Text, TokenRow, TokenText, number

Numbers = Mapping[str, Any]


def specificity_sections(numbers: Numbers) -> tuple[Section, ...]:
    """From a neuron's numbers; nothing where no text was read."""
    found = numbers["specificity"]
    if not found:
        return ()
    loss = found["loss"]
    facts = Facts(
        (
            ("strongest activations on years", f"{found['on_years']:.0%}"),
            ("area under the ROC curve, years against text", number(found["auc"], decimals=3)),
            ("prompts at its own start years", f"{found['prompts']:,}"),
            ("tokens of the text, of which in years", f"{found['tokens']:,}, {found['years']:,}"),
            (f"rise in loss on the text, {loss['neurons']} neurons of the set mean-ablated", _nats(loss["rise"])),
            ("the same on the text's years", _nats(loss["rise_on_years"])),
        )
    )
    note = Text(
        (
            f"{verdict(found)} Years: END of the prompts at the start years where the neuron is active, and tokens of"
            f" the text that are part of a number from 1000 to 2099. Text: all other tokens of {found['file']}.",
        )
    )
    blocks: list[Block] = [note, facts]
    if found["snippets"]:
        blocks.append(_snippets(found["snippets"]))
    return (Section("Specificity on a text", tuple(blocks)),)


def verdict(found: Numbers) -> str:
    """Whether the neuron fires on years, in a sentence."""
    if found["specific"]:
        return f"Specific: {found['on_years']:.0%} of its strongest activations fall on years."
    return (
        f"Not specific: it fires on much else, only {found['on_years']:.0%} of its strongest activations fall on years."
    )


def lead_with(numbers: Numbers, share: str) -> str:
    """The neuron's description and share, with a warning where it fires on much else than years."""
    found = numbers["specificity"]
    warning = "" if not found or found["specific"] else verdict(found)
    return " ".join(one for one in (str(numbers["description"]), warning, share) if one)


def _nats(value: float | None) -> str:
    return "no years in the text" if value is None else f"{number(value, decimals=4)} nats a token"


def _snippets(snippets: Sequence[Numbers]) -> TokenText:
    limit = max(abs(value) for one in snippets for value in one["activation"]) or 1.0
    rows = tuple(
        TokenRow("a year" if one["on_year"] else "text", tuple(zip(one["tokens"], one["activation"], strict=True)))
        for one in snippets
    )
    return TokenText(f"Strongest places of the text; colour scale ±{number(limit)}", rows, limit)
