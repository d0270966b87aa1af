"""`rowtide jobs` lists what stands under jobs/, with the newest run of each; a broken job hides no other."""

from pathlib import Path
from typing import Any

import orjson
from conftest import make_job, run
from outside import rowtide


def test_jobs_are_listed_with_their_newest_run_and_what_is_wrong(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "jobs" / "mine")
    run(job, run_id="r1")
    run(job, run_id="r2")
    (tmp_path / "jobs" / "broken").mkdir()
    (tmp_path / "jobs" / "broken" / "job.yaml").write_text("prompd: x\n")
    (tmp_path / "jobs" / "no job").mkdir()
    done = rowtide("jobs", "--json", folder=tmp_path)
    found = {each["job"]: each for each in orjson.loads(done.out)}
    assert found.keys() == {job.name, "broken"}
    assert found[job.name]["newest_run"]["run_id"] == "r2"
    assert found[job.name]["newest_run"]["rows"] == found[job.name]["newest_run"]["unchanged"] > 0
    assert "job.yaml:1" in found["broken"]["mistake"]
    table = rowtide("jobs", folder=tmp_path)
    assert table.status == 0
    assert "r2" in table.out
    assert "broken: " in table.out


def test_a_folder_without_jobs_is_told_so_and_is_no_failure(tmp_path: Path) -> None:
    done = rowtide("jobs", folder=tmp_path)
    assert done.status == 0
    assert "no jobs here" in done.err
