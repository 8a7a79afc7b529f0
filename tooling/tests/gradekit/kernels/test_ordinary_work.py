"""What honest labs do still works inside: compiled code, threads, workers, figures, models."""

from collections.abc import Iterator

import pytest
from gradekit.kernels import ForkServer
from gradekit.kernels.preload import KNOWN
from run_cells import run_cells

WORK = {
    "numba jit with a cache": (
        "import numba\n@numba.njit(cache=True)\ndef f(x): return x + 1\nprint(f(41))",
        "42\n",
    ),
    "numba parallel": (
        "import numba, numpy as np\n@numba.njit(parallel=True)\ndef f(x):\n    s = 0.0\n"
        "    for i in numba.prange(x.size): s += x[i]\n    return s\nprint(f(np.ones(1000)))",
        "1000.0\n",
    ),
    "numba's CUDA simulator": (
        "from numba import cuda\nimport numpy as np\n@cuda.jit\ndef k(a):\n    i = cuda.grid(1)\n"
        "    if i < a.size: a[i] += 1\na = np.zeros(8); k[2, 4](a); print(a.sum())",
        "8.0\n",
    ),
    "torch training with threads": (
        "import torch\ntorch.set_num_threads(2)\nm = torch.nn.Linear(64, 1)\no = torch.optim.SGD(m.parameters(), 0.1)\n"
        "for _ in range(3):\n    l = m(torch.randn(256, 64)).square().mean(); o.zero_grad(); l.backward(); o.step()\n"
        "print(l.isfinite().item(), (torch.randn(300, 300) @ torch.randn(300, 300)).shape)",
        "True torch.Size([300, 300])\n",
    ),
    "DataLoader workers": (
        "import torch\nfrom torch.utils.data import DataLoader, TensorDataset\n"
        "d = TensorDataset(torch.ones(64, 4))\n"
        "print(sum(b[0].sum().item() for b in DataLoader(d, batch_size=8, num_workers=2)))",
        "256.0\n",
    ),
    "multiprocessing by fork": (
        "import multiprocessing as mp\nwith mp.get_context('fork').Pool(2) as p: print(p.map(abs, [-1, -2]))",
        "[1, 2]\n",
    ),
    "multiprocessing by spawn, from a helper": (
        "open('helper.py', 'w').write('def g(x): return x + 1')\nimport importlib, multiprocessing as mp\n"
        "importlib.invalidate_caches(); import helper\n"
        "with mp.get_context('spawn').Pool(1) as p: print(p.map(helper.g, [1, 2]))",
        "[2, 3]\n",
    ),
    "shared memory": (
        "from multiprocessing.shared_memory import SharedMemory as S\n"
        "s = S(create=True, size=9); s.close(); s.unlink(); print('ok')",
        "ok\n",
    ),
    "printing from a forked process": (
        "import os, time\nif os.fork() == 0:\n    print('child', flush=True); os._exit(0)\nos.wait(); time.sleep(0.3)",
        "child",
    ),
    "temporary files and programs": (
        "import subprocess, tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n    f.write('x'); f.flush()\n"
        "    print(subprocess.run(['cat', f.name], capture_output=True, text=True).stdout)",
        "x\n",
    ),
    "a shell command": ("!echo hi", "hi"),
    "its own network": (
        "import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(s.getsockname()); print('talks')",
        "talks\n",
    ),
    "a model, saved and loaded": (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from transformers import GPT2Config, GPT2LMHeadModel, logging\n"
        "logging.set_verbosity_error(); logging.disable_progress_bar()\n"
        "m = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64)); m.save_pretrained('m')\n"
        "print(sum(p.numel() for p in GPT2LMHeadModel.from_pretrained('m').parameters()) == m.num_parameters())",
        "True\n",
    ),
    "an adapter": (
        "from peft import LoraConfig, get_peft_model\nimport torch\nb = torch.nn.Sequential(torch.nn.Linear(4, 4))\n"
        "print(get_peft_model(b, LoraConfig(r=2, target_modules=['0'])).get_nb_trainable_parameters()[0])",
        "16\n",
    ),
}


@pytest.fixture(scope="module")
def warm() -> Iterator[ForkServer]:
    modules = tuple(
        dict.fromkeys(
            m for name in ("numpy", "matplotlib", "numba", "torch", "transformers", "peft") for m in KNOWN[name]
        )
    )
    with ForkServer(modules, env={"NUMBA_ENABLE_CUDASIM": "1"}) as running:
        yield running


@pytest.mark.parametrize("name", WORK)
def test_work_is_done(name: str, warm: ForkServer) -> None:
    source, expected = WORK[name]
    ran = run_cells(warm, source)
    assert ran.death is None
    assert expected in ran.texts[0].replace("\r", ""), ran.texts[0]


def test_a_figure_is_shown_without_a_new_font_search(warm: ForkServer) -> None:
    ran = run_cells(warm, "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.title('x'); plt.show()")
    assert "image/png" in ran.outputs[0][-1]["data"]
    assert not [o for o in ran.outputs[0] if o.get("name") == "stderr"]
    assert ran.seconds[0] < 5


def test_cuda_was_never_touched_before_the_fork(warm: ForkServer) -> None:
    ran = run_cells(warm, "import torch; print(torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork())")
    assert ran.texts == ["False False\n"]


def test_a_new_python_finds_labkit_too(server: ForkServer) -> None:
    """A subprocess or a spawned worker imports labkit as the notebook does, and sees nothing else of a checkout."""
    ran = run_cells(
        server,
        "import subprocess, sys\n"
        "program = 'import labkit, os; print(sorted(os.listdir(os.path.dirname(os.path.dirname(labkit.__file__)))))'\n"
        "done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)\n"
        "print(done.stdout, done.stderr)",
    )
    listed = ran.texts[0]
    assert "labkit" in listed, listed
    assert "answers" not in listed
    assert "tests" not in listed
