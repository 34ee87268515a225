"""Bad input: one line that names the knob, the values and the remedy; exit status 2; nothing half-made.

Most cases run train.py in this process; some, in processes of their own.
"""

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tiny_runs import TINY, Done, tiny, train

from gptlab.compose import errors_in_one_line
from gptlab.config.menu import list_choices
from gptlab.runs import checkpoint, record

NO_KEY = "model.zzz: no such key; known: batch_size, context, head, heads, layers, loop_order, loops, lr, width"
ROOT = Path(__file__).parents[2]
TRAIN = str(ROOT / "train.py")


def environment(**more: str) -> dict[str, str]:
    """That of these tests, without what W&B and Hydra would read in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "HYDRA"))}
    return {**kept, "OMP_NUM_THREADS": "1", "HOME": "/nonexistent", **more}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """python train.py <overrides> in an empty folder, in this process."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*overrides: str, **variables: str) -> Done:
        with mock.patch.dict(os.environ, environment(**variables), clear=True):
            return train(*overrides)

    return run


def real(folder: Path, *overrides: str, **variables: str) -> Done:
    """python train.py <overrides> in an empty folder, in a process of its own."""
    (folder / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", TRAIN, *overrides],
        cwd=folder / "here",
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def assert_refused(done: Done, wanted: str, folder: Path) -> None:
    """One line on stderr, nothing on stdout, nothing in the folder."""
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1, done.err
    line = done.err.removeprefix("error: ").rstrip("\n")
    assert line.startswith(wanted[:-3]) if wanted.endswith("...") else line == wanted
    assert not list((folder / "here").iterdir())


CHOICES = ", ".join(list_choices("attention"))

REAL = [
    ("attention=foo", f"attention=foo: no such option; choose from {CHOICES}"),
    ("+model.zzz=3", NO_KEY),
    ("steps", "'steps' is not an override; write key=value"),
    ("attention.kv_heads=3", "attention.kv_heads=3 does not divide model.heads=4; try 1, 2 or 4"),
]
"""Overrides, and the line; one that ends in ... goes on."""

KEYS = [
    ("attn=gqa", "attn: no such key; did you mean attention?"),
    ("format=mxint8", "format: nothing here takes it by itself; python -m gptlab explain format says what it is"),
    ("model.widht=3", "model.widht: no such key; did you mean model.width?"),
    ("attention=mha,gqa", "attention=mha,gqa: several values make a sweep; add -m"),
    ("steps=four", "steps='four' is not an int"),
    (
        "attention=local_global attention.kinds.local.window=0",
        "attention.kinds.local.window=0 sees nothing; give a number of keys > 0, or null for all of them",
    ),
    ("data=text", "data.path=null names no file; data=text needs data.path=<a UTF-8 text file, folder or glob>"),
    ("attention._target_=os.system", "attention._target_=os.system lies outside gptlab., torch.nn., torch.optim."),
    ("output=xml", "output=xml is not one of json, text"),
    (
        "data=stream data.path=a/b tokenizer=char",
        "tokenizer=char learns from the whole text, which data=stream has not read; say tokenizer=gpt2 or ...",
    ),
    ("tokenizer=symbols", "tokenizer=symbols is of synthetic tasks, and data=shakespeare is text; say tokenizer=byte"),
    (
        "model.zzz=3",
        NO_KEY,
    ),
    (
        "model.zzz.bar=3",
        NO_KEY,
    ),
    (
        "++model.zzz=3",
        NO_KEY,
    ),
    (
        "+model.zzz.bar=3",
        NO_KEY,
    ),
    (
        "+attention.foo=1",
        "attention.foo: no such key; known: bias, dropout, exclusive, forget_gate, gate, ...",
    ),
    ("++attention.kv_head=1", "attention.kv_head: no such key; did you mean attention.kv_heads?"),
    ("+foo=1", "foo: no such key; known: accumulate, attention, ..."),
    ("++foo=1", "foo: no such key; known: accumulate, attention, ..."),
    ("optimiser=adamw", "optimiser: no such key; did you mean optimizer?"),
    (
        "attention=local_global attention.kinds.local.wind=3",
        "attention.kinds.local.wind: no such key; did you mean attention.kinds.local.window?",
    ),
    (
        "attention=local_global +attention.kinds.foo=3",
        "attention.kinds.foo: no such key; known: full, local",
    ),
    ("+attention.kv_heads=2", "attention.kv_heads is there already; leave out the +"),
    ("+model=mini", "model is there already; leave out the +"),
    ("~foo", "foo: no such key; known: accumulate, attention, ..."),
    ("~steps", "steps: no value given"),
    ("~model.width", "model.width: no value given"),
    ("~attention.kv_heads", "attention.kv_heads: no value given"),
    ("~attention", "attention=null is not a choice; run with --help to see the choices"),
    ("attention=null", f"attention=null: no such option; choose from {CHOICES}"),
    ("attention=3", f"attention=3: no such option; choose from {CHOICES}"),
    (
        "metric=[foo]",
        "metric=foo: no such option; choose from answer_accuracy, answer_bits, bits_per_byte, ...",
    ),
    ("experiment=foo", "experiment=foo: no such option; choose from attention_study, gpt2..."),
    ("seed=1,2", "seed=1,2: several values make a sweep; add -m"),
    ("'model.width=[1'", "model.width=[1 cannot be read; if the value is a text, quote it for hydra too: ..."),
    ("sample.prompt=é", "sample.prompt=é cannot be read; if the value is a text, quote it for hydra too: ..."),
    ("model.width=???", "model.width: no value given; say model.width=<value>"),
    ("'model.width=${foo}'", "model.width: Interpolation key 'foo' not found; give a value"),
    ("'model.width=${model.width}'", "model.width: ..."),
]

TYPES = [
    ("seed=1.5", "seed=1.5 is not an int"),
    ("steps=null", "steps=null is not an int"),
    ("steps=99999999999999999999", "steps=99999999999999999999 is not an int below 2^63"),
    ("tokenizer=bpe tokenizer.vocab_size=-9223372036854775808", "tokenizer.vocab_size=-9223372036854775808 is not ..."),
    ("bias=2", "bias=2 is not true or false"),
    ("compile=maybe", "compile='maybe' is not one of auto, on, off"),
    ("model.width=four", "model.width='four' is not an int"),
    ("attention=gqa model.heads=four", "model.heads='four' is not an int"),
    ("attention=swa model.context=1.5", "model.context=1.5 is not an int"),
    ("model.lr=x", "model.lr='x' is not a number"),
    ("sample.top_k=x", "sample.top_k='x' is not an int or null"),
    ("tracking.mode=bogus", "tracking.mode='bogus' is not one of offline, online, auto, disabled"),
    ("tracking.tags=x", "tracking.tags='x' is not a list of strings"),
    ("attention.kv_heads=two", "attention.kv_heads='two' is not an int or null"),
    ("attention.qk_norm=1", "attention.qk_norm=1 is not true or false or one of whole"),
    (
        "attention=local_global attention.kinds.local.window=x",
        "attention.kinds.local.window='x' is not an int or null",
    ),
    ("attention=local_global attention.layout=local", "attention.layout='local' is not a list of strings"),
    ("optimizer.lr=abc", "optimizer.lr='abc' is not a number"),
    ("optimizer.betas=[0.9]", "optimizer.betas=[0.9] is not a ..."),
    ("schedule.warmup=x", "schedule.warmup='x' is not a number"),
    ("clip=nan", "clip=nan is not a finite number or null"),
    ("max_minutes=inf", "max_minutes=inf is not a finite number or null"),
    ("sample.temperature=nan", "sample.temperature=nan is not a finite number"),
    ("model.lr=-inf", "model.lr=-inf is not a finite number"),
    ("norm.eps=1e999", "norm.eps=inf is not a finite number"),
    ("trainer.accelerator=tpu", "trainer.accelerator='tpu' is not one of auto, cpu, gpu"),
    ("trainer.precision=16-mixed", "trainer.precision='16-mixed' is not one of auto, 32-true, tf32, bf16-mixed"),
    ("schedule=wsd schedule.shape=x", "schedule.shape='x' is not one of linear, one_minus_sqrt"),
    ("data.plays=some", "data.plays='some' is not one of tiny, all"),
]

RANGES = [
    ("steps=0", "steps=0 is not positive; give a number > 0"),
    ("clip=-1", "clip=-1 is not positive; give a number > 0"),
    ("max_minutes=0", "max_minutes=0 is not positive; give a number > 0"),
    ("dropout=1.0", "dropout=1.0 is not in [0, 1); 0 drops nothing"),
    ("model.layers=0", "model.layers=0 is not positive; give a number > 0"),
    ("model.context=-1", "model.context=-1 is not positive; give a number > 0"),
    ("evaluation.tokens=0", "evaluation.tokens=0 is not positive; give a number > 0"),
    ("sample.top_p=2", "sample.top_p=2 is not in (0, 1]; null draws from all tokens"),
    ("sample.temperature=-1", "sample.temperature=-1 is negative; 0 takes the likeliest token"),
    ("sample.count=-1", "sample.count=-1 is negative; 0 draws no samples"),
    ("sample.count=1000001", "sample.count=1000001 is more than 1,000,000; `python -m gptlab sample` writes more ..."),
    ("model.layers=2001", "model.layers=2001 x model.loops=1 is more than 2,000 layers; give fewer"),
    ("sample.length=10000001", "sample.length=10000001 is more than 10,000,000; `python -m gptlab sample` writes ..."),
    ("tokenizer=bpe tokenizer.vocab_size=4194305", "tokenizer.vocab_size=4194305 is more than 4,194,304; try 1024"),
    ("accumulate=5", "accumulate=5 does not divide batch_size=12; try 1..."),
    ("model.width=65", "model.heads=4 does not divide model.width=65; try 1..."),
    ("model.heads=3", "model.heads=3 does not divide model.width=128; try 1..."),
    ("model.head=7", "position.fraction=1.0 turns 7 of the 7 features of a head, which is not an even number; ..."),
    ("position.scaling=ntk position.factor=2 model.head=2", "position.scaling=ntk slows no pair down ..."),
    ("position.fraction=2", "position.fraction=2 is not in (0, 1]; 1 turns the whole head"),
    ("position.theta=0", "position.theta=0 is not positive; try 10000"),
    ("attention.kv_heads=0", "attention.kv_heads=0 does not divide model.heads=4; try 1, 2 or 4"),
    ("attention=gqa model.heads=8 attention.kv_heads=3", "attention.kv_heads=3 does not divide model.heads=8; ..."),
    ("attention=swa attention.window=-5", "attention.window=-5 sees nothing; give a number of keys > 0, ..."),
    ("attention.dropout=2", "attention.dropout=2 is not in [0, 1); 0 drops nothing"),
    ("residual.dropout=1", "residual.dropout=1 is not in [0, 1); 0 drops nothing"),
    ("attention.scale=0", "attention.scale=0 is not positive; null is 1 / sqrt(head width)"),
    ("attention=local_global attention.layout=[]", "attention.layout=[] may hold only the names in kinds: local, full"),
    ("attention=local_global attention.layout=[a]", "attention.layout=['a'] may hold only the names in kinds: ..."),
    ("attention.softcap=0", "attention.softcap=0 is not positive; null caps nothing"),
    ("attention.share_with=1", "attention.share_with=1 leads from layer 0 to none above; tile readers with owners ..."),
    (
        "attention=shared attention.kinds.reader.kv_heads=1",
        "attention: share_with=1: layer 1 cannot read layer 0; make kv_heads and window the same",
    ),
    (
        "attention=shared attention.kinds.own.window=9",
        "attention: share_with=1: layer 1 cannot read layer 0; make kv_heads and window the same",
    ),
    (
        "attention=shared attention.kinds.reader.value_residual=true",
        "attention.kinds.reader.share_with=1 reads values as they are; say value_residual=false here",
    ),
    (
        "attention=hybrid attention.kinds.full.value_residual=true",
        "attention: value_residual=true: layer 3 finds no values of its kind in layer 0; set it in both, ...",
    ),
    ("attention=mla attention.rank=0", "attention.rank=0 is not positive; null fits the heads"),
    ("attention=mla attention.rope_head=0", "attention.rope_head=0 is not positive; null is half the head width"),
    (
        "attention=mla attention.rope_head=5",
        "attention: rope_head=5 cannot be turned: fraction=1.0 turns 5 of the 5 features of a head, ...",
    ),
    (
        "attention=differential model.heads=1",
        "model.heads=1 is odd, but differential attention pairs heads; make it even",
    ),
    ("attention=linear attention.decay=2", "attention.decay=2 is not in (0, 1]; 1 forgets nothing, null gives ..."),
    ("attention=linear attention.chunk=0", "attention.chunk=0 is not positive; 1 goes token by token"),
    (
        "attention=linear position=alibi",
        "position (Alibi) works by bias, which attention (LinearAttention) cannot honour; try position=rope or nope",
    ),
    ("mlp=moe mlp.top_k=5", "mlp.top_k=5 is not in 1 .. experts=4; try 2"),
    (
        "mlp=moe mlp.top_k=1",
        "mlp.top_k=1 with normalize=true weighs by 1 whatever the router says; say normalize=false",
    ),
    ("mlp=moe mlp.experts=0", "mlp.experts=0 is not positive; 1 is the dense MLP"),
    ("mlp=moe mlp.balance=-1", "mlp.balance=-1 is negative; 0 turns it off"),
    ("mlp=moe mlp.expert.hidden=0", "mlp.expert.hidden=0 is not positive; null fits model.width=128"),
    ("residual=hyper residual.streams=0", "residual.streams=0 is not positive; 1 is the pre-norm residual ..."),
    ("position=rope_local_global position.theta=[1,0]", "position.theta=[1, 0] is not positive; try 10000"),
    ("position=learned_concat position.features=0", "position.features=0 holds no position; give 1 or more, or ..."),
    ("mlp.hidden=0", "mlp.hidden=0 is not positive; null fits model.width=128"),
    ("norm.eps=0", "norm.eps=0 is not positive; ..."),
    ("readout.softcap=-1", "readout.softcap=-1 is not positive; null caps nothing"),
    ("init.base=0", "init.base=0 is not a width; try 768"),
    ("init=torch init.embedding_std=0", "init.embedding_std=0 is not positive; try 0.02, or null"),
    (
        "parametrization=mup optimizer=soap",
        "parametrization=mup does not go with optimizer=soap, whose steps have no rule over width; "
        "say parametrization=standard, or optimizer=adamw",
    ),
    ("optimizer=muon optimizer.adam_lr=-1", "optimizer.adam_lr=-1 is negative; null is lr=0.0075"),
    ("init.std=0", "init.std=0 is not positive; try 0.02"),
    ("schedule.warmup=2", "schedule.warmup=2 is not a part of the run in [0, 1)"),
    ("schedule.floor=-1", "schedule.floor=-1 is not a part of the peak in [0, 1]"),
    ("optimizer.lr=-1", "optimizer.lr=-1 is negative; try 1e-3"),
    ("optimizer.betas=[0.9,2]", "optimizer.betas=[0.9, 2] are not both in [0, 1); try [0.9, 0.99]"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1 is negative; 0 turns it off"),
    ("data.validation=0", "data.validation=0 is not between 0 and 1; try 0.1"),
    ("optimizer=muon optimizer.momentum=1", "optimizer.momentum=1 is not in [0, 1); 0 remembers nothing"),
    ("optimizer=muon optimizer.steps=0", "optimizer.steps=0 of Newton and Schulz are not in 1 .. 20; try 5"),
    ("optimizer=muon optimizer.eps=0", "optimizer.eps=0 is not positive; try 1e-8"),
    ("optimizer=lion optimizer.betas=[1,0]", "optimizer.betas=[1, 0] are not both in [0, 1); try [0.9, 0.99]"),
    ("optimizer=sgd optimizer.momentum=0", "optimizer.nesterov=true looks ahead along a momentum and momentum=0; ..."),
    (
        "schedule=wsd schedule.decay=0.99",
        "schedule.decay=0.99 is not in (0, 0.95], which warmup=0.05 leaves of the run",
    ),
    ("schedule=wsd schedule.floor=2", "schedule.floor=2 is not a part of the peak in [0, 1]"),
    ("schedule=inverse_sqrt schedule.timescale=0", "schedule.timescale=0 is not positive; null takes warmup=0.05"),
    (
        "schedule=inverse_sqrt schedule.warmup=0",
        "schedule.timescale=null takes warmup, and warmup=0.0 has no length; ...",
    ),
    ("vocab_multiple=0", "vocab_multiple=0 is not positive; give a number > 0"),
    ("trainer.devices=2", "trainer.devices=2 x nodes=1 make more than one process; use trainer=ddp"),
    ("trainer.devices=0", "trainer.devices=0: this machine has ..."),
    ("trainer=ddp trainer.devices=9999", "trainer.devices=9999: this machine has ..."),
    ("trainer=ddp trainer.nodes=0", "trainer.nodes=0 is not positive; try 1"),
    ("trainer=ddp trainer.nodes=2", "trainer.nodes=2: a launcher must start the processes: torchrun or srun, ..."),
    (
        "trainer=fsdp trainer.accelerator=cpu",
        "trainer.strategy=fsdp shares weights among GPUs only; use trainer=ddp ...",
    ),
    ("trainer=cpu trainer.precision=tf32", "trainer.precision=tf32 is a thing of GPUs; use precision=32-true on CPUs"),
    (
        "trainer=ddp trainer.devices=2 batch_size=9",
        "batch_size=9 does not divide among 2 processes x accumulate=1; try batch_size=10",
    ),
    (
        "trainer=ddp trainer.devices=2 accumulate=4",
        "batch_size=12 does not divide among 2 processes x accumulate=4; try batch_size=16",
    ),
]

STRANGERS = [
    ("attention._target_=3", "attention._target_=3 lies outside gptlab., torch.nn., torch.optim."),
    ("attention._target_=gptlab.nothing.Foo", "attention._target_=gptlab.nothing.Foo cannot be imported: ..."),
    (
        "attention._target_=gptlab.model.decoder.Foo",
        "attention._target_=gptlab.model.decoder.Foo cannot be imported: ...",
    ),
    ("attention._target_=gptlab.compose.CONF", "attention._target_=gptlab.compose.CONF is no class or function"),
    (
        "attention._target_=gptlab.compose.hydra_compose",
        "attention._target_=gptlab.compose.hydra_compose is hydra.compose.hydra_compose, which lies outside ...",
    ),
    (
        "attention._target_=torch.nn.Linear",
        "attention._target_=torch.nn.Linear is no Attention; take one of gptlab.model.attention",
    ),
    (
        "attention=local_global attention.kinds.local._target_=gptlab.model.mlp.plain.PlainMlp",
        "attention.kinds.local._target_=gptlab.model.mlp.plain.PlainMlp is no Attention; "
        "take one of gptlab.model.attention",
    ),
    ("attention._partial_=false", "attention._partial_=false must be true: the sizes come later"),
]

TEXTS = [
    (
        "data=text data.path=/none",
        "data.path=/none does not exist; give a UTF-8 text file, a folder of them, or a glob",
    ),
    (
        "data=text data.path={texts}",
        "data.path={texts} holds {texts}/latin, which is not UTF-8: byte 0xe9 at offset 3 ...",
    ),
    ("data=text 'data.path={texts}/*.md'", "data.path={texts}/*.md holds no file; give a UTF-8 text file, a ..."),
    ("data=text data.path={texts}/empty", "data.path={texts}/empty is empty; give a UTF-8 text file, a folder of ..."),
    ("data=text data.path={texts}/latin", "data.path={texts}/latin is not UTF-8: byte 0xe9 at offset 3 of 5; ..."),
    (
        "data=text data.path={texts}/short",
        "model.context=64 is longer than the training split of 24 tokens; try model.context=12 or give more data",
    ),
    (
        "data=text data.path={texts}/short model.context=8",
        "model.context=8 is longer than the validation split of 3 tokens; try model.context=1 or give more data",
    ),
    ("data=tinyshakespeare data.path={texts}/short", "data.path={texts}/short has the sha256 a57dfce5264a8594..., ..."),
    (
        "data=text data.path={texts}/short model.context=1 'sample.prompt=\"to é\"'",
        "sample.prompt='to é': tokenizer=char has never seen '\\xe9' (U+00E9) at character 3 of 4; leave it out or ...",
    ),
    ("data=text data.path={texts}/short model.context=1 sample.prompt=''", "sample.prompt is empty; give a text ..."),
    (
        "data=text data.path={texts}/short model.context=1 tokenizer=bpe",
        "tokenizer.vocab_size=1024 is more than this text gives: no pair is left to join after 259; try 259 ...",
    ),
    (
        "tokenizer=bpe tokenizer.vocab_size=9",
        "tokenizer.vocab_size=9 is less than the 256 bytes, which come first; ...",
    ),
    ("tokenizer=bpe tokenizer.train_mb=0", "tokenizer.train_mb=0 leaves nothing to learn from; try 30"),
    ("data=shards", "data.path=null names no file; data=shards needs data.path=<a folder or glob of .bin files>"),
    ("data=shards data.path={texts}", "data.path={texts} holds no .bin file; give a folder, a glob or a file of ..."),
    ("data=shards data.path={texts}/short", "data.path={texts}/short has no file named val or validation; ..."),
    (
        "data=shards data.path={texts}/short data.validation=0.1",
        "tokenizer learns from a text, and the data are tokens already; take the tokenizer that made them, ...",
    ),
    (
        "data=shards data.path={texts}/short data.validation=0.1 tokenizer=byte",
        "data.path: {texts}/short has 27 bytes, which is no multiple of 2, so it holds no tokens ...",
    ),
    (
        "data=huggingface",
        "data.path=null names nothing to read; data=huggingface needs data.path=<a .parquet or .jsonl file, ...",
    ),
    (
        "data=huggingface data.path={texts}/none",
        "data.path={texts}/none does not exist; give a .parquet or .jsonl file, ...",
    ),
    ("resume={texts}", "resume={texts} is no run folder: ..."),
    ("resume={texts}/none", "resume={texts}/none is no run folder: ..."),
    (
        "outputs={texts}/short",
        "outputs={texts}/short cannot be written: {texts}/short is read-only ...",
    ),
]

OTHERS = KEYS + TYPES + RANGES + STRANGERS + TEXTS


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of bad texts."""
    (tmp_path / "texts").mkdir()
    for name, content in (("empty", b""), ("latin", b"caf\xe9\n"), ("short", b"to be or not to be, that is")):
        (tmp_path / "texts" / name).write_bytes(content)
    return tmp_path / "texts"


@pytest.mark.parametrize(("overrides", "wanted"), REAL, ids=[given for given, _ in REAL])
def test_bad_input_is_refused_in_one_line(overrides: str, wanted: str, tmp_path: Path):
    assert_refused(real(tmp_path, *shlex.split(overrides)), wanted, tmp_path)


@pytest.mark.parametrize(("overrides", "wanted"), OTHERS, ids=[given for given, _ in OTHERS])
def test_and_so_is_all_other_bad_input(overrides: str, wanted: str, asked: Any, texts: Path, tmp_path: Path):
    given, line = (one.replace("{texts}", str(texts)) for one in (overrides, wanted))
    assert_refused(asked(*shlex.split(given)), line, tmp_path)


def test_several_bad_values_are_told_together(asked: Any):
    done = asked("steps=0", "model.width=-1")
    assert done.status == 2
    assert [line.split(" ")[1] for line in done.err.splitlines()] == ["steps=0", "model.width=-1"]


def test_a_gpu_that_is_not_there_is_refused(asked: Any, tmp_path: Path):
    wanted = "trainer.accelerator=gpu: torch sees no GPU here; use trainer=cpu or trainer=auto"
    assert_refused(asked("trainer=gpu", CUDA_VISIBLE_DEVICES=""), wanted, tmp_path)


@pytest.mark.parametrize("trainer", ["trainer=fsdp", "trainer=ddp trainer.accelerator=gpu trainer.devices=8"])
def test_gpus_that_are_not_there_are_refused(trainer: str, asked: Any, tmp_path: Path):
    wanted = "trainer.accelerator=gpu: torch sees no GPU here; use trainer=cpu or trainer=auto"
    assert_refused(asked(*trainer.split(), CUDA_VISIBLE_DEVICES=""), wanted, tmp_path)


def test_as_many_processes_as_a_launcher_started_or_none(asked: Any, tmp_path: Path):
    wanted = "trainer.devices=1 x nodes=1 is not WORLD_SIZE=4, which the launcher started"
    assert_refused(asked("trainer=ddp", WORLD_SIZE="4"), wanted, tmp_path)


def test_compiling_without_a_compiler_is_refused(asked: Any, tmp_path: Path):
    wanted = "compile=on needs the C++ compiler g+++, which is not here; install it or use compile=off"
    done = asked("compile=on", "trainer=cpu", "tracking=disabled", CXX="g+++")
    assert_refused(done, wanted, tmp_path)


def test_online_without_a_key_is_refused(asked: Any, tmp_path: Path):
    assert_refused(
        asked("tracking=online"), "tracking=online needs an API key of 40 characters and there is none; ...", tmp_path
    )


def test_a_wrong_mode_of_the_environment_is_refused(asked: Any, tmp_path: Path):
    wanted = "WANDB_MODE=bogus: no such way of tracking; set it to one of auto, disabled, offline, online"
    assert_refused(asked(WANDB_MODE="bogus"), wanted, tmp_path)


@pytest.mark.thorough
def test_the_whole_traceback_shows_if_asked(tmp_path: Path):
    done = real(tmp_path, "attention.kv_heads=3", HYDRA_FULL_ERROR="1")
    assert done.status == 1
    assert "Traceback" in done.err
    assert "kv_heads=3 does not divide model.heads=4" in done.err


@pytest.mark.thorough
def test_a_program_that_ours_starts_is_not_asked_for_its_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with errors_in_one_line():
        done = subprocess.run([sys.executable, TRAIN, "attention.kv_heads=3"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "HYDRA_FULL_ERROR" not in os.environ


# -- outputs that cannot be written


def in_small_disk(options: str, before: str, folder: Path, *overrides: str) -> Done:
    """python train.py <overrides> where ./disk is a file system of its own, which ends with it."""
    (folder / "disk").mkdir()
    train = shlex.join([sys.executable, "-W", "error", TRAIN, "outputs=disk", *overrides])
    mounted = f"mount -t tmpfs -o {options} none disk && {before}"
    done = alone(f"{mounted} && {{ {train}; status=$?; ls -A disk >&2; exit $status; }}", folder)
    return Done(done.returncode, done.stdout, done.stderr)


def alone(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A shell script whose mounts are its own."""
    command = ["unshare", "-rm", "sh", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=180)


def can_mount() -> bool:
    """True where a user may have a mount of his own."""
    try:
        return alone("mount -t tmpfs none /mnt", ROOT).returncode == 0
    except FileNotFoundError:
        return False


needs_mount = pytest.mark.skipif(not can_mount(), reason="unshare -rm and mount are not permitted here")


@needs_mount
@pytest.mark.parametrize(
    ("options", "before", "wanted"),
    [
        ("size=32m", "mount -o remount,ro disk", "outputs=disk cannot be written: ..."),
        pytest.param(
            *("size=1m", "true", "outputs=disk has 1.0 MB free and this run may write 8.1 MB; free some, or set ..."),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(options: str, before: str, wanted: str, tmp_path: Path):
    (tmp_path / "text").write_text("to be or not to be " * 99)
    overrides = [one for one in TINY if one != "tracking=disabled"]
    done = in_small_disk(options, before, tmp_path, *overrides, f"data.path={tmp_path}/text")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {wanted[:-3]}")
    assert done.err.count("\n") == 1, done.err  # and nothing in the disk


@needs_mount
@pytest.mark.slow
def test_a_disk_that_fills_up_amid_a_run_ends_it_in_one_line_and_it_goes_on(tmp_path: Path):
    (tmp_path / "text").write_text("to be or not to be " * 99)
    (tmp_path / "disk").mkdir()
    overrides = [*TINY, "outputs=disk", "tracking=offline", "steps=4000", f"data.path={tmp_path}/text"]
    train = shlex.join([sys.executable, "-W", "error", TRAIN])
    script = f"""
        mount -t tmpfs -o size=12m none disk
        {train} {shlex.join(overrides)} >out 2>err &
        until [ -e disk/runs/*/checkpoints/previous.ckpt ]; do sleep 0.1; done
        dd if=/dev/zero of=disk/filling 2>/dev/null
        wait $!; echo $?
        rm disk/filling
        {train} resume=$(tail -n 1 out) >/dev/null; echo $?
        cat disk/runs/*/summary.json
    """
    done = alone(script, tmp_path)
    full, resumed, *summary = done.stdout.splitlines()
    assert (full, resumed) == ("1", "0"), done.stderr
    error = (tmp_path / "err").read_text()
    assert error.startswith("error: the disk is full; free some, then go on with: python train.py resume=disk/runs/")
    assert error.count("\n") == 1, error
    assert json.loads("".join(summary))["status"] == "finished"


@pytest.mark.parametrize(
    "at", [(record, "append_line", 5), (record, "write_atomically", 3), (checkpoint, "write_checkpoint", 2)]
)
def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on(at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module, name, last = at
    true, calls = getattr(module, name), []

    def full(*args: Any, **more: Any) -> Any:
        calls.append(args)
        if len(calls) > last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return true(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, full)
        done = train(*tiny(tmp_path))
    assert done.status == 1
    assert done.err == f"error: the disk is full; free some, then go on with: python train.py resume={done.folder}\n"
    assert train(f"resume={done.folder}").status == 0
