"""Which rows of a run's data are learnt from, and which are held out."""

from __future__ import annotations

from data.pack import Ints
from data.shards import TokenShards
from data.split import hold_out
from jobs.stages.spec import RunSpec
from jobs.stages.stage import Corpus, Usable


def divided(spec: RunSpec, corpus: Corpus, usable: Usable) -> tuple[Ints, TokenShards, Ints]:
    """The rows of the data to learn from; the shards to measure on, which are others or the same, and their rows to
    measure on. usable: which rows a stage can use.
    """
    width, how = spec.data.max_seq_len, spec.eval
    chosen = usable(corpus.rows, width)
    if corpus.held_out is not None:
        return chosen, corpus.held_out, usable(corpus.held_out, width)
    training, held_out = hold_out(
        corpus.rows, how.fraction, how.max_documents, chosen, least=how.least_documents, name=spec.data.path
    )
    return training, corpus.rows, held_out
