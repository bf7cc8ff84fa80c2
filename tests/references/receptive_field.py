"""Stride and offset of a chain of convolutions and pools, layer by layer (the rule of Araujo et al., Distill 2019)."""


def compose(layers):
    """(kernel, stride, padding, dilation) from the image on -> stride, offset of a unit's center in pixels."""
    stride, offset = 1, 0.0
    for kernel, step, padding, dilation in layers:
        offset += stride * (dilation * (kernel - 1) / 2 - padding)
        stride *= step
    return stride, offset
