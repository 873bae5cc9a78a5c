"""BatchNorm folded into the convolution before it: the same function, fewer passes over memory."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every BatchNorm2d that directly follows a convolution of a model in evaluation mode.

    A model whose forward pass cannot be traced (branches on values, say) is returned as it is.
    """
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()):
        return module
    try:
        traced = fx.symbolic_trace(module)
    except Exception:
        # Any code of the user's model runs under the tracer, so any error can come out; the
        # untraced model is correct too, only a little slower.
        return module
    layers = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = layers.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or not norm.track_running_stats:
            continue
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        convolution = layers[str(source.target)]
        if type(convolution) is not nn.Conv2d or _used_twice(traced, source, node):
            continue
        parent, _, name = str(source.target).rpartition(".")
        folded = fuse_conv_bn_eval(convolution, norm).requires_grad_(False)
        setattr(traced.get_submodule(parent), name, folded)
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _used_twice(traced: fx.GraphModule, *nodes: fx.Node) -> bool:
    targets = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    return any(targets.count(node.target) > 1 for node in nodes)
