# Run by the interpreter that a package is made of: compiles modules to the bytes of .pyc files.
#
# stdin: the packed time, then pairs of lines: the source on the host, its path in the package.
# stdout: for each pair 8 bytes of length (little-endian) and the file; length 0: does not compile.
# The files are valid as packed: they are never compared with the source where the interpreter
# knows such files (3.7), else the time and the length in them are those of the packed source.
import marshal
import os
import struct
import sys

try:
    from importlib.util import MAGIC_NUMBER
except ImportError:
    import imp
    MAGIC_NUMBER = imp.get_magic()
try:
    from importlib.util import source_hash
except ImportError:
    source_hash = None

UNCHECKED_HASH = 1


def header(source, mtime):
    if source_hash:
        return MAGIC_NUMBER + struct.pack("<I", UNCHECKED_HASH) + source_hash(source)
    if sys.version_info >= (3, 3):
        return MAGIC_NUMBER + struct.pack("<II", mtime, len(source))
    return MAGIC_NUMBER + struct.pack("<I", mtime)


def compiled(path, packed, mtime):
    with open(path, "rb") as file:
        source = file.read()
    try:
        code = compile(source, packed, "exec", 0, True)
    except (SyntaxError, ValueError, UnicodeError):
        return b""
    return header(source, mtime) + marshal.dumps(code)


lines = os.fdopen(0, "rb").read().split(b"\n")
decode = getattr(os, "fsdecode", lambda path: path)
out = os.fdopen(1, "wb")
for path, packed in zip(lines[1::2], lines[2::2]):
    data = compiled(decode(path), decode(packed), int(lines[0]))
    out.write(struct.pack("<Q", len(data)))
    out.write(data)
out.flush()
