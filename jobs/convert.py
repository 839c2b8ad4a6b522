"""`convert`: weights of upstream MiniMind or Hugging Face become a checkpoint of this system."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

import minimind.checkpoint as checkpoints
from jobs import paths
from jobs.prepare import require_vocabulary
from jobs.sampling import WRITING
from minimind.checkpoint import Lineage
from minimind.convert import read_weights
from minimind.tokenizer import Tokenizer


def convert(source: Path, target: Path, console: Console, *, tokenizer: Path | None) -> Path:
    """Read `source` strictly and write a checkpoint folder below `target`; gives that folder.

    tokenizer: folder of the tokenizer that belongs to the weights; by default the one beside them. Raises ValueError
    for weights that do not fit.
    """
    paths.existing(source, "weights")
    if target.exists():
        raise ValueError(f"{target} exists already; name a folder that does not")
    beside = source if source.is_dir() else source.parent
    vocabulary = Tokenizer.load(tokenizer or beside)
    config, weights = read_weights(source)
    require_vocabulary(vocabulary, config.vocab_size, str(tokenizer or beside))
    sampling = checkpoints.read_sampling(beside) or WRITING
    folder = checkpoints.save(
        target,
        0,
        model_config=config,
        weights=weights,
        tokenizer=vocabulary,
        train_state={},
        lineage=Lineage(run_id="imported"),
        sampling=sampling,
    )
    count = sum(tensor.numel() for tensor in weights.values())
    console.print(f"{count / 1e6:.1f} M parameters of {source} are now the checkpoint {folder}")
    console.print(f"Train on from it: minimind train pretrain --from_weight {folder}")
    return folder
