"""Run by test_killed_commands in a process of its own: commands that write a run are killed at every step and at random times.

One process imports everything and makes a copy of a finished run for each attempt, of links to its files. A child is forked that runs the
command and is killed by SIGKILL:

* before its n-th change of the file system, for every n up to the last (``steps``): before a file is opened for writing, renamed, deleted
  or flushed, and before a folder is made or deleted;
* at random times, at which also the compiled writers of parquet and safetensors may be at work (``times``).

After each kill the state must be the old or the new one, and each item index must be whole. Then the same command runs once more and must
leave the files and the items that an uninterrupted one leaves. Prints the counts as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from onesearch import RunFolder, SidIndex, cli
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.tokenization_sid.sids.appended_files import load_appended
from onesearch.tokenization_sid.sids.sid_folder import check_checkpoint

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
"""Audit events of changes, besides files that are opened for writing."""

PARTS = ("market", "embeddings", "sids", "checkpoint")
"""What the commands read and write; the rest of the run is not copied."""


def commands(run: RunFolder, tables: Path) -> dict[str, list[str]]:
    """The commands, as they can be repeated."""
    root = str(run.root)
    return {
        "append": ["sids", "append", "--run", root, str(tables / "new.parquet"), "--known", "skip"],
        "add": ["items", "add", root, str(tables / "coded.parquet"), "--known", "skip"],
        "remove": ["items", "remove", root, "item-0000003", "item-0000007", "item-0000011", "--unknown", "skip"],
    }


def state(run: RunFolder) -> tuple[object, ...]:
    """Items, codes and categories of both indexes and the appended items; raises if anything is damaged or does not fit together."""
    check_checkpoint(run)
    appended = load_appended(run)
    indexes = []
    for folder in (run.sids, run.checkpoint):
        index = SidIndex.load(folder / SID_INDEX_NAME, verify=True)
        rows = sorted(zip(index.item_ids, index.codes.tolist(), index.popularity.tolist()))
        indexes.append((rows, index.categories))
    return indexes[0], indexes[1], appended.table.to_pylist(), appended.codes.tolist()


def contents(run: RunFolder, source: RunFolder) -> dict[str, object]:
    """All files that are not links to those of `source`, hidden ones too.

    safetensors writes the texts of a header in any order, so that headers are compared as JSON.
    """
    found: dict[str, object] = {}
    for path in sorted(run.root.rglob("*")):
        if path.is_file():
            name = path.relative_to(run.root)
            if (source.root / name).is_file() and path.samefile(source.root / name):  # nobody has written it
                continue
            content = path.read_bytes()
            end = 8 + int.from_bytes(content[:8], "little")
            split = path.suffix == ".safetensors"
            found[name.as_posix()] = (json.loads(content[8:end]), content[end:]) if split else content
    return found


def die_before(step: int) -> None:
    """Kill this process before its change of the file system number `step`, counted from 1."""
    count = 0

    def change() -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, values: tuple[object, ...]) -> None:
        written = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in CHANGES or written:
            change()

    fsync = os.fsync

    def counted(descriptor: int) -> None:
        change()
        fsync(descriptor)

    os.fsync = counted
    sys.addaudithook(hook)


def run_command(words: list[str]) -> None:
    """Run a command, which must succeed, and print nothing."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        code = cli.main(words)
    if code:
        print(errors.getvalue(), file=sys.stderr, flush=True)
        os._exit(1)


def in_child(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Exit code of a forked child that does the work; minus the signal if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - the parent sees the exit code
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Attempts:
    """All attempts with one command.

    Args:
        source: the finished run.
        folder: empty folder for the copies.
        name: name of the command.
    """

    def __init__(self, source: RunFolder, folder: Path, name: str) -> None:
        self.source, self.run, self.name = source, RunFolder(folder / name), name
        self.words = commands(self.run, folder)[name]
        self.kills = 0
        self.copy()
        run_command(self.words)  # in this process, which afterwards has imported everything that the children need
        self.copy()
        self.before = state(self.run)
        start = time.monotonic()
        assert in_child(lambda: run_command(self.words)) == 0
        self.seconds = time.monotonic() - start
        self.after, self.files = state(self.run), contents(self.run, self.source)
        assert self.after != self.before

    def copy(self) -> None:
        shutil.rmtree(self.run.root, ignore_errors=True)
        for part in PARTS:
            shutil.copytree(
                self.source.root / part, self.run.root / part, copy_function=os.link
            )  # no writer changes a file in place

    def every_step(self) -> None:
        """Kill before the first change, before the second, … until the command ends by itself."""
        for step in range(1, 1000):
            if not self.attempt(f"before change {step}", step=step):
                return
        raise AssertionError(f"{self.name} does not end within a thousand changes")

    def random_times(self, number: int) -> None:
        """Kill at `number` random times during the command."""
        draw, done, tries = random.Random(self.name), 0, 0
        while done < number:
            tries += 1
            assert tries < 5 * number, f"{self.name} ends before it is killed"
            seconds = draw.uniform(0, self.seconds)
            done += self.attempt(f"after {seconds:.4f} s", seconds=seconds)

    def attempt(self, when: str, step: int | None = None, seconds: float | None = None) -> bool:
        """One kill and one repetition; returns whether the command was killed before it had ended."""
        self.copy()

        def work() -> None:
            if step is not None:
                die_before(step)
            run_command(self.words)

        code = in_child(work, seconds)
        where = f"{self.name} killed {when}"
        assert code in (0, -signal.SIGKILL), f"{where}: exit code {code}"
        killed = code != 0
        self.kills += killed
        self.check(where, killed)
        assert in_child(lambda: run_command(self.words)) == 0, f"{where}: the command cannot be repeated"
        assert state(self.run) == self.after, f"{where}: the repeated command ends otherwise"
        found = contents(self.run, self.source)
        differ = sorted(name for name in found.keys() | self.files.keys() if found.get(name) != self.files.get(name))
        assert not differ, f"{where}: {differ} differ after the repeated command"
        return killed

    def check(self, where: str, killed: bool) -> None:
        """The state after a kill is the old or the new one, part by part: an append changes three files one after another."""
        found = state(self.run)
        for part, before, after in zip(found, self.before, self.after):
            assert part in (before, after), f"{where}: a part is neither old nor new"
        if not killed:
            assert found == self.after, f"{where}: the command ended and is not done"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path, help="empty but for new.parquet and coded.parquet")
    parser.add_argument("--times", type=int, required=True, help="number of kills at random times, of each command")
    options = parser.parse_args()
    counts = {}
    for name in ("append", "add", "remove"):
        attempts = Attempts(RunFolder(options.source), options.folder, name)
        attempts.every_step()
        steps = attempts.kills
        attempts.random_times(options.times)
        counts[name] = {"steps": steps, "times": attempts.kills - steps}
        print(name, counts[name], file=sys.stderr, flush=True)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
