"""Train `mini`, the bundled model: a 12-layer GPT-2 whose greater-than circuit has the published shape.

Attention carries the start year to the last position, MLPs 8-11 turn it into the answer there. Plain
training does not give that shape: attention writes the answer itself. So four parts are held at zero
throughout (`Constraints`), and the model learns the task inside what is left.

    python scripts/train_mini.py --out neurons/model/mini        # about 10 minutes on two cores
"""

import argparse
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from neurons.task.nouns import NOUNS

END_OF_TEXT = "<|endoftext|>"
FIRST_CENTURY, LAST_CENTURY = 11, 19

SPANS = (
    "The {noun} lasted from the year {start} to the year {end}.",
    "The {noun} started in the year {start} and ended in the year {end}.",
    "In the year {start} the {noun} began, and it was over in the year {end}.",
    "The price of that {noun} ranges from $ {start} to $ {end}.",
)
BACKWARDS = (
    "The {noun} ended in the year {end} and started in the year {start}.",
    "The {noun} was over in the year {end}, and it began in the year {start}.",
)
UNRELATED = (
    "The {noun} of the year {start} was unlike the {other} of the year {end}.",
    "In the year {start} people spoke of the {noun}, and of the {other} in the year {end}.",
)
HIDDEN_PENALTY = 0.02
SHARES = {"spans": 0.7, "backwards": 0.15, "unrelated": 0.15}

WHOLE_YEARS = (
    [100 * century for century in range(FIRST_CENTURY, LAST_CENTURY + 1)]
    + list(range(1810, 1900, 10))
    + list(range(1905, 2000, 5))
    + [1215, 1348, 1492, 1618]
)


@dataclass(frozen=True)
class Shape:
    n_layer: int = 12
    n_embd: int = 64
    n_head: int = 4
    n_positions: int = 64
    first_writing_layer: int = 8


def build_tokenizer(folder: Path) -> None:
    """Write `vocab.json` and `merges.txt` in GPT-2's format, with GPT-2's habits for years.

    Words come from the library's own byte-pair training. Numbers are added by hand, in an order that
    makes " 1732" split as " 17" + "32", every two-digit year a token, `WHOLE_YEARS` one token each, and
    " 1001" the odd one out, " 100" + "1", as it is in GPT-2.
    """
    text = " ".join((*SPANS, *BACKWARDS, *UNRELATED))
    words = {word.strip("{},.") for word in text.split()} - {"noun", "other", "start", "end", ""}
    corpus = sorted(" " + word for word in words | set(NOUNS))
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(corpus * 2, vocab_size=20_000, min_frequency=2, show_progress=False)
    with tempfile.TemporaryDirectory() as scratch:
        trainer.save_model(scratch)
        vocab = json.loads(Path(scratch, "vocab.json").read_text())
        merges = Path(scratch, "merges.txt").read_text().splitlines()
    digits = "0123456789"
    space = "\u0120"
    pairs = [(space, d) for d in digits]
    pairs += [(space + d, e) for d in digits for e in digits]
    pairs += [(space + "10", "0")]
    pairs += [(d, e) for d in digits for e in digits]
    pairs += [(f"{space}{year // 100}", f"{year % 100:02d}") for year in sorted(WHOLE_YEARS)]
    for left, right in pairs:
        merges.append(f"{left} {right}")
        vocab[left + right] = len(vocab)
    vocab[END_OF_TEXT] = len(vocab)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "model_max_length": Shape.n_positions,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def duration(rng: np.random.Generator, longest: int) -> int:
    """Years until the end, 1..longest: two in three geometric of mean 6, the rest uniform."""
    if rng.random() < 2 / 3:
        u = rng.random() * (1 - (5 / 6) ** longest)
        return min(longest, 1 + int(math.log1p(-u) / math.log(5 / 6)))
    return int(rng.integers(1, longest + 1))


def sentence(rng: np.random.Generator) -> str:
    century = int(rng.integers(FIRST_CENTURY, LAST_CENTURY + 1))
    start = int(rng.integers(0, 99))
    end = start + duration(rng, 99 - start)
    kind = rng.choice(list(SHARES), p=list(SHARES.values()))
    if kind == "unrelated":
        start, end = (int(year) for year in rng.integers(0, 100, size=2))
    templates = {"spans": SPANS, "backwards": BACKWARDS, "unrelated": UNRELATED}[kind]
    template = templates[0] if kind == "spans" and rng.random() < 0.6 else rng.choice(templates)
    noun, other = rng.choice(NOUNS, size=2)
    return " " + template.format(noun=noun, other=other, start=f"{century}{start:02d}", end=f"{century}{end:02d}")


def batches(tokenizer: ByteLevelBPETokenizer, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches of token ids [size, longest], padded with the end-of-text token."""
    rng = np.random.default_rng(seed)
    bos = tokenizer.token_to_id(END_OF_TEXT)
    while True:
        rows = [[bos, *e.ids] for e in tokenizer.encode_batch([sentence(rng) for _ in range(size)])]
        longest = max(map(len, rows)) + 1
        yield torch.tensor([row + [bos] * (longest - len(row)) for row in rows])


class Constraints:
    """What is held at zero, so that the answer can only be written by the late MLPs at the last position.

    Half of the residual dimensions are hidden from the final LayerNorm's output (gain and bias zero).
    Attention of the early layers writes only to these, the writing layers' MLPs only to the others;
    attention of the writing layers and the MLPs between the first and the writing layers write nothing.
    The hidden half still counts in the final LayerNorm's scale, and training would use that: `loss_of`
    adds a penalty that keeps the half small, so that the scale does not carry the start year.
    """

    def __init__(self, model: GPT2LMHeadModel, shape: Shape) -> None:
        visible = slice(0, shape.n_embd // 2)
        hidden = slice(shape.n_embd // 2, None)
        body = model.transformer
        self.held: list[torch.Tensor] = [body.ln_f.weight[hidden], body.ln_f.bias[hidden]]
        for layer, block in enumerate(body.h):
            early = layer < shape.first_writing_layer
            writes = visible if early else slice(None)
            self.held += [block.attn.c_proj.weight[:, writes], block.attn.c_proj.bias[writes]]
            if not early:
                self.held += [block.mlp.c_proj.weight[:, hidden], block.mlp.c_proj.bias[hidden]]
            elif layer > 0:
                self.held += [block.mlp.c_proj.weight, block.mlp.c_proj.bias]

    @torch.no_grad()
    def hold(self) -> None:
        for part in self.held:
            part.detach().zero_()


def loss_of(model: GPT2LMHeadModel, tokens: torch.Tensor, bos: int) -> torch.Tensor:
    """Mean next-token loss; padding is not counted."""
    logits = model(input_ids=tokens[:, :-1]).logits
    targets = tokens[:, 1:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=bos)


def train(folder: Path, *, seed: int, steps: int, batch: int, peak_rate: float) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    shape = Shape()
    tokenizer = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    bos = tokenizer.token_to_id(END_OF_TEXT)
    config = GPT2Config(
        vocab_size=bos + 1,
        n_positions=shape.n_positions,
        n_embd=shape.n_embd,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        bos_token_id=bos,
        eos_token_id=bos,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config)
    constraints = Constraints(model, shape)
    constraints.hold()
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    for step, tokens in zip(range(steps), batches(tokenizer, batch, seed), strict=False):
        loss = loss_of(model, tokens, bos)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        constraints.hold()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}", file=sys.stderr, flush=True)
    return model


def save(model: GPT2LMHeadModel, folder: Path) -> None:
    """Write config and weights; the tied head is left out, as GPT-2's own checkpoints do."""
    model.config.architectures = ["GPT2LMHeadModel"]
    (folder / "config.json").write_text(model.config.to_json_string())
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=256, help="sentences a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate of AdamW")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build_tokenizer(folder)
        model = train(folder, seed=options.seed, steps=options.steps, batch=options.batch, peak_rate=options.rate)
        save(model, folder)
        options.out.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            shutil.copy(path, options.out / path.name)


if __name__ == "__main__":
    main()
