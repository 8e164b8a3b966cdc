"""Turns the text of a generated header into code that can be called, by cling or by a C++ compiler.

Both ways end in the same table of C functions (``sofie/core/runtime.hxx``), so whatever calls a model
does not know which of the two made it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import re
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sofie_root.config import include_dir
from sofie_root.errors import ToolchainError
from sofie_root.ir.dtype import DType
from sofie_root.targets.cxx.bundle import collect

from .compiler import excerpt, find_compiler, has_compiler, library_path
from .trial import failure_in_child, why_incomplete

Jit: TypeAlias = Literal["auto", "cling", "compiler"]
Engine: TypeAlias = Literal["cling", "compiler"]

# Cling optimises little unless told to before it starts: -O2 and native vectors, and LLVM's good
# register allocator instead of the fast one, with which accumulators live in memory (10 x slower).
CLING_FLAGS = ("-O2", "-march=native", "-fopenmp-simd", "-mllvm -optimize-regalloc")
_EXPRESSION = -(2**63)
_API_VERSION = 1
_NAMESPACE = re.compile(r"^namespace (\w+) \{$", re.MULTILINE)
_INCLUDE = re.compile(r"^\s*#\s*include\s*<sofie/([^>]+)>", re.MULTILINE)

_BROKEN = (
    "After code that it could not load cling loads nothing more in this process: use jit='compiler', or "
    "start Python again"
)

_lock = threading.RLock()
_libraries: dict[tuple[Engine, str], Library] = {}
_is_cling_broken = False
_flags_in_time: bool | None = None
_has_warned = False


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a loaded model.

    Attributes:
        name: its name in the model.
        dtype: its element type.
        shape: per axis a number, the name of a symbol, or ``"?"`` for an expression of symbols.
        dynamic: whether the shape is known only after the run.
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...]
    dynamic: bool

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Functions:
    """The C functions of a loaded model, as ctypes callables that release the GIL."""

    create: Any
    destroy: Any
    output_shape: Any
    run: Any
    dynamic_output: Any
    error: Any


class Library:
    """The code of one model: its description, and its functions.

    Attributes:
        engine: what made the code.
        namespace: the C++ namespace of its Session, with a hash of the header in it.
        symbols: names of the size symbols, in the order in which ``infer`` takes them.
        inputs: what the model takes.
        outputs: what it returns.
        functions: the C functions.
    """

    def __init__(self, engine: Engine, namespace: str, address: int, handle: object = None) -> None:
        api = _Api.from_address(address)
        if api.version != _API_VERSION:
            raise ToolchainError(
                f"'sofie/core/runtime.hxx' has version {api.version}, not {_API_VERSION}"
            )
        self.engine: Engine = engine
        self.namespace = namespace
        self.symbols = tuple(api.symbol_names[k].decode() for k in range(api.symbols))
        self.inputs = tuple(_tensor(api.input[k], self.symbols) for k in range(api.inputs))
        self.outputs = tuple(_tensor(api.output[k], self.symbols) for k in range(api.outputs))
        self.functions = Functions(
            api.create, api.destroy, api.output_shape, api.run, api.dynamic_output, api.error
        )
        self._address = address
        self._handle = handle
        self._declared = engine == "cling"

    def session_type(self) -> str:
        """The name of a C++ class that cling knows and that ``SofieFunctor`` takes as its Session.

        Of a compiled library that is a class which calls the library; it is declared on first use.
        """
        with _lock:
            if not self._declared:
                declare(self._library_session())
                self._declared = True
        return f"{self.namespace}::Session"

    def _library_session(self) -> str:
        described = [
            describe_cpp(f"{kind}{k}", t, self.symbols)
            for kind, tensors in (("Input", self.inputs), ("Output", self.outputs))
            for k, t in enumerate(tensors)
        ]
        names = ", ".join(map(cpp_literal, self.symbols)) or '""'
        inputs = ", ".join(f"Input{k}" for k in range(len(self.inputs)))
        outputs = ", ".join(f"Output{k}" for k in range(len(self.outputs)))
        lines = "\n".join(described)
        return f"""#include <sofie/core/half.hxx>
#include <sofie/core/runtime.hxx>
namespace {self.namespace} {{
struct Session : sofie::runtime::LibrarySession {{
  static const sofie::runtime::Api* table() {{
    return reinterpret_cast<const sofie::runtime::Api*>({self._address}ULL);
  }}
  Session() : LibrarySession(table(), nullptr) {{}}
  explicit Session(const std::string& weights) : LibrarySession(table(), weights.c_str()) {{}}
  static constexpr std::size_t kSymbols = {len(self.symbols)};
  static constexpr const char* kSymbolNames[{max(len(self.symbols), 1)}] = {{{names}}};
{lines}
  using Inputs = std::tuple<{inputs}>;
  using Outputs = std::tuple<{outputs}>;
}};
}}
"""


def load_library(header: str | Path, *, jit: Jit = "auto", is_generated: bool = False) -> Library:
    """Loads a generated header; the same text again costs nothing.

    Args:
        header: the path of a header, or its text.
        jit: ``"cling"``, ``"compiler"``, or ``"auto"``: cling if it optimises, else a compiler; a compiler
            also for what cling cannot load.
        is_generated: whether sofie_root has just generated all of it, so that cling need not try it in a
            child process first.

    Raises:
        ToolchainError: neither is there, or the header does not compile.
    """
    text = header.read_text(encoding="utf-8") if isinstance(header, Path) else header
    text, namespace = with_unique_namespace(text)
    engine = choose_engine(jit)
    if engine == "cling":
        try:
            return _load(text, namespace, "cling", is_generated)
        except ToolchainError as error:
            if jit != "auto" or not has_compiler():
                raise
            with contextlib.suppress(ToolchainError):  # the first message is the one that matters
                made = _load(text, namespace, "compiler", is_generated)
                warnings.warn(f"a C++ compiler is used: {error}", RuntimeWarning, stacklevel=2)
                return made
            raise
    return _load(text, namespace, "compiler", is_generated)


def _load(text: str, namespace: str, engine: Engine, is_generated: bool) -> Library:
    with _lock:
        if (engine, namespace) in _libraries:
            return _libraries[engine, namespace]
        if engine == "cling":
            made = _libraries[engine, namespace] = _load_with_cling(text, namespace, is_generated)
            return made
    made = _load_with_compiler(text, namespace, is_generated)  # several models at a time, each once
    with _lock:
        return _libraries.setdefault((engine, namespace), made)


def with_unique_namespace(header: str) -> tuple[str, str]:
    """A generated header whose namespace has a hash of all its text at the end; and that namespace.

    Two models may have one name, and cling forgets nothing: the hash tells them apart.
    """
    namespaces = _NAMESPACE.findall(header.partition("\nstruct Session {")[0])
    if not namespaces:
        raise ToolchainError("not a header of sofie_root: it has no Session in a namespace")
    suffix = f"_{text_digest(header)[:12]}"
    name = rf"\b{namespaces[-1]}"  # also where the include guard has it
    text = re.sub(name, lambda m: m[0] + suffix, header, flags=re.IGNORECASE)
    return text, namespaces[-1] + suffix


def choose_engine(jit: Jit) -> Engine:
    """What compiles a header on this machine, in this process.

    Raises:
        ToolchainError: what was asked for is not there.
    """
    global _has_warned
    has_root = is_root_installed()
    if jit not in ("auto", "cling", "compiler"):
        raise ToolchainError(f"jit is one of 'auto', 'cling', 'compiler', not {jit!r}")
    if jit == "cling" and not has_root:
        raise ToolchainError("jit='cling' needs ROOT, which this Python cannot import")
    if jit == "cling" or (jit == "auto" and has_root and prepare_cling() and not _is_cling_broken):
        return "cling"
    if find_compiler() is not None:
        return "compiler"
    if jit == "compiler":
        raise ToolchainError(
            "jit='compiler' needs a C++ compiler: install g++ or clang++, or set CXX"
        )
    if not has_root:
        raise ToolchainError(
            "no ROOT and no C++ compiler was found: install one (g++, or ROOT from PyPI)"
        )
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            "ROOT's interpreter was started without optimisation, so models run several times "
            "slower: import sofie_root before the first use of ROOT, or install a C++ compiler",
            stacklevel=3,
        )
    return "cling"


# --------------------------------------------------------------------------------------------------
# Cling
# --------------------------------------------------------------------------------------------------


def prepare_cling() -> bool:
    """Asks cling for optimised code, unless it has started; importing sofie_root calls this.

    Adds to ``EXTRA_CLING_ARGS`` what the user has not set there. Nothing is imported.

    Returns:
        Whether cling optimises: False where ROOT's C++ side was up before the flags were set.
    """
    global _flags_in_time
    with _lock:
        if _flags_in_time is None or not _is_root_started():
            arguments = os.environ.get("EXTRA_CLING_ARGS", "")
            # A repeated -mllvm option is fatal to LLVM; of the others the user's choice stands.
            missing = [
                flag
                for flag in CLING_FLAGS
                if not re.search(rf"(^|\s){re.escape(_stem(flag))}", arguments)
            ]
            _flags_in_time = not missing or not _is_root_started()
            if _flags_in_time and missing:
                os.environ["EXTRA_CLING_ARGS"] = " ".join([arguments, *missing]).strip()
        return _flags_in_time


def _stem(flag: str) -> str:
    """What tells that an argument sets this flag, to whatever value: ``-O``, ``-march=``, ..."""
    option = flag.split()[-1]
    return option[:2] if option.startswith("-O") else option.partition("=")[0]


def _is_root_started() -> bool:
    """Whether ROOT's C++ side is up; importing ROOT alone does not start it."""
    return "cppyy" in sys.modules


def is_root_installed() -> bool:
    """Whether ROOT can be imported."""
    return "ROOT" in sys.modules or importlib.util.find_spec("ROOT") is not None


def import_root() -> Any:
    """The ROOT module, ready for headers of sofie_root.

    Raises:
        ToolchainError: ROOT is not installed, or fails to start.
    """
    with _lock:
        prepare_cling()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", message=r"\s*This distribution of ROOT is in alpha stage"
                )
                import ROOT
        except ImportError as error:
            raise ToolchainError(f"ROOT cannot be imported: {error}") from error
        try:
            interpreter = ROOT.gInterpreter
        except Exception as error:
            raise ToolchainError(
                f"ROOT does not start: {error}. A script or folder beside yours that has the name "
                "of a standard module is a common reason"
            ) from error
        _add_include_path(interpreter)
        return ROOT


@functools.cache
def _add_include_path(interpreter: Any) -> None:
    interpreter.AddIncludePath(str(include_dir()))


def declare(code: str) -> None:
    """Declares C++ to cling.

    Raises:
        ToolchainError: with clang's messages.
    """
    root = import_root()
    try:
        root._cppyy.cppdef(code)
    except SyntaxError as error:
        raise ToolchainError(f"cling cannot compile the code:\n{excerpt(str(error))}") from error
    except Exception as error:  # thrown by what it initialises
        raise ToolchainError(
            f"the code throws an exception when it is loaded:\n{excerpt(str(error))}"
        ) from error


def _load_with_cling(text: str, namespace: str, is_generated: bool) -> Library:
    """Loads a header; code that is not ours cannot hurt what is loaded later.

    Raises:
        ToolchainError: the code is incomplete, does not compile or link, or throws when it is loaded.
    """
    global _is_cling_broken
    if _is_cling_broken:
        raise ToolchainError(_BROKEN)
    if problem := why_incomplete(text):
        raise ToolchainError(f"the header is incomplete: {problem}")
    # On their own, as cling does not read a header again that was read by code which failed.
    includes = dict.fromkeys(["core/runtime.hxx", *_INCLUDE.findall(text)])
    declare("".join(f"#include <sofie/{name}>\n" for name in includes))

    def load() -> int:
        declare(f"""{text}
namespace {namespace} {{
inline unsigned long long sofie_api() {{
  return reinterpret_cast<std::uintptr_t>(::sofie::runtime::api<Session>());
}}
}}
""")
        address = int(getattr(import_root(), namespace).sofie_api()) % 2**64
        if address in (0, 2**64 - 1):  # an unresolved symbol is no exception in cling
            raise ToolchainError("cling cannot link the header; its message is above")
        return address

    if not is_generated:
        failure = failure_in_child(load, symptom="Failed to materialize symbols")
        if failure is not None:
            raise ToolchainError(f"cling cannot load the header:\n{excerpt(failure)}")
    try:
        return Library("cling", namespace, load())
    except ToolchainError as error:
        _is_cling_broken = True
        raise ToolchainError(f"{error}\n{_BROKEN}") from error


# --------------------------------------------------------------------------------------------------
# Compiler
# --------------------------------------------------------------------------------------------------


def _load_with_compiler(text: str, namespace: str, is_generated: bool) -> Library:
    source = f"""#include <sofie/core/runtime.hxx>
{text}
extern "C" __attribute__((visibility("default"))) const sofie::runtime::Api* sofie_model() {{
  return ::sofie::runtime::api<{namespace}::Session>();
}}
"""
    namespace += (
        "_library"  # what cling will know it as, so that one process can load a header both ways
    )
    path = library_path(source, text_digest(source), namespace, is_generated)
    try:
        handle = ctypes.CDLL(str(path))
        function = handle.sofie_model
    except (OSError, AttributeError) as error:
        raise ToolchainError(
            f"the compiled model cannot be loaded: {error}. If its folder is removed, it is compiled again",
            file=str(path.parent),
        ) from error
    function.restype = ctypes.c_void_p
    return Library("compiler", namespace, function(), handle)


# --------------------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------------------


def text_digest(text: str) -> str:
    """sha256 of a text and of every header of ours that it includes."""
    parts = [text, *(part for _, part in collect(_INCLUDE.findall(text)))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def cpp_literal(text: str) -> str:
    """A C++ string literal: three-digit octal escapes can not run into the next character."""
    plain = (
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()
    )
    return '"' + "".join(plain) + '"'


def describe_cpp(struct: str, tensor: TensorInfo, symbols: tuple[str, ...]) -> str:
    """The class that describes a tensor in a Session (see ``sofie/core/runtime.hxx``)."""
    codes = [
        "INT64_MIN" if d == "?" else str(-1 - symbols.index(d)) if isinstance(d, str) else str(d)
        for d in tensor.shape
    ]
    return (
        f"  struct {struct} {{ using type = {tensor.dtype.cpp}; "
        f"static constexpr const char* name = {cpp_literal(tensor.name)}; "
        f"static constexpr std::size_t rank = {len(codes)}; "
        f"static constexpr std::int64_t shape[] = {{{', '.join(codes) or '1'}}}; "
        f"static constexpr bool dynamic = {str(tensor.dynamic).lower()}; }};"
    )


# --------------------------------------------------------------------------------------------------
# The table of sofie/core/runtime.hxx
# --------------------------------------------------------------------------------------------------


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("rank", ctypes.c_uint64),
        ("dtype", ctypes.c_int32),
        ("dynamic", ctypes.c_int32),
    )


_Pointer = ctypes.c_void_p


class _Api(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint64),
        ("symbols", ctypes.c_uint64),
        ("inputs", ctypes.c_uint64),
        ("outputs", ctypes.c_uint64),
        ("symbol_names", ctypes.POINTER(ctypes.c_char_p)),
        ("input", ctypes.POINTER(_Tensor)),
        ("output", ctypes.POINTER(_Tensor)),
        ("create", ctypes.CFUNCTYPE(_Pointer, ctypes.c_char_p, _Pointer, ctypes.c_size_t)),
        ("destroy", ctypes.CFUNCTYPE(None, _Pointer)),
        (
            "output_shape",
            ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_size_t, _Pointer, _Pointer),
        ),
        ("run", ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, _Pointer, _Pointer)),
        ("dynamic_output", ctypes.CFUNCTYPE(_Pointer, _Pointer, ctypes.c_size_t, _Pointer)),
        ("error", ctypes.CFUNCTYPE(ctypes.c_char_p, _Pointer)),
    )


def _tensor(tensor: _Tensor, symbols: tuple[str, ...]) -> TensorInfo:
    def dim(code: int) -> int | str:
        return "?" if code == _EXPRESSION else symbols[-1 - code] if code < 0 else code

    dtype = DType.from_onnx(tensor.dtype)
    assert dtype is not None
    shape = tuple(dim(tensor.shape[axis]) for axis in range(tensor.rank))
    return TensorInfo(tensor.name.decode(), dtype, shape, bool(tensor.dynamic))
