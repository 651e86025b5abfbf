"""Named tasks: prompts for which a later year is right, for which it is wrong, and a control without an order.

Prompts are those of Hanna, Liu and Variengien (NeurIPS 2023) unless `source` says otherwise. All have " XX" and
"YY" as tokens of their own and are read at END, after a final " XX", so one set of measures fits all: the
probability difference is later years minus the others whatever is right, and a model that prefers a later year
where an earlier one is right over-generalises.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from neurons.task.nouns import ALWAYS_SPLIT, LATE_YEARS, OPENERS, PRICED
from neurons.task.templates import YEAR_SPAN, Template, Tokenizer, parse_template
from neurons.types import InputError, check_choice, check_is, quoted

Answer = Literal["later", "earlier", "any"]
OWN = "template"


@dataclass(frozen=True)
class Task:
    """A template with its name. answer: which years are right, None if not known; source: where the prompt is from."""

    name: str
    template: Template
    answer: Answer | None
    source: str

    def __post_init__(self) -> None:
        check_is("name", self.name, str, "a task's name")
        check_is("template", self.template, Template, "a Template")
        check_is("source", self.source, str, "whose prompt it is")
        if self.answer is not None:
            check_choice("answer", self.answer, Answer)

    @property
    def suffix(self) -> str:
        """The suffix of a report folder of this task: empty for the default, else its name or a template's digest."""
        if self.name == DEFAULT.name:
            return ""
        digest = hashlib.sha256(self.template.text.encode()).hexdigest()[:8]
        return f"-{self.name}" + (f"-{digest}" if self.name == OWN else "")

    def check_words(self, tokenizer: Tokenizer) -> None:
        """Raise `InputError` if the tokenizer splits a word of a named task: the model was not trained on it.

        A custom task may hold words of several tokens: they are the same in all of its prompts.
        """
        if self.name == OWN:
            return
        fixed = re.sub(r"\{\w+\}|[,$]", " ", self.template.text).split()
        for word in (word for word in fixed if word.isalpha()):
            tokens = tokenizer.encode(f" {word}", add_special_tokens=False)
            if len(tokens) != 1:
                raise InputError(
                    f"task {self.name} needs the word {word!r}, which this tokenizer splits into {len(tokens)} tokens:"
                    " choose another task or another model"
                )


PAPER = "Hanna, Liu and Variengien 2023"
DEFAULT = Task("year-span", YEAR_SPAN, "later", PAPER)
_TASKS = (
    DEFAULT,
    Task(
        "started-ended",
        Template(" The {noun} started in the year {XX}{YY} and ended in the year {XX}"),
        "later",
        PAPER,
    ),
    Task("price-range", Template(" The price of that {noun} ranges from $ {XX}{YY} to $ {XX}", PRICED), "later", PAPER),
    Task(
        "sequence",
        Template(" 15{noun}, 1607, 1633, 1679, {XX}{YY}, {XX}", LATE_YEARS, centuries=(17, 18)),
        "later",
        f"{PAPER}, whose prompts all begin with 1599",
    ),
    Task(
        "happened-in",
        Template(" The {noun} happened in {XX}{YY}. Some years later, it is now the year {XX}"),
        "later",
        PAPER,
    ),
    Task(
        "smaller-than",
        Template(" {noun}, {XX}{YY} is smaller than {XX}", OPENERS),
        "later",
        f"after {PAPER}, whose prompt is 17YY is smaller than 17: a word in front gives it replicates",
    ),
    Task(
        "descending",
        Template(" 17{noun}, 1753, 1733, 1702, {XX}{YY}, {XX}", LATE_YEARS[:45], centuries=(15, 16)),
        "earlier",
        f"after {PAPER}, whose prompts all begin with 1799 and have 1701, which marks the corrupted run here",
    ),
    Task(
        "ended-started",
        Template(" The {noun} ended in the year {XX}{YY} and started in the year {XX}"),
        "earlier",
        PAPER,
    ),
    Task(
        "years-bc",
        Template(" The {noun} lasted from the year {XX}{YY} BC to the year {XX}"),
        "earlier",
        f"after {PAPER}, whose prompt is 7YY BC to the year 7: GPT-2 has one token for 701 and others, so that YY"
        " would not stand alone, and its corrupted run would not align",
    ),
    Task(
        "random-years",
        Template(" {XX}{noun}, {XX}58, {XX}13, {XX}36, {XX}{YY}, {XX}", ALWAYS_SPLIT),
        "any",
        f"after {PAPER}, who draw all five years; here the first and the last differ",
    ),
    Task(
        "unordered",
        Template(" The {noun} of the year {XX}{YY} was unlike the {noun} of the year {XX}"),
        "any",
        "a control of our own: two years in no order",
    ),
)
TASKS = {task.name: task for task in _TASKS}
"""Every named task by its name, the default first."""


def find_task(name: str) -> Task:
    """Return the named task; raises `InputError` listing the names for an unknown one."""
    if not isinstance(name, str) or name not in TASKS:
        raise InputError(f"task {quoted(name)} is unknown: choose {', '.join(TASKS)}, or give a template of your own")
    return TASKS[name]


def choose_task(name: str | None, template: str | None) -> Task:
    """Return the named task, the template as a custom task, or the default; raises `InputError` if both are given."""
    if name is not None and template is not None:
        raise InputError("task and template both choose the prompts: give one of them")
    if template is not None:
        return custom_task(template)
    return find_task(name) if name is not None else DEFAULT


def custom_task(text: str) -> Task:
    """Make a task of the user's template; raises `InputError` as `parse_template` does."""
    return Task(OWN, parse_template(text), None, "the user's")
