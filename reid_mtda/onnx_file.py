"""ONNX files whose weights lie in files beside them, as torch's newer exporter writes them, made one file.

The few fields of the format that this needs are read here: an installation that only serves has no ``onnx``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reid_mtda.errors import ModelError

# Numbers of the fields in onnx.proto: ModelProto.graph, GraphProto.initializer, and of TensorProto and its entries.
_GRAPH, _INITIALIZER = 7, 5
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
_KEY, _VALUE = 1, 2
_BYTES = 2  # wire type of what has a length
_MOST_BYTES = 2**31 - 1  # of one file, as its format has it


def whole_onnx(path: Path) -> bytes:
    """Return the bytes of an ONNX file that holds all its weights itself; those of ``path`` where it does already.

    Raises:
        ModelError: it is no ONNX file, the file of its weights is missing or too short, lies outside of its folder,
            or both are too large for one file.
    """
    try:
        data = path.read_bytes()
        whole = b"".join(
            _field(number, wire, _with_weights(path, value) if (number, wire) == (_GRAPH, _BYTES) else value)
            for number, wire, value in _fields(data)
        )
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except (IndexError, ValueError):
        raise ModelError(f"{path}: not an ONNX file, or cut short; get it, or export it, again") from None
    if len(whole) > _MOST_BYTES:
        raise ModelError(f"{path}: holds {len(whole) / 1e9:.1f} GB of weights, expected 2 GB at most; use another")
    return whole


def _with_weights(path: Path, graph: bytes) -> bytes:
    return b"".join(
        _field(number, wire, _with_data(path, value) if (number, wire) == (_INITIALIZER, _BYTES) else value)
        for number, wire, value in _fields(graph)
    )


def _with_data(path: Path, tensor: bytes) -> bytes:
    """A tensor with its numbers in it."""
    fields = list(_fields(tensor))
    told = [dict(_entry(value)) for number, _, value in fields if number == _EXTERNAL_DATA]
    if not told:
        return tensor
    where = {key: text for entry in told for key, text in entry.items()}
    kept = [field for field in fields if field[0] not in (_EXTERNAL_DATA, _DATA_LOCATION)]
    return b"".join(_field(*field) for field in kept) + _field(_RAW_DATA, _BYTES, _numbers(path, where))


def _entry(entry: bytes) -> Iterator[tuple[str, str]]:
    parts = {number: value.decode() for number, _, value in _fields(entry)}
    yield parts.get(_KEY, ""), parts.get(_VALUE, "")


def _numbers(path: Path, where: dict[str, str]) -> bytes:
    """The part of a file beside ``path`` that holds a tensor's numbers."""
    name = where.get("location", "")
    file = path.parent / name
    if not name or not file.resolve().is_relative_to(path.parent.resolve()):
        raise ModelError(f"{path}: its weights lie in {name!r}, expected a file in its own folder; export it again")
    if not file.is_file():
        raise ModelError(f"{path}: the file of its weights is missing, expected {name} beside it; copy both")
    offset, length = int(where.get("offset", 0)), int(where.get("length", -1))
    with file.open("rb") as opened:
        opened.seek(offset)
        found = opened.read(length)
    if length >= 0 and len(found) != length:
        raise ModelError(f"{file}: cut short, or of another network than {path.name}; copy both again")
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire type and content of each field of a message; varints stay as they are written."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, end = _varint(data, place)
        elif wire == _BYTES:
            length, place = _varint(data, place)
            end = place + length
        elif wire in (1, 5):
            end = place + (8 if wire == 1 else 4)
        else:
            raise ValueError("no such wire type")
        if end > len(data):
            raise ValueError("cut short")
        yield number, wire, data[place:end]
        place = end


def _field(number: int, wire: int, value: bytes) -> bytes:
    length = _written(len(value)) if wire == _BYTES else b""
    return _written(number << 3 | wire) + length + value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("no number")


def _written(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
