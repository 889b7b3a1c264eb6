"""Files that try to run code, through the real program: refused by name, nothing executed."""

import io
import os
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.checkpoints.pickles import Call, torch_zip
from tests.cli.program import run

MARK = "EXECUTED"
CODE = f"import os; os.mkdir({MARK!r})"


def name(path: str) -> bytes:
    """The instruction that looks a name up."""
    module, _, last = path.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def value(plain: Any) -> bytes:
    return pickle.dumps(plain, 2)[2:-1]


def call(function: bytes | str, *arguments: Any) -> bytes:
    """Instructions that call a function with values, or with what other instructions leave."""
    function = name(function) if isinstance(function, str) else function
    return function + b"(" + b"".join(a if isinstance(a, bytes) else value(a) for a in arguments) + b"tR"


def mkdir(protocol: int) -> bytes:
    return pickle.dumps({"G_ema": Call(os.mkdir, MARK)}, protocol)


def old_torch(payload: Any) -> bytes:
    """A file of ``torch.save`` before it was a zip."""
    file = io.BytesIO()
    torch.save({"g_ema": payload}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def blob(content: bytes) -> bytes:
    """A storage as NVIDIA's pickles hold it."""
    return pickle.dumps({"G": Call(torch.storage._load_from_bytes, content)}, 4)


class Restored:
    """Its pickle hands a state to a setter that acts."""

    def __getstate__(self) -> Any:
        return {"training": False}

    def __setstate__(self, state: Any) -> None:
        os.mkdir(MARK)


def then(first: bytes) -> bytes:
    """A first step that does nothing bad, and a second that does."""
    return first + b"0" + call("os.mkdir", MARK)


def dotted(module: str, path: str) -> bytes:
    """Look up a name with dots in it, which protocol 4 allows."""
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, path)) + b"\x93"


SYSTEM = f"mkdir {MARK}"
BOMB = Call(os.mkdir, MARK)
OS = call("importlib.import_module", "os")
COMPILED = call("builtins.compile", CODE, "file", "exec")
# Instructions, and the name that the refusal must give: the first that no checkpoint has a use for.
WRITTEN: dict[str, tuple[bytes, str]] = {
    "os.system": (call("os.system", SYSTEM), "os.system"),
    "posix.system": (call("posix.system", SYSTEM), "posix.system"),
    "by INST": (b"(" + value(SYSTEM) + b"ios\nsystem\n", "os.system"),
    "by OBJ": (b"(" + name("os.system") + value(SYSTEM) + b"o", "os.system"),
    "memoised names": (
        b"\x8c\x05mkdir\x94\x8c\x05posix\x9400h\x01h\x00\x93(" + value(MARK) + b"tR",
        "posix.mkdir",
    ),
    "call": (call("subprocess.call", ["mkdir", MARK]), "subprocess.call"),
    "check_output": (call("subprocess.check_output", ["mkdir", MARK]), "subprocess.check_output"),
    "Popen": (then(name("subprocess.Popen")), "subprocess.Popen"),
    "eval": (call("builtins.eval", f"__import__('os').mkdir({MARK!r})"), "builtins.eval"),
    "exec": (call("builtins.exec", CODE), "builtins.exec"),
    "Python 2's eval": (call("__builtin__.eval", f"exec({CODE!r})"), "builtins.eval"),
    "compile": (call("builtins.exec", COMPILED), "builtins.exec"),
    "import and getattr": (
        call(call("builtins.getattr", call("builtins.__import__", "os"), "mkdir"), MARK),
        "builtins.getattr",
    ),
    "__import__": (then(call("builtins.__import__", "os")), "builtins.__import__"),
    "import_module": (then(OS), "importlib.import_module"),
    "map": (call("collections.deque", call("builtins.map", name("os.mkdir"), [MARK])), "collections.deque"),
    "partial": (call(call("functools.partial", name("os.mkdir"), MARK)), "functools.partial"),
    "reduce": (call("functools.reduce", name("os.mkdir"), [MARK, 0o777]), "functools.reduce"),
    "attrgetter": (call(call(call("operator.attrgetter", "mkdir"), OS), MARK), "operator.attrgetter"),
    "methodcaller": (call(call("operator.methodcaller", "mkdir", MARK), OS), "operator.methodcaller"),
    "a function of code": (call(call("types.FunctionType", COMPILED, {})), "types.FunctionType"),
    "runpy": (call("runpy._run_code", COMPILED, {}), "runpy._run_code"),
    "timeit": (call("timeit.timeit", CODE, "pass", name("time.time"), 1), "timeit.timeit"),
    "a pickle in a pickle": (call("pickle.loads", mkdir(4)), "pickle.loads"),
    "a dotted name": (
        call(dotted("pathlib", "Path.mkdir"), call("pathlib.Path", MARK)),
        "pathlib.Path.mkdir",
    ),
    "through an allowed module": (
        call(dotted("torch._utils", "traceback.sys.modules.__getitem__"), "os")
        + b"0"
        + call("os.mkdir", MARK),
        "torch._utils.traceback.sys.modules.__getitem__",
    ),
    "through an allowed class": (
        then(dotted("collections", "OrderedDict.fromkeys")),
        "collections.OrderedDict.fromkeys",
    ),
    "after good data": (value({"G_ema": [1, 2.0, "x"]}) + b"0" + call("os.mkdir", MARK), "os.mkdir"),
    "copyreg": (
        then(call("copyreg._reconstructor", *[name("builtins.object")] * 2, None)),
        "copyreg._reconstructor",
    ),
    "numpy's exec": (call("numpy.testing.runstring", CODE, {}), "numpy.testing.runstring"),
    "numpy.load": (then(name("numpy.load")), "numpy.load"),
    "numpy's builder": (then(name("numpy.f2py.run_main")), "numpy.f2py.run_main"),
    "torch.load": (then(name("torch.load")), "torch.load"),
    "torch.hub": (then(name("torch.hub.load")), "torch.hub.load"),
    "a module of torch": (then(name("torch.nn.Linear")), "torch.nn.Linear"),
}
# Whole files.
FILES: dict[str, tuple[bytes, str]] = {
    **{
        key: ((b"\x80\x02" if "Python 2" in key else b"\x80\x04") + steps + b".", said)
        for key, (steps, said) in WRITTEN.items()
    },
    **{f"protocol {n}": (mkdir(n), "posix.mkdir") for n in range(6)},
    "a state that acts": (pickle.dumps([Restored()]), "Restored"),
    "a storage that is a pickle": (blob(old_torch(BOMB)), "posix.mkdir"),
    "a storage that is a zip": (blob(torch_zip(mkdir(2))), "posix.mkdir"),
    "a storage of new opcodes": (blob(torch_zip(mkdir(5))), "posix.mkdir"),
    "a storage in a storage": (
        blob(old_torch(Call(torch.storage._load_from_bytes, old_torch(BOMB)))),
        "torch.storage._load_from_bytes",
    ),
}


def refused(said: str, *arguments: Any) -> None:
    """Import a file; it must be refused by that name, in one line, and leave nothing behind."""
    before = set(os.listdir())
    outcome = run("import", *arguments, "--out", "out.safetensors")
    assert outcome.code == 2
    assert f"names '{said}" in outcome.err or f".{said}'" in outcome.err, outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert set(os.listdir()) == before


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def acts(content: bytes) -> bool:
    """Whether Python's own pickle runs what is in there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pickle.loads(content)
        except Exception as error:  # what comes after the deed need not work
            print(repr(error))
    if done := os.path.isdir(MARK):
        os.rmdir(MARK)
    return done


@pytest.mark.parametrize("case", FILES)
def test_a_pickle_is_refused_by_name(case: str) -> None:
    content, said = FILES[case]
    assert acts(content), "a file that does nothing shows nothing"
    Path("evil.pkl").write_bytes(content)
    refused(said, "evil.pkl", "--format", "stylegan2-ada")


@pytest.mark.parametrize("case", WRITTEN)
def test_a_torch_file_is_refused_by_name(case: str) -> None:
    content, said = FILES[case]
    Path("evil.pt").write_bytes(torch_zip(content))
    for layout in ("rosinality", "stylegan2-ada", "minegan"):
        refused(said, "evil.pt", "--format", layout)


@pytest.mark.parametrize("layout", ["rosinality", "stylegan2-ada", "minegan", "ssd"])
@pytest.mark.parametrize("kind", ["zip", "old", "bare", "tar", "TorchScript"])
def test_every_container_in_every_format(kind: str, layout: str) -> None:
    bare = mkdir(2)
    file = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for member in ("storages", "tensors", "pickle"):
                content = bare if member == "pickle" else pickle.dumps(0, 2)
                header = tarfile.TarInfo(member)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    elif kind == "TorchScript":
        file.write(torch_zip(bare))
        with zipfile.ZipFile(file, "a") as script:
            folder = script.namelist()[0].partition("/")[0]
            script.writestr(f"{folder}/constants.pkl", bare)
    contents = {"zip": torch_zip(bare), "old": old_torch(BOMB), "bare": bare}
    Path("evil.pt").write_bytes(contents.get(kind, file.getvalue()))
    refused("posix.mkdir", "evil.pt", "--format", layout)


@pytest.mark.parametrize("layout", ["rosinality", "stylegan2-ada", "minegan", "ssd"])
def test_what_lightning_would_instantiate_is_refused(layout: str) -> None:
    hyper = {"_instantiator": "os.mkdir", "path": MARK, "_class_path": "os.mkdir"}
    torch.save({"state_dict": {}, "hyper_parameters": hyper}, "evil.ckpt")
    refused("os.mkdir (as _instantiator)", "evil.ckpt", "--format", layout)


def test_states_for_what_takes_none() -> None:
    # Python's own unpickler would set an attribute of a function of torch, for the whole process.
    steps = name("torch._utils._rebuild_parameter") + value({"__defaults__": (1,)}) + b"b."
    Path("evil.pkl").write_bytes(b"\x80\x04" + steps)
    refused("a state for a Known", "evil.pkl", "--format", "stylegan2-ada")
    assert torch._utils._rebuild_parameter.__defaults__ is None


@pytest.mark.parametrize("layout", ["stylegan2-ada", "rosinality", "minegan", "ssd"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 8)), min_size=1, max_size=4
    )
)
def test_damage_of_any_kind_is_one_line(layout: str, changes: list[tuple[float, bytes, int]]) -> None:
    file = io.BytesIO()
    torch.save({"miner": {"transform.0.weight": torch.zeros(2, 2)}, "n": 1}, file)
    pickled = pickle.dumps({"G": {"b4.conv.weight": torch.zeros(2, 3, 3, 3)}, "D": [b"x", 1.0, None]})
    content = pickled if layout == "stylegan2-ada" else file.getvalue()
    for place, inserted, removed in changes:
        start = int(place * len(content))
        content = content[:start] + inserted + content[start + removed :]
    Path("torn.pkl").write_bytes(content)
    outcome = run("import", "torn.pkl", "--format", layout, "--out", "out.safetensors")
    assert outcome.code == 2
    assert len(outcome.err.strip().splitlines()) == 1
    assert outcome.err.isascii()


def test_names_cannot_write_to_the_terminal() -> None:
    content = b"\x80\x04\x8c\x02os\x8c\x0b\x1b[31mred\r\n!\x93."
    Path("evil.pkl").write_bytes(content)
    refused("os.\\x1b[31mred\\r\\n!", "evil.pkl", "--format", "stylegan2-ada")


def test_extension_codes_are_names_too() -> None:
    import copyreg

    copyreg.add_extension("os", "mkdir", 77)
    try:
        content = b"\x80\x04\x82M(" + value(MARK) + b"tR."
        assert acts(content)
        Path("evil.pkl").write_bytes(content)
        refused("extension code 77", "evil.pkl", "--format", "stylegan2-ada")
    finally:
        copyreg.remove_extension("os", "mkdir", 77)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04]r\xff\xff\xff\xff.",  # the memo's last place: 32 GiB in the C unpickler
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fx.",  # a bytearray of 8 EiB
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        b"\x80\x04" + b"(" * 10_000 + b".",
        b"\x80\x04" + b"\x85" * 3 + b".",
        b"\x80\x04Nb.",
        b"\x80\x04NR.",
        b"",
        b"\x80\x04",
        b"\xff" * 64,
        pickle.dumps({"G_ema": {"weight": float("nan")}}),
        pickle.dumps(["G_ema"]),
    ],
)
def test_streams_that_only_do_damage(content: bytes) -> None:
    Path("torn.pkl").write_bytes(content)
    for layout in ("stylegan2-ada", "rosinality", "minegan", "ssd"):
        outcome = run("import", "torn.pkl", "--format", layout, "--out", "out.safetensors")
        assert outcome.code == 2
        assert len(outcome.err.strip().splitlines()) == 1
        assert os.listdir() == ["torn.pkl"]


def storage(count: int) -> Any:
    return torch.zeros(count).storage()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (4, (1,), (1,)),
        (0, (4,), (2,)),
        (-1, (1,), (1,)),
        (0, (1 << 40,), (0,)),
        (0, (2, 2), (1,)),
    ],
)
def test_tensors_beyond_their_storage(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = storage(4)
        tensor = Call(torch._utils._rebuild_tensor_v2, held, offset, size, stride, False, {})
        Path("evil.pkl").write_bytes(pickle.dumps({"G": {"x": tensor}}))
    outcome = run("import", "evil.pkl", "--format", "stylegan2-ada", "--out", "out.safetensors")
    assert outcome.code == 2
    assert "a tensor" in outcome.err


def test_numpy_objects_are_no_numbers() -> None:
    import numpy as np

    Path("evil.pkl").write_bytes(pickle.dumps({"G": np.array([{"x": 1}], dtype=object)}))
    outcome = run("import", "evil.pkl", "--format", "stylegan2-ada", "--out", "out.safetensors")
    assert outcome.code == 2
    assert "no type of plain numbers" in outcome.err
