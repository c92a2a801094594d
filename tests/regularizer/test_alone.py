"""The regulariser where torch and numpy alone are installed, and in two processes that train together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys, time

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {others}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

nothing = Nothing()
sys.meta_path.insert(0, nothing)
import torch
start = time.process_time()
import nsbench
from nsbench import NoiseStabilityRegularizer, resample_tokens
from nsbench.integrations import NoiseStabilityMixin
assert time.process_time() - start < 1
assert not [name for name in sys.modules if name.startswith(("torch._inductor", "torch._dynamo.eval"))], sys.modules
assert nsbench.__version__

sys.argv = ["nsbench", "--version"]
from nsbench.cli.__main__ import main
assert main() == 0
sys.argv = ["nsbench", "measure"]
assert main() == 2

# torch itself looks for others.
sys.meta_path.remove(nothing)
torch.set_num_threads(1)
torch.manual_seed(0)
tokens = torch.randint(9, (4, 5))
model = torch.nn.Embedding(9, 9)
same = NoiseStabilityRegularizer(1.0, 0.75, symbols=9)
same(model, tokens).backward()
expected = model.weight.grad.clone()
assert expected.any()
rank = int(os.fork() == 0)
torch.distributed.init_process_group("gloo", init_method="file://{meeting}", rank=rank, world_size=2)
model.zero_grad()
shared = torch.nn.parallel.DistributedDataParallel(model)
mine = tokens[2 * rank : 2 * rank + 2]
same(shared, mine, clean_logits=shared(mine)).backward()
assert torch.allclose(model.weight.grad, expected)
drawn = NoiseStabilityRegularizer(-1.0, 0.75, symbols=1000).resample(tokens)
both = [torch.empty_like(drawn) for _ in range(2)]
torch.distributed.all_gather(both, drawn)
assert not torch.equal(*both)
torch.distributed.destroy_process_group()
if rank:
    os._exit(0)
assert os.wait()[1] == 0
print("done")
"""
OTHERS = {
    *("accelerate", "filelock", "gensim", "gguf", "huggingface_hub", "jinja2", "matplotlib", "mlflow", "numba"),
    *("pandas", "pyarrow", "pydantic", "safetensors", "scipy", "snakemake", "tokenizers", "transformers", "yaml"),
}


def test_the_regulariser_needs_torch_alone_and_ranks_share_a_gradient(tmp_path: Path) -> None:
    script = SCRIPT.format(others=OTHERS, meeting=tmp_path / "meeting")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["nsbench 0.1.0", "done"]
    assert "the extra 'all' of nsbench" in done.stderr
