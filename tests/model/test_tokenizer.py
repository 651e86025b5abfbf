import json
import shutil
from pathlib import Path

import pytest
from gpt2_files import write_gpt2_tokenizer
from random_gpt2 import MINI

from neurons.model.tokenizer import Gpt2Tokenizer, load_tokenizer, without_settings
from neurons.task.prompts import year_spans, year_tokens
from neurons.types import CheckpointError, InputError

TEXTS = (" The war lasted from the year 1732 to the year 17", "1599, 1607, 17", "Wörter & 東京\n\n  x", "")


def reference(folder: Path) -> object:
    """The same files through transformers' own GPT-2 tokenizer."""
    from transformers import GPT2Tokenizer

    return GPT2Tokenizer.from_pretrained(folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers_with_gpt2_s_files(gpt2_tokenizer_folder: Path, text: str) -> None:
    ours = load_tokenizer(gpt2_tokenizer_folder).encode(text)
    assert ours == reference(gpt2_tokenizer_folder).encode(text, add_special_tokens=False)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers_with_mini_s_files(mini_tokenizer: Gpt2Tokenizer, text: str) -> None:
    expected = reference(MINI).encode(text, add_special_tokens=False)  # type: ignore[attr-defined]
    assert mini_tokenizer.encode(text) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_decode_to_the_text(mini_tokenizer: Gpt2Tokenizer, text: str) -> None:
    if text.isascii():
        assert "".join(mini_tokenizer.decode(token) for token in mini_tokenizer.encode(text)) == text


def test_the_whole_tokenizer_file_reads_as_vocabulary_and_merges_do(
    mini_tokenizer: Gpt2Tokenizer, tmp_path: Path
) -> None:
    mini_tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    whole = load_tokenizer(tmp_path)
    assert whole.encode(TEXTS[0]) == mini_tokenizer.encode(TEXTS[0])
    assert whole.bos_token_id == mini_tokenizer.bos_token_id
    assert whole.vocab_size == mini_tokenizer.vocab_size


def test_bos_is_the_end_of_text_token(mini_tokenizer: Gpt2Tokenizer) -> None:
    bos = mini_tokenizer.bos_token_id
    assert bos is not None
    assert mini_tokenizer.decode(bos) == "<|endoftext|>"


def test_a_vocabulary_without_end_of_text_has_no_bos(tmp_path: Path) -> None:
    vocab = json.loads((MINI / "vocab.json").read_text())
    del vocab["<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    shutil.copyfile(MINI / "merges.txt", tmp_path / "merges.txt")
    assert load_tokenizer(tmp_path).bos_token_id is None


def test_a_folder_without_a_tokenizer_is_refused_with_the_files_wanted(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_tokenizer(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} has no tokenizer: put GPT-2's vocab.json and merges.txt, or tokenizer.json, there"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "[]"),
        ("vocab.json", "{"),
        ("vocab.json", "[1, 2]"),
        ("merges.txt", "#version: 0.2\na b c\n"),
        ("merges.txt", "#version: 0.2\nqq zz\n"),
    ],
)
def test_a_damaged_tokenizer_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    for good in ("vocab.json", "merges.txt"):
        shutil.copyfile(MINI / good, tmp_path / good)
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot be read .*fetch or save it again") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


# --- saved with other settings ---------------------------------------------------------------------


def saved_with(folder: Path, setting: str) -> Path:
    """GPT-2's tokenizer as transformers saves it, with one setting that is not the default."""
    from transformers import GPT2TokenizerFast

    options = {"add_prefix_space": True} if setting == "prefix space" else {}
    tokenizer = GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), **options)
    if setting == "truncation":
        tokenizer.backend_tokenizer.enable_truncation(3)
    if setting == "padding":
        tokenizer.backend_tokenizer.enable_padding(length=32)
    if setting == "dropout":
        tokenizer.backend_tokenizer.model.dropout = 0.5
    tokenizer.save_pretrained(folder / "saved")
    assert (folder / "saved" / "tokenizer.json").is_file()
    return folder / "saved"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("setting", ["prefix space", "truncation", "padding", "dropout"])
def test_ids_are_those_of_the_default_tokenizer_whatever_was_saved(
    gpt2_tokenizer: Gpt2Tokenizer, tmp_path: Path, setting: str
) -> None:
    from transformers import GPT2TokenizerFast

    folder = saved_with(write_gpt2_tokenizer(tmp_path), setting)
    default = GPT2TokenizerFast(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    found = load_tokenizer(folder)
    for text in (*TEXTS, "The war lasted from the year 1732 to the year 17"):
        assert found.encode(text) == default.encode(text, add_special_tokens=False)
    assert year_tokens(found).tolist() == default.convert_tokens_to_ids([f"{year:02d}" for year in range(100)])
    assert year_spans(found, nouns=1).digest == year_spans(gpt2_tokenizer, nouns=1).digest


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_tokenizer_given_with_a_model_in_memory_stays_as_it_is(tmp_path: Path) -> None:
    from transformers import GPT2TokenizerFast

    given = GPT2TokenizerFast.from_pretrained(saved_with(write_gpt2_tokenizer(tmp_path), "prefix space"))
    before = given.encode("32")
    assert without_settings(given.backend_tokenizer).encode("32").tokens == ["32"]
    assert given.encode("32") == before
