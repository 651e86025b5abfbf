"""Named tasks and users' templates: prompts that line up, words that the tokenizer knows, and mistakes in one line."""

import numpy as np
import pytest

from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.task.tasks import DEFAULT, TASKS, Task, custom_task, find_task
from neurons.task.templates import Template, parse_template
from neurons.types import InputError

COST = "The {noun} cost between $ {XX}{YY} and $ {XX}"
MINIS = [task for task in TASKS.values() if task.name not in {"years-bc", "happened-in", "smaller-than"}]


def words(tokenizer: Gpt2Tokenizer, tokens: np.ndarray) -> str:
    return "".join(tokenizer.decode(token) for token in tokens.tolist())


def says_what_it_should(tokenizer: Gpt2Tokenizer, prompts: PromptSet) -> None:
    """Every row decodes to its own text, and YY and XX are tokens of their own at the places said."""
    for row in range(0, len(prompts), 41):
        tokens = prompts.tokens[row]
        assert words(tokenizer, tokens[1:]).strip() == prompts.text(row)
        century = tokenizer.encode(f" {prompts.century[row]}")
        assert [tokens[-1]] == [tokens[prompts.year_position - 1]] == century
        assert tokenizer.decode(int(tokens[prompts.year_position])) == f"{prompts.start_year[row]:02d}"
    years = np.delete(prompts.tokens, prompts.year_position, 1)
    twins = np.delete(prompts.counterfactual_tokens, prompts.year_position, 1)[prompts.counterfactual]
    assert (years == twins).all()


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_every_task_lines_up_with_gpt2(gpt2_tokenizer: Gpt2Tokenizer, task: Task) -> None:
    task.check_words(gpt2_tokenizer)
    prompts = year_spans(gpt2_tokenizer, template=task.template)
    says_what_it_should(gpt2_tokenizer, prompts)
    assert len(set(prompts.noun)) == 3
    assert set(prompts.century.tolist()) == set(task.template.centuries or range(11, 19))


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_every_word_of_a_task_is_one_token_in_gpt2(gpt2_tokenizer: Gpt2Tokenizer, task: Task) -> None:
    written = [task.template.as_written(word) for word in task.template.words]
    assert [word for word in written if len(gpt2_tokenizer.encode(word)) != 1] == []
    assert len(set(written)) == len(written) >= 20


@pytest.mark.parametrize("task", MINIS, ids=str)
def test_every_task_whose_words_mini_knows_lines_up_with_it(mini_tokenizer: Gpt2Tokenizer, task: Task) -> None:
    task.check_words(mini_tokenizer)
    says_what_it_should(mini_tokenizer, year_spans(mini_tokenizer, template=task.template))


def test_a_word_that_the_tokenizer_splits_is_told(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match=r"^task years-bc needs the word 'BC', which this tokenizer splits into 3"):
        find_task("years-bc").check_words(mini_tokenizer)


def test_the_default_task_is_the_published_prompt(mini_tokenizer: Gpt2Tokenizer, mini_prompts: PromptSet) -> None:
    assert find_task("year-span") is DEFAULT
    assert year_spans(mini_tokenizer, template=DEFAULT.template).digest == mini_prompts.digest
    assert DEFAULT.suffix == ""


def test_the_same_nouns_and_centuries_are_taken_for_tasks_with_the_same_words(mini_tokenizer: Gpt2Tokenizer) -> None:
    one, other = (year_spans(mini_tokenizer, template=TASKS[name].template) for name in ("year-span", "started-ended"))
    assert (one.noun, one.century.tolist()) == (other.noun, other.century.tolist())


def test_no_two_tasks_share_a_digest_or_a_folder(mini_tokenizer: Gpt2Tokenizer) -> None:
    tasks = [*MINIS, custom_task(COST), custom_task(COST.replace("cost", "was"))]
    assert len({year_spans(mini_tokenizer, nouns=2, template=task.template).digest for task in MINIS}) == len(MINIS)
    assert len({task.suffix for task in tasks}) == len(tasks)


def test_a_sequence_rises_up_to_the_start_year(mini_tokenizer: Gpt2Tokenizer) -> None:
    prompts = year_spans(mini_tokenizer, template=TASKS["sequence"].template)
    years = [[int(part) for part in prompts.text(row).split(", ")] for row in range(0, len(prompts), 101)]
    assert all(row[:-1] == sorted(row[:-1]) for row in years)


def test_a_descending_sequence_falls_down_to_the_start_year(mini_tokenizer: Gpt2Tokenizer) -> None:
    prompts = year_spans(mini_tokenizer, template=TASKS["descending"].template)
    years = [[int(part) for part in prompts.text(row).split(", ")] for row in range(0, len(prompts), 101)]
    assert all(row[:-1] == sorted(row[:-1], reverse=True) for row in years)


def test_years_of_the_random_sequence_stand_in_one_century_and_no_order(mini_tokenizer: Gpt2Tokenizer) -> None:
    prompts = year_spans(mini_tokenizer, template=TASKS["random-years"].template)
    for row in range(0, len(prompts), 101):
        years = [int(part) for part in prompts.text(row).split(", ")[:-1]]
        assert {year // 100 for year in years} == {prompts.century[row]}
        assert years[1:4] not in (sorted(years[1:4]), sorted(years[1:4], reverse=True))


def test_a_century_that_does_not_fit_a_task_is_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match=r"century 12 does not fit the prompt '15\{noun\}, 1607.*choose among 17, 18"):
        year_spans(mini_tokenizer, centuries=[17, 12], template=TASKS["sequence"].template)


def test_an_unknown_task_is_refused_with_the_choice() -> None:
    with pytest.raises(InputError, match=r"^task 'spans' is unknown: choose year-span, started-ended"):
        find_task("spans")


# --- a template of the user's own ------------------------------------------------------------------


def test_a_users_template_begins_with_a_space_as_the_published_one_does() -> None:
    assert parse_template(COST).text == parse_template(f"  {COST} ").text == f" {COST}"


def test_a_users_template_lines_up(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    says_what_it_should(gpt2_tokenizer, year_spans(gpt2_tokenizer, template=parse_template(COST)))


def test_words_of_several_tokens_are_fine_where_all_prompts_have_them(mini_tokenizer: Gpt2Tokenizer) -> None:
    custom_task(COST).check_words(mini_tokenizer)
    says_what_it_should(mini_tokenizer, year_spans(mini_tokenizer, template=parse_template(COST)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the template is empty"),
        ("   ", "the template is empty"),
        ("The {noun}\nfrom {XX}{YY} to {XX}", "cannot be printed"),
        ("The {noun} from {XX}{YY} to \udce9 {XX}", "cannot be printed"),
        ("The {event} from {XX}{YY} to {XX}", r"unknown gap \{event\}"),
        ("The {noun.__class__} from {XX}{YY} to {XX}", r"unknown gap \{noun.__class__\}"),
        ("The {noun!r} from {XX}{YY} to {XX}", r"unknown gap \{noun!r\}"),
        ("The {} from {XX}{YY} to {XX}", r"unknown gap \{\}"),
        ("The {noun from {XX}{YY} to {XX}", "a brace without its partner"),
        ("The {{noun}} from {XX}{YY} to {XX}", "a brace without its partner"),
        ("The war from {XX}{YY} to {XX}", r"has no \{noun\}"),
        ("The {noun} from {XX} to {XX}", r"must hold the start year \{XX\}\{YY\} once"),
        ("The {noun} from {XX}{YY} and {XX}{YY} to {XX}", r"must hold the start year \{XX\}\{YY\} once"),
        ("The {noun} from {YY} to {XX}{YY} to {XX}", r"must hold the start year \{XX\}\{YY\} once"),
        ("The {noun} ended in {XX}{YY}", r"must hold \{XX\} twice"),
        ("The {noun} of {XX} from {XX}{YY} to {XX}", r"must hold \{XX\} twice"),
        ("The {noun} from {XX}{YY} to {XX}.", r"goes on after the final \{XX\}.*leave out '\.'"),
        ("The {noun} from {XX}{YY} to {XX} or so", "leave out ' or so'"),
        ("The {noun} from {XX}{YY} to ${XX}", r"needs a space before"),
        ("The {noun} from ${XX}{YY} to $ {XX}", r"needs a space before"),
        ("The {noun} from {XX}{YY}0 to {XX}", r"has a digit after \{YY\}"),
        ("{XX} is before the {noun} of {XX}{YY} or", r"goes on after the final|must hold"),
    ],
)
def test_each_mistake_in_a_template_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_template(text)
    assert "\n" not in str(error.value)


def test_a_noun_that_melts_into_the_text_after_it_is_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    template = parse_template("The {noun}struction from {XX}{YY} to {XX}")
    with pytest.raises(InputError, match="different lengths"):
        year_spans(mini_tokenizer, nouns=["con", "war"], template=template)


class Merging:
    """A good tokenizer but for one year, which it joins to the word after it."""

    def __init__(self, good: Gpt2Tokenizer) -> None:
        self.good, self.bos_token_id = good, good.bos_token_id

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return self.good.encode(text.replace("1732 to", "1700 to"), add_special_tokens=add_special_tokens)


def test_a_template_that_splits_a_year_is_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match=r"does not keep '32' of 1732 a token of its own"):
        year_spans(Merging(mini_tokenizer), centuries=[17])


def test_a_template_without_a_space_before_its_end_is_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match=r"does not end with the token ' 17'"):
        year_spans(mini_tokenizer, centuries=[17], template=Template(" The {noun} from {XX}{YY} to ${XX}"))


def test_a_gap_after_a_letter_writes_the_word_without_a_space() -> None:
    assert Template(" 15{noun}, {XX}{YY}, {XX}").as_written("99") == "99"
    assert Template(" The {noun} of {XX}{YY}").as_written("war") == " war"
