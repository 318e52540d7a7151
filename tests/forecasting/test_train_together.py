from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

PROGRAM = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from forecasting.courses import make_courses
from forecasting.model import ModelShape
from forecasting.train import Plan, join_processes, train_model
from tests.forecasting.cities import drawn_city

torch.set_num_threads(1)
folder = Path(sys.argv[1])
rank, _ = join_processes()
courses = make_courses([drawn_city(days=6, nodes=3, seed=1)])
shape = ModelShape(hidden=16, blocks=2, message=4, hubs=2)
done = train_model(courses, shape, Plan(steps=40, tokens=120), checkpoint=folder / "member.pt")
torch.save({"weights": done.model.state_dict(), "losses": done.losses}, folder / f"{rank}.pt")
if dist.is_initialized():
    dist.destroy_process_group()
"""


def train(folder: Path, *launcher: str) -> None:
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, *launcher, str(program), str(folder)], check=True, timeout=300, capture_output=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_two_processes_train_one_model_on_windows_of_their_own(tmp_path: Path) -> None:
    train(tmp_path / "alone")
    train(tmp_path / "together", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    alone = torch.load(tmp_path / "alone" / "0.pt")
    first, second = (torch.load(tmp_path / "together" / f"{rank}.pt") for rank in (0, 1))
    assert first["losses"] != second["losses"]
    assert first["losses"][0] == alone["losses"][0]
    assert first["losses"] != alone["losses"]
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name])
    assert sorted(p.name for p in (tmp_path / "together").glob("member*")) == ["member.pt"]
