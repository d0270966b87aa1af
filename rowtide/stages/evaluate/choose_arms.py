"""Which two versions an eval compares, written down as folders: the candidate, and what it must not be worse than."""

from dataclasses import dataclass, field
from pathlib import Path

from rowtide.errors import UserMistake
from rowtide.evals.outcome import ArmName
from rowtide.job.job_file import JOB_FILE, line_of_key, read_spec
from rowtide.job.job_folder import Job
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import evals as read_evals
from rowtide.stages.evaluate.write_arm import Changes, revision_of, write_arm
from rowtide.stages.preflight import Plan


@dataclass(frozen=True, slots=True)
class Candidate:
    """What was named on the command line. Nothing: the job as it is, against the version that passed last."""

    folder: Path | None = None
    """Of a job: instead of what changes the job that is evaluated."""
    changes: Changes = field(default_factory=Changes)
    against: str | None = None
    """A git revision of the job, or a folder: then the job as it is is the candidate."""
    is_drift: bool = False
    """The job as it is, asked anew, against its own first answers."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Both arms, each as a folder of its own."""

    candidate: Path
    incumbent: Path
    candidate_label: str
    incumbent_label: str
    origin: Path
    """Where the candidate's files are edited."""
    settings_of: ArmName
    is_first: bool = False
    is_drift: bool = False


def choose_arms(ledger: Ledger, folder: Path, api: str, asked: Candidate, into: Path) -> Folders:
    """Write both arms below `into`. Raises UserMistake for what is no version of a job."""
    if asked.against is not None and (asked.folder or asked.changes.label):
        raise UserMistake("compares the job as it is with another: name no candidate beside it", key="--against")
    if asked.folder is not None and asked.changes.label:
        raise UserMistake("is a candidate already: change its files instead", key="--candidate")
    if asked.is_drift and (asked.folder or asked.changes.label or asked.against is not None):
        raise UserMistake("compares the job as it is with itself: name nothing beside it", key="--drift")
    if asked.folder is not None:
        return _against_job(folder, asked.folder.resolve(), Changes(), f"{asked.folder}", into)
    if asked.changes.label:
        return _against_job(folder, folder, asked.changes, f"{folder.name} with {asked.changes.label}", into)
    candidate = write_arm(folder, into / "candidate")
    if asked.is_drift:
        incumbent, labels = write_arm(folder, into / "incumbent"), (f"{folder.name} asked anew", "its first answers")
        return Folders(candidate, incumbent, *labels, folder, "candidate", is_drift=True)
    if asked.against is None:
        return _against_last(ledger, folder, api, candidate, into)
    other, revision = Path(asked.against), revision_of(folder, asked.against)
    if (other / JOB_FILE).is_file():
        incumbent, label = write_arm(other.resolve(), into / "incumbent"), str(other)
    elif revision is not None:
        incumbent = write_arm(folder, into / "incumbent", revision=revision)
        label = f"{folder.name} at {asked.against} ({revision[:10]})"
    else:
        what = f"{asked.against!r} is neither a revision of this folder's repository nor a job's folder"
        raise UserMistake(what, key="--against")
    return Folders(candidate, incumbent, f"{folder.name} as it is", label, folder, "candidate")


def check_comparable(candidate: Plan, incumbent: Plan) -> None:
    """Both must be asked about the same rows. Raises UserMistake."""
    new, old = candidate.job, incumbent.job
    if new.spec.after or old.spec.after:
        waits = new if new.spec.after else old
        raise _at(waits, "after", "a job whose rows come after one another cannot be compared row by row; take it out")
    if new.spec.key != old.spec.key:
        raise _at(
            new, "key", f"the candidate's key is {new.spec.key!r}, and not {old.spec.key!r}: name the same column"
        )
    here, there = set(candidate.shape.columns), set(incumbent.shape.columns)
    if here != there:
        more = [f"has {', '.join(sorted(here - there))} besides"] if here - there else []
        less = [f"lacks {', '.join(sorted(there - here))}"] if there - here else []
        what = f"the candidate's source {' and '.join([*less, *more])}: versions are compared on the same columns"
        raise _at(new, "source", what)


def _at(job: Job, key: str, what: str) -> UserMistake:
    """A mistake in a key of a job's job.yaml."""
    return UserMistake(what, file=job.folder / JOB_FILE, line=line_of_key(job.folder, key), key=key)


def own_ladder(folders: Folders) -> list[str] | None:
    """The candidate's ladder, where its job.yaml names another than the incumbent's: then no operator's counts."""
    tiers = [read_spec(each).tiers for each in (folders.candidate, folders.incumbent)]
    return tiers[0] if tiers[0] != tiers[1] else None


def at_origin(mistake: UserMistake, folders: Folders, changes: Changes) -> UserMistake:
    """A mistake in the candidate's copy, told of the file that it is a copy of."""
    file = Path(mistake.file) if mistake.file is not None else None
    if file is None or not file.is_relative_to(folders.candidate):
        return mistake
    name = file.relative_to(folders.candidate)
    if changes.prompt and str(name) == str(read_spec(folders.candidate).prompt):
        there = changes.prompt
    else:
        there = next((s / name.name for s in changes.skills if s.resolve().name in name.parts), folders.origin / name)
    is_rewritten = name == Path(JOB_FILE) and bool(changes.label)
    line = None if is_rewritten else mistake.line
    return UserMistake(mistake.what, file=there, line=line, key=mistake.key, meant=mistake.meant)


def _against_job(folder: Path, origin: Path, changes: Changes, label: str, into: Path) -> Folders:
    candidate, incumbent = write_arm(origin, into / "candidate", changes), write_arm(folder, into / "incumbent")
    return Folders(candidate, incumbent, label, f"{folder.name} as it is", origin, "incumbent")


def _against_last(ledger: Ledger, folder: Path, api: str, candidate: Path, into: Path) -> Folders:
    """The job as it is against the version that passed last; the first one against itself."""
    label = f"{folder.name} as it is"
    with ledger.view() as tx:
        last = read_evals.last_passed(tx, read_spec(folder).job or folder.name, api)
    if last is None:
        incumbent = write_arm(folder, into / "incumbent")
        return Folders(candidate, incumbent, label, "itself: the first version", folder, "candidate", is_first=True)
    before = Path(last.candidate.folder)
    if not (before / JOB_FILE).is_file():
        what = "its copy is not on this machine: name what to compare with, such as --against REVISION"
        raise UserMistake(f"the version that passed in {last.eval_id} is what runs, and {what}", file=before)
    incumbent = write_arm(before, into / "incumbent")
    return Folders(candidate, incumbent, label, f"the version that passed in {last.eval_id}", folder, "candidate")
