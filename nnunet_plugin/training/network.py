"""MONAI's DynUNet, built from the ``architecture`` block of an nnU-Net plans file."""

from collections.abc import Sequence

from monai.networks.nets.dynunet import DynUNet


def build_dynunet(
    input_channels: int,
    num_classes: int,
    deep_supervision: bool = False,
    *,
    filters: Sequence[int],
    kernel_size: Sequence[Sequence[int] | int],
    strides: Sequence[Sequence[int] | int],
    upsample_kernel_size: Sequence[Sequence[int] | int],
    norm_name: str = "batch",
    res_block: bool = True,
) -> DynUNet:
    """Build a 3-D DynUNet the way nnU-Net builds its own networks.

    nnU-Net finds this function by the plans' ``network_class_name`` (``pydoc.locate``) and calls it with
    ``input_channels``, ``num_classes``, ``deep_supervision`` and the plans' ``arch_kwargs``.

    Parameters
    ----------
    input_channels
        Channels of the image.
    num_classes
        Channels of the output: labels, background included.
    deep_supervision
        Must be false: DynUNet returns its extra heads in a layout that nnU-Net's loss does not read.
    filters
        Features of each stage, finest first.
    kernel_size, strides
        One entry per stage: an integer or one integer per spatial axis.
    upsample_kernel_size
        One entry per upsampling, that is one fewer than there are stages.
    norm_name
        MONAI's name of the normalisation layer.
    res_block
        Use residual blocks in the encoder.

    Returns
    -------
    DynUNet
        Maps ``(batch, input_channels, z, y, x)`` to logits ``(batch, num_classes, z, y, x)``.

    Raises
    ------
    ValueError
        If deep supervision is asked for, or a sequence has the wrong length.
    """
    if deep_supervision:
        raise ValueError(
            "the DynUNet of these plans has no deep supervision: train it with -tr nnUNetTrainerDynUNet, "
            "or pass deep_supervision=False"
        )
    if not len(filters) == len(kernel_size) == len(strides) == len(upsample_kernel_size) + 1:
        raise ValueError(
            "filters, kernel_size and strides need one entry per stage and upsample_kernel_size one fewer; "
            f"found {len(filters)}, {len(kernel_size)}, {len(strides)} and {len(upsample_kernel_size)}"
        )
    return DynUNet(
        spatial_dims=3,
        in_channels=input_channels,
        out_channels=num_classes,
        kernel_size=kernel_size,
        strides=strides,
        upsample_kernel_size=upsample_kernel_size,
        filters=filters,
        norm_name=norm_name,
        res_block=res_block,
    )
