"""What a binary code is: bits, packed bytes, sub-codes and Hamming distance.

A code of K bits is the concatenation of M sub-codes of K/M bits, concept 0 first. Packed, it is `ceil(K / 8)` bytes of
type uint8, most significant bit first (`numpy.packbits` order), the unused bits of the last byte zero. Functions take
numpy arrays or torch tensors and answer in kind (and on the same device), unless they say that it is arrays alone.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:  # who has no tensors needs no torch
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


def binarize(code_logits: Array) -> Array:
    """Turn code logits into bits: a bit is set where its logit is positive (paper section 3).

    Args:
        code_logits: `(..., K)`, floating point.

    Returns:
        Booleans of the same shape. Zero and NaN give an unset bit.
    """
    return code_logits > 0


def pack_bits(bits: Array) -> Array:
    """Pack bits into bytes, most significant bit first.

    Args:
        bits: `(..., K)`, booleans, or numbers that are 0 or 1.

    Returns:
        uint8 `(..., ceil(K / 8))`; the last byte is padded with zero bits.

    Raises:
        ValueError: if a value is neither 0 nor 1 (codes of -1 / +1 are binarized first), or the input has no axis.

    Example:
        >>> import numpy as np
        >>> pack_bits(np.array([1, 0, 0, 0, 0, 0, 0, 1, 1]))
        array([129, 128], dtype=uint8)
    """
    if bits.ndim == 0:
        raise ValueError("pack_bits needs at least one axis of bits, got a scalar")
    if isinstance(bits, np.ndarray):
        _check_bits(bits, np.bool_)
        return np.packbits(bits.astype(bool), axis=-1)
    import torch

    _check_bits(bits, torch.bool)
    padding = -bits.shape[-1] % 8
    # multiply and sum, rather than shift, so that it also exports to ONNX, of whose runtimes some multiply no bytes
    padded = torch.nn.functional.pad(bits.to(torch.int32), (0, padding))
    return (padded.unflatten(-1, (-1, 8)) * _bit_values(bits.device)).sum(-1, dtype=torch.int32).to(torch.uint8)


def unpack_bits(codes: Array, num_bits: int) -> Array:
    """Unpack bytes into bits, the inverse of `pack_bits`.

    Args:
        codes: uint8 `(..., ceil(num_bits / 8))`.
        num_bits: K, the number of bits that carry meaning.

    Returns:
        Booleans `(..., num_bits)`.

    Raises:
        ValueError: if `codes` is not uint8 or its width does not fit `num_bits`.
    """
    check_packed(codes, num_bits)
    if isinstance(codes, np.ndarray):
        return np.unpackbits(codes, axis=-1, count=num_bits).astype(bool)
    bits = codes.unsqueeze(-1).bitwise_and(_bit_values(codes.device)) != 0
    return bits.flatten(-2)[..., :num_bits]


def split_sub_codes(bits: Array, num_concepts: int) -> Array:
    """Give every concept its own axis.

    Args:
        bits: `(..., K)`, bits or logits, concept 0 first.
        num_concepts: M.

    Returns:
        `(..., M, K / M)`, a view where possible.

    Raises:
        ValueError: if K does not divide by M.
    """
    num_bits = bits.shape[-1]
    check_divisible(num_bits, num_concepts)
    return bits.reshape(*bits.shape[:-1], num_concepts, num_bits // num_concepts)


def hamming_distance(a: Array, b: Array) -> Array:
    """Count the bits in which packed codes differ; leading axes broadcast.

    Args:
        a: uint8 `(..., W)`.
        b: uint8 `(..., W)`.

    Returns:
        int64 `(...)`, between 0 and 8 W.

    Raises:
        ValueError: if one is not uint8, or the widths differ.

    Example:
        All distances between queries `(Q, W)` and a database `(N, W)` are
        `hamming_distance(queries[:, None], database[None])`, `(Q, N)`.
    """
    check_packed(a)
    check_packed(b)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"codes of different width: {a.shape[-1]} and {b.shape[-1]} bytes")
    if isinstance(a, np.ndarray):
        return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)
    return _popcount(a ^ b).long().sum(-1)


def sub_code_distances(a: Array, b: Array, num_bits: int, num_concepts: int) -> Array:
    """Count the differing bits of every sub-code; leading axes broadcast.

    Args:
        a: uint8 `(..., ceil(num_bits / 8))`.
        b: uint8 `(..., ceil(num_bits / 8))`.
        num_bits: K.
        num_concepts: M.

    Returns:
        int64 `(..., M)`; its sum over concepts is `hamming_distance(a, b)`.

    Raises:
        ValueError: if the codes do not fit `num_bits`, or K does not divide by M.
    """
    differing = unpack_bits(a, num_bits) ^ unpack_bits(b, num_bits)
    return split_sub_codes(differing, num_concepts).sum(-1)


def compose_codes(codes: Array, num_bits: int) -> Array:
    """Put a code together from the sub-codes of several: concept m from code m.

    Args:
        codes: uint8 `(..., M, ceil(num_bits / 8))`, a code per concept; one may stand for several concepts.
        num_bits: K.

    Returns:
        uint8 `(..., ceil(num_bits / 8))`, for example to search for the head of one photo with the wing of another.

    Raises:
        ValueError: if the codes do not fit `num_bits`, there is no axis of concepts, or K does not divide by M.

    Example:
        >>> import numpy as np
        >>> this, that = np.array([[0b00000000], [0b11111111]], dtype=np.uint8)
        >>> composed = compose_codes(np.stack([this, that, this, this]), num_bits=8)  # concept 1 is from that
        >>> f"{composed[0]:08b}"
        '00110000'
    """
    if codes.ndim < 2:
        raise ValueError(f"compose_codes takes a code per concept, (..., M, bytes), got shape {tuple(codes.shape)}")
    sub_codes = split_sub_codes(unpack_bits(codes, num_bits), codes.shape[-2])
    chosen = [sub_codes[..., concept, concept, :] for concept in range(codes.shape[-2])]
    if isinstance(codes, np.ndarray):
        return pack_bits(np.concatenate(chosen, -1))
    import torch

    return pack_bits(torch.cat(chosen, -1))


def as_words(codes: np.ndarray) -> np.ndarray:
    """Bytes as 64-bit words, which are compared the fastest; padded with zero bytes, so that no distance changes.

    Args:
        codes: uint8 `(..., W)`, a numpy array.

    Returns:
        uint64 `(..., ceil(W / 8))`; a view where nothing is missing.
    """
    missing = -codes.shape[-1] % 8
    if missing:
        codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(codes).view(np.uint64)


def to_numpy(values: Any) -> np.ndarray:
    """An array, a tensor on any device, or a sequence, as a numpy array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def check_packed(codes: Any, num_bits: int | None = None) -> None:
    """Refuse what is not an array of packed codes (of `num_bits` bits, where given).

    Raises:
        ValueError: if `codes` has another type than uint8, no axis, or another width than `ceil(num_bits / 8)`.
    """
    if str(codes.dtype) not in ("uint8", "torch.uint8") or codes.ndim == 0:
        raise ValueError(
            f"packed codes are uint8 of shape (..., bytes), got {codes.dtype} of shape {tuple(codes.shape)}; "
            "use pack_bits(binarize(code_logits))"
        )
    if num_bits is not None and codes.shape[-1] != -(-num_bits // 8):
        raise ValueError(
            f"codes of {num_bits} bits are {-(-num_bits // 8)} bytes wide, got {codes.shape[-1]}; were they packed?"
        )


def check_divisible(num_bits: int, num_concepts: int) -> None:
    """Refuse a number of bits that does not divide into sub-codes of equal length.

    Raises:
        ValueError: if either is not positive or `num_bits % num_concepts != 0`.
    """
    if num_bits < 1 or num_concepts < 1 or num_bits % num_concepts:
        raise ValueError(
            f"num_bits must be a positive multiple of num_concepts, got num_bits={num_bits}, "
            f"num_concepts={num_concepts}"
        )


def _check_bits(bits: Any, boolean: Any) -> None:
    if bits.dtype != boolean and not bool(((bits == 0) | (bits == 1)).all()):
        raise ValueError("pack_bits takes bits (0 or 1); binarize logits or -1/+1 codes first")


def _bit_values(device: "torch.device") -> "torch.Tensor":
    import torch

    return torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=device)


def _popcount(byte: "torch.Tensor") -> "torch.Tensor":
    """Set bits per byte, by adding neighbouring fields of 1, 2 and 4 bits."""
    byte = byte - ((byte >> 1) & 0x55)
    byte = (byte & 0x33) + ((byte >> 2) & 0x33)
    return (byte + (byte >> 4)) & 0x0F
