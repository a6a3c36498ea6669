"""Terms of losses, unreduced: the training step masks, averages and weighs them."""
