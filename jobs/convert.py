"""`convert`: weights of upstream MiniMind or Hugging Face become a checkpoint of this system."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.stages.sampling import WRITING
from minimind.checkpoints.checkpoint import Lineage
from minimind.checkpoints.convert import UPSTREAM_YARN, read_weights
from minimind.language import say
from minimind.text.tokenizer import Tokenizer

_PADDED_TO, _MOST_PADDING = 64, 512
"""What an embedding is padded to by those who do it, and by how many rows at most."""


def import_weights(
    source: Path, target: Path, console: Console, *, tokenizer: Path | None, rope_scaling: bool = False
) -> Path:
    """Read `source` strictly and write a checkpoint folder below `target`; gives that folder.

    tokenizer: folder of the tokenizer that belongs to the weights; by default the one beside them. rope_scaling: the
    model computes with upstream's `inference_rope_scaling`, which a .pth doesn't say. Raises ValueError for weights
    that do not fit.
    """
    paths.existing(source, say("weights"))
    if target.exists():
        raise ValueError(say("{target} exists already; name a folder that does not", target=target))
    beside = source if source.is_dir() else source.parent
    vocabulary = Tokenizer.load(tokenizer or beside)
    config, weights = read_weights(source)
    spare = config.vocab_size - vocabulary.vocab_size
    if spare and not (0 < spare < _MOST_PADDING and config.vocab_size % _PADDED_TO == 0):
        raise ValueError(
            say(
                "the tokenizer in {tokenizer} has {vocab_size} ids, the model has {model_size}: name "
                "the tokenizer that the weights were trained with, --tokenizer FOLDER. (An embedding may "
                "have up to {most_padding} rows more, where it is padded to a multiple of {padded_to})",
                tokenizer=tokenizer or beside,
                vocab_size=vocabulary.vocab_size,
                model_size=config.vocab_size,
                most_padding=_MOST_PADDING - 1,
                padded_to=_PADDED_TO,
            )
        )
    if spare:
        vocabulary = vocabulary.padded(config.vocab_size)
    if rope_scaling:
        config = config.model_copy(update={"rope_scaling": UPSTREAM_YARN})
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
    console.print(
        say(
            "{count:.1f} M parameters of {source} are now the checkpoint {folder}",
            count=count / 1e6,
            source=source,
            folder=folder,
        )
    )
    if spare:
        console.print(
            say("Its embedding has {spare} rows more than the tokenizer has ids: they have spare ids now.", spare=spare)
        )
    template = (
        say("MiniMind's own") if vocabulary.foreign_template is None else say("the one that came with its tokenizer")
    )
    console.print(say("Chat template: {chat_template}. Chats are asked, and taught, by it.", chat_template=template))
    console.print(say("Talk with it: minimind chat {folder}", folder=folder))
    console.print(
        say("Train on from it: minimind train sft --from_weight {folder} --data_path YOUR.jsonl", folder=folder)
    )
    return folder
