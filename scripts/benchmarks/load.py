"""Whole processes that load a checkpoint and run one prompt, so that nothing of loading is put off."""

import json
import subprocess

import numpy as np

from benchmarks.pairs import Row, Turns, alternate, difference, row
from benchmarks.setting import Setting, environment, python
from neurons.model.files import find_checkpoint

OURS = """
import json, sys
import numpy as np
import neurons
from neurons.model.forward import run
model, tokens = neurons.load_model(sys.argv[1]), np.array([json.loads(sys.argv[2])])
found = run(model, tokens, shared=0, layers=(), year_token_ids=np.array(json.loads(sys.argv[3])))
print(json.dumps(found.year_logits[0].tolist()))
"""
BRIDGE = """
import json, sys
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2LMHeadModel
hf_model = GPT2LMHeadModel.from_pretrained(sys.argv[1])
bridge = TransformerBridge.boot_transformers(sys.argv[1], hf_model=hf_model, device="cpu")
with torch.inference_mode():
    logits = bridge(torch.tensor([json.loads(sys.argv[2])]))
print(json.dumps(logits[0, -1, json.loads(sys.argv[3])].tolist()))
"""
TOLERANCE = 1e-5


def rows(setting: Setting) -> list[Row]:
    folder, prompts = str(find_checkpoint(setting.checkpoint).folder), setting.prompts
    given = (folder, json.dumps(prompts.tokens[0].tolist()), json.dumps(prompts.year_token_ids.tolist()))
    times, apart = alternate(Turns(lambda _: _logits(OURS, given), lambda _: _logits(BRIDGE, given), difference))
    found = row(
        "load",
        times,
        work="a model loaded and one prompt run, whole process",
        peer_is="GPT2LMHeadModel.from_pretrained in a TransformerBridge, which runs the prompt",
        found=apart,
        tolerance=TOLERANCE,
        at_least=3,
    )
    return [found]


def _logits(program: str, given: tuple[str, ...]) -> np.ndarray:
    """Of the years, printed in the last line."""
    command = python("-c", program, *given)
    done = subprocess.run(command, env=environment(), capture_output=True, check=True)
    return np.array(json.loads(done.stdout.splitlines()[-1]))
