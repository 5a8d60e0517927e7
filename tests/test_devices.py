"""Everything public computes where its inputs are, with the same draws on every device."""

import dataclasses

import pytest
import torch

from bad_input_calls import CALLS


def moved(value, device):
    """`value` with all its tensors on `device`, whatever they lie in."""
    if isinstance(value, torch.Tensor):
        return value.detach().to(device, copy=True)
    if isinstance(value, torch.nn.Module):
        return value.to(device)
    if isinstance(value, dict):
        return {k: moved(v, device) for k, v in value.items()}
    if isinstance(value, tuple | list):
        parts = [moved(v, device) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **moved(parts, device))
    return value


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_made_on_another_device_than_the_inputs(as_users_run, name):
    """Without a GPU: tensors for which no device is named are made on `meta`, without numbers."""
    function, arguments = CALLS[name]
    arguments = moved(arguments, "cpu")
    with torch.device("meta"):
        function(**arguments)
