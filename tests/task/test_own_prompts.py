"""Prompts of the user's own: rows are read untouched, aligned by their tokens, and refused in one line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.own_prompts import MOST_ROWS, read_prompts
from neurons.task.prompt_set import PAD, PromptSet
from neurons.types import InputError

WAR = "The war lasted from the year 1732 to the year 17"
WAR_01 = WAR.replace("1732", "1701")
ROWS = [
    (WAR, WAR_01, 32),
    (" The siege lasted from the year 1540 to the year 15", " The siege lasted from the year 1501 to the year 15", 40),
    ("From 1640 to 16", "From 1601 to 16", 40),
]
HEADER = "clean,corrupted,label\n"


def table(rows: list[tuple[object, ...]] = ROWS) -> pd.DataFrame:  # type: ignore[assignment]
    return pd.DataFrame(rows, columns=["clean", "corrupted", "label"])


def written(folder: Path, text: str | bytes, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_json_lines_and_a_frame_give_the_same_prompts(tmp_path: Path, mini_tokenizer: Gpt2Tokenizer) -> None:
    table().to_csv(tmp_path / "mine.csv", index=False)
    lines = [json.dumps({"clean": c, "corrupted": x, "label": f"{y:02d}"}) for c, x, y in ROWS]
    (tmp_path / "mine.jsonl").write_text("\n".join([*lines, ""]))
    sources = (tmp_path / "mine.csv", tmp_path / "mine.jsonl", table())
    digests = {read_prompts(source).align(mini_tokenizer).digest for source in sources}
    assert len(digests) == 1


def test_rows_are_encoded_untouched_with_bos_in_front_and_end_in_the_last_column(mini_tokenizer: Gpt2Tokenizer) -> None:
    found = read_prompts(table()).align(mini_tokenizer)
    for row, (clean, corrupted, label) in enumerate(ROWS):
        of_01 = found.counterfactual_tokens[found.counterfactual[row]]
        for tokens, text in ((found.tokens[row], clean), (of_01, corrupted)):
            assert tokens[tokens != PAD].tolist() == [mini_tokenizer.bos_token_id, *mini_tokenizer.encode(text)]
            assert (np.flatnonzero(tokens == PAD) == np.arange((tokens == PAD).sum())).all()
        assert found.text(row) == clean
        assert found.start_year[row] == label
    assert found.century.tolist() == [17, 15, 16]


def test_other_columns_are_kept(mini_tokenizer: Gpt2Tokenizer) -> None:
    given = table().assign(source=["a", "b", "c"])
    pd.testing.assert_frame_equal(read_prompts(given).align(mini_tokenizer).to_layout(), given)


def test_the_default_prompts_exported_and_read_again_are_the_same_prompts(
    tmp_path: Path, mini_prompts: PromptSet, mini_tokenizer: Gpt2Tokenizer
) -> None:
    """Their digest and so their cache: template and nouns are found in the texts."""
    mini_prompts.to_layout().to_csv(tmp_path / "default.csv", index=False)
    found = read_prompts(tmp_path / "default.csv").align(mini_tokenizer)
    assert found.template.text == mini_prompts.template.text
    assert found.digest == mini_prompts.digest


def test_rows_that_differ_in_more_than_a_word_are_each_their_own_wording(mini_tokenizer: Gpt2Tokenizer) -> None:
    found = read_prompts(table()).align(mini_tokenizer)
    assert found.template.text == "of the DataFrame"
    assert found.noun[2] == "From {XX}{YY} to {XX}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.csv has no rows: write a header clean,corrupted,label"),
        (HEADER, "mine.csv has no rows"),
        ("clean,label\nx,1\n", "mine.csv has no column 'corrupted' (it has clean, label)"),
        (f'{HEADER}"{WAR}","{WAR_01}",\n', "line 2: label '' is not YY, a number from 00 to 99"),
        (f"{HEADER}{WAR},{WAR_01},132\n", "line 2: label '132' is not YY"),
        (f"{HEADER}{WAR},{WAR_01},33\n", "line 2: clean holds no start year that ends in its label 33"),
        (f"{HEADER}{WAR},,32\n", "line 2: corrupted is empty"),
        (f"{HEADER}{WAR},{WAR_01},32\n{WAR} ,{WAR_01},32\n", "line 3: clean ends with 'the year 17 '"),
        (f"{HEADER}{WAR} to,{WAR_01} to,32\n", "not with the century XX after which YY is answered (1 of 1 rows)"),
        (f'{HEADER}"{WAR}\n{WAR}",x,32\n', "holds a character that cannot be printed"),
        (f'{HEADER}"{WAR}"x,{WAR_01},32\n', "is not CSV"),
        (HEADER.encode() + b"La guerre a dur\xe9 de 1732 \xe0 17,x,32\n", "mine.csv is not UTF-8 text"),
        (HEADER + f"{WAR},{WAR_01},32\n" * (MOST_ROWS + 1), "mine.csv has more than 20,000 rows: give a sample"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_prompts(written(tmp_path, text))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 is not a JSON object"),
        ('{"clean": 1}', "has no column 'corrupted'"),
    ],
)
def test_broken_json_lines_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_prompts(written(tmp_path, text, "mine.jsonl"))


@pytest.mark.parametrize("source", ["mine.txt", 3, "no\0name.csv", "absent.csv"])
def test_what_is_no_file_of_prompts_is_refused(source: object) -> None:
    with pytest.raises(InputError, match=r"\.csv|cannot be read"):
        read_prompts(source)  # type: ignore[arg-type]


def test_rows_of_unequal_tokens_are_named_and_left_out_on_request(mini_tokenizer: Gpt2Tokenizer) -> None:
    uneven = [*ROWS, (WAR, WAR_01.replace("lasted", "lasted on"), 32)]
    with pytest.raises(InputError) as error:
        read_prompts(table(uneven)).align(mini_tokenizer)
    message = str(error.value)
    assert "row 3: clean has 13 tokens and corrupted 15 (1 of 4 rows)" in message
    assert "leave such rows out (--skip, in Python skip=True)" in message
    found = read_prompts(table([*uneven, ("x", WAR_01, 32)]), skip=True).align(mini_tokenizer)
    assert len(found) == 3
    assert [text.split(":")[0] for text in found.left_out] == ["row 4", "row 3"]


def test_a_file_of_which_no_row_is_left_is_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match="2 of 2 rows"):
        read_prompts(table([("x", "x", 1), ("y", "y", 2)]), skip=True)


def test_a_noun_outside_ascii_is_encoded_as_it_is(mini_tokenizer: Gpt2Tokenizer) -> None:
    rows = [(WAR.replace("war", "fête"), WAR_01.replace("war", "fête"), 32)]
    found = read_prompts(table(rows)).align(mini_tokenizer)
    assert found.tokens[0].tolist()[1:] == mini_tokenizer.encode(rows[0][0])
