"""``drmguard bench``: parses, calls, prints.  Everything heavy is imported inside the commands."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console

from drmguard.errors import InputError

if TYPE_CHECKING:
    from drmguard.bench.cell import Cell
    from drmguard.bench.runner import Progress as BenchProgress
    from drmguard.bench.store import Store

app = typer.Typer(help="Measure attacks, scans and repairs.", no_args_is_help=True)

Results = Annotated[Path, typer.Option(help="Folder of the results, one small JSON a cell.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of trained models and scans; the user's cache folder.")
]
DEFAULT_RESULTS = Path("benchmarks/results")
SuiteArgument = Annotated[str, typer.Argument(help="smoke, small, paper, or a .toml file.")]


def _store(results: Path, cache: Path | None) -> Store:
    from drmguard.bench.store import Store, default_cache

    return Store(results, cache or default_cache())


def _chosen(suite: str, only: list[str] | None) -> list[Cell]:
    """The suite's cells whose names hold every given text, after those they need."""
    from drmguard.bench.cell import with_needed
    from drmguard.bench.suite import load_suite

    cells = load_suite(suite).cells
    wanted = [c for c in cells if all(text in c.name for text in only or [])]
    if not wanted:
        raise InputError(f"no cell of {suite} has {' and '.join(only or [])} in its name")
    return with_needed(wanted)


def _locations(pairs: list[str] | None) -> dict[str, str]:
    locations = {}
    for pair in pairs or []:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise InputError(f"--data must be NAME=PATH, not {pair!r}")
        locations[name] = str(Path(path).expanduser().absolute())
    return locations


Only = Annotated[
    list[str] | None, typer.Option(help="Cells with this text in their name; repeat for more.")
]


@app.command()
def run(
    suite: SuiteArgument,
    data: Annotated[
        list[str] | None, typer.Option(help="Where a data set lies: NAME=PATH; repeat.")
    ] = None,
    only: Only = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes of one thread; one a core if left out.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster (auto finds one); local starts one here."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    gpus: Annotated[
        float, typer.Option(help="GPUs a cell takes on a cluster: .25 puts four on one.")
    ] = 0,
    retry_failed: Annotated[bool, typer.Option(help="Do failed cells again.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would run and what it costs.")] = False,
    results: Results = DEFAULT_RESULTS,
    cache: Cache = None,
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors.")] = False,
) -> None:
    """Do a suite's cells that have no result yet.

    A stopped run goes on where it was; several runs on one store share the work.  Exit code 1 if
    a cell has failed.
    """
    from drmguard.bench.runner import run_cells, standing
    from drmguard.bench.work import Place

    if device not in ("cpu", "cuda"):
        raise InputError(f"--device must be cpu or cuda, not {device!r}")
    cells, store = _chosen(suite, only), _store(results, cache)
    if dry_run:
        _print_plan(cells, store, standing(cells, store, retry_failed=retry_failed), jobs)
        return
    place = Place(
        results=str(results.absolute()),
        cache=str(store.cache.absolute()),
        locations=_locations(data),
        device=device,  # type: ignore[arg-type]
    )
    engine = _engine(jobs, cluster, gpus)
    try:
        with _shown(store, quiet) as show:
            end = run_cells(cells, place, engine, retry_failed=retry_failed, show=show)
    finally:
        engine.close()
    if not quiet:
        print(f"{len(end.done)} done, {len(end.failed)} failed, {len(end.skipped)} skipped")
        missing = {c.model.data.name for c in cells if c.key in end.skipped} - set(place.locations)
        for name in sorted(missing & {c.model.data.name for c in cells if c.model.data.needs_path}):
            print(f"  the data {name} is not here; give --data {name}=PATH")
    raise typer.Exit(1 if end.failed else 0)


def _engine(jobs: int | None, cluster: str | None, gpus: float) -> Any:
    from drmguard.bench.engines import LocalEngine, RayEngine

    if cluster is None:
        if gpus:
            raise InputError("--gpus shares GPUs on a cluster; give --cluster local or an address")
        return LocalEngine(jobs)
    return RayEngine(None if cluster == "local" else cluster, gpus=gpus, workers=jobs)


@contextlib.contextmanager
def _shown(store: Store, quiet: bool) -> Iterator[Callable[[BenchProgress], None]]:
    """A bar with the time left, and a line for every cell that has ended."""
    from rich.progress import BarColumn, Progress, TextColumn

    from drmguard.bench.cost import CostModel

    console = Console(soft_wrap=True, highlight=False)
    with Progress(
        TextColumn("{task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        disable=quiet,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)

        def show(progress: BenchProgress) -> None:
            ended = progress.done | progress.failed | progress.skipped
            costs = CostModel(store.all())
            left = sum(costs.of(c).seconds for c in progress.cells if c.key not in ended)
            left /= max(1, len(progress.running))
            bar.update(
                task,
                total=len(progress.cells),
                completed=len(ended),
                description=f"about {_duration(left)} left; {', '.join(progress.running.values())}",
            )
            if progress.message and not quiet:
                console.print(progress.message, markup=False)

        yield show


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_plan(cells: list[Cell], store: Store, state: BenchProgress, jobs: int | None) -> None:
    import os

    from drmguard.bench.cost import CostModel

    costs = CostModel(store.all())
    waiting = [c for c in cells if c.key not in state.done | state.failed]
    models = {c.model.key for c in waiting if c.work == "train"}
    passes = sum(costs.of(c).passes for c in waiting)
    seconds = sum(costs.of(c).seconds for c in waiting)
    for cell in waiting:
        cost = costs.of(cell)
        how = "as measured" if cost.measured else "rough"
        print(f"{cell.name}: {cost.passes:,} passes, {_duration(cost.seconds)} ({how})")
    cores = jobs or os.cpu_count() or 1
    print(
        f"{len(waiting)} of {len(cells)} cells to do, {len(models)} models to train, "
        f"{passes:,} image passes, {_duration(seconds)} on one core, "
        f"{_duration(seconds / cores)} on {cores}"
    )


@app.command()
def status(suite: SuiteArgument, results: Results = DEFAULT_RESULTS, cache: Cache = None) -> None:
    """Say how a suite stands: done, failed with reasons, still to do."""
    from drmguard.bench.cell import Work
    from drmguard.bench.runner import standing

    cells, store = _chosen(suite, None), _store(results, cache)
    state = standing(cells, store)
    for work in get_args(Work):
        some = [c for c in cells if c.work == work]
        done, failed = (sum(c.key in keys for c in some) for keys in (state.done, state.failed))
        if some:
            print(f"{work:<7} {done} of {len(some)} done, {failed} failed")
    for cell in cells:
        if cell.key in state.failed:
            result = store.load(cell)
            reason = (result.reason or "").strip().splitlines() if result else []
            print(f"failed: {cell.name}: {reason[-1] if reason else 'no reason'}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Part of a cell's name, its key for one alone.")],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Print the results whose names hold a text."""
    found = [path for path in sorted(results.glob("*.json")) if name in path.name]
    if not found:
        raise InputError(f"no result in {results} has {name!r} in its name")
    for path in found:
        print(path.read_text(encoding="utf-8"), end="")


@app.command()
def tables(
    docs: Annotated[Path, typer.Option(help="Folder of benchmark.md.")] = Path("docs"),
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write docs/benchmark.md with its plots, and the other generated pages, from the results."""
    from drmguard.bench.suite import load_suite
    from drmguard.bench.tables import write_tables

    suites = [load_suite(name) for name in ("small", "zoo", "hard", "development", "mesa", "paper")]
    print(write_tables(suites, _store(results, None).all(), docs))


@app.command()
def pictures(
    data: Annotated[
        list[str] | None, typer.Option(help="Where a data set lies: NAME=PATH; repeat.")
    ] = None,
    suite: Annotated[str, typer.Option(help="Whose trained models to show.")] = "small",
    docs: Annotated[Path, typer.Option(help="Folder of attacks/.")] = Path("docs"),
    cache: Cache = None,
) -> None:
    """Draw attacks, the evidence of scans and modelled distributions, from what is in the cache."""
    from drmguard.bench.evidence_pictures import draw_evidence
    from drmguard.bench.mesa_pictures import draw_distributions
    from drmguard.bench.pictures import draw_attacks
    from drmguard.bench.suite import load_suite

    store = _store(DEFAULT_RESULTS, cache)
    chosen = load_suite(suite)
    for path in draw_attacks(chosen.models, store, _locations(data), docs):
        print(path)
    for path in draw_evidence(chosen.cells, store, docs):
        print(path)
    for path in draw_distributions(chosen.cells, store, _locations(data), docs):
        print(path)


@app.command()
def export(
    output: Annotated[Path, typer.Option("-o", "--output", help=".csv or .parquet.")],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write all results as one table."""
    from drmguard.bench.store import export as write_export

    write_export(_store(results, None).all(), output)
    print(output)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="Of the table `results`.")],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Ask the results in SQL."""
    from drmguard.bench.store import query as ask

    names, rows = ask(_store(results, None).all(), sql)
    print("\t".join(names))
    for row in rows:
        print("\t".join("" if value is None else str(value) for value in row))
