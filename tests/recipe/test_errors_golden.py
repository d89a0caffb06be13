"""Every wrong recipe of the list B01–B23 that is wrong on its own: exit code and text, as golden files.

The rest needs hardware (B17, B18, B25), the sizes of data (B19 in part) or another run (B26), and stands with the plan.
"""

import time

import pytest

from launcher.cli.main import main
from tests.recipe.writing import SHORT
from tests.support import golden

DATA = "data: {datasets: [{label: train, path: train.jsonl}]}\n"
HELD = "data:\n  datasets: [{label: train, path: train.jsonl}]\n  eval_datasets: [{label: held_out, from: all, fraction: 0.1}]\n"
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))

CASES: dict[str, str | bytes] = {
    "B01-number-as-text": SHORT + "training: {learning_rate: '1e-5'}\n",
    "B02-duplicate-key": "model: {model_name_or_path: org/name}\ntraining:\n  seed: 1\n  learning_rate: 1e-5\n  seed: 2\n"
    + DATA,
    "B03-typo": SHORT + "training:\n  learnin_rate: 1e-5\n",
    "B03-typo-of-a-section": SHORT + "trainig: {seed: 1}\n",
    "B03-other-tool": "base_model: org/name\nsequence_len: 2048\nlora_r: 16\nadapter: qlora\nwarmup_ratio: 0.1\noutput_dir: out\n"
    + DATA,
    "B03-owned": SHORT + "training: {max_length: 1024, output_dir: out, fsdp: full_shard, bf16: true}\n",
    "B04-yes-and-no": SHORT + "peft: {use_dora: yes, use_rslora: no}\ntraining: {torch_compile: on, tf32: off}\n",
    "B04-true-as-a-key": SHORT + "training:\n  True: 1\n",
    "B05-time-as-minutes": SHORT + "launch: {time_limit: 720}\n",
    "B06-leading-zero": SHORT + "launch:\n  nodes: 010\n",
    "B07-version-as-number": SHORT + "tracking: {project: 1.10}\n",
    "B08-date-as-name": SHORT + "name: 2024-01-31 12:00\n",
    "B09-tab": "model:\n\tmodel_name_or_path: org/name\n" + DATA,
    "B10-nul": (SHORT + "name: a").encode() + b"\x00\n",
    "B10-byte-order-mark": b"\xef\xbb\xbf" + SHORT.encode(),
    "B10-utf-16": SHORT.encode("utf-16"),
    "B10-latin-1": (SHORT + "tracking: {project: café}\n").encode("latin-1"),
    "B11-alias-bomb": BOMB,
    "B11-alias-cycle": SHORT + "tracking: &t {tags: [*t]}\n",
    "B12-depth": SHORT + "tracking: " + "[" * 2000 + "]" * 2000 + "\n",
    "B13-python-tag": SHORT + "name: !!python/object/apply:os.system [id]\n",
    "B14-two-documents": SHORT + "---\n" + SHORT,
    "B15-empty": "",
    "B15-list-at-the-top": "- model: x\n- data: y\n",
    "B15-scalar": "hello\n",
    "B16-out-of-range": SHORT
    + "training: {learning_rate: 1e6, seed: -1, weight_decay: -1, max_steps: 0}\npeft: {r: 0, lora_dropout: 1.5}\n",
    "B16-not-finite": SHORT + "training: {learning_rate: .nan}\n",
    "B19-eval-set-missing": "model: {model_name_or_path: org/name}\n"
    + HELD
    + "evaluation: {eval_steps: 5, generate: [{dataset: heldout}]}\ncheckpoint: {keep_best: eval_faq_loss}\n",
    "B20-path-as-name": SHORT + "name: ../../x\n",
    "B20-absolute-name": SHORT + "name: /etc\n",
    "B20-long-name": SHORT + f"name: {'x' * 300}\n",
    "B20-emoji-name": SHORT + "name: 🙂\n",
    "B20-newline-name": SHORT + 'name: "a\\nb"\n',
    "B20-option-name": SHORT + "name: -rf\n",
    "B20-shell-name": SHORT + "name: $(id)\n",
    "B21-unknown-name": SHORT.replace("train.jsonl", "'${HOME}/train.jsonl'"),
    "B21-name-in-name": SHORT.replace("train.jsonl", "'${da${data}}/train.jsonl'"),
    "B21-outside-paths": SHORT + "tracking: {tags: ['${data}']}\n",
    "B22-cycle": "extends: B22-cycle.yaml\n" + SHORT,
    "B22-missing": "extends: bse.yaml\n" + SHORT,
    "B22-outside": "extends: ../outside.yaml\n" + SHORT,
    "B22-no-such-shipped-base": "extends: launcher:base/qlroa.yaml\n" + SHORT,
    "B23-secret": "# was hf_" + "a1B2" * 8 + "\n" + SHORT + "tracking: {tags: [sk-" + "a1B2c3" * 6 + "]}\n",
    "B24-sweep-too-large": SHORT + "sweep: {trials: 1000000, metric: eval_x_loss, space: {}}\n",
    "B25-time-limit": SHORT + "launch: {time_limit: 12 hours, gpus: 0}\n",
    "C01-quantization-alone": SHORT + "quantization: {load_in_4bit: true}\n",
    "C02-everything-at-once": "task: sftt\nmodel: org/name\npeft: {r: 0, lora_aplha: 8}\n"
    + DATA
    + "launch: {gpus: 2, nodes: 1}\n",
}


@pytest.mark.parametrize("name", CASES)
def test_golden_error(name, tmp_path, monkeypatch, capsys):
    """Exit code 2, file:line, value, hint, and within a second."""
    folder = tmp_path / "repository"
    (folder / ".git").mkdir(parents=True)
    (tmp_path / "outside.yaml").write_text("peft: {}\n")
    text = CASES[name]
    (folder / "base.yaml").write_text("peft: {}\n")
    (folder / f"{name}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(folder)
    start = time.perf_counter()
    code = main(["validate", f"{name}.yaml"])
    seconds = time.perf_counter() - start
    said = capsys.readouterr()
    golden.check(f"recipe/errors/{name}.txt", f"exit {int(code)}\n{said.err.replace(str(folder), 'REPOSITORY')}")
    assert code == 2
    assert said.out == ""
    assert seconds < 1
    assert f"error: {name}.yaml:" in said.err
    assert "Traceback" not in said.err
    for block in said.err.split("error: ")[1:]:
        assert "\nhint:  " in block
