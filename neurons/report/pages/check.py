"""The page `check`: the published measurements on this model, each beside its published value, from a kept result."""

from neurons.comparison.published import PAPER, shown
from neurons.comparison.results import Check, Checks, conclusion
from neurons.report.blocks import Column, Page, Section, Table, Text, number

RULES = (
    "Each measurement stands beside what was published of GPT-2 small. A tolerance is three standard errors, by a"
    " bootstrap over nouns and years (of a map, by a jackknife over centuries), together with the published standard"
    " error; never the spread of single prompts.",
    "A number agrees within the tolerance of the published one. A yes or no agrees when the measured value lies beyond"
    " its bound by more than the tolerance, so that chance alone never makes it agree. A difference is measured minus"
    " published, or minus the bound where words were published. An order agrees when none exceeds the one before it by"
    " more than the tolerance and each is above zero by more than its own: its difference is the narrowest gap. A fact"
    " about tokens is equal or not.",
    f"Sources: code, the released code of {PAPER}; second-hand, quoted elsewhere; replication, measured by others with"
    " TransformerLens; computed, from GPT-2's byte-pair merges.",
)


def check_page(found: Checks) -> Page:
    sections = (
        Section("Measured and published", (_table(found.checks),)),
        Section("What each verdict says", (_claims(found.checks),)),
        Section("Which MLPs carry the effect", (_shares(found),)),
        Section("How verdicts are reached", tuple(Text((rule,)) for rule in RULES)),
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
    return Table("", (Column("measurement"), Column("agrees when")), rows)


def _shares(found: Checks) -> Table:
    columns = (Column("layer", "count"), Column("share lost", "number"), Column("standard error", "number"))
    rows = tuple((layer, *pair) for layer, pair in enumerate(found.mlp_shares))
    caption = (
        f"Share of the effect (probability difference of the prompt minus that of its 01-run) that is lost when what"
        f" the MLP writes at END comes from the 01-run; {found.n_patched:,} prompts"
    )
    return Table(caption, columns, rows)
