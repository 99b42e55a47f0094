"""What PyTorch's operations do with packed weights, where it is not simply to unpack them."""

from collections.abc import Callable
from typing import Any

import torch

from fewbits.errors import FewbitsError
from fewbits.weights import products
from fewbits.weights.rows import gathered
from fewbits.weights.tensor import PackedWeight, geometry_of, plain

_aten = torch.ops.aten


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation of which some arguments are packed weights."""
    special = _SPECIAL.get(func)
    if special is not None:
        done = special(func, args, kwargs)
        if done is not NotImplemented:
            return done
    if func.is_view and isinstance(args[0], PackedWeight):
        return _view(func, args, kwargs)
    if func._schema.name.endswith("_like") or func._schema.name.startswith("aten::new_"):
        return _like(func, args, kwargs)
    changed = _changed(func, args, kwargs)
    if changed is not None:
        raise FewbitsError(
            f"weight {changed.packed.name!r} is packed and cannot be changed in place "
            f"({func._schema.name}); fewbits.weights.detach(model) makes it plain"
        )
    return func(*plain(args), **plain(kwargs))


def _view(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A view, whose geometry PyTorch tells for a tensor without elements."""
    weight = args[0]
    size, strides, offset = geometry_of(weight)
    if func is _aten.t.default and len(size) == 2:
        return weight.like(geometry=(size[::-1], strides[::-1], offset))
    stand_in = torch.empty(0, dtype=weight.dtype, device="meta").as_strided(size, strides, offset)
    seen = func(stand_in, *args[1:], **kwargs)
    found = [seen] if isinstance(seen, torch.Tensor) else list(seen)
    if any(view.dtype != weight.dtype for view in found):  # the same bits as other numbers
        return func(weight.in_scratch(), *args[1:], **kwargs)
    views = [weight.like(geometry=geometry_of(view)) for view in found]
    return views[0] if isinstance(seen, torch.Tensor) else views


def _like(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """New tensors like a weight: of what is in it, nothing is needed."""
    weight = args[0]
    if not isinstance(weight, PackedWeight):
        return func(*plain(args), **plain(kwargs))
    stand_in = torch.empty(0, dtype=weight.dtype, device="meta").as_strided(*geometry_of(weight))
    if kwargs.get("device") is None:
        kwargs = kwargs | {"device": weight.device}
    return func(stand_in, *args[1:], **kwargs)


def _changed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PackedWeight | None:
    """The packed weight that an operation would write to."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, PackedWeight):
                return one
    return None


def _to(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Another dtype or device: cast or moved each time that it is unpacked."""
    weight = args[0]
    device, dtype = kwargs.get("device") or weight.device, kwargs.get("dtype") or weight.dtype
    if torch.device(device).type == "meta":
        return torch.empty_like(weight, dtype=dtype, device="meta")
    if not weight.is_floating_point() or not dtype.is_floating_point:
        return NotImplemented
    if weight.is_cast and dtype != weight.dtype:
        return NotImplemented  # what the first cast lost, the second must not bring back
    return weight.like(dtype=dtype, device=device)


def _copy(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``load_state_dict`` into a packed weight packs what it is given."""
    weight, source = args[0], args[1]
    if not isinstance(weight, PackedWeight):
        return NotImplemented
    if not weight.is_whole:
        return NotImplemented  # which raises, since it would be changed in place
    if isinstance(source, PackedWeight) and source.is_whole and source.dtype == weight.dtype:
        packed = source.packed
    else:
        full = plain(source).to(weight.dtype).expand(weight.shape).contiguous()
        packed = weight.packed.again(full, weight.unpacker.settings.threads)
    weight.packed = packed
    return weight


def _clone(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    weight = args[0]
    return weight.like() if weight.is_whole else NotImplemented


def _embedding(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Only the rows that are asked for."""
    weight, places = args[0], args[1]
    if not isinstance(weight, PackedWeight) or not weight.is_whole or weight.device.type != "cpu":
        return NotImplemented
    rows = gathered(weight.packed, weight.unpacker, plain(places))
    return rows if rows is None else rows.to(weight.dtype)


Special = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
_SPECIAL: dict[Any, Special] = {
    _aten._to_copy.default: _to,
    _aten.copy_.default: _copy,
    _aten.clone.default: _clone,
    _aten.embedding.default: _embedding,
    _aten.addmm.default: products.addmm,
    _aten.mm.default: products.mm,
    _aten.linear.default: products.linear,
}
