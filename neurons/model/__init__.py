"""How a checkpoint is loaded and run, at END alone where that is enough.

Public: `load_model` (checkpoint), which returns a `Model` (`model`). Read in this order:

1. `files`, `config`, `weights`, `tokenizer`: find a checkpoint and check it, without torch.
2. `checkpoint`, `device`, `hugging_face`: load it, put it on a checked device, exchange it with other libraries.
3. `forward`: run prompts, from the pieces of a layer in `model`; `at_end`: change what happens at END; `rerun`: run one
   head or MLP again at any position.
"""
