"""What holds for every input: names, ranges, keys, prompt sets and the blocks that they are cut into."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neurons.cache.format import cache_key, cache_path, format_layers
from neurons.cache.integrity import Manifest, decode
from neurons.cache.plan import BLOCK_PROMPTS, Plan
from neurons.model.files import Checkpoint, find_checkpoint
from neurons.model.tokenizer import Gpt2Tokenizer, load_tokenizer
from neurons.task.nouns import NOUNS
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import InputError, NeuronId, parse_ranges

MINI = find_checkpoint("mini")
TOKENIZER: Gpt2Tokenizer = load_tokenizer(MINI.folder)
USABLE = [word for word in NOUNS if len(TOKENIZER.encode(" " + word)) == 1]
LAYERS = st.sets(st.integers(0, 11), min_size=1)
WORDS = st.lists(st.sampled_from(USABLE), min_size=1, max_size=4, unique=True)
CENTURIES = st.lists(st.sampled_from([11, 12, 13, 14, 16, 17]), min_size=1, max_size=2, unique=True)


@given(st.integers(0, 9999), st.integers(0, 9_999_999))
def test_a_neuron_is_read_as_it_is_written(layer: int, index: int) -> None:
    assert NeuronId.parse(str(NeuronId(layer, index))) == NeuronId(layer, index)


@given(st.one_of(st.text(), st.from_regex(r"\s*[Ll]-?\d{0,6}[Nn]-?\d{0,9}\s*")))
def test_a_text_is_a_neuron_or_refused(text: str) -> None:
    if not re.fullmatch(r"L\d{1,4}N\d{1,7}", text.strip(), re.ASCII):
        with pytest.raises(InputError, match=r"^invalid neuron .*: write layer and index, like L9N12"):
            NeuronId.parse(text)
        return
    found = NeuronId.parse(text)
    assert NeuronId.parse(str(found)) == found


@given(st.sets(st.integers(0, 9999), min_size=1, max_size=30))
def test_a_range_is_read_as_it_is_written(numbers: set[int]) -> None:
    assert parse_ranges(format_layers(sorted(numbers)).replace(" ", ""), what="layers") == tuple(sorted(numbers))


@given(st.one_of(st.text(), st.from_regex(r"[0-9,\- ]{0,20}", fullmatch=True)))
def test_a_text_is_a_range_or_refused(text: str) -> None:
    try:
        found = parse_ranges(text, what="layers")
    except InputError:
        return
    assert found
    assert list(found) == sorted(set(found))


def spans(words: list[str], centuries: list[int]) -> PromptSet:
    return year_spans(TOKENIZER, nouns=words, centuries=centuries)


@settings(max_examples=25, deadline=None)
@given(WORDS, CENTURIES)
def test_a_prompt_says_its_noun_century_and_year(words: list[str], centuries: list[int]) -> None:
    prompts = spans(words, centuries)
    for row in range(0, len(prompts), 37):
        tokens = prompts.tokens[row].tolist()
        assert "".join(map(TOKENIZER.decode, tokens[1:])).strip() == prompts.text(row)
        other = prompts.counterfactual_tokens[prompts.counterfactual[row]]
        assert np.flatnonzero(other != tokens).tolist() in ([prompts.year_position], [])
        assert other[prompts.year_position] == prompts.year_token_ids[1]
        assert tokens[prompts.year_position] == prompts.year_token_ids[prompts.start_year[row]]


@settings(max_examples=25, deadline=None)
@given(WORDS, WORDS, CENTURIES, CENTURIES)
def test_prompt_sets_share_a_digest_when_they_are_the_same(
    words: list[str], others: list[str], centuries: list[int], more: list[int]
) -> None:
    same = (words, centuries) == (others, more)
    assert (spans(words, centuries).digest == spans(others, more).digest) == same


def with_fingerprint(checkpoint: Checkpoint, fingerprint: str) -> Checkpoint:
    other = replace(checkpoint)
    vars(other)["fingerprint"] = fingerprint
    return other


@settings(max_examples=40, deadline=None)
@given(LAYERS, LAYERS, st.booleans(), st.floats(0, 0.1), st.permutations(range(12)))
def test_keys_are_equal_when_everything_is(
    layers: set[int], others: set[int], weights: bool, eps: float, order: list[int]
) -> None:
    prompts = spans(["war"], [17])
    other = replace(MINI, config=replace(MINI.config, layer_norm_eps=eps))
    other = with_fingerprint(other, MINI.fingerprint if weights else "0" * 64)
    same = layers == others and weights and eps == MINI.config.layer_norm_eps
    assert (cache_key(MINI, prompts, sorted(layers)) == cache_key(other, prompts, sorted(others))) == same
    shuffled = [layer for layer in order if layer in layers]
    assert cache_key(MINI, prompts, shuffled) == cache_key(MINI, prompts, sorted(layers))


@given(st.text(max_size=200))
def test_every_model_name_makes_a_file_name_in_the_folder(name: str) -> None:
    path = cache_path(Path("folder"), replace(MINI, name=name), "0123456789abcdef" * 4)
    assert path.parent == Path("folder")
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,59}-0123456789abcdef\.h5", path.name)


@given(st.integers(1, 6).flatmap(lambda Q: arrays(np.int32, st.integers(1, 400), elements=st.integers(0, Q - 1))))
def test_blocks_hold_every_prompt_and_counterfactual_once(counterfactual: np.ndarray) -> None:
    Q = int(counterfactual.max()) + 2  # the last has no prompts
    tokens = np.zeros((len(counterfactual), 3), np.int32)
    plan = Plan(tokens, counterfactual, np.zeros((Q, 3), np.int32), np.arange(100), 1, (0,))
    assert sorted(np.concatenate([block.rows for block in plan.blocks]).tolist()) == list(range(len(tokens)))
    assert sorted(query for block in plan.blocks for query in block.queries.tolist()) == list(range(Q))
    for block in plan.blocks:
        if len(block.queries) < 2:
            assert len(set(counterfactual[block.rows].tolist())) <= 1
        else:
            assert set(counterfactual[block.rows].tolist()) <= set(block.queries.tolist())
        assert len(block.rows) <= BLOCK_PROMPTS
        assert len(plan.block_tokens(block)) == len(block)


DIGESTS = st.dictionaries(st.text(max_size=20), st.from_regex(r"[0-9a-f]{64}", fullmatch=True), max_size=5)


@given(DIGESTS, st.text(), st.data())
def test_a_manifest_is_read_as_it_is_written_and_refused_when_changed(
    datasets: dict[str, str], attributes: str, data: st.DataObject
) -> None:
    raw = Manifest(datasets, attributes).encode()
    assert decode(raw) == Manifest(datasets, attributes)
    changed = bytearray(raw)
    changed[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError, match="damaged"):
        decode(bytes(changed))
