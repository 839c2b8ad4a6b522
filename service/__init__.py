"""HTTP: checkpoints behind an endpoint that speaks OpenAI's protocol, on Ray Serve, and the pages."""

from __future__ import annotations
