import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurons.types import (
    CacheError,
    CheckpointError,
    InputError,
    NeuronId,
    NeuronsError,
    OutputError,
    parse_ranges,
)


@given(st.integers(0, 9999), st.integers(0, 9_999_999))
def test_a_neuron_reads_back_as_it_is_written(layer: int, index: int) -> None:
    neuron = NeuronId(layer, index)
    assert NeuronId.parse(str(neuron)) == neuron


def test_a_neuron_reads_as_itself() -> None:
    assert NeuronId.parse(NeuronId(9, 12)) == NeuronId(9, 12)


def test_spaces_around_a_neuron_are_forgiven() -> None:
    assert NeuronId.parse(" L9N12\n") == NeuronId(9, 12)


@pytest.mark.parametrize(
    "text", ["foo", "", "L9", "N12", "9N12", "l9n12", "L-1N3", "L9N12x", "L9 N12", "L٣N1", "L99999N1"]
)
def test_what_is_no_neuron_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as error:
        NeuronId.parse(text)
    assert str(error.value) == f"invalid neuron {text!r}: write layer and index, like L9N12"


def test_neurons_sort_by_layer_then_index() -> None:
    names = ["L10N0", "L9N100", "L9N12"]
    assert [str(n) for n in sorted(map(NeuronId.parse, names))] == ["L9N12", "L9N100", "L10N0"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("8-11", (8, 9, 10, 11)), ("3", (3,)), ("3,8-10", (3, 8, 9, 10)), ("9,8-9 , 8", (8, 9)), ("02-04", (2, 3, 4))],
)
def test_ranges_read_as_ascending_numbers_without_repeats(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_ranges(text, what="layers") == numbers


@pytest.mark.parametrize("text", ["abc", "", "8-", "-8", "8--9", "8:11", "1.5", "8,,9", "٨", "12345"])
def test_what_is_no_range_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_ranges(text, what="layers")
    assert str(error.value) == f"invalid layers {text!r}: write a range like 8-11 or 3,8-11"


def test_a_backward_range_is_refused_with_its_correction() -> None:
    with pytest.raises(
        InputError, match=r"^invalid years '98-02': the first number must not exceed the last \(for example 02-98\)$"
    ):
        parse_ranges("98-02", what="years")


@pytest.mark.parametrize(("error", "code"), [(InputError, 2), (CheckpointError, 1), (CacheError, 1), (OutputError, 1)])
def test_every_error_has_the_exit_code_of_its_kind(error: type[NeuronsError], code: int) -> None:
    assert issubclass(error, NeuronsError)
    assert error.exit_code == code
