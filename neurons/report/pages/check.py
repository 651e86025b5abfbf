"""The page `check`: published measurements repeated on this model, from a kept result."""

from neurons.comparison.published import PAPER, shown
from neurons.comparison.results import Check, Checks, conclusion
from neurons.report.blocks import Column, Page, Section, Table, Text, number

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
