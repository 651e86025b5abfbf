"""The pages that say how far the numbers can be trusted: `provenance`, and `check` against the published ones."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from neurons.comparison.published import PAPER, shown
from neurons.comparison.results import Check, Checks, conclusion
from neurons.report.blocks import (
    Block,
    Code,
    Column,
    Facts,
    FileLink,
    Inline,
    Page,
    PageLink,
    Section,
    Table,
    Text,
    number,
)

PROVENANCE = "provenance"
SHOWN = 12
"""Nouns named of each century; report.json has all."""
Numbers = Mapping[str, Any]

RULES = (
    "Each measurement is compared with the value published for GPT-2 small. The tolerance is three standard errors:"
    " those of a bootstrap over nouns and years (of a map, a jackknife over centuries), combined with the published"
    " one; never the spread of single prompts.",
    "A number agrees when it is within the tolerance of the published one. A qualitative claim agrees when the"
    " measured value exceeds its bound by more than the tolerance. The difference is measured minus published, or"
    " minus the bound of a qualitative claim. An order agrees when no value exceeds the one before it by more than"
    " the tolerance and each exceeds zero by more than its own; its difference is the narrowest gap. Facts about"
    " tokens must be equal.",
    f"Sources: code, the released code of {PAPER}; second-hand, quoted elsewhere; replication, measured by others with"
    " TransformerLens; computed, from GPT-2's byte-pair merges.",
)


def provenance_page(numbers: Numbers) -> Page:
    """numbers: as in report.json."""
    found = numbers["provenance"]
    about = Facts(
        (
            ("model", found["model"]),
            ("checkpoint, SHA-256", found["model_sha256"]),
            ("notes", "; ".join(found["notes"]) or "none"),
            ("layers", ", ".join(map(str, found["layers"]))),
            ("start years measured", shown_years(numbers["start_years"])),
            ("prompts", f"{numbers['prompts']['n_prompts']:,}"),
            ("prompt set, SHA-256", found["prompts_sha256"] or "not recorded"),
            ("cache file", found["cache_file"]),
            ("cache key, SHA-256", found["cache_key"]),
            ("cache written", found["cache_written"] or "unknown"),
        )
    )
    versions = Facts(tuple(found["versions"].items()))
    return Page(
        key=PROVENANCE,
        title="Provenance",
        lead="Model, prompts, cache, analyses and versions behind every number of this report.",
        sections=(
            Section("Reproduction", reproduce(numbers["command"])),
            Section("Model, prompts and cache", (about,)),
            Section("Analyses", (_analyses(found["analyses"]),)),
            Section("Prompts", prompt_tables(numbers["prompts"])),
            Section("Versions", (versions,)),
        ),
    )


def reproduce(command: str) -> tuple[Block, ...]:
    numbers = Text(("All numbers of these pages: ", FileLink("report.json", "report.json"), "."))
    return (Code(command), numbers)


PUBLISHED = """@inproceedings{hanna2023greater,
  title     = {How does {GPT-2} compute greater-than?: Interpreting mathematical abilities
               in a pre-trained language model},
  author    = {Hanna, Michael and Liu, Ollie and Variengien, Alexandre},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {36},
  year      = {2023}
}"""
SOFTWARE = """@software{neurons,
  title   = {neurons: which {MLP} neurons make {GPT-2} say a later year, and how they add up to greater-than},
  author  = {{The neurons developers}},
  version = {VERSION},
  year    = {2026}
}"""


def citations(version: str) -> tuple[Block, ...]:
    """The paper whose task and findings these are, and this tool."""
    words = (
        "The task, its measures and the published findings are of Hanna, Liu and Variengien (2023); numbers of these"
    )
    return (
        Text((f"{words} pages are computed by neurons {version}.",)),
        Code(PUBLISHED),
        Code(SOFTWARE.replace("VERSION", version)),
    )


def short_provenance(numbers: Numbers) -> Facts:
    """For pages read on their own: the main facts and a link to the rest."""
    found = numbers["provenance"]
    entries: list[tuple[str, Inline]] = [
        ("checkpoint, SHA-256", found["model_sha256"][:16]),
        ("prompt set, SHA-256", found["prompts_sha256"][:16] or "not recorded"),
        ("neurons", found["versions"]["neurons"]),
        ("command", numbers["command"]),
        ("details", PageLink("provenance", PROVENANCE)),
    ]
    return Facts(tuple(entries))


def _analyses(analyses: Mapping[str, str]) -> Table:
    return Table("", (Column("analysis"), Column("how")), tuple(analyses.items()))


def prompt_tables(prompts: Numbers) -> tuple[Block, ...]:
    """The template, and for each century its nouns and the start years left out."""
    nouns = groupby(sorted(prompts["nouns"], key=lambda pair: pair["century"]), key=lambda pair: pair["century"])
    words = {century: _some([pair["noun"] for pair in pairs]) for century, pairs in nouns}
    rows = tuple(
        (
            cell["century"],
            words[cell["century"]],
            cell["start_years"],
            shown_years(cell["missing"]) or "none",
            cell["reason"] or "",
        )
        for cell in prompts["centuries"]
    )
    columns = (
        Column("XX", "count"),
        Column("nouns"),
        Column("start years", "count"),
        Column("YY left out"),
        Column("example of the reason"),
    )
    template: Inline = f"{prompts['n_prompts']:,} prompts of the form “{prompts['template']}”."
    return (Text((template,)), Table("Centuries, their nouns and the start years left out", columns, rows))


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def shown_years(years: Sequence[int]) -> str:
    """`02-31, 33-98`: runs of consecutive years."""
    runs = [[year for _, year in run] for _, run in groupby(enumerate(years), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]:02d}" if len(run) == 1 else f"{run[0]:02d}–{run[-1]:02d}" for run in runs)


def check_page(found: Checks) -> Page:
    sections = (
        Section("Measured and published values", (_table(found.checks),)),
        Section("Criteria", (_claims(found.checks),)),
        Section("Effect of each MLP", (_shares(found),)),
        Section("Tolerances and verdicts", tuple(Text((rule,)) for rule in RULES)),
    )
    return Page("check", "Check", conclusion(found), sections, data=found.to_json())


def _table(checks: tuple[Check, ...]) -> Table:
    columns = (
        Column("verdict"), Column("measurement"), Column("measured"), Column("published"), Column("difference"),
        Column("tolerance"), Column("bound"), Column("source"),
    )  # fmt: skip
    rows = tuple(
        (
            check.verdict,
            check.name,
            *(
                _text(value)
                for value in (check.measured, check.published, check.difference, check.tolerance, check.bound)
            ),
            check.source,
        )
        for check in checks
    )
    return Table("", columns, rows)


def _text(value: object) -> str:
    return number(value, decimals=4) if isinstance(value, float) else shown(value)  # type: ignore[arg-type]


def _claims(checks: tuple[Check, ...]) -> Table:
    rows = tuple((check.name, check.claim) for check in checks)
    return Table("", (Column("measurement"), Column("agrees if")), rows)


def _shares(found: Checks) -> Table:
    columns = (
        Column("layer", "count"), Column("share lost", "number"), Column("standard error", "number"),
        Column("share restored", "number"), Column("standard error", "number"),
    )  # fmt: skip
    pairs = zip(found.mlp_shares, found.mlp_restored, strict=True)
    rows = tuple((layer, *lost, *restored) for layer, (lost, restored) in enumerate(pairs))
    caption = (
        f"Share of the effect (probability difference of the clean run minus that of the corrupted run) lost when the"
        f" MLP's output at END of the clean run is patched from the corrupted run, and restored when that of the"
        f" corrupted run is patched from the clean run; {found.n_patched:,} prompts"
    )
    return Table(caption, columns, rows)
