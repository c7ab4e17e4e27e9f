"""Stage `text` goes on where it was stopped or killed, with any number of processes: the same bytes, and no process
left."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.plugins import Domain, Science
from sweeps.language.stage import Execution
from sweeps.store import files
from sweeps.store.records import checkpoints, open_attempt, read_parent
from tests.faults.crash import Crash, in_child
from tests.workloads.data.conftest import fill, folder_domain, paragraph
from tests.workloads.data.contexts import FakeContext, run, text_context
from tests.workloads.data.test_split import corpora
from workloads.contract import Document, Stopped
from workloads.data import chunks, make_text, scratch
from workloads.data.workers import Workers

NAMES = (make_text.TRAIN, make_text.VALIDATION, make_text.SOURCES)
OFTEN = Execution(checkpoint_seconds=0.0, checkpoint_share=1.0)
"""A note wherever one may be written."""
KILLED = -9


class Given:
    """Documents, one file between them that cannot be read; `bad`: reading ends there with an error."""

    def __init__(self, documents: list[Document], bad: int | None = None) -> None:
        self.documents, self.bad, self.skipped = documents, bad, list[str]()

    def __iter__(self):  # type: ignore[no-untyped-def]
        for number, document in enumerate(self.documents):
            if number == self.bad:
                raise EnvironmentError_("this file is damaged")
            if number == len(self.documents) // 2:
                self.skipped.append("nobody reads this: OSError: it is locked")
            yield document


def given_domain(documents: list[Document], bad: int | None = None) -> Domain:
    class Local(Domain):
        def load(self) -> object:
            return lambda science: Given(documents, bad)

    return Local(science=Science, revision=1, identity=lambda science: {"notes": "1"})


def some_documents(count: int = 60) -> list[Document]:
    """Documents that repeat paragraphs of one another, word for word and nearly, and some that are nearly others."""
    rng = random.Random(0)
    shared = [paragraph(rng) for _ in range(4)]
    found: list[Document] = []
    for number in range(count):
        pieces = [paragraph(rng, 60) for _ in range(4)]
        if number % 3 == 0:
            pieces += [shared[number % 4], f"{number} {shared[(number + 1) % 4]} {number}", "short"]
        if number % 7 == 6:
            pieces = [f"{number} {found[number - 3].text}"]
        found.append(Document(source="notes", path=f"{number:03d}", text="\n\n".join(pieces)))
    return found


def small(patch: pytest.MonkeyPatch) -> None:
    """Make many pieces of little text."""
    for module, name, size in ((chunks, "CHUNK_CHARS", 3_000), (scratch, "CHUNK_BYTES", 3_000),
                               (scratch, "RUN_GRAMS", 3_000)):
        patch.setattr(module, name, size)


def context_of(root: Path, domain: Domain, **science: object) -> FakeContext:
    return text_context(root, "notes", domain, **{"validation_share": "20%", "near_duplicates": "70%", **science})


def made_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def finished(context: FakeContext, stops: Callable[[int], Callable[[], bool]]) -> tuple[dict[str, bytes], int]:
    """Run attempt after attempt, asked to leave as `stops` says for each; return what the last left, and its number."""
    attempt = 0
    while True:
        attempt += 1
        context.stop = stops(attempt)
        try:
            return made_of(run(context, make_text.run)[0]), attempt
        except Stopped:
            assert attempt < 300
            context.attempt = open_attempt(context.folder, {})


def after(asks: int) -> Callable[[], bool]:
    """Asked to leave at the question of this number."""
    left = iter(range(asks - 1))
    return lambda: next(left, None) is None


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return some_documents()


@pytest.fixture(scope="module")
def undisturbed(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, scores = run(context_of(tmp_path_factory.mktemp("whole"), given_domain(documents)), make_text.run)
    assert scores["near_duplicates"] > 3 and scores["dropped_paragraphs"] > 10 and scores["skipped_files"] == 1
    assert scores["overlap_before"] > scores["overlap"]
    return made_of(folder)


@pytest.mark.parametrize(("cores", "asks"), [(1, 2), (1, 7), (2, 25), (3, 40)])
def test_stopped_again_and_again_it_leaves_the_same_bytes(
    documents: list[Document], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    cores: int, asks: int,
) -> None:
    small(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    context = context_of(tmp_path, given_domain(documents))
    made, attempts = finished(context, lambda attempt: after(asks + 4 * attempt))
    assert made == undisturbed
    assert attempts > 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(documents=corpora(), asks=st.lists(st.integers(1, 12), max_size=4), near=st.sampled_from([None, "60%"]),
       size=st.integers(1, 300))
def test_any_documents_stopped_anywhere(
    tmp_path_factory: pytest.TempPathFactory, documents: list[Document], asks: list[int], near: str | None, size: int
) -> None:
    whole = context_of(tmp_path_factory.mktemp("whole"), given_domain(documents), near_duplicates=near)
    stopped = context_of(tmp_path_factory.mktemp("stopped"), given_domain(documents), near_duplicates=near)
    try:
        expected = made_of(run(whole, make_text.run)[0])
    except UsageError as error:
        with pytest.raises(UsageError) as raised:
            finished(stopped, lambda n: after(asks[n - 1]) if n <= len(asks) else lambda: False)
        assert str(raised.value) == str(error)
        return
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((chunks, "CHUNK_CHARS"), (scratch, "CHUNK_BYTES"), (scratch, "RUN_GRAMS")):
            patch.setattr(module, name, size)
        made, _ = finished(stopped, lambda n: after(asks[n - 1]) if n <= len(asks) else lambda: False)
    assert made == expected


def test_killed_at_any_durable_call_it_goes_on_to_the_same_bytes(
    documents: list[Document], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL before the call number 1, 8, 15, ... that makes a file or a note durable; a note at every chance."""
    for module, name in ((chunks, "CHUNK_CHARS"), (scratch, "CHUNK_BYTES"), (scratch, "RUN_GRAMS")):
        monkeypatch.setattr(module, name, 12_000)

    def once(context: FakeContext) -> int:
        context.execution = OFTEN
        run(context, make_text.run)
        return 0

    resumed, number = 0, 1
    while True:
        context = context_of(tmp_path / str(number), given_domain(documents))
        code = in_child(lambda context=context: once(context), tmp_path / "log",  # type: ignore[misc]
                        Crash(at=number, calls=("fsync", "link", "unlink", "close")))
        if code == 0:
            break
        assert code == KILLED, (tmp_path / "log").read_text()
        context.attempt = open_attempt(context.folder, {})
        assert made_of(run(context, make_text.run)[0]) == undisturbed, number
        resumed += read_parent(context.attempt.folder) is not None
        number += 7
    assert resumed > 20


def stopped_half_way(root: Path, documents: list[Document], asks: int = 12) -> FakeContext:
    """A stage with three notes, and a second attempt at it."""
    context = context_of(root, given_domain(documents))
    context.execution, context.stop = OFTEN, after(asks)
    with pytest.raises(Stopped):
        run(context, make_text.run)
    context.attempt, context.stop = open_attempt(context.folder, {}), lambda: False
    context.execution = Execution()
    return context


@pytest.mark.parametrize("kind", ["documents", "fresh-grams", "all-grams", "known.npz"])
@pytest.mark.parametrize("harm", ["altered", "cut", "gone"])
def test_a_harmed_file_is_not_believed(
    documents: list[Document], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    kind: str, harm: str,
) -> None:
    """The attempt goes on from the last note that does not name it."""
    small(monkeypatch)
    context = stopped_half_way(tmp_path, documents)
    harmed = sorted(context.folder.attempt(1).work.glob(f"*.{kind}"))[2]
    data = harmed.read_bytes()
    if harm == "gone":
        harmed.unlink()
    else:
        harmed.write_bytes(data[:-1] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    found = sorted(c.tokens for c in checkpoints(context.folder))
    assert len(found) > 4
    assert made_of(run(context, make_text.run)[0]) == undisturbed
    parent = read_parent(context.attempt.folder)
    assert parent is not None and parent.tokens == found[1]


def test_what_an_attempt_does_after_its_successor_began_harms_nobody(
    documents: list[Document], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is cut off goes on working, in its own folder."""
    small(monkeypatch)
    context = context_of(tmp_path, given_domain(documents))
    context.execution = OFTEN
    second: list[dict[str, bytes]] = []
    questions = iter(range(10**6))

    def meanwhile() -> bool:
        if next(questions) == 12:
            other = context_of(tmp_path / "unused", given_domain(documents))
            other.folder, other.attempt = context.folder, open_attempt(context.folder, {})
            second.append(made_of(run(other, make_text.run)[0]))
            assert read_parent(other.attempt.folder) is not None
        return False

    context.stop = meanwhile
    assert made_of(run(context, make_text.run)[0]) == undisturbed == second[0]


def test_the_work_folders_go_with_the_result(documents: list[Document], tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    context = stopped_half_way(tmp_path, documents)
    attempt = context.attempt
    scores = make_text.run(context)  # type: ignore[arg-type]
    works = [context.folder.attempt(n).work for n in (1, 2)]
    assert all(any(work.iterdir()) for work in works), "an interrupted commit loses nothing"
    assert attempt.commit(scores)
    attempt.close()
    assert not any(work.exists() for work in works)


def test_a_short_stage_writes_no_note(documents: list[Document], tmp_path: Path) -> None:
    context = context_of(tmp_path, given_domain(documents))
    run(context, make_text.run)
    assert not checkpoints(context.folder)


@pytest.mark.parametrize("cores", [1, 2])
def test_what_is_read_ahead_of_the_last_document_changes_nothing(
    documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    """Neither a file that cannot be read nor an error there: in order, nobody would have come to it."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    most = sum(len(d.text.encode()) for d in documents[:20])
    folder, scores = run(context_of(tmp_path / "a", given_domain(documents, bad=40), max_bytes=most), make_text.run)
    assert scores["skipped_files"] == 0 and files.read_json(folder / make_text.SOURCES)["skipped"] == 0
    with pytest.raises(EnvironmentError_, match="this file is damaged"):
        run(context_of(tmp_path / "b", given_domain(documents, bad=40)), make_text.run)


# -- real processes ----------------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
from pathlib import Path
from sweeps.language.stage import Execution
from sweeps.store.records import open_attempt
from tests.workloads.data.conftest import folder_domain
from tests.workloads.data.contexts import FakeContext, run, text_context
from workloads.contract import Stopped
from workloads.data import chunks, make_text, scratch

if __name__ == "__main__":
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    chunks.CHUNK_CHARS = scratch.CHUNK_BYTES = 20_000
    root = Path(sys.argv[1])
    context = text_context(root, "notes", folder_domain(root / "notes"), near_duplicates="80%")
    context.folder = context.folder.beside("text", "0" * 32)
    context.attempt = open_attempt(context.folder, {})
    context.execution = Execution(checkpoint_seconds=0.2, checkpoint_share=1.0)
    context.stop = lambda: bool(asked)
    try:
        print(run(context, make_text.run)[0])
    except Stopped:
        sys.exit(3)
"""


def started(root: Path, cores: int) -> subprocess.Popen[str]:
    program = root / "program.py"
    program.write_text(PROGRAM)
    here = str(Path(__file__).parents[3])
    return subprocess.Popen([sys.executable, str(program), str(root)], cwd=here, text=True, stdout=subprocess.PIPE,
                            start_new_session=True, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": str(cores)})


def group(leader: int) -> list[int]:
    """Processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(number) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_real_process_is_ended_and_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    """SIGTERM reaches all its processes at once; SIGKILL itself alone, and no worker stays."""
    fill(tmp_path / "notes", documents=1_500)
    rng = random.Random(int(how))
    ended = 0

    def notes() -> int:
        return len(list(tmp_path.glob("stages/text/*/attempts/*/checkpoints/*/MANIFEST.json")))

    while True:
        before = notes()
        process = started(tmp_path, cores=2)
        deadline = time.monotonic() + 60
        while process.poll() is None and notes() == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        if ended == 4 or process.poll() is not None:
            out, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
            break
        if how == signal.SIGTERM:
            os.killpg(process.pid, how)
        else:
            process.kill()
        _, said = process.communicate(timeout=30)
        if process.returncode == 0:
            continue
        assert process.returncode == (3 if how == signal.SIGTERM else KILLED), said
        ended += 1
        deadline = time.monotonic() + 20
        while group(process.pid):
            assert time.monotonic() < deadline, "its workers outlive it"
            time.sleep(0.05)
    assert ended >= 2
    plain = text_context(tmp_path / "plain", "notes", folder_domain(tmp_path / "notes"), near_duplicates="80%")
    assert made_of(Path(out.strip())) == made_of(run(plain, make_text.run)[0])


def killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def killed_while_it_answers(number: int) -> int:
    if number == 1:
        frame = sys._getframe(1)
        os.write(frame.f_locals["pipe"].fileno(), struct.pack("!i", 100) + b"the beginning")
    return killed(number)


@pytest.mark.parametrize("function", [killed, killed_while_it_answers])
def test_a_worker_that_dies_is_an_error_that_says_so(function: Callable[[int], int]) -> None:
    workers = Workers(2)
    try:
        with pytest.raises(EnvironmentError_, match=r"died \(exit code -9\)"):
            list(workers.answers(function, range(3)))
    finally:
        workers.close()
