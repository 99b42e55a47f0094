"""Updates that a generated step may end with: source, with the state they need."""

_SGD = '''
def new_state(parameters):
    """What SGD with momentum remembers."""
    return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}


def update(parameters, gradients, state, lr, momentum=0.9, weight_decay=0.0):
    """SGD with momentum, in place."""
    for name, gradient in gradients.items():
        if weight_decay:
            gradient = gradient + weight_decay * parameters[name]
        state[name].mul_(momentum).add_(gradient)
        parameters[name].sub_(lr * state[name])
'''

# Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2.
_ADAMW = '''
def new_state(parameters):
    """What AdamW remembers: the steps so far, and two means for each parameter."""
    state = {"steps": torch.zeros(())}
    for name, parameter in parameters.items():
        state[f"{name}.mean"] = torch.zeros_like(parameter)
        state[f"{name}.square"] = torch.zeros_like(parameter)
    return state


def update(parameters, gradients, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """AdamW, in place."""
    state["steps"].add_(1)
    for name, gradient in gradients.items():
        mean, square = state[f"{name}.mean"], state[f"{name}.square"]
        mean.mul_(betas[0]).add_((1 - betas[0]) * gradient)
        square.mul_(betas[1]).add_((1 - betas[1]) * gradient * gradient)
        size = (square / (1 - betas[1] ** state["steps"])).sqrt() + eps
        parameters[name].mul_(1 - lr * weight_decay)
        parameters[name].sub_(lr * mean / (1 - betas[0] ** state["steps"]) / size)
'''

OPTIMIZERS = {"sgd": _SGD.strip(), "adamw": _ADAMW.strip()}
