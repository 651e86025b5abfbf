import subprocess
import sys
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.nouns import NOUNS
from neurons.task.prompt_set import NO_BOS, Missing, PromptSet
from neurons.task.prompts import (
    full_centuries,
    published_years,
    replicates,
    usable_years,
    year_spans,
    year_tokens,
)
from neurons.task.templates import YEAR_SPAN, Template
from neurons.types import InputError

PUBLISHED = {10: 74, 11: 53, 12: 96, 13: 89, 14: 96, 15: 89, 16: 97, 17: 97, 18: 77}
"""Start years a century in the authors' stored list, `hannamw/gpt2-greater-than`."""


class CharacterTokenizer:
    """One token a character: no two-digit year is a single token."""

    bos_token_id = 0

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [ord(c) for c in text]


class OneForAll:
    """One and the same token for every text."""

    bos_token_id = 0

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [7]


class WithoutBos:
    """A good tokenizer that cannot begin a text."""

    bos_token_id = None

    def __init__(self, good: Gpt2Tokenizer) -> None:
        self.encode = good.encode


class Merging:
    """A good tokenizer but for some years, which are one token, by century."""

    def __init__(self, good: Gpt2Tokenizer, merged: dict[int, range]) -> None:
        self.good, self.bos_token_id = good, good.bos_token_id
        self.whole = {f" {century}{year:02d}" for century, years in merged.items() for year in years}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [0] if text in self.whole else self.good.encode(text, add_special_tokens=add_special_tokens)


# --- the published filter, with GPT-2's own tokenizer ----------------------------------------------


def test_the_published_filter_keeps_768_years(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    kept = {century: len(published_years(gpt2_tokenizer, century)) for century in PUBLISHED}
    assert kept == PUBLISHED
    assert sum(kept.values()) == 768


def test_gpt2_offers_four_full_centuries(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    assert full_centuries(gpt2_tokenizer) == (12, 14, 16, 17)


def test_gpt2_never_splits_a_year_that_ends_a_century(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    for century in (16, 17):
        assert usable_years(gpt2_tokenizer, century) == tuple(range(1, 100))


def test_the_answer_tokens_are_the_bare_ones(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    ids = year_tokens(gpt2_tokenizer)
    assert (ids[0], ids[1], ids[99]) == (405, 486, 2079)


def test_every_noun_of_our_list_is_one_token_in_gpt2(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    assert len(NOUNS) >= 100
    assert len(set(NOUNS)) == len(NOUNS)
    assert [n for n in NOUNS if len(gpt2_tokenizer.encode(f" {n}")) != 1] == []


def test_the_default_prompts_with_gpt2_cross_three_nouns_with_the_paper_s_centuries(
    gpt2_tokenizer: Gpt2Tokenizer,
) -> None:
    prompts = year_spans(gpt2_tokenizer)
    assert prompts.tokens.shape == (2130, 13)
    assert prompts.year_position == 8
    assert len(set(prompts.noun)) == 3
    assert set(prompts.century.tolist()) == set(replicates(gpt2_tokenizer)) == set(range(11, 19))


def test_a_prompt_with_gpt2_tokenizes_as_the_authors_write_it(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    prompts = year_spans(gpt2_tokenizer, nouns=["war"], centuries=[17])
    row = int(np.flatnonzero(prompts.start_year == 32)[0])
    words = [gpt2_tokenizer.decode(token) for token in prompts.tokens[row].tolist()]
    assert words == [
        "<|endoftext|>", " The", " war", " lasted", " from", " the", " year", " 17", "32", " to", " the", " year", " 17"
    ]  # fmt: skip
    assert prompts.tokens[row][1] == 383


def test_century_10_has_no_counterfactual_in_gpt2(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match=r"century 10 has no 01-counterfactual.*choose among 11, 12"):
        year_spans(gpt2_tokenizer, nouns=3, centuries=[10])


# --- with mini's tokenizer, which is always there --------------------------------------------------


def test_the_filter_drops_each_century_s_first_and_last_usable_year(mini_tokenizer: Gpt2Tokenizer) -> None:
    for century in range(11, 19):
        assert published_years(mini_tokenizer, century) == usable_years(mini_tokenizer, century)[1:-1]


def test_a_usable_year_splits_into_century_and_year(mini_tokenizer: Gpt2Tokenizer) -> None:
    for century in (11, 17):
        usable = usable_years(mini_tokenizer, century)
        for year in range(100):
            pieces = [mini_tokenizer.decode(t) for t in mini_tokenizer.encode(f" {century}{year:02d}")]
            assert (pieces == [f" {century}", f"{year:02d}"]) == (year in usable)


def test_mini_s_filter_has_work_to_do(mini_tokenizer: Gpt2Tokenizer) -> None:
    left_out = [c for c in range(11, 19) if len(usable_years(mini_tokenizer, c)) < 100]
    assert left_out


def test_every_prompt_says_its_own_noun_century_and_year(
    mini_tokenizer: Gpt2Tokenizer, mini_prompts: PromptSet
) -> None:
    for row in range(0, len(mini_prompts), 97):
        text = "".join(mini_tokenizer.decode(token) for token in mini_prompts.tokens[row, 1:].tolist())
        noun, century, year = (getattr(mini_prompts, name)[row] for name in ("noun", "century", "start_year"))
        assert text == f" The {noun} lasted from the year {century}{year:02d} to the year {century}"
        assert mini_prompts.text(row) == text.strip()


def test_a_prompt_and_its_counterfactual_differ_in_the_start_year_alone(mini_prompts: PromptSet) -> None:
    twin = mini_prompts.counterfactual_tokens[mini_prompts.counterfactual]
    position = mini_prompts.year_position
    assert (twin[:, position] == mini_prompts.year_token_ids[1]).all()
    assert (np.delete(twin, position, 1) == np.delete(mini_prompts.tokens, position, 1)).all()


def test_prompts_begin_with_bos_and_end_before_the_answer(
    mini_tokenizer: Gpt2Tokenizer, mini_prompts: PromptSet
) -> None:
    assert (mini_prompts.tokens[:, 0] == mini_tokenizer.bos_token_id).all()
    assert mini_prompts.year_position == mini_prompts.tokens.shape[1] - 5


def test_three_nouns_have_all_usable_years_of_every_century_that_replicates(
    mini_tokenizer: Gpt2Tokenizer, mini_prompts: PromptSet
) -> None:
    nouns = np.array(mini_prompts.noun)
    assert len(set(mini_prompts.noun)) == 3
    for noun in set(mini_prompts.noun):
        centuries = mini_prompts.century[nouns == noun]
        assert set(centuries.tolist()) == set(replicates(mini_tokenizer)) == set(range(11, 19))
        for century in range(11, 19):
            years = mini_prompts.start_year[nouns == noun][centuries == century].tolist()
            assert tuple(years) == usable_years(mini_tokenizer, century)


def test_centuries_with_few_start_years_are_run_only_when_named(mini_tokenizer: Gpt2Tokenizer) -> None:
    sparse = Merging(mini_tokenizer, {18: range(40, 100)})
    assert len(usable_years(sparse, 18)) < 40
    assert replicates(sparse) == tuple(range(11, 18))
    assert 18 not in year_spans(sparse).century
    assert set(year_spans(sparse, centuries=[18]).century.tolist()) == {18}


def test_drawn_a_noun_has_one_full_century(mini_tokenizer: Gpt2Tokenizer) -> None:
    prompts = year_spans(mini_tokenizer, nouns=20, centuries="draw")
    nouns = np.array(prompts.noun)
    for noun in set(prompts.noun):
        (century,) = set(prompts.century[nouns == noun].tolist())
        assert century in full_centuries(mini_tokenizer)
        assert tuple(prompts.start_year[nouns == noun].tolist()) == usable_years(mini_tokenizer, century)


def test_prompts_and_the_cells_left_out_fill_the_table(mini_prompts: PromptSet) -> None:
    held = {(int(c), int(y)) for c, y in zip(mini_prompts.century, mini_prompts.start_year, strict=True)}
    absent = {(cell.century, cell.year) for cell in mini_prompts.missing}
    assert held | absent == {(c, y) for c in set(mini_prompts.century.tolist()) for y in range(100)}
    assert not held & absent


def test_a_cell_left_out_says_why() -> None:
    assert Missing(17, 0).reason == "' 1700' does not split into ' 17' and '00'"


def test_the_draw_depends_on_the_seed_alone(mini_tokenizer: Gpt2Tokenizer, mini_prompts: PromptSet) -> None:
    assert year_spans(mini_tokenizer, seed=0).digest == mini_prompts.digest
    assert year_spans(mini_tokenizer, seed=1).digest != mini_prompts.digest


def test_the_digest_is_the_same_in_another_process(mini_prompts: PromptSet) -> None:
    program = (
        "from neurons.model.files import BUNDLED; from neurons.model.tokenizer import load_tokenizer;"
        "from neurons.task.prompts import year_spans;"
        "import sys; sys.stdout.write(year_spans(load_tokenizer(BUNDLED['mini'])).digest)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == mini_prompts.digest


@pytest.mark.parametrize(
    "change", ["tokens", "start_year", "century", "noun", "counterfactual_tokens", "year_token_ids"]
)
def test_the_digest_sees_every_change(mini_prompts: PromptSet, change: str) -> None:
    value = getattr(mini_prompts, change)
    if change == "noun":
        other: object = ("else", *value[1:])
    else:
        other = value.copy()
        other.flat[0] += 1
    assert replace(mini_prompts, **{change: other}).digest != mini_prompts.digest


# --- wrong input -----------------------------------------------------------------------------------


def test_a_noun_of_several_tokens_is_refused_by_name(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError) as error:
        year_spans(mini_tokenizer, nouns=["war", "antidisestablishment"])
    assert str(error.value) == (
        "noun 'antidisestablishment' is not a single token with a leading space (1 of 2 nouns): leave it out or"
        " use another word"
    )


@pytest.mark.parametrize("count", [0, -3, 100_000])
def test_a_number_of_nouns_that_cannot_be_drawn_is_refused_with_the_limits(
    mini_tokenizer: Gpt2Tokenizer, count: int
) -> None:
    with pytest.raises(InputError, match=rf"^{count} nouns asked for: this tokenizer allows 1 to \d+ of our list$"):
        year_spans(mini_tokenizer, nouns=count)


def test_no_nouns_are_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match="no nouns given"):
        year_spans(mini_tokenizer, nouns=[])


def test_repeated_nouns_count_once(mini_tokenizer: Gpt2Tokenizer) -> None:
    once = year_spans(mini_tokenizer, nouns=["war"], centuries=[17])
    assert year_spans(mini_tokenizer, nouns=["war", "war"], centuries=[17]).digest == once.digest


def test_a_century_without_a_counterfactual_is_refused_with_the_choice(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match=r"century 10 has no 01-counterfactual.*choose among"):
        year_spans(mini_tokenizer, nouns=2, centuries=[17, 10])


def test_no_centuries_are_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match="no century given"):
        year_spans(mini_tokenizer, nouns=2, centuries=[])


@pytest.mark.parametrize(("centuries", "years"), [("all", 40), ("draw", 95)])
def test_a_tokenizer_without_such_centuries_is_refused(
    mini_tokenizer: Gpt2Tokenizer, centuries: Literal["all", "draw"], years: int
) -> None:
    sparse = Merging(mini_tokenizer, {century: range(30, 100) for century in range(11, 19)})
    with pytest.raises(InputError, match=rf"no century offers {years} start years.*choose centuries among"):
        year_spans(sparse, nouns=2, centuries=centuries)


def test_a_tokenizer_without_single_token_years_is_refused() -> None:
    with pytest.raises(InputError, match=r"no single token for the year 00 \(100 of 100.*with GPT-2's tokenizer"):
        year_spans(CharacterTokenizer())


def test_a_tokenizer_with_one_token_for_all_years_is_refused() -> None:
    with pytest.raises(InputError, match="one token to several two-digit years"):
        year_spans(OneForAll())


def test_a_tokenizer_without_bos_is_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match="no BOS token"):
        year_spans(WithoutBos(mini_tokenizer))
    assert year_spans(WithoutBos(mini_tokenizer), nouns=1, bos=False).bos == NO_BOS


@pytest.mark.parametrize("text", [" The {noun} went on to the year {XX}", " The {noun} ended in {XX}{YY}"])
def test_a_template_must_hold_the_start_year_once_before_the_end(mini_tokenizer: Gpt2Tokenizer, text: str) -> None:
    with pytest.raises(InputError, match="must hold the start year once, before the last position"):
        year_spans(mini_tokenizer, nouns=["war"], centuries=[17], template=Template(text))


def test_the_template_writes_years_with_two_digits() -> None:
    assert YEAR_SPAN.fill("war", 17, 3) == " The war lasted from the year 1703 to the year 17"


def test_without_bos_the_same_tokens_follow(mini_tokenizer: Gpt2Tokenizer) -> None:
    """As in ACDC's data, which have no BOS."""
    own, bare = (year_spans(mini_tokenizer, nouns=2, bos=bos) for bos in (True, False))
    assert (own.bos, bare.bos) == (mini_tokenizer.bos_token_id, NO_BOS)
    assert (bare.tokens == own.tokens[:, 1:]).all()
    assert (bare.counterfactual_tokens == own.counterfactual_tokens[:, 1:]).all()
    assert bare.year_position == own.year_position - 1
    assert bare.digest != own.digest
    assert bare.text(0) == own.text(0)
