"""What a server may use and who may ask it: read once, from the environment of its process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, ValidationError

from jobs.cluster.machine import cores, memory_bytes
from jobs.endpoints.keys import API_KEY, read_key
from minimind.config import Config, explain

PREFIX = "MINIMIND_SERVE_"


class Settings(Config):
    """The settings of a server. Each is `MINIMIND_SERVE_` and its name in capitals; the key is MINIMIND_API_KEY, or in
    the file that MINIMIND_API_KEY_FILE names: Ray writes variables into a log that everybody may read. "" is none.

    Where runs lie is MINIMIND_HOME, as everywhere.
    """

    api_key: str | None = Field(default=None, min_length=8, description="what clients must send; None: nobody is asked")
    memory_bytes: int = Field(
        default_factory=lambda: memory_bytes() // 2,
        gt=0,
        description="weights and KV caches of all models in one replica, together",
    )
    slots: int = Field(default=16, ge=1, le=1024, description="sequences that one model generates at the same time")
    context_tokens: int = Field(default=2048, ge=16, description="longest prompt with its answer, in tokens")
    queue: int = Field(default=256, ge=0, description="sequences of one model that may wait for a slot")
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto",
        description="precision of the weights; auto: the fastest that loses less than 0.5 % of bits per byte",
    )
    threads: int = Field(default_factory=cores, ge=1, description="CPU threads of one replica")
    load_timeout_s: float = Field(default=60.0, gt=0, description="how long a request waits for its model to load")

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ, replicas: int = 1) -> Settings:
        """The settings of this process, one of so many replicas, which share memory and cores where nothing is said.

        Raises ValueError that names the variable, its value and what is allowed.
        """
        variables = {PREFIX + name.upper(): name for name in cls.model_fields if name != "api_key"}
        set_ones = {name: value for name, value in environment.items() if value}
        if unknown := sorted(name for name in set_ones if name.startswith(PREFIX) and name not in variables):
            raise ValueError(f"{', '.join(unknown)}: there is no such setting; there are {', '.join(variables)}")
        given = {name: set_ones[variable] for variable, name in variables.items() if variable in set_ones}
        if key := read_key(set_ones):
            given["api_key"] = key
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            # A key is never repeated, not even a bad one.
            hidden = explain(error).replace(repr(key), "(hidden)") if key else explain(error)
            raise ValueError(f"settings of the server ({PREFIX}…, {API_KEY}): {hidden}") from None
        shared = {name: max(1, getattr(settings, name) // replicas) for name in ("memory_bytes", "threads")}
        return settings.model_copy(update={name: value for name, value in shared.items() if name not in given})
